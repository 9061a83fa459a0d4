"""Suites, scorers, likelihood metrics."""
