"""Optimal learning rates of the linear model, layer by layer and jointly, after many steps."""
