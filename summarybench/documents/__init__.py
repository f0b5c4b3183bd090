"""Layer 2: where documents come from, sampling and prompts."""
