"""The mean-field solver held against trained networks."""
