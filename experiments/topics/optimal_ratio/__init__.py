"""The optimal ratio of embedding to hidden learning rate in networks with hidden layers."""
