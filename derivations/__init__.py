"""Symbolic derivations (sympy): first-step moments, regimes and learning-rate rules.

Nothing here imports jax; `dynsim` compiles these expressions and `experiments` shows them.
"""

from . import _flow_symbols as flow_symbols
from . import _symbols as symbols
from ._base_rate import BaseRate as BaseRate
from ._base_rate import LinearLayer as LinearLayer
from ._base_rate import base_rate as base_rate
from ._base_rate import frozen_embedding_floor as frozen_embedding_floor
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
from ._gaussian import smoothed_sign_kernel as smoothed_sign_kernel
from ._gaussian import summed_kernel as summed_kernel
from ._gradient_flow import FLOW_STATE as FLOW_STATE
from ._gradient_flow import FlowLayer as FlowLayer
from ._gradient_flow import FlowState as FlowState
from ._gradient_flow import aligned_mode as aligned_mode
from ._gradient_flow import balanced_mode as balanced_mode
from ._gradient_flow import fastest_rate as fastest_rate
from ._gradient_flow import flow_invariant as flow_invariant
from ._gradient_flow import gram_flow as gram_flow
from ._gradient_flow import smoothed_sign as smoothed_sign
from ._gradient_flow import weight_gradient as weight_gradient
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
from ._lv_ageing import DIRECTIONS as DIRECTIONS
from ._lv_ageing import AgedSignal as AgedSignal
from ._lv_ageing import Directions as Directions
from ._lv_ageing import age_step as age_step
from ._lv_ageing import age_steps as age_steps
from ._lv_ageing import aged_coherence_ratio as aged_coherence_ratio
from ._lv_ageing import aged_coherent_power as aged_coherent_power
from ._lv_ageing import aged_local_exponent as aged_local_exponent
from ._lv_ageing import aged_signal as aged_signal
from ._lv_ageing import aged_update_second_moment as aged_update_second_moment
from ._lv_ageing import coherent_field as coherent_field
from ._lv_ageing import field_age as field_age
from ._lv_ageing import full_batch_age as full_batch_age
from ._lv_ageing import mini_batch_age as mini_batch_age
from ._lv_ageing import rewritten_field as rewritten_field
from ._lv_ageing import smoothed_speed as smoothed_speed
from ._lv_ageing import smoothing as smoothing
from ._lv_ageing import visited_age as visited_age
from ._lv_lifetime import (
    early_restoration_displacement as early_restoration_displacement,
)
from ._lv_lifetime import (
    isotropic_restoration_constant as isotropic_restoration_constant,
)
from ._lv_lifetime import restoration_constant as restoration_constant
from ._lv_lifetime import restoration_displacement as restoration_displacement
from ._marchenko_pastur import marchenko_pastur_density as marchenko_pastur_density
from ._marchenko_pastur import marchenko_pastur_moment as marchenko_pastur_moment
from ._marchenko_pastur import marchenko_pastur_recurrence as marchenko_pastur_recurrence
from ._mean_field_equations import SIDES as SIDES
from ._mean_field_equations import Side as Side
from ._mean_field_equations import conditioned_field as conditioned_field
from ._mean_field_equations import conditioning_response as conditioning_response
from ._mean_field_equations import embedding_entry as embedding_entry
from ._mean_field_equations import field_covariance as field_covariance
from ._mean_field_equations import field_response as field_response
from ._mean_field_equations import neuron_gradient as neuron_gradient
from ._mean_field_equations import projection_entry as projection_entry
from ._mean_field_equations import token_output as token_output
from ._mean_field_first_step import GAUSSIAN_TARGETS as GAUSSIAN_TARGETS
from ._mean_field_first_step import first_residual_response as first_residual_response
from ._mean_field_first_step import mean_field_first_loss as mean_field_first_loss
from ._mean_field_first_step import mean_field_first_update as mean_field_first_update
from ._mean_field_limits import fixed_vocabulary_limit as fixed_vocabulary_limit
from ._mean_field_limits import proportional_limit as proportional_limit
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
from ._phase_diagram import PhaseDiagram as PhaseDiagram
from ._phase_diagram import large_vocabulary_boundary as large_vocabulary_boundary
from ._phase_diagram import phase_diagram as phase_diagram
from ._published_rules import PublishedRule as PublishedRule
from ._published_rules import RuleComparison as RuleComparison
from ._published_rules import compare_published_rules as compare_published_rules
from ._published_rules import published_rules as published_rules
from ._regimes import average_coherence_ratio as average_coherence_ratio
from ._regimes import coherence_ratio as coherence_ratio
from ._regimes import critical_vocab_exponent as critical_vocab_exponent
from ._regimes import crossover_frequency as crossover_frequency
from ._regimes import crossover_rank as crossover_rank
from ._regimes import crossover_vocab_size as crossover_vocab_size
from ._regimes import exponent as exponent
from ._regimes import local_exponent as local_exponent
from ._regimes import presence_order as presence_order
from ._stability import InfeasibleProgram as InfeasibleProgram
from ._stability import LayerSolution as LayerSolution
from ._stability import StabilitySolution as StabilitySolution
from ._stability import maximal_learning_rates as maximal_learning_rates
from ._stability import solve_stability as solve_stability
from ._stability_constraints import ALIGNED as ALIGNED
from ._stability_constraints import FULL_ALIGNMENT as FULL_ALIGNMENT
from ._stability_constraints import NO_ALIGNMENT as NO_ALIGNMENT
from ._stability_constraints import UNALIGNED as UNALIGNED
from ._stability_constraints import Constraint as Constraint
from ._stability_constraints import LayerAlignment as LayerAlignment
from ._stability_constraints import NetworkAlignment as NetworkAlignment
from ._stability_constraints import layer_alignment as layer_alignment
from ._token_laws import alignment as alignment
from ._token_laws import batch_alignment as batch_alignment
from ._token_laws import leading_order as leading_order
from ._token_laws import multinomial_moment as multinomial_moment
from ._token_laws import power_sum_order as power_sum_order
from ._token_laws import zipf_orders as zipf_orders
from ._update_coherence import muon_coherent_fraction as muon_coherent_fraction
from ._update_coherence import muon_update_rms as muon_update_rms
from ._update_coherence import sign_coherent_fraction as sign_coherent_fraction
from ._vocabulary_alignment import AveragedOver as AveragedOver
from ._vocabulary_alignment import UpdateAlignment as UpdateAlignment
from ._vocabulary_alignment import alignment_exponent as alignment_exponent
from ._vocabulary_alignment import batch_alignment_square as batch_alignment_square
from ._vocabulary_alignment import embedding_hidden_trade as embedding_hidden_trade
from ._vocabulary_alignment import hidden_update_growth as hidden_update_growth
from ._vocabulary_alignment import learned_alignment_exponent as learned_alignment_exponent
from ._vocabulary_alignment import vocabulary_alignment as vocabulary_alignment

__all__ = ["flow_symbols", "symbols"]
