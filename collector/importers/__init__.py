"""Other tools' result files to bundles of grade `imported`."""
