"""Mean-field theory of hidden layers with an activation function or a normalisation."""
