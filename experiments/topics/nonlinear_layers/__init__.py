"""How far are networks with a nonlinear hidden layer from the mean-field prediction?"""
