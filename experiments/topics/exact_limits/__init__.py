"""Two exactly solved limits: gradient flow and linearised training."""
