"""Carrying bundles: to a store and back. Needs the extra `carry`; the collector itself does not."""
