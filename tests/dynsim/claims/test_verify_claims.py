"""`dynsim.verify`: verdicts on networks whose numbers are known, and on a few trained ones."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import assert_refused

from dynsim import InputError, claim, verify
from dynsim.claims import claim_text
from dynsim.claims._seeds import SEEDS_OF_A_RUN
from dynsim.scaling.quantities._registry import QUANTITIES

WIDTHS = (16, 32, 64, 128)


def growth(name="mine", **fields):
    """A claim about the projection's update along m = d/4."""
    stated = {
        "statement": "The projection's update grows like d.",
        "quantity": "projection_update_rms",
        "widths": list(WIDTHS),
        "vocab_size": "d/4",
        "targets": "sign",
        "optimizer": "sign",
        "prediction": 0.85,
        "tolerance": 0.05,
    }
    return claim(name=name, **{**stated, **fields})


class Networks:
    """A measurement of networks whose update has this RMS, a function of the setup.

    `asked`: what was measured, as name, setup and seeds.
    """

    def __init__(self, rms, noise=0.0):
        self.rms, self.noise, self.asked = rms, noise, []

    def __call__(self, measurement, setup, labels):
        self.asked.append((measurement.name, setup, tuple(labels)))
        random = np.random.default_rng([setup.width, setup.vocab_size])
        spread = 1 + self.noise * random.normal(size=len(labels))
        return {"projection_update_rms": self.rms(setup) ** 2 * spread}


def power_law(power, noise=0.01):
    return Networks(lambda setup: setup.width**power, noise)


def test_a_power_law_has_its_exponent():
    (found,) = verify([growth()], measure=power_law(0.85))
    assert found.evidence.measured.value == pytest.approx(0.85, abs=0.01)
    assert found.evidence.predicted == 0.85
    assert abs(found.evidence.drift) < 0.01
    # The derived update at these sizes: sqrt(d (1 + (2/pi) (d - 1) 4/d)).
    d = np.array(WIDTHS, float)
    derived = np.polyfit(np.log(d), np.log(d * (1 + (2 / np.pi) * (d - 1) * 4 / d)) / 2, 1)[0]
    assert found.evidence.simulated == pytest.approx(derived, abs=0.01)


@pytest.mark.parametrize(
    ("power", "against", "verdict"),
    [
        (0.5, {"prediction": "1 - mu/2"}, "holds"),  # m = d/4: mu = 1
        (0.5, {"prediction": "asymptotic"}, "holds"),  # and dynsim derives as much
        (1.0, {"prediction": "1 - mu/2"}, "fails"),
        (0.57, {"prediction": 0.5}, "fails"),
        (0.55, {"prediction": 0.5}, "undecided"),  # the interval sticks out
    ],
)
def test_verdicts_follow_the_rule(power, against, verdict):
    (found,) = verify([growth(**against)], measure=power_law(power))
    assert found.verdict == verdict
    assert found.as_expected == (verdict == "holds")


def test_local_slopes_that_run_away_do_not_hold():
    """Slopes of 0.36, 0.5 and 0.64 by octave have the fit 1/2 and no such power."""
    bend = Networks(
        lambda setup: np.exp(0.5 * np.log(setup.width) + 0.1 * np.log(setup.width / 45.25) ** 2),
        0.01,
    )
    (found,) = verify([growth(prediction=0.5)], measure=bend)
    assert found.evidence.measured.value == pytest.approx(0.5, abs=0.03)
    assert found.verdict == "undecided"


def test_a_finding_says_what_leaves_it_undecided():
    found = verify([growth(prediction=0.5)], measure=power_law(0.55))[0]
    assert found.notes[-1].startswith("undecided: the measured interval is not inside the band")
    lost = verify([growth(prediction=0.5)], measure=power_law(0.5, noise=0.0))[0]
    assert lost.verdict == "undecided"
    assert any(note.startswith("no interval: ") for note in lost.notes)
    held = verify([growth(prediction=0.5)], measure=power_law(0.5))[0]
    assert not any("undecided" in note or "no interval" in note for note in held.notes)


def test_a_ratio_is_the_mean_factor_on_the_derived_value():
    derived = growth().families[0]
    values = {setup.width: 1.1 ** (1 if setup.width < 40 else 3) for setup in derived.setups()}
    quantity = QUANTITIES["projection_update_rms"]
    measure = Networks(lambda setup: values[setup.width] * quantity.derived(setup))
    one = growth(form="ratio", prediction=1.21, tolerance=0.01)
    (found,) = verify([one], measure=measure)
    assert found.evidence.measured.value == pytest.approx(1.1**2)
    assert found.evidence.drift == pytest.approx(1.1 ** (7 / 3) - 1.1**2)
    assert found.verdict == "undecided"  # without an interval


def test_lists_of_paths_are_all_measured():
    measure = power_law(0.5)
    verify([growth(form="ratio", vocab_size=[4, "d"])], measure=measure)
    assert {(setup.width, setup.vocab_size) for _, setup, _ in measure.asked} == {
        (d, m) for d in WIDTHS for m in (4, d)
    }


def test_claims_that_share_a_setup_share_its_training():
    measure = power_law(0.5)
    verify([growth("a"), growth("b", prediction=0.5), growth("c", tolerance=0.1)], measure=measure)
    assert len(measure.asked) == len(WIDTHS)
    verify([growth("a"), growth("b", seeds=9)], measure=measure)
    assert len(measure.asked) == 3 * len(WIDTHS)


def test_runs_of_different_seed_share_no_seed():
    measure = power_law(0.5)
    verify([growth(seed=3)], seed=2, measure=measure)
    assert {setup.seed for _, setup, _ in measure.asked} == {3 + 2 * SEEDS_OF_A_RUN}


def test_full_and_seeds():
    measure = power_law(0.5)
    one = growth(full={"widths": [64, 256], "seeds": 5})
    (found,) = verify([one], full=True, measure=measure)
    assert {(setup.width, labels) for _, setup, labels in measure.asked} == {
        (64, (0, 1, 2, 3, 4)),
        (256, (0, 1, 2, 3, 4)),
    }
    assert found.claim.digest == one.digest  # what was registered, both versions
    measure.asked.clear()
    verify([one], seeds=3, measure=measure)
    assert {labels for *_, labels in measure.asked} == {(0, 1, 2)}


def test_a_file_and_its_digest_stand_in_the_result(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(claim_text([growth(), growth("other", prediction=0.5)]), encoding="utf-8")
    steps = []
    found = verify(str(path), measure=power_law(0.85), progress=steps.append)
    assert sum(steps) == pytest.approx(1)
    assert [one.verdict for one in found] == ["undecided", "fails"]  # derived 0.65 at these sizes
    assert found["other"].claim.prediction == 0.5
    assert list(found.files) == [str(path)]
    assert len(found.files[str(path)]) == 64
    shown = repr(found)
    assert "other: fails (!)" in shown
    assert found.files[str(path)][:12] in shown
    table = found.to_dataframe()
    assert list(table.name) == ["mine", "other"]
    assert list(table.digest) == [one.claim.digest for one in found]


@pytest.mark.parametrize(
    ("fields", "key", "fragments"),
    [
        ({"quantity": "projection_update"}, "quantity", ["projection_update_rms"]),
        ({"quantity": "hidden_update_rms"}, "network", ["must be mlp or transformer"]),
        ({"projection_lr": 0.0}, "projection_lr", ["must be positive"]),
        ({"prediction": "asymptotic", "steps": 5}, "prediction", ["does not exist here"]),
        ({"form": "ratio", "prediction": 1, "steps": 5}, "against", ["no value here"]),
        (  # at the first width there is a value
            {"form": "ratio", "prediction": 1, "quantity": "restoration", "vocab_size": 64},
            "against",
            ["no value here", "width 128"],
        ),
        (
            {"form": "ratio", "prediction": 1, "against": "mean_field", "steps": 10**6},
            "against",
            ["mean-field solver"],
        ),
        (  # an exponent too, if it names a theory
            {"quantity": "incoherent_rms", "against": "mean_field"},
            "against",
            ["no value here", "single neurons"],
        ),
        (
            {"quantity": "coherent_rms", "against": "mean_field", "steps": 3},
            "against",
            ["no value here", "first step"],
        ),
        (
            {"quantity": "embedding_step_rms", "against": "mean_field", "steps": 3},
            "against",
            ["no later step of the embedding"],
        ),
        ({"tokens": "corpus:/nonexistent", "vocab_size": 512}, "tokens", ["nonexistent"]),
        ({"widths": [16, 2**30], "vocab_size": 64}, "width", ["must fit"]),
        ({"prediction": "asymptotic", "rival": 0.52}, "rival", ["outside the band"]),
    ],
)
def test_a_claim_that_cannot_be_measured_is_refused_before_anything_is(fields, key, fragments):
    measure = power_law(0.5)
    assert_refused(
        key, lambda: verify([growth("a"), growth("b", **fields)], measure=measure), *fragments
    )
    assert not measure.asked


def test_claims_are_claims():
    assert_refused("claims", lambda: verify(["mine"]))
    assert_refused("claims", lambda: verify([]))
    assert_refused("seed", lambda: verify([growth()], seed=-1))
    assert_refused("seeds", lambda: verify([growth()], seeds=1))
    with pytest.raises(InputError, match="exactly one size"):
        claim(name="x", statement="y", quantity="z", prediction=1, tolerance=1)


@pytest.mark.usefixtures("quick_compilation")
def test_trained_networks_obey_the_derived_exponent():
    """m = 2, d = 16 to 64: the derived local exponent is near 1; a claim of 1/2 fails."""
    common = {"widths": [16, 32, 64], "vocab_size": 2, "outputs": 4, "seeds": 16}
    found = verify(
        [
            growth("right", prediction=1, tolerance=0.15, **common),
            growth("wrong", prediction=0.5, tolerance=0.15, **common),
        ]
    )
    assert [one.verdict for one in found] == ["holds", "fails"]
