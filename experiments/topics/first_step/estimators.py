"""Evidence about the first step, each a function of one study's dataset."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import sympy as sp
import xarray as xr
from numpy.typing import NDArray

import derivations
from derivations import symbols as s
from dynsim import (
    TokenLaw,
    bootstrap,
    coherence,
    crossover_rank,
    evaluate,
    first_step,
    fit_exponent,
    token_law,
)
from dynsim.claims import Evidence
from dynsim.statistics import (
    collapse_spread,
    exponent_of,
    log_slope,
    unit_crossing,
)
from dynsim.theory import batch_effective_vocab_size, visit_chance
from experiments.results import study_config


def _uniform_rms(width: float, vocab_size: float) -> float:
    law = token_law("uniform", int(vocab_size))
    return float(first_step("projection", "sign", width, law).rms)


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


def _order_alone(expression: sp.Expr, size: sp.Symbol) -> float:
    """The power of one size in an expression, everything else held fixed."""
    orders = {**dict.fromkeys(expression.free_symbols, sp.Integer(0)), size: sp.Integer(1)}
    return float(derivations.leading_order(expression, orders))  # type: ignore[arg-type]


RESAMPLES = 200  # of intervals that are stored with their verdicts; new claims take `Resamples`


def _mup_cells(data: xr.Dataset) -> list[tuple[int, int]]:
    smallest = int(data.vocab_size.min())
    return [(d, m) for d, m in update_cells(data) if m == smallest and d >= 16 * m]


def _kernel_samples(data: xr.Dataset, quantity: str) -> list[NDArray[np.float64]]:
    moment = data.moment.sel(quantity=quantity)
    return [moment.sel(correlation=c).to_numpy() for c in data.correlation]


def sign_kernel(data: xr.Dataset, *, kept_alignment: float | None = None) -> Evidence:
    """Second moment of a sum of u sign(v): sampled over derived, averaged over correlations.

    `kept_alignment`: as a control, another share of the squared correlation than a sign keeps.
    """
    moment = derivations.summed_kernel("sign").second_moment
    samples = _kernel_samples(data, "sum_square")
    arguments = {s.width: float(study_config(data)["neurons"]), derivations.input_std: 1.0}
    own = {s.alignment: 1.0, derivations.input_std: 1.0}
    derived = float(evaluate(derivations.kernel("sign").mean, own)) ** 2
    factor = 1.0 if kept_alignment is None else (kept_alignment / derived) ** 0.5
    theory = [
        float(evaluate(moment, {**arguments, s.alignment: factor * float(c)}))
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
    sizes: Sequence[float] | None = None,
    *,
    power: float = 1.0,
) -> Evidence:
    """Geometric mean over cells, of these sizes if they have any, of measured / theory."""
    reference = np.asarray(theory)

    def log_ratios(*cells: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
        means = np.array([np.mean(cell, axis=axis) for cell in cells]) ** power
        return np.log(means / reference)

    return Evidence.of_ratio(log_ratios, samples, sizes or [1.0] * len(samples))


def cross_term(data: xr.Dataset) -> Evidence:
    """Exponent of the cross term's RMS in the width, where its self term is small (m << d^2)."""
    second = derivations.cross_term_second_moment("sign")
    unit = {s.embedding_lr: 1.0, s.projection_lr: 1.0, s.self_term_ratio: 0.0}
    cells = _mup_cells(data)
    widths = np.array([d for d, _ in cells], dtype=float)
    samples = [_squares(data, "cross", width=d, vocab_size=m) for d, m in cells]
    squares = [float(evaluate(second, {**unit, s.width: width})) for width in widths]
    without_self_term = second.expression.subs(s.self_term_ratio, 0)
    return Evidence.of_fit(
        fit_exponent(widths, samples, power=0.5),
        predicted=_order_alone(without_self_term, s.width) / 2,
        simulated=float(log_slope(np.log(widths), np.log(squares))) / 2,
    )


def data_collapse(data: xr.Dataset, *, by_product: bool = False) -> Evidence:
    """Spread of RMS / sqrt(d) around one curve of d/m (or, as a control, of d m)."""
    cells = [(d, m) for d, m in update_cells(data) if d >= 64]
    d, m = np.array(cells, dtype=float).T
    scaled = d * m if by_product else d / m
    samples = [_squares(data, "projection", width=a, vocab_size=b) for a, b in cells]

    def spread(*values: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
        rms = np.sqrt([np.mean(value, axis=axis) for value in values])
        return np.asarray(collapse_spread(scaled, rms / np.sqrt(d)))

    theory = np.array([_uniform_rms(a, b) for a, b in cells])
    simulated = collapse_spread(scaled, theory / np.sqrt(d))
    return Evidence(predicted=0.0, simulated=simulated, measured=bootstrap(spread, samples))


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

    def log_ratios(*cells: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
        return log_crossings(*cells, axis=axis) - reference

    simulated = float(np.exp(np.mean(read - reference)))
    return Evidence.of_ratio(
        log_ratios, samples, widths.tolist(), simulated=simulated, resamples=RESAMPLES
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

    def log_ratios(*cells: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
        coherent = np.array([np.mean(cell, axis=axis) for cell in cells]) / width - 1
        return np.log(strength / coherent) - reference

    random = np.random.default_rng(0)
    simulated = []
    for size in sizes:
        share = random.multinomial(size, law.frequencies, size=200) / size
        simulated.append(np.sum(share**2) / np.sum(share**3))
    theory = float(np.exp(np.mean(np.log(simulated) - reference)))
    return Evidence.of_ratio(log_ratios, samples, sizes, simulated=theory)


def batch_absent(data: xr.Dataset) -> Evidence:
    """RMS of tokens outside the batch over sqrt(d)."""
    (width,) = (int(d) for d in data.width.values)
    samples = [
        data.mean_square.sel(tokens="outside", width=width, batch_size=b).to_numpy()
        for b in data.batch_size.values
    ]
    sizes = data.batch_size.values.tolist()
    return _mean_ratio(samples, [width**0.5] * len(samples), sizes, power=0.5)


def head_logits(data: xr.Dataset, *, layer: str, logits: str, theory: str = "bigrams") -> Evidence:
    """RMS change of the logits of one kind over its derived value, mean over cells.

    `theory`: as a control, with other bigrams or another formula than those of the networks.
    """
    measured = data.mean_square.sel(layer=layer, logits=logits)
    derived = data.derived_square.sel(layer=layer, logits=logits, theory=theory)
    cells = [
        (case, width)
        for case in data.case.values
        for width in data.width.values
        if bool(measured.sel(case=case, width=width).notnull().all())
    ]
    samples = [measured.sel(case=case, width=width).to_numpy() for case, width in cells]
    reference = [float(derived.sel(case=case, width=width)) ** 0.5 for case, width in cells]
    return _mean_ratio(samples, reference, power=0.5)


def head_rule_logits(
    data: xr.Dataset,
    *,
    rules: Sequence[str],
    layer: str,
    logits: str,
    theory: str = "derived",
) -> Evidence:
    """The same under other rules than sign descent in full batch, mean over cells and `rules`."""
    samples, reference = [], []
    for rule in rules:
        measured = data.mean_square.sel(layer=layer, logits=logits, rule=rule)
        derived = data.derived_square.sel(layer=layer, logits=logits, rule=rule, theory=theory)
        for case in data.case.values:
            for width in data.width.values:
                cell = measured.sel(case=case, width=width)
                if bool(cell.notnull().all()):
                    samples.append(cell.to_numpy())
                    reference.append(float(derived.sel(case=case, width=width)) ** 0.5)
    return _mean_ratio(samples, reference, power=0.5)
