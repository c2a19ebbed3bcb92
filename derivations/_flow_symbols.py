"""The matrices and numbers of the flows, declared once; sizes and rates are those of `symbols`."""

from __future__ import annotations

import sympy as sp

from ._symbols import outputs, vocab_size, width

frequencies = sp.MatrixSymbol("P", vocab_size, vocab_size)  # diag p
targets = sp.MatrixSymbol("Y", vocab_size, outputs)
embedding = sp.MatrixSymbol("E", vocab_size, width)
projection = sp.MatrixSymbol("W", outputs, width)
initial_projection = sp.MatrixSymbol("W_0", outputs, width)

weighted_residual = sp.MatrixSymbol("R", vocab_size, outputs)  # P (F - Y)
output = sp.MatrixSymbol("F", vocab_size, outputs)  # E W^T
embedding_gram = sp.MatrixSymbol("G_E", vocab_size, vocab_size)  # E E^T
projection_gram = sp.MatrixSymbol("G_W", outputs, outputs)  # W W^T
first_output = sp.MatrixSymbol("H", vocab_size, outputs)  # E W_0^T
projection_overlap = sp.MatrixSymbol("C", outputs, outputs)  # W W_0^T

# Hidden layers: B = s_0 + A takes level l - 1 to level l, s_0 = 1 with skip connections, 0 without.
hidden_matrix = sp.MatrixSymbol("A", width, width)
layer_map = sp.MatrixSymbol("B", width, width)
next_layer_map = sp.MatrixSymbol("B_up", width, width)  # of the layer above
skip = sp.Symbol("s_0", nonnegative=True)
level_readout = sp.MatrixSymbol("W_l", outputs, width)  # W pulled down to level l
carried_residual = sp.MatrixSymbol("M", outputs, width)  # R^T E carried up to level l - 1
features = sp.MatrixSymbol("H", vocab_size, width)  # E carried up to level l - 1
hidden_lr = sp.Symbol("eta_A", positive=True)
next_hidden_lr = sp.Symbol("eta_up", positive=True)  # of the layer above
hidden_lr_sum = sp.Symbol("Sigma_A", positive=True)  # of the rates of all hidden layers
hidden_std = sp.Symbol("sigma_A", positive=True)
depth = sp.Symbol("L", integer=True, nonnegative=True)
layers = sp.Symbol("N", integer=True, positive=True)  # L + 2
mean_rate = sp.Symbol("eta", positive=True)  # geometric mean of the rates of all layers
new_length = sp.Symbol("q", positive=True)  # of the part of a vector that a matrix has not met
directions = sp.Symbol("k", integer=True, nonnegative=True)  # that its transpose has met

time = sp.Symbol("t", nonnegative=True)
target = sp.Symbol("y", real=True)  # of one aligned mode
initial_mode = sp.Symbol("f_0", real=True)  # its output at t = 0
imbalance = sp.Symbol("k", positive=True)  # of its two layers, in units of the output
gradient = sp.Symbol("g", real=True)
smoothing = sp.Symbol("epsilon", positive=True)

embedding_sharpness = sp.Symbol("Lambda_E", positive=True)  # lambda_max(P^1/2 G_E P^1/2)
projection_sharpness = sp.Symbol("Lambda_W", positive=True)  # p_max lambda_max(G_W)
readout_sharpness = sp.Symbol("Lambda_l", positive=True)  # lambda_max(W_l W_l^T)

eigenvalue = sp.Symbol("lambda", positive=True)
aspect_ratio = sp.Symbol("c", positive=True)  # tokens over width
