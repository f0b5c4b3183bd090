"""Layer 4: how text is generated."""
