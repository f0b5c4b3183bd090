"""Layer 6: the kinds of benchmark, one file each, and their registry."""
