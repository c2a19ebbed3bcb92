"""First-step theory at numbers: the derived moments evaluated for a token law, width by width."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, get_args

import numpy as np
from jax import Array
from numpy.typing import ArrayLike, NDArray

import derivations
from derivations import symbols as s
from dynsim._compiled import evaluate
from dynsim._errors import InputError, check_choice, check_integer
from dynsim._precision import require_x64
from dynsim._results import Declared, Result
from dynsim._summary import summary
from dynsim.tokens._laws import TokenLaw

from ._checks import check_law, check_numbers
from ._features import MAX_LEVEL, FeatureStatistics, feature_statistics, slope_coherence
from ._residuals import ResidualAlignment, residual_alignment

TARGETS = ("sign", "gaussian")
WITH_MEAN = ("relu", "gelu")  # activations whose features have a mean over tokens
FirstStepLayer = Literal["embedding", "projection", "hidden", "readout"]


@dataclass(frozen=True, eq=False)
class FirstStep(Result):
    """What one update of a layer does to its output at LR = 1 and |r| = 1.

    Arrays have the shape of the widths asked for.

    - `layer`, `optimizer`, `width`, `law`, `rank`, `batch_size`, `init`, `activation`, `matrix`,
      `depth`, `residuals`, `mean_residual`, `outputs`: what was asked for.
    - `holds_for`: the matrix, the features that it reads and the residuals, in words.
    - `features`: statistics of these features; the update is in units of their root mean square.
    - `alignment_square`: C, the squared alignment c_i^2 of the rank or its average over tokens;
      None for the embedding.
    - `mean`: E of the update for a residual of +1 (a signal against the residual is negative).
    - `rms`: root of the second moment.
    - `local_exponent`: d ln rms / d ln width at fixed vocabulary, token law and batch.
    """

    arrays: ClassVar[Declared] = {
        # What does not depend on the width is one number.
        "rms": ("width", lambda step: np.broadcast_to(step.rms, step.width.shape)),
        "mean": ("width", lambda step: np.broadcast_to(step.mean, step.width.shape)),
        "local_exponent": (
            "width",
            lambda step: np.broadcast_to(step.local_exponent, step.width.shape),
        ),
        "width": "width",
    }

    layer: FirstStepLayer
    optimizer: derivations.Optimizer
    width: NDArray[np.float64]
    law: TokenLaw
    rank: int | None
    batch_size: int
    init: derivations.Init
    mean: Array
    rms: Array
    local_exponent: Array
    activation: derivations.FeatureActivation = "identity"
    matrix: int = 1
    depth: int = 1
    residuals: derivations.ResidualLaw = "equal"
    mean_residual: float | None = None
    features: FeatureStatistics | None = None
    alignment_square: float | None = None
    outputs: int = 1

    @property
    def holds_for(self) -> str:
        """For which matrix, features and residuals the numbers hold."""
        return holds_for(self.layer, self.activation, self.matrix, self.depth, self.residuals)

    def described_by(self) -> dict[str, Any]:
        """The arguments of `first_step`, by name."""
        asked = ("layer", "optimizer", "rank", "batch_size", "init")
        asked += ("activation", "matrix", "depth", "residuals", "mean_residual", "outputs")
        law = {"tokens": self.law.name, "vocab_size": self.law.vocab_size}
        return {**{name: getattr(self, name) for name in asked}, **law}

    def __repr__(self) -> str:
        return summary(
            f"First step of the {self.layer} layer by {self.optimizer}, at LR = 1",
            width=self.width,
            law=f"{self.law.name}, {self.law.vocab_size} token types",
            rank=self.rank,
            batch_size=self.batch_size or "all tokens",
            init=self.init,
            holds_for=self.holds_for,
            mean=self.mean,
            rms=self.rms,
            local_exponent=self.local_exponent,
        )


def first_step(
    layer: FirstStepLayer,
    optimizer: derivations.Optimizer,
    width: ArrayLike,
    law: TokenLaw,
    *,
    rank: int | None = None,
    batch_size: int = 0,
    init: derivations.Init = "mup",
    activation: derivations.FeatureActivation = "identity",
    matrix: int = 1,
    depth: int = 1,
    residuals: derivations.ResidualLaw = "equal",
    mean_residual: float | None = None,
    outputs: int = 1,
) -> FirstStep:
    """First-step moments of a layer at finite width and vocabulary.

    Sign, projection: rms^2 = d [1 + (2/pi) (d - 1) c^2], c^2 = p_i^2 / P_2 for the token of a
    `rank` (1 the most frequent), P_3 / P_2 averaged over tokens by frequency without a rank: exact
    in full batch. Hidden matrices and the readout read features, in units of whose root mean
    square the update is: rms^2 = d [1 + (d - 1) (a + b C + (2/pi) chi / d)].

    **Arguments:**

    - `batch_size`: 0 is the full batch; for a mini-batch the squared alignment is a ratio of
      averages: exact for uniform tokens. For Zipf tokens the averaged RMS comes out too large, by
      up to 8 % in batches of a few tokens, 4 % from 64 tokens on and 2.5 % from 256 on.
    - `activation`: of the network's hidden layers, below and above the matrix. relu and gelu
      features have a mean over tokens, which makes updates of what reads them coherent at every
      vocabulary (a > 0).
    - `matrix`: of `layer` hidden, which one; 1 reads the embedding itself, 2 the first features.
    - `depth`: of `layer` readout, the number of hidden matrices below it.
    - `residuals`: sizes over tokens, before the slope of the activation above the matrix: equal
      (one output, targets of one size) or gaussian (one output and Gaussian targets, or many
      outputs, or further nonlinear layers above).

    - `outputs`: of `layer` embedding or projection, number of outputs n with residuals of one
      size. Rows of a projection do not depend on each other, so that n changes nothing there; the
      embedding's squared alignment is 1/n. A softmax head is `head_step`.

    Source: docs/theory/first_step.md#projection-step, docs/theory/first_step.md#feature-step,
    docs/theory/first_step.md#unequal-residuals; `derivations.first_step`,
    `derivations.feature_first_step`.

    Raises `InputError` for an unknown name, a width below 1, a rank outside the vocabulary or an
    argument that the layer does not have, and `RuntimeError` without 64-bit types.

    Shapes: `width` is a number or of any shape, which the arrays of the result have.

    **Example:**

    >>> from dynsim import first_step, token_law
    >>> step = first_step("projection", "sign", [256, 4096], token_law("zipf:1", 50257))
    >>> step.rms.round(1), step.local_exponent.round(3)
    (array([ 54. , 829.7]), array([0.958, 0.997]))
    """
    require_x64()
    check_choice("layer", layer, get_args(FirstStepLayer))
    check_choice("optimizer", optimizer, get_args(derivations.Optimizer))
    check_choice("init", init, get_args(derivations.Init))
    check_law(law)
    widths = check_numbers("width", width, 1)
    check_integer("batch_size", batch_size, 0)
    if rank is not None:
        check_integer("rank", rank, 1, law.vocab_size)
    check_features(layer, activation, matrix, depth, residuals, batch_size, mean_residual)
    check_outputs(layer, outputs)
    asked = (layer, optimizer, widths, law, rank, batch_size, init)
    how = (activation, matrix, depth, residuals, mean_residual)
    mini_batch, of_one_token = batch_size > 0, rank is not None
    if layer == "embedding":
        values = law_values(law, rank=rank, batch_size=batch_size) | {s.width: widths}
        many = outputs > 1
        moments = first_step_at(
            values | ({s.outputs: float(outputs)} if many else {}),
            layer,
            optimizer,
            of_one_token=of_one_token,
            mini_batch=mini_batch,
            init=init,
            many_outputs=many,
        )
        return FirstStep(*asked, *moments, *how, outputs=outputs)
    level = {"projection": 0, "hidden": matrix - 1, "readout": depth}[layer]
    above = activation if layer == "hidden" else "identity"
    features = feature_statistics(activation, level)
    field, excess = _field(law, batch_size), 0.0
    if mean_residual is not None:
        of_residuals = {
            derivations.slope_coherence: slope_coherence(above, features.overlap),
            derivations.mean_residual: mean_residual,
            s.frequency_square_sum: field,
        }
        excess = float(evaluate(derivations.residual_excess(), of_residuals))
        features = feature_statistics(activation, level, excess)
    plain = optimizer == "sgd" or mini_batch or (residuals == "equal" and above == "identity")
    alignment = (
        plain_alignment(law, rank, batch_size)
        if plain
        else residual_alignment(law, residuals, above, rank)
    )
    if plain and level == 0:
        values = law_values(law, rank=rank, batch_size=batch_size) | {s.width: widths}
        name = "projection" if layer == "projection" else "hidden"
        moments = first_step_at(
            values, name, optimizer, of_one_token=of_one_token, mini_batch=mini_batch, init=init
        )
    else:
        moments = _feature_moments(widths, features, alignment, optimizer, field, excess)
    return FirstStep(*asked, *moments, *how, features, alignment.square, outputs)


def check_features(
    layer: FirstStepLayer,
    activation: str,
    matrix: int,
    depth: int,
    residuals: str,
    batch_size: int,
    mean_residual: float | None,
) -> None:
    """Raises `InputError` for features and residuals that a layer does not have.

    **Example:**

    >>> from dynsim.theory import check_features
    >>> check_features("hidden", "relu", 2, 1, "equal", 0, None)  # returns: the layer has them
    """
    check_choice("activation", activation, derivations.FEATURE_ACTIVATIONS)
    check_choice("residuals", residuals, derivations.RESIDUAL_LAWS)
    check_integer("matrix", matrix, 1, MAX_LEVEL)
    check_integer("depth", depth, 1, MAX_LEVEL)
    if matrix != 1 and layer != "hidden":
        raise InputError("matrix", matrix, f"must be left out with `layer` {layer}")
    if depth != 1 and layer != "readout":
        raise InputError("depth", depth, f"must be left out with `layer` {layer}")
    if activation != "identity" and layer in ("embedding", "projection"):
        allowed = "must be identity for a layer of the linear network; take `layer` readout"
        raise InputError("activation", activation, allowed)
    if residuals != "equal" and layer == "embedding":
        allowed = "must be equal with `layer` embedding, whose update does not depend on it"
        raise InputError("residuals", residuals, allowed)
    if residuals != "equal" and batch_size:
        raise InputError("residuals", residuals, "must be equal in a mini-batch (`batch_size`)")
    if mean_residual is not None:
        level = {"hidden": matrix - 1, "readout": depth}.get(layer, 0)
        _check_mean_residual(mean_residual, has_common_mean(activation, level))


def check_outputs(layer: str, outputs: int) -> None:
    """Raises `InputError` for a number of outputs that the first step of a layer does not have.

    **Example:**

    >>> from dynsim.theory import check_outputs
    >>> check_outputs("embedding", 4)  # returns: the step is derived
    """
    check_integer("outputs", outputs, 1)
    if outputs > 1 and layer in ("hidden", "readout"):
        allowed = f"must be 1 with `layer` {layer}; many outputs are `residuals` gaussian there"
        raise InputError("outputs", outputs, allowed)


def has_common_mean(activation: str, level: int) -> bool:
    """Whether the features behind `level` hidden matrices have a mean over tokens.

    **Example:**

    >>> from dynsim.theory import has_common_mean
    >>> has_common_mean("relu", 1), has_common_mean("tanh", 1)
    (True, False)
    """
    return level > 0 and activation in WITH_MEAN


def _check_mean_residual(value: float, common_mean: bool) -> None:
    """Raises `InputError` for a size out of range or where no features with a mean are read."""
    if not (math.isfinite(value) and 0 <= value <= 1):
        raise InputError("mean_residual", value, "must be from 0 (centred) to 1 (one residual)")
    if not common_mean:
        allowed = (
            "must be left out where features have no mean; it is for `activation` relu or gelu, "
            "in the readout or `matrix` 2 and above"
        )
        raise InputError("mean_residual", value, allowed)


def holds_for(layer: str, activation: str, matrix: int, depth: int, residuals: str) -> str:
    """For which matrix, features and residuals the first step of these arguments holds.

    **Example:**

    >>> from dynsim.theory import holds_for
    >>> holds_for("hidden", "identity", 1, 1, "equal").split("; ")[0]
    'hidden matrix 1, which reads the embedding (no mean over tokens)'
    """
    if layer == "embedding":
        return "the embedding, read by a linear projection"
    level = {"projection": 0, "hidden": matrix - 1}.get(layer, depth)
    name = {
        "projection": "the projection of the linear network",
        "hidden": f"hidden matrix {matrix}",
        "readout": f"the readout above {depth} hidden {'matrix' if depth == 1 else 'matrices'}",
    }[layer]
    reads = (
        "the embedding (no mean over tokens)"
        if level == 0
        else f"{activation} features {_mean_in_words(activation, level)}"
    )
    slopes = ""
    if layer == "hidden":
        slopes = (
            ", linear layers above"
            if activation == "identity"
            else f", times slopes of {activation}"
        )
    return f"{name}, which reads {reads}; {residuals} residuals{slopes}"


def _mean_in_words(activation: str, level: int) -> str:
    if has_common_mean(activation, level):
        return "with a mean over tokens (coherent at every vocabulary)"
    return "without a mean over tokens"


def plain_alignment(law: TokenLaw, rank: int | None, batch_size: int) -> ResidualAlignment:
    """Squared alignment and signal of a token law where all residuals have one size."""
    values = law_values(law, rank=rank, batch_size=batch_size)
    values.pop(s.presence, None)
    token_law = derivations.alignment(of_one_token=rank is not None, mini_batch=batch_size > 0)
    square = float(evaluate(token_law.alignment_square, values))
    share = law.power_sum(2) if rank is None else float(law.frequencies[rank - 1])
    return ResidualAlignment(square, share / _field(law, batch_size) ** 0.5)


def _field(law: TokenLaw, batch_size: int) -> float:
    """S at |r| = 1."""
    values = law_values(law, batch_size=batch_size)
    values.pop(s.presence, None)
    field = derivations.alignment(of_one_token=False, mini_batch=batch_size > 0).field_square_sum
    return float(evaluate(field, values))


def _feature_moments(
    widths: NDArray[np.float64],
    features: FeatureStatistics,
    alignment: ResidualAlignment,
    optimizer: derivations.Optimizer,
    field: float,
    excess: float,
) -> tuple[Array, Array, Array]:
    """Mean, RMS and local exponent of a matrix that reads features."""
    mean, rms = derivations.feature_first_step(optimizer)
    values: dict[Any, Any] = {
        s.width: widths,
        s.alignment_square: alignment.square,
        s.alignment: alignment.signal,
        s.field_square_sum: field,
        derivations.common_agreement: features.common,
        derivations.own_agreement: features.own,
        derivations.chance_agreement: features.chance,
        derivations.feature_overlap_symbol: features.overlap,
        derivations.feature_fourth_moment: features.fourth_moment,
        derivations.signal_factor: features.signal,
        derivations.mean_excess: excess,
    }
    slope = derivations.local_exponent(rms.expression)
    first, second, third = (evaluate(one, values) for one in (mean, rms, slope))
    return first, second, third


def first_step_at(
    values: Mapping[Any, Any],
    layer: derivations.Layer,
    optimizer: derivations.Optimizer,
    *,
    of_one_token: bool = False,
    mini_batch: bool = False,
    init: derivations.Init = "mup",
    many_outputs: bool = False,
) -> tuple[Array, Array, Array]:
    """Mean, RMS and local exponent of `first_step` at numbers or arrays, by symbol: the width and
    those of `law_values`."""
    mean, rms = derivations.first_step(
        layer,
        optimizer,
        of_one_token=of_one_token,
        mini_batch=mini_batch,
        init=init,
        many_outputs=many_outputs,
    )
    slope = derivations.local_exponent(rms.expression)
    first, second, third = (evaluate(one, dict(values)) for one in (mean, rms, slope))
    return first, second, third


def law_values(law: TokenLaw, *, rank: int | None = None, batch_size: int = 0) -> dict[Any, Any]:
    """The numbers that a token law puts in place of p_i, P_2, P_3, B and q."""
    frequencies = law.frequencies
    values: dict[Any, Any] = {
        s.frequency_square_sum: law.power_sum(2),
        s.frequency_cube_sum: law.power_sum(3),
    }
    if rank is not None:
        values[s.frequency] = float(frequencies[rank - 1])
    if batch_size:
        values[s.batch_size] = float(batch_size)
        values[s.presence] = visit_chance(law, batch_size, rank=rank)
    return values


def visit_chance(law: TokenLaw, batch_size: int, *, rank: int | None = None) -> float:
    """q = 1 - (1 - p)^B, the probability that a batch holds a token: of a rank, or the average.

    The average is weighted by frequency. Raises `InputError` for a batch without tokens and a rank
    outside the vocabulary.

    **Example:**

    >>> from dynsim import token_law
    >>> from dynsim.theory import visit_chance
    >>> law = token_law("uniform", 1000)
    >>> round(visit_chance(law, batch_size=1000), 3)  # 1 - 1/e for many tokens
    0.632
    """
    check_law(law)
    check_integer("batch_size", batch_size, 1)
    if rank is not None:
        check_integer("rank", rank, 1, law.vocab_size)
    alignment = derivations.alignment(of_one_token=rank is not None, mini_batch=True)
    of_token = law.frequencies if rank is None else law.frequencies[rank - 1 : rank]
    weight = law.frequencies if rank is None else np.ones(1)
    chance = evaluate(alignment.presence, {s.frequency: of_token, s.batch_size: float(batch_size)})
    return float(weight @ np.asarray(chance))


def coherence(width: float, law: TokenLaw) -> NDArray[np.float64]:
    """rho_i = (2/pi) (d - 1) / m_eff,i of every token: above 1 muP regime, below 1 LV regime.

    Raises `InputError` for a width below 1. Source: docs/theory/regimes.md#zipf-tokens.

    **Example:**

    >>> from dynsim import coherence, token_law
    >>> coherence(1001, token_law("zipf:1", 1000))[:3].round(1)  # of the three most frequent tokens
    array([387.3,  96.8,  43. ])
    """
    check_law(law)
    check_numbers("width", width, 1)
    ratio = derivations.coherence_ratio()
    values = {s.width: float(width), s.vocab_size: law.effective_vocab_size}
    return np.asarray(evaluate(ratio, values))


def crossover_rank(width: float, law: TokenLaw) -> float:
    """Rank at which rho_i = 1, interpolated in log rank; 0 or inf where no token crosses.

    For a Zipf law this is `derivations.crossover_rank`, ~ d^(1/(2 alpha)).

    **Example:**

    >>> from dynsim import crossover_rank, token_law
    >>> round(crossover_rank(4096, token_law("zipf:1", 50257)), 1)
    39.8
    """
    ratio = coherence(width, law)
    above = int(np.count_nonzero(ratio > 1))
    if above == 0:
        return 0.0
    if above == law.vocab_size or ratio[above] == 0:
        return float(above) if above < law.vocab_size else float("inf")
    log_ratio = np.log(ratio[above - 1 : above + 1])
    ranks = np.log([above, above + 1])
    return float(np.exp(np.interp(0, -log_ratio, ranks)))


def batch_effective_vocab_size(law: TokenLaw, batch_size: int) -> float:
    """Effective vocabulary of the tokens in a batch, weighted by their share of it.

    1 / m_eff = E[sum p_hat^3] / E[sum p_hat^2] with multinomial counts; about `batch_size` when
    the vocabulary is much larger than the batch.
    Raises `InputError` for a batch without tokens.
    Source: docs/theory/regimes.md#batch-vocabulary; `derivations.batch_alignment`.

    **Example:**

    >>> from dynsim import token_law
    >>> from dynsim.theory import batch_effective_vocab_size
    >>> round(batch_effective_vocab_size(token_law("uniform", 100_000), batch_size=256), 1)
    254.7
    """
    check_law(law)
    check_integer("batch_size", batch_size, 1)
    values = law_values(law, batch_size=batch_size)
    values.pop(s.presence)
    return 1 / float(evaluate(derivations.batch_alignment(), values))


SELF_AVERAGING_WIDTH, SELF_AVERAGING_FREQUENCY = 32, 0.01
NARROW = "the width is below {width}, so that sums over neurons scatter"
FREQUENT_TOKEN = "its first token is {share} of the text, so that sums over tokens scatter"


class SelfTermStep(NamedTuple):
    """The projection's first sign update with the self term, at LR = 1."""

    kappa: float
    rms: float
    local_exponent: float


def self_term_rms(
    width: ArrayLike, law: TokenLaw, *, init: derivations.Init
) -> tuple[Array, Array]:
    """(kappa, rms) of the projection's first sign update with the self term, at LR = 1.

    Mean squared error, one output, independent targets of unit variance: the output variance
    sigma_f^2 = d sigma_E^2 sigma_W^2 adds to theirs, S = (1 + sigma_f^2) P_2 and J = 1. The sums
    over tokens and neurons must average to about a percent, or the number is off by several.
    Raises `InputError` for an unknown `init`, a width below 32 and a law whose first token has
    more than 1 % of the frequency, and `RuntimeError` without 64-bit types.
    Source: docs/theory/first_step.md#self-term.

    Shapes: `width` is a number or of any shape, which the RMS has.

    **Example:**

    >>> from dynsim import token_law
    >>> from dynsim.theory import self_term_rms
    >>> kappa, rms = self_term_rms(1024, token_law("uniform", 4096), init="sp")
    >>> f"{kappa:.2f} {rms:.1f}"
    '1.41 36.0'
    """
    check_choice("init", init, get_args(derivations.Init))
    check_law(law)
    narrowest = float(np.min(check_numbers("width", width, 1)))
    if narrowest < SELF_AVERAGING_WIDTH:
        raise InputError("width", narrowest, f"must be at least {SELF_AVERAGING_WIDTH}")
    reason = self_term_undetermined(narrowest, law)
    if reason is not None:
        raise InputError("tokens", law.name, f"must be a flatter law: {reason}")
    values = _self_term_values(width, law, init)
    second = evaluate(derivations.self_term_second_moment(), values)
    return values[s.self_term_ratio], second**0.5


def self_term_undetermined(width: float, law: TokenLaw) -> str | None:
    """Why the self term's sums do not average to about a percent; None where they do.

    **Example:**

    >>> from dynsim import token_law
    >>> from dynsim.theory import self_term_undetermined
    >>> self_term_undetermined(1024, token_law("uniform", 4096)) is None
    True
    """
    if width < SELF_AVERAGING_WIDTH:
        return NARROW.format(width=SELF_AVERAGING_WIDTH)
    share = float(law.frequencies[0])
    if share > SELF_AVERAGING_FREQUENCY:
        return FREQUENT_TOKEN.format(share=f"{share:.1%}")
    return None


def initial_output_ratio(width: float, law: TokenLaw, *, init: derivations.Init) -> float:
    """kappa, the self term over the noise in the projection's gradient, of any law.

    Small where the initial output is. Raises as `self_term_rms`, but for no law.

    **Example:**

    >>> from dynsim import token_law
    >>> from dynsim.theory import initial_output_ratio
    >>> law = token_law("uniform", 1024)
    >>> [round(initial_output_ratio(256, law, init=init), 3) for init in ("mup", "sp")]
    [0.125, 1.414]
    """
    return float(_self_term_values(width, law, init)[s.self_term_ratio])


def self_term_step(width: float, law: TokenLaw, *, init: derivations.Init) -> SelfTermStep:
    """`self_term_rms` at one width with its local exponent, d ln rms / d ln d at fixed law.

    Raises as `self_term_rms`. Source: docs/theory/first_step.md#self-term.

    **Example:**

    >>> from dynsim import token_law
    >>> from dynsim.theory import self_term_step
    >>> step = self_term_step(1024, token_law("uniform", 4096), init="sp")
    >>> f"{step.rms:.1f} {step.local_exponent:.3f}"
    '36.0 0.591'
    """
    kappa, rms = self_term_rms(width, law, init=init)
    step = 1e-4  # of ln d; central differences are off by its square
    wide, narrow = (
        evaluate(
            derivations.self_term_second_moment(),
            _self_term_values(width * math.exp(sign * step), law, init),
        )
        for sign in (1, -1)
    )
    slope = (math.log(float(wide)) - math.log(float(narrow))) / (4 * step)
    return SelfTermStep(float(kappa), float(rms), slope)


def _self_term_values(width: ArrayLike, law: TokenLaw, init: derivations.Init) -> dict[Any, Any]:
    """What the second moment with self term needs at LR = 1, for a token law."""
    require_x64()
    check_law(law)
    check_choice("init", init, get_args(derivations.Init))
    values = self_term_at(law_values(law) | {s.width: check_numbers("width", width, 1)}, init)
    values |= {s.projection_lr: 1.0, s.alignment_square: law.mean_alignment_square}
    values[s.frequency] = law.power_sum(2)
    used = derivations.self_term_second_moment().expression.free_symbols | {s.self_term_ratio}
    return {symbol: value for symbol, value in values.items() if symbol in used}


def self_term_at(values: Mapping[Any, Any], init: derivations.Init) -> dict[Any, Any]:
    """kappa and what it needs for targets of unit variance, one output, mean squared error.

    `values`: the width and the sums of the token law by symbol, which may be arrays.
    """
    d, second = values[s.width], values[s.frequency_square_sum]
    std = derivations.initial_std(init)
    projection_std = np.asarray(evaluate(std[s.projection_std], {s.width: d}))
    scales = {s.width: d, s.embedding_std: 1.0, s.projection_std: projection_std}
    field = evaluate(derivations.field_with_output(), {**scales, s.frequency_square_sum: second})
    strengths = {s.embedding_std: 1.0, s.field_square_sum: field}
    kappa = evaluate(
        derivations.self_term_ratio(),
        {**strengths, s.residual_slope: 1.0, s.projection_std: projection_std},
    )
    return {**values, **strengths, s.self_term_ratio: kappa}


class OptimalLearningRates(NamedTuple):
    """One-step optimal learning rates, of the shape of the widths asked for."""

    embedding: Array
    projection: Array


def optimal_learning_rates(
    width: ArrayLike,
    law: TokenLaw,
    *,
    init: derivations.Init,
    self_term: bool = True,
    targets: str = "sign",
) -> OptimalLearningRates:
    """One-step optimal (embedding LR, projection LR), each with the other layer frozen.

    One output, sign or Adam's first step, mean squared error. Without `self_term` the initial
    output is neglected (|r| = 1) and the ratio under muP and uniform tokens is
    (pi/2) sqrt(m) + (d - 1)/sqrt(m) at large d. With it both optima depend on the initial output:
    the embedding's by the mean size of the residual (a factor 1.17 under SP), the projection's by
    its self term, which matters for m of the order d^2 under muP and of the
    order d under SP, and presumes that no single token carries much of the law. `targets` are +1
    or -1 (`sign`) or, with self term, N(0, 1) (`gaussian`), which changes the mean size of the
    residual (sqrt(2/pi) under muP) and with it the embedding's optimum alone.
    Raises `InputError` for an unknown name or a width below 1, and `RuntimeError` without 64-bit
    types. Source: docs/theory/learning_rates.md#greedy-ratio and
    docs/theory/learning_rates.md#ratio-with-self-term.

    Shapes: `width` is a number or of any shape, which both rates have.

    **Example:**

    >>> from dynsim import optimal_learning_rates, token_law
    >>> law = token_law("uniform", 4096)
    >>> rates = optimal_learning_rates(1024, law, init="mup", self_term=False)
    >>> float((rates.embedding / rates.projection).round(1))  # (pi/2) 64 + 1023/64
    116.5
    """
    check_choice("init", init, get_args(derivations.Init))
    check_choice("targets", targets, TARGETS)
    check_law(law)
    widths = check_numbers("width", width, 1)
    values = law_values(law) | {s.width: widths}
    return optimal_rates_at(values, init, self_term=self_term, targets=targets)


def optimal_rates_at(
    values: Mapping[Any, Any],
    init: derivations.Init,
    *,
    self_term: bool = True,
    targets: str = "sign",
) -> OptimalLearningRates:
    """`optimal_learning_rates` at numbers or arrays by symbol: the width, P_2 and P_3."""
    require_x64()
    std = derivations.initial_std(init)
    if self_term:
        numbers = self_term_at(values, init)
        output = derivations.optimal_embedding_lr_with_output(targets).specialise(
            std, "initialisation"
        )
        return OptimalLearningRates(
            evaluate(output, {s.width: values[s.width]}),
            evaluate(derivations.optimal_projection_lr_with_self_term(), numbers),
        )
    embedding, projection = (
        derivations.optimal_learning_rate(layer).specialise(std, "initialisation")
        for layer in ("embedding", "projection")
    )
    return OptimalLearningRates(
        evaluate(embedding, {s.width: values[s.width]}), evaluate(projection, dict(values))
    )
