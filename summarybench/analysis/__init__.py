"""Layer 4: noise, verdicts, attribution, quality."""
