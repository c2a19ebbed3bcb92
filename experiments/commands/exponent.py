"""`dynsim exponent`: the power of a size in a quantity along a path, by every route there is."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import tyro

from dynsim import InputError
from dynsim.scaling._family import Along, family, growing_size, paths_and_options
from experiments.output import again, print_next, print_wrapped, progress_bar

from ._files import print_files, with_files, write_files
from ._options import NO_FILES, Json, WrittenFiles
from ._path_options import PathOptions, shown

if TYPE_CHECKING:
    from dynsim import ScalingExponent
    from dynsim.scaling._measured import Measure

Switch = Annotated[bool, tyro.conf.FlagCreatePairsOff]
Sizes = tuple[str, ...] | None
NAME = "exponent"


@dataclass(frozen=True)
class Exponent:
    """The power of the width (or another size) in a quantity along a path.

    Side by side: the derived asymptotic power, the slope of the derived formula and of mean-field
    theory at the same sizes, and the slope of trained networks with its 95 % interval. Sizes and
    rates are numbers or paths such as 4*d, d^0.7, 0.03*d^(-1/2) or min(d^2/8, 50000) in d (width),
    m (vocabulary), n (outputs) and B (batch size).
    """

    setup: Annotated[PathOptions, tyro.conf.arg(name="")]
    quantity: str = "projection_step_rms"
    """projection_step_rms, projection_update_rms, embedding_step_rms, embedding_update_rms,
    hidden_step_rms, hidden_update_rms, alignment, coherent_rms, incoherent_rms, loss,
    embedding_optimal_lr, projection_optimal_lr, optimal_rate_ratio (each layer tuned with the
    other frozen), joint_embedding_optimal_lr, joint_projection_optimal_lr,
    joint_optimal_rate_ratio, hidden_optimal_rate_ratio and joint_hidden_optimal_rate_ratio (of an
    mlp, the embedding's rate over the hidden one), or restoration (the embedding's displacement at
    the end of the LV regime)"""
    widths: Annotated[Sizes, shown("SIZE [SIZE ...]", "128 256 512 1024")] = None
    """widths d, two or more"""
    vocab_sizes: Annotated[Sizes, shown("SIZE [SIZE ...]")] = None
    """in place of --widths: vocabulary sizes m"""
    batch_sizes: Annotated[Sizes, shown("SIZE [SIZE ...]")] = None
    """in place of --widths: batch sizes B"""
    output_counts: Annotated[Sizes, shown("SIZE [SIZE ...]")] = None
    """in place of --widths: numbers of outputs n"""
    step_counts: Annotated[Sizes, shown("SIZE [SIZE ...]")] = None
    """in place of --widths: numbers of updates T"""
    seeds: Annotated[int | None, shown("INT", "8")] = None
    """networks at each size"""
    predict: Annotated[str | None, shown("POWER")] = None
    """a predicted power, such as 0.85 or 17/20, or asymptotic: adds the verdict"""
    tolerance: Annotated[float | None, shown("FLOAT", "0.05")] = None
    """half width of the band around the prediction"""
    budget: Annotated[str | None, shown("TIME")] = None
    """a time such as 60s or 10m: chooses the sizes, where none are given, and the seeds"""
    derivation: Switch = False
    """print the symbolic derivation of the asymptotic power"""
    theory_only: Switch = False
    """train no networks"""
    files: WrittenFiles = NO_FILES
    json: Json = False

    def run(self) -> int:
        """Prints the columns of theory, trains, and prints the answer."""
        lists = {name: _sizes(name, getattr(self, name)) for name in SIZES}
        options = self.setup.options()
        self.files.check()
        _check_paths(lists, options)
        from dynsim import exponent
        from experiments.precision import enable_x64

        from ._exponent_text import print_result, print_theory, proposed_claim, result_document

        enable_x64()
        label = "mean field" if self.theory_only else "train"
        with _kept_cells(self.files.out, self.theory_only) as measure:
            with progress_bar(1.0, label) as bar:
                shown: list[ScalingExponent] = []

                def report(result: ScalingExponent) -> None:
                    if not self.json:
                        with bar.external_write_mode(sys.stdout):
                            if not (self.theory_only and shown):
                                print_theory(result, shown, self.derivation, self.theory_only)
                        shown.append(result)

                result = exponent(
                    self.quantity,
                    **lists,
                    seeds=self.seeds,
                    predict=self.predict,
                    tolerance=self.tolerance,
                    budget=self.budget,
                    measure=measure,
                    train=not self.theory_only,
                    progress=bar.update,
                    report=report,
                    **options,
                )
            document = result_document(result)
            written = self._write(result, document["config"])
        if self.json:
            document = document | _derivation(result, self.derivation)
            from experiments.output import print_json

            print_json(with_files(document, written))
            return 0
        print_result(result, shown)
        print_files(written)
        if self.theory_only:
            print_next("with networks", again(without=["--theory-only"]))
        elif self.files.out is None:
            print_next("figure, table row and claim", again("--out", NAME))
        elif (self.files.out / "claim.toml") in written:
            proposed = proposed_claim(result)
            for note in () if proposed is None else proposed.notes:
                print_wrapped(f"note: {note}.", "  ")
            print_next("the same as a claim", ["verify", self.files.out / "claim.toml"])
        return 0

    def _write(self, result: ScalingExponent, config: dict[str, Any]) -> list[Path]:
        from ._exponent_text import write_claim, write_row

        written = write_files(self.files, NAME, result.to_xarray, config)
        if self.files.out is not None:
            written += [write_row(result, self.files.out), *write_claim(result, self.files.out)]
        return written


SIZES = ("widths", "vocab_sizes", "batch_sizes", "output_counts", "step_counts")


def _sizes(name: str, texts: Sequence[str] | None) -> list[int] | None:
    """Sizes written `128 256` or `128,256`; None without the option. Raises `InputError`."""
    if texts is None:
        return None
    if not texts:
        raise InputError(name, None, "must be followed by sizes such as 128 256 512")
    found = []
    for text in (part for one in texts for part in one.split(",")):
        if not text.strip().isascii() or not text.strip().isdigit() or len(text) > 20:
            raise InputError(name, text, "must be integers such as 128 256 512")
        found.append(int(text))
    return found


def _check_paths(lists: Mapping[str, list[int] | None], options: Mapping[str, Any]) -> None:
    """Raises `InputError` before what takes a second to import."""
    along, sizes = growing_size(dict(zip(get_args(Along), lists.values(), strict=True)))
    if sizes is None:
        paths_and_options(options, (along,))
    else:
        family(along, sizes, **options)


@contextlib.contextmanager
def _kept_cells(out: Path | None, theory_only: bool) -> Iterator[Measure | None]:
    """What keeps finished cells in the folder, so that the same command goes on after them."""
    if out is None or theory_only:
        yield None
        return
    from experiments.cells.kept import kept
    from experiments.cells.store import REPEATABLE, open_store

    with open_store(out / NAME, resume=True, advice=REPEATABLE) as store:
        try:
            yield kept(store)
        finally:
            store.remove_if_empty()


def _derivation(result: ScalingExponent, wanted: bool) -> dict[str, Any]:
    return {"derivation": result.derivation} if wanted and result.derivation else {}
