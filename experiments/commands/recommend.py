"""`dynsim recommend`: which learning rates to use when a model is made wider."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dynsim import InputError, check_integer
from experiments.output import number, print_json, print_next, print_table, print_wrapped

from ._files import print_files, with_files, write_files
from ._options import NO_FILES, Json, WrittenFiles
from ._rate_evidence import print_evidence, rate_evidence

if TYPE_CHECKING:
    from dynsim import LayerValues, Recommendation
    from dynsim.rules import ModelShape


RULES = {"mup": "muP", "lv": "LV", "interpolated": "interpolated"}
UNKNOWN_TIE = (
    "This is for a readout of its own. If it is the embedding, add --tied yes: one matrix then has "
    "one learning rate, and logits need a multiplier."
)
MUON_AND_ADAM = "muon for hidden matrices, adam for embedding, readout and vectors"
BUILDERS = {  # what is not Adam, as an argument of optax_optimizer
    "sgd": ", optax.sgd",
    "momentum": ", lambda rate: optax.sgd(rate, momentum=0.9)",
    "sign": ", optax.sign_sgd",
    "adamw": ", optax.adamw",
    "adafactor": ", optax.adafactor",
    "muon": ', {"hidden": optax.contrib.muon}',
}
LABEL_ORDER = ("embedding", "hidden", "readout", "vector")


@dataclass(frozen=True)
class Recommend:
    """Learning rates for a wider model: the muP rule, the LV rule, and between them.

    Behind each number stand its derivation, what our own networks measured, and published rules.
    """

    width: int | None = None
    """width d to scale to"""
    base_width: int | None = None
    """width at which the learning rates were tuned"""
    vocab_size: int | None = None
    """vocabulary size m"""
    preset: str | None = None
    """take --width and --vocab-size from a well-known model (an unknown name lists them)"""
    config: Path | None = None
    """take them from the config.json of a model, or from its folder"""
    tied: Literal["yes", "no"] | None = None
    """whether the readout is the embedding (default: as the preset or config says)"""
    tokens: str = "zipf:1"
    """token law: uniform, zipf:ALPHA, counts:FILE, tokenizer:FILE[,corpus:PATH], corpus or
    corpus:PATH"""
    parametrization: str = "sp"
    """gauge and initialisation of the model: sp, ntk, mup, mfp, umup or lv"""
    optimizer: str = "adamw"
    """sgd, momentum, sign, adam, adamw, adafactor or muon"""
    muon_scale: str = "spectral"
    """what an implementation of Muon multiplies a square matrix's update with: spectral (1) or rms
    (0.2 sqrt(width))"""
    base_embedding_lr: float = 1.0
    """embedding learning rate at the base width (1: print factors)"""
    base_hidden_lr: float = 1.0
    """hidden learning rate at the base width"""
    anchor: str = "hidden"
    """layer that keeps muP's learning rate while the ratio changes: hidden or embedding"""
    rule: Literal["mup", "lv", "interpolated"] = "mup"
    """rule whose learning rates the lines for a trainer hold"""
    files: WrittenFiles = NO_FILES
    json: Json = False

    def run(self) -> int:
        """Prints the three rules' learning rates, what stands behind each, and the regime."""
        from dynsim import recommend, token_law

        shape = self._shape()
        width = shape.width if self.width is None and shape else self.width
        vocab_size = shape.vocab_size if self.vocab_size is None and shape else self.vocab_size
        sizes = {"width": width, "vocab_size": vocab_size, "base_width": self.base_width}
        for name, size in sizes.items():  # a wrong size is named before one that is missing
            if size is not None:
                check_integer(name, size, 1)
        if width is None:
            raise InputError("width", None, "must be given, or a `preset` or a `config`")
        own_size = self.tokens.partition(":")[0] in ("counts", "tokenizer")
        if vocab_size is None and not own_size:
            raise InputError("vocab_size", None, "must be given, or a `preset` or a `config`")
        if self.base_width is None:
            raise InputError("base_width", None, "must be given, the width of the tuned LRs")
        self.files.check()
        law = token_law(self.tokens, vocab_size)
        tied = shape.tied if shape is not None else None
        tied = tied if self.tied is None else self.tied == "yes"
        answer = recommend(
            width,
            self.base_width,
            law.vocab_size,
            law,
            self.parametrization,
            self.optimizer,
            self.base_embedding_lr,
            self.base_hidden_lr,
            anchor=self.anchor,  # type: ignore[arg-type]
            muon_scale=self.muon_scale,  # type: ignore[arg-type]
            tied=bool(tied),
        )
        written = write_files(self.files, "recommend", answer.to_xarray, answer.described_by())
        factors = self.base_embedding_lr == self.base_hidden_lr == 1
        lines = trainer_lines(answer, self.rule, factors)
        document = {
            "answer": in_one_sentence(answer, self.rule, factors),
            **answer.to_dict(),
            "shape": None if shape is None else asdict(shape),
            "tied": tied,
            "notes": [*law.notes, *([UNKNOWN_TIE] if tied is None else [])],
            "evidence": rate_evidence(answer, self.rule),
            "trainer": lines,
        }
        if self.json:
            print_json(with_files(document, written))
        else:
            _print(answer, document, factors)
            print_files(written)
            rule = ["parametrization", self.parametrization, "--optimizer", self.optimizer]
            print_next("why these powers", rule)
        return 0

    def _shape(self) -> ModelShape | None:
        """The model of the preset or of the configuration, if one is given."""
        from dynsim.rules import config_shape, model_shape

        if self.preset is not None and self.config is not None:
            raise InputError("config", str(self.config), "must be left out with a `preset`")
        if self.config is not None:
            return config_shape(self.config)
        return None if self.preset is None else model_shape(self.preset)


def trainer_lines(answer: Recommendation, rule: str, factors: bool) -> dict[str, str]:
    """The line that a PyTorch and an optax trainer needs, by the rule asked for.

    With `factors` the base learning rates are left as names. Under AdamW the base model's weight
    decay is one too: what a step shrinks a weight by must not depend on the width. A tied readout
    adds a line on the logits, where it needs one.
    """
    chosen = next(one for one in answer.answers if one.rule == rule)
    slow = {"hidden"} if answer.tied else {"hidden", "readout"}
    of = {label: "hidden_lr" if label in slow else "embedding_lr" for label in LABEL_ORDER}
    rates = _values(chosen.learning_rates, of if factors else {})
    decays = ""
    if answer.optimizer == "adamw":
        shrunk = _values(chosen.weight_decays(1), {one: "weight_decay" for one in LABEL_ORDER})
        decays = f", weight_decays={shrunk}"
    builder = BUILDERS.get(answer.optimizer, "")
    lines = {
        "torch": f"groups = dynsim.torch_parameter_groups(model, labels, {rates}{decays})",
        "optax": f"optimizer = dynsim.optax_optimizer({rates}, labels{builder}{decays})",
    }
    if answer.readout_multiplier != 1:
        lines["logits"] = f"logits = logits * {answer.readout_multiplier:.6g}"
    return lines


def in_one_sentence(answer: Recommendation, rule: str, factors: bool) -> str:
    """What to do with the learning rates, by the rule asked for."""
    chosen = next(one for one in answer.answers if one.rule == rule)
    times, given = ("x", "multiply the base learning rates") if factors else ("", "use the rates")
    names = {label: label for label in LABEL_ORDER}
    if answer.tied:  # one matrix, one rate
        names = {"embedding": "tied matrix", "hidden": "hidden", "vector": "vector"}
    rates = [
        f"{name} {times}{number(chosen.learning_rates.of(label))}" for label, name in names.items()
    ]
    if answer.readout_multiplier != 1:
        rates.append(f"logits multiplied by {number(answer.readout_multiplier)}")
    others = " or ".join(f"--rule {one}" for one in RULES if one != rule)
    told = "muP, LV and interpolated agree" if answer.spread == 1 else f"{others} gives another"
    return (
        f"From width {answer.base_width} to {answer.width} {given}: {', '.join(rates)}."
        f"{_readout_start(answer)} This is the {RULES[rule]} rule; {told}."
    )


def _readout_start(answer: Recommendation) -> str:
    """How much smaller a readout of its own must start, where the parametrization does not."""
    import derivations
    from dynsim.rules._recommend import readout_excess

    growth = answer.width / answer.base_width
    excess = readout_excess(derivations.parametrization(answer.parametrization))
    if answer.tied or excess <= 0 or growth == 1:
        return ""
    return f" Let the readout start {growth**-excess:.3g} times as large (see below)."


def _values(values: LayerValues, names: dict[str, str]) -> str:
    """Values by layer as Python, each times a name if there is one."""
    texts = []
    for label in LABEL_ORDER:
        text = f"{values.of(label):.6g}"
        if label in names:
            text = names[label] if text == "1" else f"{text} * {names[label]}"
        texts.append(f"{label}={text}")
    return f"dynsim.LayerValues({', '.join(texts)})"


def _print(answer: Recommendation, document: dict[str, Any], factors: bool) -> None:
    print_wrapped(document["answer"])
    print()
    shape = document["shape"]
    if shape is not None:
        layers = "" if shape["layers"] is None else f", {shape['layers']} layers"
        tie = {True: ", readout tied to the embedding", False: ", readout of its own"}
        told = tie.get(document["tied"], ", whether the readout is tied is not said")
        print_wrapped(f"{shape['name']}{layers}{told}{_padding(shape)} ({shape['source']})")
    trained = MUON_AND_ADAM if answer.optimizer == "muon" else answer.optimizer
    print_wrapped(
        f"width {answer.base_width} -> {answer.width}, vocabulary size {answer.vocab_size}, "
        f"tokens {answer.tokens}, {answer.parametrization}, {trained}"
    )
    print()
    unit = "factor" if factors else "LR"
    head = ("rule", *(f"{label} {unit}" for label in LABEL_ORDER), "embedding/hidden")
    rows = [
        [
            RULES[rule.rule],
            *(number(rule.learning_rates.of(label)) for label in LABEL_ORDER),
            f"{number(rule.ratio)} (x{number(rule.ratio_growth)})",
        ]
        for rule in answer.answers
    ]
    print_table(head, rows)
    if answer.readout_multiplier != 1:
        print(
            "\nReadout and embedding are one matrix. Its LR presumes logits times "
            f"{number(answer.readout_multiplier)}."
        )
    regime = answer.regime
    print()
    print_evidence(document["evidence"])
    print()
    print_wrapped(
        f"rho = {number(regime.coherence_ratio)} (average over tokens by frequency), effective "
        f"vocabulary {number(regime.effective_vocab_size)}; the rules' ratios differ by "
        f"x{number(answer.spread)}"
    )
    for rule in answer.answers:
        print_wrapped(f"{RULES[rule.rule]} presumes {rule.presumes}.")
        print_wrapped(f"  Known: {rule.known}")
        print_wrapped(f"  Not known: {rule.not_known}")
    print()
    print_wrapped(answer.explanation)
    for remark in document["notes"]:
        print_wrapped(remark)
    print("\nFor a trainer (labels: dynsim.label_parameters):")
    for line in document["trainer"].values():
        print_wrapped(f"  {line}", "    ")


def _padding(shape: dict[str, Any]) -> str:
    """How many rows of the embedding are tokens, where some are not."""
    rows, tokens = shape["vocab_size"], shape["tokenizer_size"]
    if tokens is None or tokens == rows:
        return ""
    return f", {tokens} of its {rows} rows of the embedding are tokens and the others pad it"
