"""Layer 3: what a run leaves on disk, and the stored baselines."""
