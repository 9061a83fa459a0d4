"""Bundles of every format that was released, as their collectors wrote them."""
