"""Layer 5: the timed loop and what is recorded of it."""
