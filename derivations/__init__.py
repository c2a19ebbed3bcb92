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
from ._law_first_step import INITIALISATIONS as INITIALISATIONS
from ._law_first_step import UNIFORM_LAW as UNIFORM_LAW
from ._law_first_step import Init as Init
from ._law_first_step import first_step as first_step
from ._law_first_step import initial_std as initial_std
from ._law_first_step import zipf_law as zipf_law
from ._learning_rates import maximal_update_ratio as maximal_update_ratio
from ._learning_rates import optimal_embedding_lr_with_output as optimal_embedding_lr_with_output
from ._learning_rates import optimal_learning_rate as optimal_learning_rate
from ._learning_rates import (
    optimal_projection_lr_with_self_term as optimal_projection_lr_with_self_term,
)
from ._learning_rates import optimal_ratio as optimal_ratio
from ._learning_rates import optimal_ratio_mup_uniform as optimal_ratio_mup_uniform
from ._parametrizations import ENTRYWISE_NORMALISED as ENTRYWISE_NORMALISED
from ._parametrizations import NETWORK_LAYERS as NETWORK_LAYERS
from ._parametrizations import PARAMETRIZATIONS as PARAMETRIZATIONS
from ._parametrizations import TRAINING_OPTIMIZERS as TRAINING_OPTIMIZERS
from ._parametrizations import LayerExponents as LayerExponents
from ._parametrizations import NetworkLayer as NetworkLayer
from ._parametrizations import Parametrization as Parametrization
from ._parametrizations import TrainingOptimizer as TrainingOptimizer
from ._parametrizations import as_exponent as as_exponent
from ._parametrizations import custom_parametrization as custom_parametrization
from ._parametrizations import parametrization as parametrization
from ._published_rules import PublishedRule as PublishedRule
from ._published_rules import RuleComparison as RuleComparison
from ._published_rules import compare_published_rules as compare_published_rules
from ._published_rules import published_rules as published_rules
from ._regimes import coherence_ratio as coherence_ratio
from ._regimes import critical_vocab_exponent as critical_vocab_exponent
from ._regimes import crossover_rank as crossover_rank
from ._regimes import crossover_vocab_size as crossover_vocab_size
from ._regimes import exponent as exponent
from ._regimes import local_exponent as local_exponent
from ._stability import ALIGNED as ALIGNED
from ._stability import FULL_ALIGNMENT as FULL_ALIGNMENT
from ._stability import NO_ALIGNMENT as NO_ALIGNMENT
from ._stability import UNALIGNED as UNALIGNED
from ._stability import Constraint as Constraint
from ._stability import InfeasibleProgram as InfeasibleProgram
from ._stability import LayerAlignment as LayerAlignment
from ._stability import LayerSolution as LayerSolution
from ._stability import NetworkAlignment as NetworkAlignment
from ._stability import StabilitySolution as StabilitySolution
from ._stability import layer_alignment as layer_alignment
from ._stability import maximal_learning_rates as maximal_learning_rates
from ._stability import solve_stability as solve_stability
from ._token_laws import alignment as alignment
from ._token_laws import batch_alignment as batch_alignment
from ._token_laws import leading_order as leading_order
from ._token_laws import multinomial_moment as multinomial_moment
from ._token_laws import power_sum_order as power_sum_order
from ._token_laws import zipf_orders as zipf_orders
from ._vocabulary_alignment import Heard as Heard
from ._vocabulary_alignment import PhaseDiagram as PhaseDiagram
from ._vocabulary_alignment import UpdateAlignment as UpdateAlignment
from ._vocabulary_alignment import alignment_exponent as alignment_exponent
from ._vocabulary_alignment import batch_alignment_square as batch_alignment_square
from ._vocabulary_alignment import embedding_hidden_trade as embedding_hidden_trade
from ._vocabulary_alignment import hidden_update_growth as hidden_update_growth
from ._vocabulary_alignment import large_vocabulary_boundary as large_vocabulary_boundary
from ._vocabulary_alignment import learned_alignment_exponent as learned_alignment_exponent
from ._vocabulary_alignment import muon_coherent_fraction as muon_coherent_fraction
from ._vocabulary_alignment import muon_update_rms as muon_update_rms
from ._vocabulary_alignment import phase_diagram as phase_diagram
from ._vocabulary_alignment import sign_coherent_fraction as sign_coherent_fraction
from ._vocabulary_alignment import vocabulary_alignment as vocabulary_alignment

__all__ = ["symbols"]
