"""Why a point has no value: the sentences that maps and the explorer share."""

from __future__ import annotations

from dynsim.scaling.quantities._aged import MANY_OUTPUTS

LARGEST_ERROR = 0.03  # of an RMS, up to which a formula counts as right

NO_FIRST_STEP = "no first step is derived for `optimizer` {optimizer}"
SIGNS_ONLY = "{what} is derived for `optimizer` sign or adam"
UNIFORM_ONLY = "{what} is derived for uniform tokens"
SIGN_ONLY = "{what} is derived for `optimizer` sign"
LATER = "what later updates do"
LATER_IN_BATCHES = "what later updates do in a mini-batch"
OPTIMAL_RATIO = "the optimal ratio"
MUP_SHARE = "the muP share"
RATES_OF_FULL_BATCH = "optimal rates are derived for the full batch (`batch_size` 0)"
RATES_OF_ONE_OUTPUT = "optimal rates are derived for one output (`outputs` 1)"
LARGE_EPSILON = "`epsilon` is not small against the gradients under adam"
RANDOM_RESIDUAL = (
    "with an initial output of order one (`init` sp) the residual of the most frequent token "
    "is random and decides the alignment"
)
UNEQUAL_RESIDUALS = (
    "the formula is of residuals of equal size, and those of single tokens change it by more "
    f"than {LARGEST_ERROR:.0%}"
)
INITIAL_OUTPUT = (
    "the formula is of a small initial output, whose own part in the residuals changes it by "
    f"more than {LARGEST_ERROR:.0%}"
)
FEW_OUTPUTS = (
    "later updates are derived for one output, or for gaussian `targets` of full rank with at "
    f"least {MANY_OUTPUTS} `outputs`"
)
RESIDUALS_TURN = (
    "later updates are derived while the residuals keep their sign, and the embedding's moves "
    "change it"
)
ONE_NEURON = "one neuron has no coherent sum"
