"""The contract between the box and the site: schema, metrics, write, read, check, seal, migrate, pack."""
