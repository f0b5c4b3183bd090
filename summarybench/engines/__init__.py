"""Layer 4: engines, which generate the summaries."""
