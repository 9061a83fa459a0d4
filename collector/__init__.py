"""Runs on the GPU box: measures a study and writes one result bundle. Never imports the site."""

__version__ = "0.1.0"
