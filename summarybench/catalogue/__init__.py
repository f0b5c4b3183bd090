"""Layer 3: models, loaders and published results."""
