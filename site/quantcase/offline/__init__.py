"""Scripts for sites that are opened from a disk."""
