"""Evidence about the first step, each a function of one study's dataset."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import sympy as sp
import xarray as xr
from numpy.typing import NDArray

import derivations
from derivations import symbols as s
from dynsim import (
    Setup,
    TokenLaw,
    bootstrap,
    coherence,
    crossover_rank,
    evaluate,
    first_step,
    fit_exponent,
    optimal_learning_rates,
    predict,
    token_law,
)
from dynsim.claims import Evidence
from dynsim.statistics import (
    collapse_spread,
    exponent_of,
    log_slope,
    parabola_minimum,
    unit_crossing,
)
from dynsim.theory import batch_effective_vocab_size, self_term_rms, visit_chance
from experiments.results import study_config


def _uniform_rms(layer: str, width: float, vocab_size: float, optimizer: str = "sign") -> float:
    law = token_law("uniform", int(vocab_size))
    return float(first_step(layer, optimizer, width, law).rms)  # type: ignore[arg-type]


def _squares(data: xr.Dataset, layer: str, **cell: object) -> NDArray[np.float64]:
    """Seeds of a cell's mean-square update."""
    return data.mean_square.sel(layer=layer, **cell).to_numpy()


def update_cells(data: xr.Dataset) -> list[tuple[int, int]]:
    """(width, vocab_size) of every cell that was measured."""
    present = data.mean_square.isel(layer=0, seed=0).notnull()
    return [
        (int(d), int(m))
        for d in data.width.values
        for m in data.vocab_size.values
        if bool(present.sel(width=d, vocab_size=m))
    ]


def _exponent_evidence(
    data: xr.Dataset,
    layer: str,
    cells: Sequence[tuple[int, int]],
    predicted: float,
    *,
    along: str = "width",
    theory: Callable[[int, int], float] | None = None,
) -> Evidence:
    """Exponent of a layer's RMS along `cells`, measured and from the compiled moments."""
    sizes = np.array([cell[along == "vocab_size"] for cell in cells], dtype=float)
    samples = [_squares(data, layer, width=d, vocab_size=m) for d, m in cells]
    measured = fit_exponent(sizes, samples, power=0.5)
    rms = theory or partial(_uniform_rms, layer)
    simulated = log_slope(np.log(sizes), np.log([rms(d, m) for d, m in cells]))
    return Evidence.of_fit(measured, predicted=predicted, simulated=float(simulated))


def _predicted_exponent(vocab_exponent: float, layer: derivations.Layer = "projection") -> float:
    """The derived exponent of d along m = d^mu for uniform tokens under sign."""
    exponent = derivations.exponent(layer, "sign")
    return float(exponent.subs({s.zipf_exponent: 0, s.vocab_exponent: vocab_exponent}))


def _predicted_ratio_exponent(vocab_exponent: float) -> float:
    """The derived exponent of d in eta_E*/eta_W* along m = d^mu."""
    orders = {s.width: sp.Integer(1), s.vocab_size: sp.Float(vocab_exponent)}
    ratio = derivations.optimal_ratio_mup_uniform().expression
    return float(derivations.leading_order(ratio, orders))


def _order_alone(expression: sp.Expr, size: sp.Symbol) -> float:
    """The power of one size in an expression, everything else held fixed."""
    orders = {**dict.fromkeys(expression.free_symbols, sp.Integer(0)), size: sp.Integer(1)}
    return float(derivations.leading_order(expression, orders))  # type: ignore[arg-type]


RESAMPLES = 200  # of intervals that are stored with their verdicts; new claims take `Resamples`
LARGE_VOCABULARY = 2.0  # any mu beyond 1


def _mup_cells(data: xr.Dataset) -> list[tuple[int, int]]:
    smallest = int(data.vocab_size.min())
    return [(d, m) for d, m in update_cells(data) if m == smallest and d >= 16 * m]


def _lv_cells(data: xr.Dataset) -> list[tuple[int, int]]:
    largest = int(data.vocab_size.max())
    return [(d, m) for d, m in update_cells(data) if m == largest and m >= 16 * d]


def _proportional_cells(data: xr.Dataset) -> list[tuple[int, int]]:
    return [(d, m) for d, m in update_cells(data) if m == 2 * d]


def _kernel_samples(data: xr.Dataset, quantity: str) -> list[NDArray[np.float64]]:
    moment = data.moment.sel(quantity=quantity)
    return [moment.sel(correlation=c).to_numpy() for c in data.correlation]


def sign_kernel(data: xr.Dataset, *, kept_alignment: float = 2 / np.pi) -> Evidence:
    """Second moment of a sum of u sign(v): sampled over derived, averaged over correlations.

    `kept_alignment`: what a sign keeps of the squared correlation; as a control, another share.
    """
    moment = derivations.summed_kernel("sign").second_moment
    samples = _kernel_samples(data, "sum_square")
    arguments = {s.width: float(study_config(data)["neurons"]), derivations.input_std: 1.0}
    kept = (kept_alignment * np.pi / 2) ** 0.5  # of the correlation, against the derived 2/pi
    theory = [
        float(evaluate(moment, {**arguments, s.alignment: kept * float(c)}))
        for c in data.correlation
    ]
    return _mean_ratio(samples, theory)


def arcsine_law(data: xr.Dataset) -> Evidence:
    """Agreement of two signs: sampled over (2/pi) asin c, averaged over correlations."""
    samples = _kernel_samples(data, "sign_agreement")
    law = derivations.arcsine_law()
    return _mean_ratio(
        samples, [float(evaluate(law, {s.alignment: float(c)})) for c in data.correlation]
    )


def _mean_ratio(
    samples: Sequence[NDArray[np.float64]],
    theory: Sequence[float],
    power: float = 1.0,
    setups: Sequence[Setup] = (),
) -> Evidence:
    """Geometric mean over cells of measured / theory; the prediction is 1.

    Simulated: the same of the mean-field solver's first step on `setups`; None without them.
    """
    reference = np.asarray(theory)

    def ratio(*cells: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
        means = np.array([np.mean(cell, axis=axis) for cell in cells]) ** power
        return np.exp(np.mean(np.log(means / reference)))

    simulated = None
    if setups:
        solved = [_mean_field_rms(setup) for setup in setups]
        simulated = float(np.exp(np.mean(np.log(np.array(solved) / reference))))
    return Evidence(predicted=1.0, simulated=simulated, measured=bootstrap(ratio, samples))


def _mean_field_rms(setup: Setup) -> float:
    """RMS of the projection's first update at LR = 1 in the mean-field limit, by particles."""
    frozen = replace(setup, projection_lr=1.0, embedding_lr=0.0, steps=2)
    limit = predict(frozen, particles=1024, replicas=8, error_estimate=False, finite_width=False)
    return float(limit.projection_update_rms[0, 1])


def projection_mup(data: xr.Dataset) -> Evidence:
    return _exponent_evidence(data, "projection", _mup_cells(data), _predicted_exponent(0))


def projection_lv(data: xr.Dataset) -> Evidence:
    predicted = _predicted_exponent(LARGE_VOCABULARY)
    return _exponent_evidence(data, "projection", _lv_cells(data), predicted)


def projection_proportional(data: xr.Dataset) -> Evidence:
    return _exponent_evidence(data, "projection", _proportional_cells(data), _predicted_exponent(1))


def cross_term(data: xr.Dataset) -> Evidence:
    """Exponent of the cross term's RMS in the width, where its self term is small (m << d^2)."""
    second = derivations.cross_term_second_moment("sign")
    unit = {s.embedding_lr: 1.0, s.projection_lr: 1.0, s.self_term_ratio: 0.0}

    def theory(width: int, _vocab_size: int) -> float:
        return float(evaluate(second, {**unit, s.width: float(width)})) ** 0.5

    without_self_term = second.expression.subs(s.self_term_ratio, 0)
    predicted = _order_alone(without_self_term, s.width) / 2
    return _exponent_evidence(data, "cross", _mup_cells(data), predicted, theory=theory)


def embedding_vocab(data: xr.Dataset) -> Evidence:
    """Exponent of the embedding's RMS in the vocabulary at one width."""
    width = max(d for d, m in update_cells(data) if m == int(data.vocab_size.max()))
    cells = [(d, m) for d, m in update_cells(data) if d == width]
    second = derivations.update_second_moment("embedding", "sign").expression
    predicted = _order_alone(second, s.vocab_size) / 2
    return _exponent_evidence(data, "embedding", cells, predicted, along="vocab_size")


def data_collapse(data: xr.Dataset, *, by_product: bool = False) -> Evidence:
    """Spread of RMS / sqrt(d) around one curve of d/m (or, as a control, of d m)."""
    cells = [(d, m) for d, m in update_cells(data) if d >= 64]
    d, m = np.array(cells, dtype=float).T
    scaled = d * m if by_product else d / m
    samples = [_squares(data, "projection", width=a, vocab_size=b) for a, b in cells]

    def spread(*values: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
        rms = np.sqrt([np.mean(value, axis=axis) for value in values])
        return np.asarray(collapse_spread(scaled, rms / np.sqrt(d)))

    theory = np.array([_uniform_rms("projection", a, b) for a, b in cells])
    simulated = collapse_spread(scaled, theory / np.sqrt(d))
    return Evidence(predicted=0.0, simulated=simulated, measured=bootstrap(spread, samples))


def rate_cells(
    data: xr.Dataset, init: str, keep: Callable[[int, int], bool]
) -> list[tuple[int, int]]:
    present = data.loss.isel(layer=0, learning_rate=0, seed=0).sel(init=init).notnull()
    return [
        (int(d), int(m))
        for d in data.width.values
        for m in data.vocab_size.values
        if keep(int(d), int(m)) and bool(present.sel(width=d, vocab_size=m))
    ]


def measured_ratios(
    data: xr.Dataset, cells: Sequence[tuple[int, int]], init: str = "mup"
) -> tuple[list[NDArray[np.float64]], Callable[..., NDArray[np.float64]]]:
    """Loss per cell, shape (layer, learning_rate, seed), and the statistic log(eta_E*/eta_W*).

    Both layers of a cell start from the same weights, so their seeds are resampled together.
    """
    rates = data.learning_rate.to_numpy()
    loss = data.loss.sel(init=init).transpose("width", "vocab_size", "layer", ..., "seed")
    ordered = loss.sel(layer=["embedding", "projection"])
    samples = [ordered.sel(width=d, vocab_size=m).to_numpy() for d, m in cells]

    def log_ratios(*curves: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
        means = np.array([np.mean(pair, axis=axis) for pair in curves])
        embedding, projection = parabola_minimum(rates, means).T
        return np.log(embedding / projection)

    return samples, log_ratios


def theory_ratio(width: float, vocab_size: int, init: derivations.Init = "mup") -> float:
    embedding, projection = optimal_learning_rates(
        width, token_law("uniform", vocab_size), init=init
    )
    return float(embedding / projection)


def _ratio_exponent(
    data: xr.Dataset, keep: Callable[[int, int], bool], predicted: float
) -> Evidence:
    cells = rate_cells(data, "mup", keep)
    samples, log_ratios = measured_ratios(data, cells)
    widths = [d for d, _ in cells]
    simulated = log_slope(np.log(widths), np.log([theory_ratio(d, m) for d, m in cells]))
    measured = exponent_of(widths, samples, log_ratios)
    return Evidence.of_fit(measured, predicted=predicted, simulated=float(simulated))


def _fixed_vocab(d: int, m: int) -> bool:
    return m == 4 and d >= 16 * m


def ratio_fixed_vocab(data: xr.Dataset) -> Evidence:
    return _ratio_exponent(data, _fixed_vocab, _predicted_ratio_exponent(0))


def ratio_proportional(data: xr.Dataset) -> Evidence:
    return _ratio_exponent(data, lambda d, m: m == 4 * d, _predicted_ratio_exponent(1))


def ratio_formula(
    data: xr.Dataset,
    *,
    init: derivations.Init = "mup",
    self_term: bool = False,
    random_sum: bool = True,
    keep: Callable[[int, int], bool] = lambda d, m: 16 * m <= d**2,
) -> Evidence:
    """Measured over derived ratio of layer-wise optima, geometric mean over the cells kept.

    Without `self_term` the derived ratio is (pi/2) sqrt(m) + (d - 1)/sqrt(m), which needs
    m << d^2; with it the projection's optimum takes the initial output into account. As a control,
    without `random_sum` the first of the two parts is left out.
    """
    cells = rate_cells(data, init, keep)
    samples, log_ratios = measured_ratios(data, cells, init)
    if self_term:
        reference = np.log([theory_ratio(d, m, init) for d, m in cells])
    else:
        formula = derivations.optimal_ratio_mup_uniform()
        values = [{s.width: float(d), s.vocab_size: float(m)} for d, m in cells]
        derived = np.array([float(evaluate(formula, value)) for value in values])
        if not random_sum:
            derived -= np.pi / 2 * np.sqrt([m for _, m in cells])
        reference = np.log(derived)

    def ratio(*curves: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
        return np.exp(np.mean(log_ratios(*curves, axis=axis) - reference))

    simulated = None
    if not self_term:
        exact = np.log([theory_ratio(d, m, init) for d, m in cells])
        simulated = float(np.exp(np.mean(exact - reference)))
    return Evidence(predicted=1.0, simulated=simulated, measured=bootstrap(ratio, samples))


def rank_law(data: xr.Dataset, tokens: str) -> TokenLaw:
    """The token law whose ranks the study measured, from the stored frequencies."""
    frequency = data.frequency.sel(tokens=tokens).isel(width=0).to_numpy()
    return TokenLaw(tokens, frequency)


def _crossings(
    data: xr.Dataset, tokens: str
) -> tuple[list[NDArray[np.float64]], Callable[..., NDArray[np.float64]], NDArray[np.float64]]:
    """Samples (rank, seed) per width and the statistic that reads the log crossover ranks."""
    widths = data.width.values.astype(float)
    rank = data["rank"].to_numpy().astype(float)
    squares = data.mean_square.sel(tokens=tokens)
    samples = [
        squares.sel(width=d).transpose("rank", "seed").to_numpy().astype(np.float64) for d in widths
    ]

    def log_crossings(*cells: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
        ratios = [np.mean(cell, axis=axis) / d - 1 for cell, d in zip(cells, widths, strict=True)]
        return np.log([unit_crossing(rank, ratio) for ratio in ratios])

    return samples, log_crossings, widths


def zipf_crossover(data: xr.Dataset) -> Evidence:
    """Exponent in d of the rank at which a token's update passes from muP to LV, alpha = 1."""
    samples, log_crossings, widths = _crossings(data, "zipf:1")
    law = rank_law(data, "zipf:1")
    simulated = log_slope(np.log(widths), np.log([crossover_rank(d, law) for d in widths]))
    measured = exponent_of(widths, samples, log_crossings, resamples=RESAMPLES)
    rank = derivations.crossover_rank().expression
    orders = {s.width: sp.Integer(1)}
    predicted = derivations.leading_order(
        rank.subs({s.zipf_exponent: 1, s.vocab_size: law.vocab_size}), orders
    )
    return Evidence.of_fit(measured, predicted=float(predicted), simulated=float(simulated))


def corpus_crossover(data: xr.Dataset) -> Evidence:
    """Measured over predicted crossover rank on the corpus, geometric mean over widths.

    The simulated value reads the theory's rho_i with the estimator that reads the measurement.
    """
    samples, log_crossings, widths = _crossings(data, "corpus")
    law = rank_law(data, "corpus")
    reference = np.log([crossover_rank(d, law) for d in widths])
    rank = data["rank"].to_numpy().astype(float)
    read = np.log([unit_crossing(rank, coherence(d, law)) for d in widths])

    def ratio(*cells: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
        return np.exp(np.mean(log_crossings(*cells, axis=axis) - reference))

    simulated = float(np.exp(np.mean(read - reference)))
    return Evidence(
        predicted=1.0, simulated=simulated, measured=bootstrap(ratio, samples, resamples=RESAMPLES)
    )


def batch_vocab(data: xr.Dataset, *, distinct: bool = False) -> Evidence:
    """Effective vocabulary of the tokens in a batch, measured over predicted.

    As a control, over the expected number of `distinct` tokens.
    """
    (width,) = (int(d) for d in data.width.values)
    law = token_law("uniform", study_config(data)["vocab_size"])
    sizes = [int(b) for b in data.batch_size.values]
    samples = [
        data.mean_square.sel(tokens="in batch", width=width, batch_size=b).to_numpy() for b in sizes
    ]
    predicted = [
        law.vocab_size * visit_chance(law, b) if distinct else batch_effective_vocab_size(law, b)
        for b in sizes
    ]
    reference = np.log(predicted)
    one_token = derivations.coherence_ratio()
    strength = float(evaluate(one_token, {s.width: float(width), s.vocab_size: 1.0}))

    def ratio(*cells: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
        coherent = np.array([np.mean(cell, axis=axis) for cell in cells]) / width - 1
        return np.exp(np.mean(np.log(strength / coherent) - reference))

    random = np.random.default_rng(0)
    simulated = []
    for size in sizes:
        share = random.multinomial(size, law.frequencies, size=200) / size
        simulated.append(np.sum(share**2) / np.sum(share**3))
    return Evidence(
        predicted=1.0,
        simulated=float(np.exp(np.mean(np.log(simulated) - reference))),
        measured=bootstrap(ratio, samples),
    )


def batch_absent(data: xr.Dataset) -> Evidence:
    """RMS of tokens outside the batch over sqrt(d)."""
    (width,) = (int(d) for d in data.width.values)
    samples = [
        data.mean_square.sel(tokens="outside", width=width, batch_size=b).to_numpy()
        for b in data.batch_size.values
    ]
    return _mean_ratio(samples, [width**0.5] * len(samples), power=0.5)


def self_term(data: xr.Dataset, *, kept: bool = True) -> Evidence:
    """Projection RMS under SP init over the theory with (or, as a control, without) self term."""
    cells = update_cells(data)
    samples = [_squares(data, "projection", width=d, vocab_size=m) for d, m in cells]
    laws = [token_law("uniform", m) for _, m in cells]
    theory = [
        float(self_term_rms(d, law, init="sp")[1])
        if kept
        else float(first_step("projection", "sign", d, law, init="sp").rms)
        for (d, _), law in zip(cells, laws, strict=True)
    ]
    setups = [Setup(width=d, vocab_size=m, optimizer="sign", init="sp") for d, m in cells]
    return _mean_ratio(samples, theory, power=0.5, setups=setups)


def optimizer_moments(data: xr.Dataset, optimizer: str) -> Evidence:
    """Projection RMS of an optimizer's first step over its derived moment."""
    chosen = data.sel(optimizer=optimizer)
    cells = update_cells(chosen)
    samples = [_squares(chosen, "projection", width=d, vocab_size=m) for d, m in cells]
    theory = [_uniform_rms("projection", d, m, optimizer) for d, m in cells]
    setups = [
        Setup(
            width=d,
            vocab_size=m,
            targets="sign",
            optimizer=optimizer,  # type: ignore[arg-type]
            epsilon=1e-8,
        )
        for d, m in cells
    ]
    return _mean_ratio(samples, theory, power=0.5, setups=setups)
