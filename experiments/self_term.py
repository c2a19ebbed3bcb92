"""What `dynsim derive` and the explorer say alike of the self term. Imports nothing heavy."""

from __future__ import annotations

SMALL_RATIO = 0.1  # kappa, below which the self term changes the RMS by less than a percent
NOT_AVERAGED = "it is derived for the average over tokens in full batch, with equal residuals"
