"""Study of the transfer fit itself: known surfaces with seed noise, fitted as a sweep would be.

Each trial draws a surface, samples it over widths and learning rates, multiplies by seed noise, and
fits. Kept are the truth, the fitted value, the interval by three recipes, and the status.
"""

from __future__ import annotations

import zlib
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynsim import TRANSFER_PARAMETERS, fit_transfer

from .study import Study, grid

Floats = NDArray[np.float64]

RECIPES = {
    "percentile": "bootstrap percentiles",
    "reflected": "percentiles reflected at the value (basic bootstrap)",
    "drawn out": "percentiles drawn out for few seeds",
}
LOG_DRAWN = TRANSFER_PARAMETERS.index("rate_limit")  # resampled as its logarithm
STATUSES = ("ok", "misfit", "undetermined")


@dataclass(frozen=True)
class Scenario:
    """What a sweep looks like: its widths and seeds, its noise and how the model is wrong.

    Relative noise: `common` to a seed's whole curve and `own` to every run. `skew` multiplies the
    parabola by 1 + skew (ln η - ln η*); `second` adds a term of that share with exponent 2α to L*;
    `moves` False leaves the optimum where it is; `shared` gives a seed the same common noise at
    every width.
    """

    widths: tuple[int, ...] = (64, 128, 256, 512, 1024)
    seeds: int = 4
    common: float = 0.01
    own: float = 0.003
    skew: float = 0.0
    second: float = 0.0
    moves: bool = True
    shared: bool = False


SCENARIOS = {
    "no noise": Scenario(common=0.0, own=0.0, seeds=2),
    "quiet": Scenario(common=0.002, own=0.0006),
    "plain": Scenario(),
    "loud": Scenario(common=0.03, own=0.01),
    "independent noise": Scenario(common=0.0, own=0.01),
    "shared noise": Scenario(shared=True),
    "2 seeds": Scenario(seeds=2),
    "3 seeds": Scenario(seeds=3),
    "8 seeds": Scenario(seeds=8),
    "3 widths": Scenario(widths=(64, 256, 1024)),
    "4 widths": Scenario(widths=(64, 128, 256, 512)),
    "7 widths": Scenario(widths=(32, 64, 128, 256, 512, 1024, 2048)),
    "optimum at rest": Scenario(moves=False),
    "skewed valley": Scenario(common=0.002, own=0.0006, skew=0.15),
    "second power": Scenario(common=0.002, own=0.0006, second=0.5),
}


def surface(random: np.random.Generator, moves: bool) -> dict[str, float]:
    """A surface like those of real sweeps: parameters by name."""
    alpha, beta, gamma = random.uniform((0.3, 0.3, -0.3), (1.0, 1.0, 0.5))
    limit = random.uniform(0.5, 3.0)
    gap, shift, curvature = random.uniform((0.3, 0.5, 0.1), (1.5, 1.5, 0.4))
    shift = moves * random.choice([-1, 1]) * shift
    return {
        "loss_limit": limit,
        "loss_amplitude": gap * limit * 64**alpha,  # the gap at width 64, in units of the limit
        "loss_exponent": alpha,
        "rate_limit": float(np.exp(random.uniform(-7, -4))),
        "rate_amplitude": shift * 64**beta,
        "rate_exponent": beta,
        "curvature_amplitude": curvature * limit / 64**gamma,
        "curvature_exponent": gamma,
        "robustness": alpha - 2 * beta + gamma,
    }


def sampled(
    truth: dict[str, float], scenario: Scenario, random: np.random.Generator
) -> tuple[Floats, Floats, Floats, Floats]:
    """Widths, learning rates, seeds and losses of a noisy sweep over a grid of factors of 2."""
    widths = np.array(scenario.widths, dtype=np.float64)
    ends = truth["rate_amplitude"] * widths[[0, -1]] ** -truth["rate_exponent"]
    offsets = np.arange(min(*ends, 0) - 2, max(*ends, 0) + 2, np.log(2)) + random.uniform(0, 0.5)
    rates = truth["rate_limit"] * np.exp(offsets)
    axes = np.meshgrid(widths, rates, np.arange(scenario.seeds), indexing="ij")
    width, rate, seed = axes
    gap = truth["loss_amplitude"] * width ** -truth["loss_exponent"]
    at_64 = truth["loss_amplitude"] * 64 ** -truth["loss_exponent"]
    lowest = truth["loss_limit"] + gap + scenario.second * gap**2 / at_64
    optimum = np.log(truth["rate_limit"])
    optimum = optimum + truth["rate_amplitude"] * width ** -truth["rate_exponent"]
    curvature = truth["curvature_amplitude"] * width ** truth["curvature_exponent"]
    distance = np.log(rate) - optimum
    loss = lowest + curvature / 2 * distance**2 * (1 + scenario.skew * distance)
    common = random.normal(size=(1 if scenario.shared else len(widths), 1, scenario.seeds))
    noise = scenario.common * common + scenario.own * random.normal(size=loss.shape)
    return width.ravel(), rate.ravel(), seed.ravel(), (loss * (1 + noise)).ravel()


def _trials(scenario: str, trials: int, resamples: int, scenarios: dict[str, Any]) -> Any:
    setup = Scenario(**scenarios[scenario])
    random = np.random.default_rng(zlib.crc32(scenario.encode()))
    shape = (trials, len(TRANSFER_PARAMETERS))
    truth, value, status = np.empty(shape), np.empty(shape), np.empty(shape, dtype=np.int64)
    ends = np.empty((trials, len(RECIPES), len(TRANSFER_PARAMETERS), 2))
    errors = np.empty((trials, 4))
    for trial in range(trials):
        known = surface(random, setup.moves)
        fit = fit_transfer(*sampled(known, setup, random), resamples=resamples)
        found = [getattr(fit, name) for name in TRANSFER_PARAMETERS]
        truth[trial] = [known[name] for name in TRANSFER_PARAMETERS]
        value[trial] = [one.value for one in found]
        status[trial] = [STATUSES.index(one.status.split(":")[0]) for one in found]
        percentiles = np.quantile(fit.resampled.draws, [0.025, 0.975], axis=0, method="nearest")
        with np.errstate(invalid="ignore", over="ignore"):
            reflected = 2 * fit.resampled.value - percentiles[::-1]
            for recipe, pair in enumerate((percentiles, reflected)):
                pair[:, LOG_DRAWN] = np.exp(pair[:, LOG_DRAWN])
                ends[trial, recipe] = pair.T
        ends[trial, 2] = [(one.low, one.high) for one in found]
        errors[trial] = (
            *(fit.error, fit.noise_error),
            *(fit.held_out_error, fit.held_out_noise),
        )
    by = ("trial", "parameter")
    return {
        "truth": (by, truth),
        "value": (by, value),
        "status": (by, status),
        "interval": (("trial", "recipe", "parameter", "end"), ends),
        "errors": (("trial", "error"), errors),
    }


COVERAGE = Study(
    "transfer_coverage",
    cells=lambda full: grid(scenario=tuple(SCENARIOS)) if full else [],
    measure=_trials,
    config=lambda full: {
        "trials": 60,
        "resamples": 150,
        "scenarios": {name: asdict(one) for name, one in SCENARIOS.items()},
    },
    labels={
        "parameter": list(TRANSFER_PARAMETERS),
        "recipe": list(RECIPES),
        "end": ["low", "high"],
        "error": ["error", "noise_error", "held_out_error", "held_out_noise"],
    },
)

TRANSFER_COVERAGE_STUDIES = (COVERAGE,)
