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

time = sp.Symbol("t", nonnegative=True)
target = sp.Symbol("y", real=True)  # of one aligned mode
initial_mode = sp.Symbol("f_0", real=True)  # its output at t = 0
imbalance = sp.Symbol("k", positive=True)  # of its two layers, in units of the output
gradient = sp.Symbol("g", real=True)
smoothing = sp.Symbol("epsilon", positive=True)

embedding_sharpness = sp.Symbol("Lambda_E", positive=True)  # lambda_max(P^1/2 G_E P^1/2)
projection_sharpness = sp.Symbol("Lambda_W", positive=True)  # p_max lambda_max(G_W)

eigenvalue = sp.Symbol("lambda", positive=True)
aspect_ratio = sp.Symbol("c", positive=True)  # tokens over width
