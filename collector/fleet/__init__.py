"""Many boxes: studies measured on the nodes of a Ray cluster, a bundle per box, and an index of the whole."""
