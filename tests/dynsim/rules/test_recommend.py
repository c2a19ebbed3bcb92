"""Recommendations: limits of the three rules, the regime, and bad input."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from helpers import assert_exponent, assert_refused

import derivations
from dynsim._errors import InputError
from dynsim.rules._presets import MODEL_SHAPES, config_shape, model_shape
from dynsim.rules._recommend import recommend
from dynsim.tokens._laws import TokenLaw, token_law

SIZE: dict[str, Any] = {"width": 4096, "base_width": 256}


def growths(**options):
    return [answer.ratio_growth for answer in recommend(**SIZE, **options).answers]


def test_rules_in_their_limits():
    few = growths(vocab_size=2, tokens="uniform")
    many = growths(vocab_size=10**7, tokens="uniform")
    assert few[:2] == many[:2] == pytest.approx([16, 4])
    assert few[2] == pytest.approx(16, rel=0.01)
    assert many[2] == pytest.approx(4, rel=0.01)
    assert abs(few[2] - many[2]) > 10  # the interpolation does not ignore the vocabulary


@pytest.mark.parametrize("tokens", ["uniform", "zipf:0.6", "zipf:1", "zipf:1.5"])
@pytest.mark.parametrize("vocab_size", [16, 1000, 100_000])
def test_interpolated_is_the_maximal_update_rule(tokens, vocab_size):
    mup, lv, interpolated = growths(vocab_size=vocab_size, tokens=tokens)
    p = token_law(tokens, vocab_size).frequencies
    alignment = float((p**3).sum() / (p**2).sum())
    rms = [math.sqrt(d + 2 / math.pi * d * (d - 1) * alignment) for d in (4096, 256)]
    assert interpolated == pytest.approx(rms[0] / rms[1], rel=1e-9)
    assert lv <= interpolated <= mup * 1.001


def test_ratio_rate_agrees_with_the_derived_maximal_update_ratio():
    from derivations import maximal_update_ratio, symbols

    law = token_law("zipf:0.8", 5000)
    values = {
        symbols.frequency_square_sum: law.power_sum(2),
        symbols.frequency_cube_sum: law.power_sum(3),
        symbols.embedding_std: 1,
        symbols.projection_std: 1 / symbols.width,
    }
    derived = maximal_update_ratio().expression.subs(list(values.items()))
    ratio = derived.subs(symbols.width, 4096) / derived.subs(symbols.width, 256)
    assert growths(vocab_size=5000, tokens="zipf:0.8")[2] == pytest.approx(float(ratio), rel=1e-9)


def test_anchor_moves_the_other_layer():
    hidden = recommend(**SIZE, vocab_size=10**6, tokens="uniform")
    embedding = recommend(**SIZE, vocab_size=10**6, tokens="uniform", anchor="embedding")
    assert hidden.lv.factors.hidden == pytest.approx(1 / 16)
    assert hidden.lv.factors.embedding == pytest.approx(1 / 4)
    assert embedding.lv.factors.hidden == pytest.approx(1 / 4)
    assert embedding.lv.factors.embedding == pytest.approx(1)
    assert hidden.lv.ratio_growth == pytest.approx(embedding.lv.ratio_growth)
    assert hidden.mup.factors == embedding.mup.factors


@pytest.mark.parametrize("parametrization", ["sp", "ntk", "mup", "mfp", "umup", "lv"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "muon"])
def test_every_gauge_describes_the_same_training(parametrization, optimizer):
    """Spread is free of the gauge, and so is the vector's LR under Adam."""
    answer = recommend(
        **SIZE, vocab_size=5000, parametrization=parametrization, optimizer=optimizer
    )
    reference = recommend(**SIZE, vocab_size=5000, parametrization="sp", optimizer=optimizer)
    assert answer.spread == pytest.approx(reference.spread)
    if optimizer == "adam":
        assert answer.mup.factors.vector == 1
        exponents = [float(x) for x in answer.multiplier_exponents]
        weight = [
            answer.mup.factors.of(name) * 16**x
            for name, x in zip(("embedding", "hidden", "readout"), exponents, strict=True)
        ]
        assert weight == pytest.approx([1, 1 / 16, 1 / 16])


def test_muon_rules_agree():
    answer = recommend(**SIZE, vocab_size=10**6, tokens="uniform", optimizer="muon")
    assert answer.spread == pytest.approx(1)
    assert "Muon" in answer.explanation


def test_base_learning_rates_carry_through():
    answer = recommend(
        **SIZE,
        vocab_size=5000,
        base_embedding_lr=3e-3,
        base_hidden_lr=2e-3,
        base_readout_lr=1e-3,
        base_vector_lr=5e-3,
    )
    rates = answer.mup.learning_rates
    assert (rates.embedding, rates.hidden) == pytest.approx((3e-3, 2e-3 / 16))
    assert (rates.readout, rates.vector) == pytest.approx((1e-3 / 16, 5e-3))
    assert answer.mup.ratio == pytest.approx(rates.embedding / rates.hidden)
    decays = answer.mup.weight_decays(0.1)
    assert decays.hidden * rates.hidden == pytest.approx(0.1 * 2e-3)


def test_same_width_changes_nothing():
    answer = recommend(512, 512, 1000, base_embedding_lr=0.1, base_hidden_lr=0.2)
    for rule in answer.answers:
        assert (rule.learning_rates.embedding, rule.learning_rates.hidden) == pytest.approx(
            (0.1, 0.2)
        )


def test_regime_counts_tokens_and_mass():
    law = token_law("zipf:1", 50257)
    regime = recommend(**SIZE, vocab_size=50257, tokens="zipf:1").regime
    c_square = law.frequencies**2 / (law.frequencies**2).sum()
    coherent = 2 / math.pi * 4095 * c_square > 1
    assert regime.mup_tokens == coherent.sum() > 0
    assert regime.mup_mass == pytest.approx(law.frequencies[coherent].sum())
    assert regime.mup_mass + regime.lv_mass == pytest.approx(1)
    assert regime.effective_vocab_size == pytest.approx(law.power_sum(2) / law.power_sum(3))
    assert regime.name == "mup"  # the head decides although most of the mass is LV
    assert regime.lv_mass > 0.5
    uniform = recommend(**SIZE, vocab_size=10**6, tokens="uniform").regime
    assert (uniform.name, uniform.mup_tokens, uniform.mup_mass) == ("lv", 0, 0)


def test_own_token_law():
    frequencies = np.array([0.5, 0.3, 0.2, 0.0])
    answer = recommend(**SIZE, vocab_size=4, tokens=TokenLaw("mine", frequencies))
    assert answer.tokens == "mine"
    with pytest.raises(InputError, match="vocab_size 5: must be 4"):
        recommend(**SIZE, vocab_size=5, tokens=TokenLaw("mine", frequencies))


def test_answers_say_what_they_presume():
    answer = recommend(**SIZE, vocab_size=1000)
    assert "close to their initial values" in answer.lv.presumes
    assert "close to their initial values" in answer.interpolated.presumes
    assert answer.mup.presumes.startswith("aligned updates")
    assert "\n" not in answer.explanation
    assert answer.spread == pytest.approx(4)


UNIFORM_END, ZIPF_END = "eta_E t = K sigma_E sqrt(n_eff/d)", "(pi P_2/(2 d))^(1/4)"


@pytest.mark.parametrize(
    ("options", "said", "unsaid"),
    [
        (
            {"tokens": "uniform", "vocab_size": 10**6},
            (UNIFORM_END, "0.0156"),
            (ZIPF_END,),
        ),
        ({"tokens": "uniform", "vocab_size": 4096}, (UNIFORM_END, "dynsim lifetime"), (ZIPF_END,)),
        ({"tokens": "uniform", "vocab_size": 8}, ("from the first step on",), ("K sigma_E",)),
        ({"tokens": "zipf:1", "vocab_size": 50257}, (ZIPF_END, "0.0469 sigma_E"), (UNIFORM_END,)),
        ({"tokens": "zipf:1", "vocab_size": 3}, ("from the first step on",), (ZIPF_END,)),
        ({"tokens": "zipf:0.5", "vocab_size": 50257}, ("no closed form",), (UNIFORM_END, ZIPF_END)),
        ({"vocab_size": 50257, "optimizer": "sgd"}, ("sign-like updates",), (ZIPF_END, "open")),
    ],
)
def test_the_end_of_the_lv_regime_is_that_of_law_and_regime(options, said, unsaid):
    """With its conditions; uniform tokens and a Zipf law have different ends."""
    text = recommend(**SIZE, **options).explanation.replace("docs/theory/lv_lifetime.md", "")
    assert all(part in text for part in said)
    assert not any(part in text for part in unsaid)
    if "sigma_E =" in text or "K sigma_E" in text:
        assert "for the linear model" in text
        assert "For hidden layers this end is open" in text


def test_the_average_and_the_share_are_told_apart():
    zipf = recommend(**SIZE, vocab_size=50257, tokens="zipf:1").explanation
    assert "averaged over tokens by frequency" in zipf
    assert "37% of all occurrences" in zipf
    assert "Single tokens" not in recommend(**SIZE, vocab_size=9, tokens="uniform").explanation


def test_prints_readably():
    answer = recommend(**SIZE, vocab_size=1000)
    lines = repr(answer).splitlines()
    assert lines[0] == "Learning rates from width 256 to 4096"
    assert all(len(line) <= 100 for line in lines)
    assert any(line.startswith("  lv: embedding 0.25, hidden 0.0625") for line in lines)
    assert repr(answer.mup).startswith("Rule mup\n")
    assert repr(answer.regime).startswith("Regime ")


def test_plain_data():
    data = json.loads(
        json.dumps(recommend(**SIZE, vocab_size=1000, parametrization="mup").to_dict())
    )
    assert data["multiplier_exponents"] == ["1/2", "0", "-1/2"]
    assert data["interpolated"]["learning_rates"]["hidden"] > 0


@pytest.mark.parametrize("shape", MODEL_SHAPES[::9], ids=lambda shape: shape.name)
def test_presets(shape):
    assert model_shape(shape.name) is shape
    answer = recommend(shape.width, 256, shape.vocab_size, "zipf:1")
    assert 1 < answer.lv.ratio_growth <= answer.interpolated.ratio_growth


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "width 0"),
        ({"base_width": -1}, "base_width"),
        ({"vocab_size": 0}, "vocab_size"),
        ({"parametrization": "mpu"}, "sp, ntk, mup, mfp, umup, lv"),
        ({"optimizer": "lion"}, "sgd, momentum, sign, adam, adamw, adafactor, muon"),
        ({"base_hidden_lr": 0.0}, "base_hidden_lr"),
        ({"base_readout_lr": 0.0}, "base_readout_lr"),
        ({"base_embedding_lr": math.nan}, "base_embedding_lr"),
        ({"tokens": "zipfian"}, "tokens"),
        ({"anchor": "readout"}, "anchor"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(InputError, match=message):
        recommend(**({"width": 512, "base_width": 256, "vocab_size": 100} | options))
    with pytest.raises(InputError, match="gpt2-medium"):
        model_shape("gpt-5")


def test_recommending_needs_no_jax():
    code = (
        "import sys\nfrom dynsim.rules import recommend\n"
        "recommend(512, 256, 100)\nimport dynsim.rules._export\nassert 'jax' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_hidden_rate_of_muon_keeps_its_first_update_in_both_conventions():
    """RMS of DeltaW e over widths at the recommended rates: orthogonalised gradients, scaled."""
    random = np.random.default_rng(0)
    widths = np.array([32, 64, 128, 256])
    scales = {"spectral": np.ones(4), "rms": 0.2 * np.sqrt(widths)}
    moved = {name: [] for name in scales}
    for k, width in enumerate(widths):
        left, _, right = np.linalg.svd(random.standard_normal((width, width)))
        inputs = random.standard_normal((width, 32))
        for name, scale in scales.items():
            answer = recommend(int(width), 32, 64, "uniform", optimizer="muon", muon_scale=name)
            update = answer.mup.factors.hidden * scale[k] * (left @ right)
            moved[name].append(np.sqrt(np.mean((update @ inputs) ** 2)))
            assert "adjust_lr_fn" in answer.explanation
    for name in scales:
        assert_exponent(widths, moved[name], 0, 0.03)
    wrong = recommend(256, 32, 64, "uniform", optimizer="muon").mup.factors.hidden
    assert wrong == 1  # with which updates of the other convention would grow by sqrt(8)
    assert_refused("muon_scale", lambda: recommend(8, 4, 9, "uniform", muon_scale="adam"))


def test_presets_say_where_their_numbers_are_from():
    assert len(MODEL_SHAPES) >= 25
    assert len({shape.name for shape in MODEL_SHAPES}) == len(MODEL_SHAPES)
    for shape in MODEL_SHAPES:
        assert re.match(r"github\.com/[\w-]+/[\w-]+[ ,].*\.(py|json|ya?ml|slurm)", shape.source)
        assert isinstance(shape.tied, bool)
        assert shape.layers is not None
        assert shape.tokenizer_size is not None
        assert 0 <= shape.vocab_size - shape.tokenizer_size < 1024  # padding, nothing else


CONFIRMED = [
    ("gpt2-xl", 1600, 50257, 50257, 48, True),
    ("pythia-12b", 5120, 50688, 50277, 36, False),
    ("gpt-j-6b", 4096, 50400, 50257, 28, False),
    ("gpt-neox-20b", 6144, 50432, 50277, 44, False),
    ("llama-2-70b", 8192, 32000, 32000, 80, False),
    ("llama-3.2-3b", 3072, 128256, 128256, 28, True),
    ("llama-3-8b", 4096, 128256, 128256, 32, False),
    ("mixtral-8x7b", 4096, 32000, 32000, 32, False),
    ("gemma-2-9b", 3584, 256000, 256000, 42, True),
    ("qwen2.5-3b", 2048, 151936, 151665, 36, True),
    ("qwen2.5-7b", 3584, 152064, 151665, 28, False),
    ("olmo-1b", 2048, 50304, 50280, 16, True),
    ("olmo-2-7b", 4096, 100352, 100278, 32, False),
    ("phi-2", 2560, 51200, 50295, 32, False),
    ("smollm-135m", 576, 49152, 49152, 30, True),
]


@pytest.mark.parametrize("confirmed", CONFIRMED, ids=lambda one: one[0])
def test_confirmed_shapes(confirmed):
    shape = model_shape(confirmed[0])
    sizes = (shape.width, shape.vocab_size, shape.tokenizer_size, shape.layers, shape.tied)
    assert sizes == confirmed[1:]


# Published numbers of parameters, positions and weights of the norms (in units of the width).
# Sources: keras-nlp 0.4.1, keras_nlp/models/{gpt2,opt}; model cards of BLOOM and Pythia.
PARAMETERS = {
    "gpt2": (124_439_808, 1024, 2),
    "gpt2-medium": (354_823_168, 1024, 2),
    "gpt2-large": (774_030_080, 1024, 2),
    "gpt2-xl": (1_557_611_200, 1024, 2),
    "opt-125m": (125_237_760, 2048, 2),
    "opt-1.3b": (1_315_753_984, 2048, 2),
    "bloom-560m": (559_214_592, 0, 4),
    "bloom-7b1": (7_069_016_064, 0, 4),
    "pythia-70m": (70_426_624, 0, 2),
    "pythia-160m": (162_322_944, 0, 2),
    "pythia-410m": (405_334_016, 0, 2),
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_number_of_parameters_follows_from_the_shape(name):
    """Blocks of 12 d^2 + 13 d weights: a wrong width, vocabulary, depth or tying changes it."""
    parameters, positions, norms = PARAMETERS[name]
    shape = model_shape(name)
    assert shape.layers is not None
    d, matrices = shape.width, 1 if shape.tied else 2
    blocks = shape.layers * (12 * d**2 + 13 * d)
    assert parameters == blocks + d * (matrices * shape.vocab_size + positions + norms)


CONFIGS = {
    "gpt2": ({"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "vocab_size": 50257}, True),
    "llama": (
        {"model_type": "llama", "hidden_size": 768, "num_hidden_layers": 12, "vocab_size": 50257},
        False,
    ),
    "starcoder2": (
        {"model_type": "starcoder2", "hidden_size": 768, "n_layer": 12, "vocab_size": 50257},
        True,
    ),
    "said": (
        {"hidden_size": 768, "num_layers": 12, "vocab_size": 50257, "tie_word_embeddings": True},
        True,
    ),
    "inside": (
        {
            "model_type": "some_vision_model",
            "vision_config": {"hidden_size": 99, "vocab_size": 9},
            "text_config": {
                **{"model_type": "qwen2", "hidden_size": 768, "vocab_size": 50257},
                "num_hidden_layers": 12,
            },
        },
        False,
    ),
    "of a trainer's own": ({"model_args": {"dim": 768, "n_layers": 12, "vocab_size": 50257}}, None),
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_shape_of_a_configuration(tmp_path, kind):
    document, tied = CONFIGS[kind]
    (tmp_path / "config.json").write_text("\ufeff" + json.dumps(document), encoding="utf-8")
    for path in (tmp_path, tmp_path / "config.json"):
        shape = config_shape(path)
        assert (shape.width, shape.vocab_size, shape.layers) == (768, 50257, 12)
        assert shape.tied is tied
        assert shape.source == str(path)


def test_configurations_that_describe_no_model(tmp_path):
    file = tmp_path / "config.json"
    refused = [
        ("{", "is no JSON"),
        ("[]", "must hold an object"),
        ('{"hidden_size": 8}', "has no vocabulary (vocab_size, padded_vocab_size"),
        ('{"vocab_size": 8}', "has no width (hidden_size, n_embd"),
    ]
    for text, fragment in refused:
        file.write_text(text)
        assert_refused("config", lambda: config_shape(file), fragment)
    file.write_text('{"hidden_size": "wide", "vocab_size": 8}')
    assert_refused(f"{file}, hidden_size", lambda: config_shape(file), "'wide'", "whole number")
    assert_refused("config", lambda: config_shape(tmp_path / "missing.json"), "cannot be read")


@pytest.mark.parametrize("parametrization", derivations.PARAMETRIZATIONS)
def test_one_rate_suits_both_roles_of_a_tied_matrix(parametrization):
    """Times their multipliers, muP's updates are d^0 in the embedding and d^-1 in the readout."""
    growth = 8.0
    for optimizer in ("sign", "adam", "adamw", "muon"):
        answer = recommend(
            512, 64, 999, parametrization=parametrization, optimizer=optimizer, tied=True
        )
        embedding, _, readout = (growth ** float(a) for a in answer.multiplier_exponents)
        factors = answer.mup.factors
        assert factors.embedding * embedding == pytest.approx(1)
        total = readout * answer.readout_multiplier
        assert factors.readout * total == pytest.approx(1 / growth)
        for rule in answer.answers:
            assert rule.learning_rates.readout == rule.learning_rates.embedding
    # Whatever the gauge, descent on the same function: rates times squared multipliers.
    sgd = recommend(512, 64, 999, parametrization=parametrization, optimizer="sgd", tied=True)
    embedding = growth ** float(sgd.multiplier_exponents[0])
    assert sgd.mup.factors.embedding * embedding**2 == pytest.approx(growth)


def test_a_tied_readout_is_told_what_it_needs():
    answer = recommend(512, 64, 999, tied=True)
    assert answer.readout_multiplier == 64 / 512
    assert "multiplies its logits by 0.125" in answer.explanation
    assert recommend(512, 64, 999).readout_multiplier == 1
    in_gauge = recommend(512, 64, 999, parametrization="mup", tied=True)
    assert in_gauge.readout_multiplier == 1
    assert "The multipliers of this parametrization make it right" in in_gauge.explanation
    both = lambda: recommend(512, 64, 999, base_readout_lr=0.1, tied=True)  # noqa: E731
    assert_refused("base_readout_lr", both, "must be left out")


@pytest.mark.parametrize(("tokens", "reaches"), [("uniform", True), ("uniform of many", False)])
def test_the_figure_marks_the_model_and_the_token_law(tokens, reaches):
    vocab_size = 4000 if reaches else 10**7
    answer = recommend(256, 64, vocab_size, tokens.split()[0], tied=True)
    assert answer.crossing_width == pytest.approx(1 + np.pi / 2 * vocab_size)  # rho = 1 there
    axes = answer.plot()
    left, right = axes.figure.axes[:2]
    marks = {line.get_label(): np.asarray(line.get_xdata())[0] for line in right.get_lines()}
    assert marks["base width 64"] == 64
    assert marks["this model, 256 (points)"] == 256
    law = [x for text, x in marks.items() if "rho=1" in text]
    assert law == ([pytest.approx(answer.crossing_width)] if reaches else [])
    assert "tied" in [text.get_text() for text in left.get_xticklabels()][2]
    assert "logits times 0.25" in left.get_title("left")
    plt.close(axes.figure)


def test_the_curves_of_the_rules_pass_through_the_model():
    answer = recommend(1024, 128, 4000, "zipf:1")
    drawn = answer.to_xarray()
    for rule in ("mup", "lv", "interpolated"):
        curve = drawn.growth_curve.sel(rule=rule)
        for width, growth in ((128, 1), (1024, float(drawn.ratio_growth.sel(rule=rule)))):
            there = np.exp(np.interp(np.log(width), np.log(drawn.curve_width), np.log(curve)))
            assert there == pytest.approx(growth, rel=0.02)
    assert answer.ratio_powers == pytest.approx((1, 0.5))
    assert drawn.attrs["coherence_ratio"] == pytest.approx(answer.regime.coherence_ratio)
    assert all(one.known and one.not_known for one in answer.answers)


def test_a_readout_of_its_own_starts_like_one_over_the_width():
    """SP's readout starts like d^-1/2; muP's already starts as it must, and a tied one is none."""
    sizes = {"width": 4096, "base_width": 256, "vocab_size": 50257, "tokens": "zipf:1"}
    words = "start 0.25 times as large"
    assert words in recommend(**sizes, parametrization="sp").explanation
    assert "Let the readout start" not in recommend(**sizes, parametrization="mup").explanation
    tied = recommend(**sizes, parametrization="sp", tied=True).explanation
    assert "Let the readout start" not in tied
