"""Turns result bundles into pages: catalog -> analysis -> charts and pages -> files for a site engine."""
