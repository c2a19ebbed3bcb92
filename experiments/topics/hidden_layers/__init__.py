"""Linear hidden layers in the mean field, held against trained networks."""
