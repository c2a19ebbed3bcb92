"""Symbols of weight decay."""

from __future__ import annotations

import sympy as sp

learning_rate = sp.Symbol("eta", positive=True)
weight_decay = sp.Symbol("lambda", positive=True)
step_decay = sp.Symbol("delta", positive=True)  # share of a weight that one step takes away
beta1 = sp.Symbol("beta_1", nonnegative=True)
beta2 = sp.Symbol("beta_2", nonnegative=True)
visit_chance = sp.Symbol("q", positive=True)
visit_ratio = sp.Symbol("a", positive=True)  # q/(1 - beta_2)
visit_worth = sp.Symbol("V", positive=True)
quantile = sp.Symbol("z", positive=True)  # what the integral of V runs over, from 0 to 1
steps = sp.Symbol("t", nonnegative=True)
initial_square = sp.Symbol("sigma_0", positive=True) ** 2
row_square = sp.Symbol("sigma", positive=True) ** 2
