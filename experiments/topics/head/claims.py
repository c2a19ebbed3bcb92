"""The claims about language-model heads: which steps add up coherently, which rates are best."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import xarray as xr

from dynsim.claims import Verdict
from experiments.topics._claim import NEGATIVE, WRONG, Claim

from .estimators import (
    ALONE,
    CORRECTION,
    Floats,
    constant_rate_loss,
    derived_step_exponent,
    large_rate_exponent,
    large_rates,
    later_step_exponent,
    line,
    log_rates,
    log_rates_alone,
    rate_exponent,
    rate_exponent_alone,
    rate_exponents_apart,
    restoration,
    step_exponent,
)
from .large import STEPS as LARGE_STEPS
from .study import CASES
from .vocabulary import CASES as VOCABULARY_CASES

TEXT = (
    "an mlp with one hidden layer (tanh, RMS norm, muP's initial weights) that predicts the next "
    "byte-pair token of Python's standard library"
)
GROWING = "d = 32 to 128 and m = n = 8 d"
STEP = "exponent of d of a step's RMS at constant rates"
RATE = "exponent of d of the best rate beyond muP's"
HEAD_STEP = "docs/theory/first_step.md#head-step"
MUP = "docs/theory/parametrizations.md#stability-program; Yang et al. 2022, arXiv 2203.03466"
FAILED = "Registered as a claim that holds, this failed as registered."

# All four were registered as claims that hold and failed; predictions and bands are as registered.
STEPS = (
    Claim(
        name="control-head-step-on-targets",
        statement=f"{NEGATIVE}in {TEXT} from a softmax over all m types ({GROWING}, full "
        "batch), the first Adam step of the head changes the logits of the tokens that do follow, "
        "each pair at its frequency, by an RMS that grows as d at a constant rate, although m "
        f"grows with d. {FAILED}",
        quantity=STEP,
        prediction="1",
        rival=0.5,
        study="head_updates",
        evidence=partial(step_exponent, path="proportional", update="head_target"),
        tolerance=0.15,
        citation=f"contradicts {HEAD_STEP}",
        expected="fails",
    ),
    Claim(
        name="control-head-step-on-all-logits",
        statement=f"{NEGATIVE}in {TEXT} from a softmax over all m types ({GROWING}, full "
        "batch), the first Adam step of the head changes all logits, tokens at their frequency, by "
        "an RMS that grows as sqrt(d) at a constant rate, as updates of random signs do. "
        f"{FAILED}",
        quantity=STEP,
        prediction="1/2",
        rival=1.0,
        study="head_updates",
        evidence=partial(step_exponent, path="proportional", update="head_all", predicted=0.5),
        tolerance=0.15,
        citation=f"contradicts {HEAD_STEP}",
        expected="fails",
    ),
    Claim(
        name="control-head-hidden-step",
        statement=f"{NEGATIVE}in {TEXT} from a softmax over all m types ({GROWING}, full "
        "batch), the first Adam step of the hidden matrix changes its outputs by an RMS that grows "
        f"as d at a constant rate, as muP assumes. {FAILED}",
        quantity=STEP,
        prediction="1",
        rival=0.5,
        study="head_updates",
        evidence=partial(step_exponent, path="proportional", update="hidden"),
        tolerance=0.15,
        citation="contradicts docs/theory/first_step.md#hidden-step",
        expected="fails",
    ),
    Claim(
        name="control-head-restoration",
        statement=f"{NEGATIVE}the hidden matrix below a softmax over all m types regains its "
        f"alignment no sooner and no later than below 16 classes: in {TEXT} ({GROWING}, "
        "full batch, Adam), the exponent of d of a hidden step's RMS, averaged over the "
        f"logarithms at steps 2, 4, 8 and 16, is the same for both to within 0.1. {FAILED}",
        quantity="difference of two exponents of d",
        prediction="0",
        rival=0.25,
        study="head_updates",
        evidence=partial(restoration, path="proportional"),
        tolerance=0.1,
        citation="contradicts docs/theory/lv_lifetime.md#outputs-and-structure",
        expected="fails",
    ),
)


TRAINED = f"In {TEXT} from a softmax over all m types ({GROWING}, Adam, 48 steps of 512 tokens)"
RATES = (
    Claim(
        name="head-readout-rate",
        statement=f"{TRAINED}, the best rate of the head, with the others at theirs, goes as "
        "1/d, as muP has it. The rival is a readout rate that grows like d^0.23 beyond muP's.",
        quantity=RATE,
        prediction="0",
        rival=CORRECTION,
        study="head_rates",
        evidence=partial(rate_exponent, path="proportional", layer="head"),
        tolerance=0.1,
        citation=f"{MUP}; docs/theory/open_questions.md#open-head",
        expected="undecided",
    ),
    Claim(
        name="head-embedding-rate",
        statement=f"{TRAINED}, the best rate of the embedding, with the others at theirs, does "
        "not depend on d, as muP has it.",
        quantity=RATE,
        prediction="0",
        rival=-0.5,
        study="head_rates",
        evidence=partial(rate_exponent, path="proportional", layer="embedding"),
        tolerance=0.15,
        citation=MUP,
        expected="undecided",
    ),
)


FIXED = "d = 32 to 256, m = n = 1024"
SOFTMAX = f"n {TEXT} from a softmax over all m types ({FIXED}, full batch, Adam)"


def _fixed_step(name: str, kind: str, quantity: str, prediction: str, **fields: Any) -> Claim:
    return Claim(
        name=f"{kind}head-fixed-{name}",
        quantity=quantity,
        prediction=prediction,
        study="head_fixed_updates",
        **fields,
    )


FIXED_STEPS = (
    _fixed_step(
        "step-on-targets",
        "",
        STEP,
        "0.95, that of the derived RMS at these widths",
        statement=f"I{SOFTMAX}, the head's first step changes the logits of the tokens that do "
        "follow by an RMS that grows with d as derived from the text's bigrams for a head that "
        "reads embeddings.",
        rival=0.5,
        evidence=partial(derived_step_exponent, update="head_target", predicted=0.95),
        tolerance=0.05,
        citation=HEAD_STEP,
    ),
    _fixed_step(
        "step-on-all-logits",
        "",
        STEP,
        "0.67, that of the derived RMS at these widths",
        statement=f"I{SOFTMAX}, the head's first step changes all logits by an RMS that grows with "
        "d as derived from the text's bigrams for a head that reads embeddings.",
        rival=0.5,
        evidence=partial(derived_step_exponent, update="head_all", predicted=0.67),
        tolerance=0.07,
        citation=HEAD_STEP,
    ),
    _fixed_step(
        "later-steps-on-targets",
        "",
        "exponent of d of a step's RMS at constant rates, mean after 2, 4, 8 and 16 steps",
        "1",
        statement=f"I{SOFTMAX}, later steps of the head go on changing the logits of the tokens "
        "that do follow by an RMS that grows as d.",
        rival=0.5,
        evidence=partial(later_step_exponent, update="head_target"),
        tolerance=0.15,
        citation=f"{HEAD_STEP}; docs/theory/open_questions.md#open-head",
    ),
    _fixed_step(
        "restoration",
        "",
        "difference of two exponents of d",
        "0",
        statement="The hidden matrix below a softmax over all m types regains its alignment no "
        f"sooner and no later than below 16 classes: in {TEXT} ({FIXED}, full batch, Adam), the "
        "exponent of d of a hidden step's RMS, averaged over the logarithms after 2, 4, 8 and 16 "
        "steps, is the same for both.",
        rival=0.25,
        evidence=partial(restoration, path="fixed"),
        tolerance=0.1,
        citation="docs/theory/lv_lifetime.md#outputs-and-structure",
    ),
    _fixed_step(
        "tied-step-on-targets",
        "",
        STEP,
        "1",
        statement=f"In {TEXT} whose head is the embedding ({FIXED}, full batch, hidden matrix by "
        "Muon and embedding by Adam), the first step of the one matrix, as a head, changes the "
        "logits of the tokens that do follow by an RMS that grows as d.",
        rival=0.5,
        evidence=partial(
            step_exponent, path="fixed", update="head_target", optimizer="muon", head="tied"
        ),
        tolerance=0.15,
        citation="docs/theory/first_step.md#tied-step",
    ),
    _fixed_step(
        "muon-hidden-step",
        "",
        "exponent of d of a step's RMS at one spectral norm",
        "0",
        statement=f"In {TEXT} whose head is the embedding ({FIXED}, full batch, hidden matrix by "
        "Muon and embedding by Adam), the first step of the hidden matrix changes its outputs by "
        "an RMS that does not depend on d.",
        rival=0.5,
        evidence=partial(
            step_exponent,
            path="fixed",
            update="hidden",
            optimizer="muon",
            head="tied",
            predicted=0.0,
        ),
        tolerance=0.15,
        citation="docs/theory/first_step.md#muon-step",
    ),
    _fixed_step(
        "embedding-step-coherent",
        "control-",
        STEP,
        "1",
        statement=f"{WRONG}i{SOFTMAX}, the embedding's first step changes all logits by an RMS "
        "that grows as d in units of the head's initial entries, as if few tokens followed each.",
        rival=0.5,
        evidence=partial(step_exponent, path="fixed", update="embedding_all"),
        tolerance=0.15,
        citation=f"contradicts {HEAD_STEP}",
        expected="fails",
    ),
)

ADAM, BY_MUON = "Adam", "hidden matrix by Muon, the rest by Adam"


def _fixed_rate(
    name: str,
    case: str,
    layer: str,
    rival: float,
    tolerance: float,
    *,
    optimizer: str = ADAM,
    tied: bool = False,
    expected: Verdict = "holds",
    study: str = "head_fixed_rates",
) -> Claim:
    head = "whose head is the embedding" if tied else "from a softmax over all m types"
    sizes = f"{FIXED}, {optimizer}, {CASES[case][3]} steps of 512 tokens"
    return Claim(
        name=f"head-fixed-{name}",
        statement=f"In {TEXT} {head} ({sizes}), the best rate of the {layer}, with the others at "
        "muP's, has muP's power of d.",
        quantity=RATE,
        prediction="0",
        rival=rival,
        study=study,
        evidence=partial(rate_exponent_alone, case=case),
        tolerance=tolerance,
        citation=MUP,
        expected=expected,
    )


MATRIX = "one matrix that is embedding and head"
# The other answer about a readout's rate, 0.23, is the rival of 0: one number, one claim.
FIXED_RATES = (
    _fixed_rate("readout-rate", "head", "head", CORRECTION, 0.1),
    _fixed_rate(
        *("readout-rate-long", "head, long", "head", CORRECTION, 0.1), study="head_long_rates"
    ),
    _fixed_rate("readout-rate-muon", "head, muon", "head", CORRECTION, 0.1, optimizer=BY_MUON),
    _fixed_rate(
        *("embedding-rate-muon", "embedding, muon", "embedding", -0.5, 0.15),
        optimizer=BY_MUON,
        expected="undecided",
    ),
    _fixed_rate(
        *("tied-rate-muon", "tied, muon", MATRIX, -0.5, 0.15),
        tied=True,
        optimizer=BY_MUON,
        expected="undecided",
    ),
)


# At 4,096 types.
TYPES = {"m 4096": "4096"}


def _of_types(path: str) -> str:
    return f"d = 64 to 256, m = n = {TYPES[path]}"


def _large_rate(
    path: str, name: str, layer: str, rival: float, tolerance: float, expected: Verdict
) -> Claim:
    sizes = f"{_of_types(path)}, {ADAM}, {LARGE_STEPS[path]} steps of 512 tokens"
    return Claim(
        name=f"head-{TYPES[path]}-{name}",
        statement=f"In {TEXT} from a softmax over all m types ({sizes}), the best rate of the "
        f"{layer}, with the others at muP's, has muP's power of d.",
        quantity=RATE,
        prediction="0",
        rival=rival,
        study="head_large_rates",
        evidence=partial(large_rate_exponent, path=path, layer=layer),
        tolerance=tolerance,
        citation=MUP,
        expected=expected,
    )


def _constant_rate(
    name: str,
    sizes: str,
    study: str,
    read: Callable[[xr.Dataset], tuple[Floats, Floats]],
    contradicts: str,
) -> Claim:
    return Claim(
        name=f"control-head-{name}-constant-rate",
        statement=f"{WRONG}in {TEXT} from a softmax over all m types ({sizes}), the head's "
        "learning rate that serves at d = 64 serves at d = 256 as well without a factor 1/d: the "
        "loss there is no larger than at the rate by muP's factor.",
        quantity="loss at d = 256 by the rate of d = 64 over that by muP's",
        prediction="1",
        study=study,
        evidence=partial(constant_rate_loss, read=read),
        tolerance=0.02,
        citation=f"contradicts {contradicts}; {MUP.partition(';')[0]}",
        expected="fails",
    )


LARGE = (
    *(_large_rate(path, "readout-rate", "head", CORRECTION, 0.1, "undecided") for path in TYPES),
    _constant_rate(
        "4096",
        f"m = n = 4096, {ADAM}, 48 steps of 512 tokens",
        "head_large_rates",
        lambda data: large_rates(data, "m 4096", "head"),
        "head-4096-readout-rate",
    ),
)


# 1,024, 4,096 and 16,384 types side by side.


def _vocabulary_steps(path: str, on_targets: float, on_all: float) -> list[Claim]:
    """`on_targets`, `on_all`: the derived powers on logits of next tokens and on all."""
    types = path.removeprefix("m ")
    softmax = f"In {TEXT} from a softmax over all m types (d = 64 to 256, m = n = {types}, full "
    softmax += "batch, Adam)"
    fields: dict[str, Any] = {"quantity": STEP, "study": "head_vocabulary_updates"}
    again: dict[str, Any] = {}
    if path == "m 16384":
        again = {"study": "head_vocabulary_updates_again"}
    return [
        Claim(
            name=f"head-{types}-step-on-targets",
            statement=f"{softmax}, the head's first step changes the logits of the tokens "
            "that do follow by an RMS that grows with d as derived from the text's bigrams for a "
            "head that reads embeddings.",
            prediction=f"{on_targets}, that of the derived RMS at these widths",
            rival=0.5,
            evidence=partial(
                derived_step_exponent, update="head_target", predicted=on_targets, path=path
            ),
            tolerance=0.05,
            citation=HEAD_STEP,
            **fields,
        ),
        Claim(
            name=f"head-{types}-step-on-all-logits",
            statement=f"{softmax}, the head's first step changes all logits by an RMS that "
            "grows with d as derived from the text's bigrams for a head that reads embeddings.",
            prediction=f"{on_all}, that of the derived RMS at these widths",
            rival=1.0,
            evidence=partial(derived_step_exponent, update="head_all", predicted=on_all, path=path),
            tolerance=0.07,
            citation=HEAD_STEP,
            **(fields | again),
        ),
        Claim(
            name=f"head-{types}-later-step-on-targets",
            statement=f"{softmax}, the head's step after eight others goes on changing the "
            "logits of the tokens that do follow by an RMS that grows as d.",
            prediction="1",
            rival=0.5,
            evidence=partial(step_exponent, path=path, update="head_target", moment=8),
            tolerance=0.15,
            citation=f"{HEAD_STEP}; docs/theory/open_questions.md#open-head",
            **fields,
        ),
    ]


def _softmax_of(case: str) -> str:
    types = case.partition(",")[0].removeprefix("m ")
    return f"m = n = {types}, {ADAM}, {VOCABULARY_CASES[case][1]} steps of 512 tokens"


VOCABULARIES = (
    *_vocabulary_steps("m 4096", 0.97, 0.74),
    *_vocabulary_steps("m 16384", 0.98, 0.78),
    Claim(
        name="head-16384-readout-correction",
        statement=f"In {TEXT} from a softmax over all m types (d = 64 to 256, "
        f"{_softmax_of('m 16384')}), the best rate of the head, with the others at muP's, has a "
        "power of d beyond muP's, 0.23.",
        quantity=RATE,
        prediction="0.23",
        rival=0.0,
        study="head_vocabulary_rates",
        evidence=partial(rate_exponent_alone, case="m 16384", predicted=CORRECTION),
        tolerance=0.1,
        citation="docs/theory/open_questions.md#open-head",
        expected="undecided",
    ),
    Claim(
        name="head-rate-power-by-vocabulary",
        statement=f"In {TEXT} from a softmax over all m types (d = 64 to 256, {ADAM}, "
        f"{VOCABULARY_CASES['m 16384'][1]} steps of 512 tokens), the power of d in the head's best "
        "rate, with the others at muP's, is larger by 0.2 with 16,384 types than with 1,024.",
        quantity="difference of two exponents of d of the best rate",
        prediction="0.2",
        rival=0.0,
        study="head_vocabulary_rates",
        evidence=partial(rate_exponents_apart, case="m 16384", other="m 1024", predicted=0.2),
        tolerance=0.15,
        citation="docs/theory/open_questions.md#open-head",
        expected="undecided",
    ),
    Claim(
        name="head-4096-readout-rate-long",
        statement=f"In {TEXT} from a softmax over all m types (d = 64 to 256, "
        f"{_softmax_of('m 4096, long')}), the best rate of the head, with the others at muP's, has "
        "muP's power of d.",
        quantity=RATE,
        prediction="0",
        rival=CORRECTION,
        study="head_vocabulary_rates",
        evidence=partial(rate_exponent_alone, case="m 4096, long"),
        tolerance=0.1,
        citation=MUP,
    ),
    _constant_rate(
        "16384",
        _softmax_of("m 16384"),
        "head_vocabulary_rates",
        lambda data: log_rates_alone(data.sel(case="m 16384")),
        "head-16384-readout-correction",
    ),
)


# Rates searched together.
PATH_SIZES = {"fixed": "m = n = 1024", "proportional": "m = n = 8 d", "m 16384": "m = n = 16384"}


def _power(predicted: float) -> str:
    return f"a power of d beyond muP's, {predicted:g}," if predicted else "muP's power of d"


def _joint_rate(
    name: str,
    path: str,
    optimizer: str,
    head: str,
    layer: str,
    rival: float,
    tolerance: float,
    expected: Verdict = "holds",
    *,
    predicted: float = 0.0,
    study: str = "head_joint_rates",
) -> Claim:
    of = "whose head is the embedding" if head == "tied" else "from a softmax over all m types"
    rule = ADAM if optimizer == "adam" else BY_MUON
    matrix = MATRIX if head == "tied" else layer
    control = expected == "fails"
    return Claim(
        name=f"{'control-' if control else ''}head-joint-{name}",
        statement=f"{NEGATIVE if control else ''}{'i' if control else 'I'}n {TEXT} {of} (d = 64 to "
        f"256, {PATH_SIZES[path]}, {rule}, 48 steps of 512 tokens), the best rate of the {matrix} "
        f"has {_power(predicted)} where the rates of all layers are searched together, one layer "
        f"after the other.{' Registered as open, this failed.' if control else ''}",
        quantity=RATE,
        prediction=f"{predicted:g}",
        rival=rival,
        study=study,
        evidence=partial(
            rate_exponent,
            path=path,
            layer=layer,
            optimizer=optimizer,
            head=head,
            predicted=predicted,
        ),
        tolerance=tolerance,
        citation=f"contradicts {MUP.partition(';')[0]}" if control else MUP,
        expected=expected,
    )


JOINT_RATES = (
    _joint_rate("readout", "fixed", "adam", "untied", "head", CORRECTION, 0.1),
    _joint_rate("embedding", "fixed", "adam", "untied", "embedding", -0.5, 0.15, "undecided"),
    _joint_rate("tied", "fixed", "adam", "tied", "embedding", -0.5, 0.15),
    _joint_rate(
        "tied-growing", "proportional", "adam", "tied", "embedding", -0.5, 0.15, "undecided"
    ),
    _joint_rate("readout-muon-growing", "proportional", "muon", "untied", "head", CORRECTION, 0.1),
    _joint_rate(
        *("embedding-muon-growing", "proportional", "muon", "untied", "embedding", -0.5, 0.15),
        expected="undecided",
    ),
    _joint_rate("tied-muon-growing", "proportional", "muon", "tied", "embedding", -0.5, 0.15),
)


# Tied heads and Muon at 16,384 types.


def _kind_step(
    name: str,
    update: str,
    what: str,
    predicted: float,
    rival: float,
    *,
    optimizer: str = "muon",
    head: str = "tied",
    moment: int = 0,
    citation: str = "docs/theory/first_step.md#tied-step",
    control: bool = False,
) -> Claim:
    of = "whose head is the embedding" if head == "tied" else "from a softmax over all m types"
    rule = ADAM if optimizer == "adam" else BY_MUON
    when = f"step after {moment} others" if moment else "first step"
    return Claim(
        name=f"{'control-' if control else ''}head-16384-{name}",
        statement=f"{WRONG if control else ''}{'i' if control else 'I'}n {TEXT} {of} (d = 64 to "
        f"256, m = n = 16384, full batch, {rule}), {what.format(when=when)}",
        quantity=STEP,
        prediction=f"{predicted:g}",
        rival=rival,
        study="head_kinds_updates",
        evidence=partial(
            step_exponent,
            path="m 16384",
            update=update,
            moment=moment,
            optimizer=optimizer,
            head=head,
            predicted=predicted,
        ),
        tolerance=0.15,
        citation=f"contradicts {citation}" if control else citation,
        expected="fails" if control else "holds",
    )


ON_TARGETS = "changes the logits of the tokens that do follow by an RMS that grows as d."
MATRIX_STEP = f"the {{when}} of the one matrix, as a head, {ON_TARGETS}"
HIDDEN_STEP = "the {when} of the hidden matrix changes its outputs by an RMS that "
MUON_STEP = "docs/theory/first_step.md#muon-step"
KINDS = (
    _kind_step("tied-step", "head_target", MATRIX_STEP, 1.0, 0.5, optimizer="adam"),
    _kind_step("tied-later-step", "head_target", MATRIX_STEP, 1.0, 0.5, optimizer="adam", moment=8),
    _kind_step("tied-later-step-muon", "head_target", MATRIX_STEP, 1.0, 0.5, moment=8),
    _kind_step(
        *("later-step-muon", "head_target", f"the head's {{when}} {ON_TARGETS}", 1.0, 0.5),
        head="untied",
        moment=8,
        citation=HEAD_STEP,
    ),
    *(
        _kind_step(
            f"hidden-{name}step-muon",
            "hidden",
            f"{HIDDEN_STEP}does not depend on d.",
            *(0.0, 0.5),
            moment=moment,
            citation=MUON_STEP,
        )
        for name, moment in (("", 0), ("later-", 8))
    ),
    _kind_step(
        *("tied-hidden-step-coherent", "hidden", f"{HIDDEN_STEP}grows as d.", 1.0, 0.5),
        optimizer="adam",
        citation="docs/theory/first_step.md#hidden-step",
        control=True,
    ),
)

_large_joint = partial(_joint_rate, path="m 16384", study="head_joint_large_rates")
SHORT_RUNS = 0.14  # power in the head's best rate beyond muP's, searched alone: `VOCABULARIES`
LARGE_JOINT_RATES = (
    *(
        _large_joint(
            f"16384-readout{name}",
            optimizer=optimizer,
            head="untied",
            layer="head",
            rival=0.0,
            tolerance=0.08,
            predicted=SHORT_RUNS,
            expected="undecided",
        )
        for name, optimizer in (("", "adam"), ("-muon", "muon"))
    ),
    *(
        _large_joint(
            f"16384-tied{name}",
            optimizer=optimizer,
            head="tied",
            layer="embedding",
            rival=-0.5,
            tolerance=0.15,
            expected="undecided",
        )
        for name, optimizer in (("", "adam"), ("-muon", "muon"))
    ),
    _large_joint(
        "16384-embedding",
        optimizer="adam",
        head="untied",
        layer="embedding",
        rival=-0.5,
        tolerance=0.15,
        expected="fails",
    ),
    _constant_rate(
        "16384-muon",
        f"m = n = 16384, {BY_MUON}, 48 steps of 512 tokens",
        "head_joint_large_rates",
        lambda data: log_rates(line(data, "m 16384", "muon", "untied"), "head", ALONE),
        "head-joint-16384-readout-muon",
    ),
)


CLAIMS = (
    *(*STEPS, *RATES, *FIXED_STEPS, *FIXED_RATES, *LARGE, *VOCABULARIES, *JOINT_RATES),
    *(*KINDS, *LARGE_JOINT_RATES),
)
