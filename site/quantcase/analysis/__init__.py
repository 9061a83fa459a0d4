"""Pure functions: tables in, tables out. Nothing here formats, draws, or reads a file."""
