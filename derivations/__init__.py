"""Symbolic derivations (sympy): first-step moments, regimes and learning-rate rules.

Nothing here imports jax; `dynsim` compiles these expressions and `experiments` shows them.
"""

from . import _symbols as symbols
from ._derivation import Derivation as Derivation
from ._derivation import Step as Step
from ._first_step import LAYERS as LAYERS
from ._first_step import Layer as Layer
from ._first_step import cross_term_second_moment as cross_term_second_moment
from ._first_step import hidden_output_second_moment as hidden_output_second_moment
from ._first_step import self_term_ratio as self_term_ratio
from ._first_step import self_term_second_moment as self_term_second_moment
from ._first_step import update_mean as update_mean
from ._first_step import update_second_moment as update_second_moment
from ._gaussian import OPTIMIZERS as OPTIMIZERS
from ._gaussian import Kernel as Kernel
from ._gaussian import Optimizer as Optimizer
from ._gaussian import arcsine_law as arcsine_law
from ._gaussian import gradient_std as gradient_std
from ._gaussian import input_std as input_std
from ._gaussian import kernel as kernel
from ._gaussian import summed_kernel as summed_kernel
from ._learning_rates import maximal_update_ratio as maximal_update_ratio
from ._learning_rates import optimal_learning_rate as optimal_learning_rate
from ._learning_rates import (
    optimal_projection_lr_with_self_term as optimal_projection_lr_with_self_term,
)
from ._learning_rates import optimal_ratio as optimal_ratio
from ._learning_rates import optimal_ratio_mup_uniform as optimal_ratio_mup_uniform
from ._regimes import INITIALISATIONS as INITIALISATIONS
from ._regimes import UNIFORM_LAW as UNIFORM_LAW
from ._regimes import coherence_ratio as coherence_ratio
from ._regimes import critical_vocab_exponent as critical_vocab_exponent
from ._regimes import crossover_rank as crossover_rank
from ._regimes import crossover_vocab_size as crossover_vocab_size
from ._regimes import exponent as exponent
from ._regimes import first_step as first_step
from ._regimes import initial_std as initial_std
from ._regimes import local_exponent as local_exponent
from ._regimes import zipf_law as zipf_law
from ._token_laws import alignment as alignment
from ._token_laws import batch_alignment as batch_alignment
from ._token_laws import leading_order as leading_order
from ._token_laws import multinomial_moment as multinomial_moment
from ._token_laws import power_sum_order as power_sum_order
from ._token_laws import zipf_orders as zipf_orders

__all__ = ["symbols"]
