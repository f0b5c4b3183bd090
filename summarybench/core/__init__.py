"""Layer 1: outcomes, errors and exit codes, files, the cache folder."""
