"""First updates of three networks, from the linear model to the transformer."""
