"""Figures of results: what `.plot()` draws, in one style."""
