"""Layer 5: how a run is shown."""
