"""Layer 1: outcomes and errors, files, caches."""
