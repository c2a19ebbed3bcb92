"""`dynsim tokens`: what a token law looks like to a gradient."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import tyro
from numpy.typing import NDArray

from dynsim import TokenLaw, check_integer, token_law
from dynsim.tokens import check_law_name
from dynsim.tokens._texts import printable
from dynsim.tokens._unfilled import Unfilled
from experiments.output import (
    estimate,
    number,
    print_json,
    print_next,
    print_table,
    print_wrapped,
)

from ._files import print_files, with_files, write_files
from ._options import NO_FILES, Json, WrittenFiles

if TYPE_CHECKING:
    import xarray as xr

DEFAULT_VOCAB_SIZE = 4096
RANK_HEAD = ("rank", "frequency (share of tokens)", "effective vocabulary (tokens)")
SHOWN_RANKS = (1, 10, 100, 1000, 10_000, 100_000, 1_000_000)


@dataclass(frozen=True)
class Tokens:
    """A token law: frequencies, effective vocabulary, Zipf exponent, regime at a width."""

    law: Annotated[str, tyro.conf.Positional] = "corpus"
    """uniform, zipf:ALPHA, counts:FILE, tokenizer:FILE[,corpus:PATH], corpus or corpus:PATH"""
    vocab_size: int | None = None
    """vocabulary size m (default: all types of a counts or tokenizer file, else 4096)"""
    width: int = 1024
    """width d at which the regime of each token is judged"""
    files: WrittenFiles = NO_FILES
    json: Json = False

    def run(self) -> int:
        """Prints effective vocabulary, Zipf exponent and share of tokens in each regime."""
        from dynsim import coherence, crossover_rank
        from experiments.precision import enable_x64

        check_integer("width", self.width, 1, 2**53)
        check_law_name("tokens", self.law)
        self.files.check()
        law = _law(self.law, self.vocab_size)
        enable_x64()
        fit = law.zipf_exponent
        ratio = coherence(self.width, law)
        above = ratio > 1
        ranks = [rank for rank in SHOWN_RANKS if rank <= law.vocab_size]
        document = {
            "law": law.name,
            "vocab_size": law.vocab_size,
            "types_that_occur": int(np.count_nonzero(law.frequencies)),
            "notes": law.notes,
            "zipf_exponent": {"value": fit.value, "low": fit.low, "high": fit.high},
            "mean_effective_vocab_size": 1 / law.mean_alignment_square,
            "width": self.width,
            "crossover_rank": crossover_rank(self.width, law),
            "mup_share_of_types": float(above.mean()),
            "mup_share_of_tokens": float(law.frequencies[above].sum()),
            "ranks": [
                {
                    "rank": rank,
                    "frequency": float(law.frequencies[rank - 1]),
                    "effective_vocab_size": float(law.effective_vocab_size[rank - 1]),
                }
                for rank in ranks
            ],
        }
        dataset = partial(_dataset, law, self.width, ratio)
        written = write_files(self.files, "tokens", dataset, document)
        if self.json:
            print_json(with_files(document, written))
            return 0
        share = document["mup_share_of_tokens"]
        print_wrapped(_answer(document))
        print()
        print(
            f"{printable(law.name)}, {law.vocab_size} types ({document['types_that_occur']} occur)"
        )
        for note in law.notes:
            print(f"  {note}")
        print(f"  Zipf exponent              {estimate(fit.value, fit.low, fit.high)}")
        print(
            f"  effective vocabulary       {number(document['mean_effective_vocab_size'])} "
            "(weighted by frequency)"
        )
        print(
            f"  muP regime                 up to rank {number(document['crossover_rank'])}: "
            f"{above.mean():.1%} of the types, {share:.1%} of the tokens"
        )
        if not np.isfinite([fit.value, document["crossover_rank"]]).all():
            print("  -: too few ranks for a fit, or no rank at which the regimes meet")
        print()
        rows = [
            [
                str(row["rank"]),
                number(row["frequency"]),
                number(row["effective_vocab_size"]),
            ]
            for row in document["ranks"]
        ]
        print_table(RANK_HEAD, rows)
        print_files(written)
        law_options = ("--vocab-size", law.vocab_size, "--tokens", self.law)
        sizes = ("--width", self.width, *law_options)
        print_next("the first update", ["derive", "--layer", "projection", *sizes])
        return 0


def _answer(document: dict[str, Any]) -> str:
    """Which share of the tokens is in which regime, and how many equal ones they act like."""
    share, name = document["mup_share_of_tokens"], printable(document["law"])
    if share >= 1:
        where = f"all tokens of {name} are in the muP regime"
    elif share <= 0:
        where = f"all tokens of {name} start in the LV regime"
    else:
        where = (
            f"{share:.1%} of the tokens of {name} are in the muP regime, the other {1 - share:.1%} "
            "start in the LV regime"
        )
    return (
        f"At width {document['width']} {where}: to the average gradient the "
        f"{document['vocab_size']} types act like {number(document['mean_effective_vocab_size'])} "
        "equally frequent ones."
    )


def _law(name: str, vocab_size: int | None) -> TokenLaw:
    """The law; where no size is asked for, all that a file has or that a text can fill."""
    kind = name.partition(":")[0]
    if vocab_size is not None or kind in ("counts", "tokenizer"):
        return token_law(name, vocab_size)
    try:
        return token_law(name, DEFAULT_VOCAB_SIZE)
    except Unfilled as error:
        return token_law(name, error.largest)


def _dataset(law: TokenLaw, width: int, ratio: NDArray[np.float64]) -> xr.Dataset:
    """The law's dataset with the coherence of every token at a width."""
    from dynsim._names import attributes

    dataset = law.to_xarray()
    dataset["coherence"] = ("rank", ratio, attributes("coherence", "mse"))
    return dataset.assign_attrs(marked_width=width)
