"""Layer 2: pure statistics."""
