"""Mean-field equations of the linear model at any ratio of vocabulary to width, solved."""
