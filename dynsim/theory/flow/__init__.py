"""Gradient flow of the linear model: finite, infinitely wide, or both sizes large."""
