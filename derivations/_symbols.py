"""The symbols of the theory, declared once with the assumptions sympy may use."""

from __future__ import annotations

import sympy as sp

width = sp.Symbol("d", positive=True)
base_width = sp.Symbol("d_0", positive=True)
vocab_size = sp.Symbol("m", positive=True)
outputs = sp.Symbol("n", positive=True)
batch_size = sp.Symbol("B", positive=True)
rank = sp.Symbol("i", positive=True)
zipf_exponent = sp.Symbol("alpha", nonnegative=True)

vocab_exponent = sp.Symbol("mu", nonnegative=True)
rank_exponent = sp.Symbol("iota", nonnegative=True)
batch_exponent = sp.Symbol("beta", nonnegative=True)

embedding_lr = sp.Symbol("eta_E", positive=True)
projection_lr = sp.Symbol("eta_W", positive=True)
embedding_std = sp.Symbol("sigma_E", positive=True)
projection_std = sp.Symbol("sigma_W", positive=True)

# Frequencies enter only through these sums; p_i is the frequency of the token looked at.
frequency = sp.Symbol("p_i", positive=True)
frequency_square_sum = sp.Symbol("P_2", positive=True)  # sum_j p_j^2
frequency_cube_sum = sp.Symbol("P_3", positive=True)  # sum_j p_j^3
POWER_SUMS: dict[int, sp.Expr] = {  # sum_j p_j^k by k
    1: sp.Integer(1),
    2: frequency_square_sum,
    3: frequency_cube_sum,
    **{order: sp.Symbol(f"P_{order}", positive=True) for order in (4, 5, 6)},
}
gradient_rank = sp.Symbol("k", positive=True)
presence = sp.Symbol("q", positive=True)  # probability that a batch holds the token

residual = sp.Symbol("r", real=True)  # r_ik of the token and output looked at
residual_norm = sp.Symbol("R", positive=True)  # (sum_q r_iq^2)^(1/2)
field_square_sum = sp.Symbol("S", positive=True)  # sum_j p_j^2 r_jk^2
alignment = sp.Symbol("c", real=True)  # alignment coefficient c_ik
alignment_square = sp.Symbol("C", positive=True)  # c_ik^2, or its average over tokens
residual_slope = sp.Symbol("J", real=True)  # sum_j p_j dr_jk/df_jk
self_term_ratio = sp.Symbol("kappa", positive=True)

# The age of a network whose residuals still have the size of the start
displacement = sp.Symbol("theta", nonnegative=True)  # eta_E t / sigma_E, the mean over tokens
displacement_square = sp.Symbol("Theta", nonnegative=True)  # its mean square over tokens
effective_outputs = sp.Symbol("n_eff", positive=True)
field_age = sp.Symbol("tau", nonnegative=True)
mean_alignment = sp.Symbol("c_1", positive=True)  # sum_i p_i |c_i|

# One-hot tokens: every entry of the weights by itself
steps = sp.Symbol("t", nonnegative=True)
step_size = sp.Symbol("eta", positive=True)
relative_loss = sp.Symbol("epsilon", positive=True)  # L(t)/L(0)
initial_residual = sp.Symbol("r_0", nonnegative=True)  # size of an entry at the start
arrival_rank = sp.Symbol("phi", positive=True)  # rank of the target that eta t reaches
moving_entries = sp.Symbol("K", nonnegative=True)  # floor(phi)

MEANING: dict[sp.Symbol, str] = {
    width: "width",
    base_width: "width at which learning rates were tuned",
    vocab_size: "vocabulary size",
    outputs: "number of outputs",
    batch_size: "batch size in tokens",
    rank: "rank of the token, 1 the most frequent",
    zipf_exponent: "Zipf exponent of the token law",
    vocab_exponent: "vocabulary exponent, m = d^mu",
    rank_exponent: "rank exponent, i = d^iota",
    batch_exponent: "batch exponent, B = d^beta",
    embedding_lr: "embedding learning rate",
    projection_lr: "projection (or hidden) learning rate",
    embedding_std: "standard deviation of the embedding's entries at initialisation",
    projection_std: "standard deviation of the projection's entries at initialisation",
    frequency: "frequency of token i",
    frequency_square_sum: "sum of squared token frequencies",
    frequency_cube_sum: "sum of cubed token frequencies",
    gradient_rank: "rank of the gradient of a hidden matrix",
    presence: "probability that a batch contains the token (1 in full batch)",
    residual: "residual of the token and output looked at",
    residual_norm: "Euclidean norm of the token's residual over the outputs",
    field_square_sum: "sum over tokens of squared frequency times squared residual",
    alignment: "alignment coefficient",
    alignment_square: "squared alignment coefficient (or its average over tokens)",
    residual_slope: "frequency-weighted mean derivative of the residual by its own output",
    displacement: "embedding displacement, learning rate times visits over its initial std",
    displacement_square: "mean square of the embedding displacement over tokens",
    effective_outputs: "independent directions of the residuals (participation ratio)",
    field_age: "field age, the learned part of the projection's gradient over its noise",
    mean_alignment: "frequency-weighted mean of the alignment coefficient's size",
    steps: "number of steps",
    step_size: "learning rate of weights without a name of their own",
    relative_loss: "loss over the initial loss",
    initial_residual: "size of a residual's entry at initialisation",
    arrival_rank: "rank of the target that learning rate times steps reaches",
    moving_entries: "entries of a token that sign descent has not yet brought to their targets",
    self_term_ratio: "self term over noise in the gradient's argument, in standard deviations",
}
