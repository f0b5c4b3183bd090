"""Layer 7: one run from options to files."""
