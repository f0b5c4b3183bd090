"""Layer 2: the device, its telemetry, probes and environment."""
