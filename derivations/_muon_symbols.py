"""Symbols of Muon on an embedding."""

from __future__ import annotations

import sympy as sp

row_weight_square = sp.Symbol("w_i", positive=True)  # mean square of the row's entries
row_level = sp.Symbol("ell", positive=True)  # the weight at which a row keeps half
count = sp.Symbol("n_i", positive=True)
shared_residual = sp.Symbol("rho_r", nonnegative=True)
half_rank = sp.Symbol("i_half", positive=True)
concentration = sp.Symbol("N_1", positive=True)  # sum_j h_j (1 - h_j)
rows = sp.Symbol("M", positive=True)
columns = sp.Symbol("N", positive=True)
row_square_mean = sp.Symbol("h", positive=True)  # h_i of a token, or its mean

singular_square = sp.Symbol("lambda_a", nonnegative=True)  # square of a singular value of V
singular_value = sp.Symbol("s", positive=True)  # of V; of a symmetric V its absolute value
other_level = sp.Symbol("ell_2", positive=True)
free_dimensions = sp.Symbol("F", positive=True)  # d - sum_a lambda_a/(lambda_a + ell)
free_pair_dimensions = sp.Symbol("F_2", positive=True)
"""d - sum_a lambda_a^2/((lambda_a + ell)(lambda_a + ell_2)); at ell_2 = ell for one level"""
