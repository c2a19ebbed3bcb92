"""Generated command lines: whatever stands in one, the command ends as its guide says.

`python tests/command_lines.py [LINES] [SEED] [FIRST]` tries a thousand, many of which do their
work, in about half an hour; `experiments/test_cli.py` tries a sample of those that end at once.
Options and choices are read from the commands, so that new ones are drawn as well. `campaign`
stands for `python -m benchmarks.campaign`, of which only the miniature is drawn.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple, get_args, get_origin, get_type_hints

import tyro

(POSITIONAL,) = get_args(tyro.conf.Positional[int])[1:]
BOUND = 60.0  # seconds of the processor, most of them for compilation
HANGS = 300  # seconds
CAMPAIGN = "campaign"
CODES = {"verify": (0, 1, 2), "coordinate-check": (0, 1, 2), CAMPAIGN: (0, 2, 3)}  # else 0 and 2

WORDS = (
    "-1 0 1 2 3 7 x nan inf -inf 1e3 1.5 1/2 0x10 -1e400 uniform zipf:1 zipf:1e9 counts:counts "
    "none counts:words counts:missing corpus:empty corpus:text sign sgd adam muon mup sp mse ce "
    "gaussian onehot bigram next-token random:2 projection hidden embedding head tied readout relu "
    "identity latex text full vocabulary counts words missing damaged runs.csv yes no 1% 4*d d^0.7 "
    "0,-1,-1 width=2:8:3 age=0:1:2:lin local 2x2 10s name.png --json"
)
PLAUSIBLE = {
    int: ["1", "2", "3", "4", "7", "16"],
    float: ["0", "0.01", "0.1", "1", "1.5", "1e3"],
    Path: ["name.png", "figure.svg", "folder", "sweep.nc", "surface.csv"],
    bool: [],
}
ODD = ["", "\0", "9" * 30, "-" + "9" * 30, "\x1b[31m", "\u202e", "\udcff", "0" * 3000, "é", "𝜂"]
LETTERS = "abc-_=:,.%*?'\"\\{}[]()<>|&;$#@!~ \t\n\r019\x7f\u00a0\u2066\U0001f600"

# What stands before the drawn options. The first ends at once whatever is added, mostly.
CHEAP = {
    "derive": "--layer projection",
    "tokens": "uniform --vocab-size 5",
    "train": "--width 3 --vocab-size 4 --steps 2 --seeds 1",
    "sweep": "--widths 3 --vocab-sizes 4 --embedding-lrs 1 --hidden-lrs 1 --out sweep.nc "
    "--executor bogus",
    "optima": "runs.csv",
    "transfer": "runs.csv",
    "coordinate-check": "--widths 3 --vocab-sizes 4 --record bogus",
    "predict": "--steps 2 --replicas 2 --particles bogus",
    "flow": "--width 3 --vocab-size 4 --points 2 --particles bogus",
    "exponent": "--widths 3 5 --vocab-size 4 --budget bogus",
    "map": "--x width=2:8:3 --y vocab_size=2:8:3 --colour bogus",
    "lifetime": "--vocab-size 300",
    "compare": "--steps 2 --seeds bogus",
    "verify": "--claim bogus",
    "regimes": "--data damaged",
    "parametrization": "mup",
    "recommend": "--width 8 --base-width 4 --vocab-size 9",
    "explore": "--out counts/inside",
    CAMPAIGN: "--out campaign --list",
}
VALID = {
    "derive": "--layer hidden --width 8 --vocab-size 16",
    "tokens": "corpus:text --vocab-size 260",
    "train": "--network mlp --width 4 --vocab-size 5 --steps 2 --seeds 2",
    "sweep": "--network mlp --widths 3 4 --vocab-sizes 4 --embedding-lrs 0.1:1:2 --hidden-lrs 1 "
    "--seeds 1 --steps 2 --out sweep.nc",
    "optima": "surface.csv",
    "transfer": "surface.csv",
    "coordinate-check": "--network mlp --widths 3 6 --vocab-sizes 4 --seeds 2 --steps 2",
    "predict": "--width 8 --vocab-size 4 --steps 2 --replicas 2 --particles 64",
    "flow": "--width 3 --vocab-size 4 --points 2 --time 1",
    "exponent": "--widths 4 8 --vocab-size 4 --seeds 2",
    "map": "--x width=2:8:3 --y vocab_size=2:8:3",
    "lifetime": "--vocab-size 30 --width 8",
    "compare": "--width 8 --vocab-size 4 --steps 2 --seeds 2 --replicas 2 --particles 64",
    "verify": "--list",
    "regimes": "--list",
    "parametrization": "--compare --width 8 --vocab-size 9",
    "recommend": "--preset gpt2 --base-width 64",
    "explore": "--out explorer",
    CAMPAIGN: "--out campaign --miniature --only update_magnitude --minutes 2",
}
# Never drawn: these measure for hours, or serve until they are interrupted.
ENDLESS = {"verify": ("--full",), "explore": ("--serve",)}


class Ending(NamedTuple):
    """How a line ended: its exit code, or None and a traceback in `err`; time of the processor."""

    code: int | None
    out: str
    err: str
    seconds: float


def command_line(chance: random.Random, work: bool) -> list[str]:
    """A command with options drawn at random; with `work` some of them do what they are for."""
    command = chance.choice(sorted(CHEAP))
    begins = VALID if work and chance.random() < 0.7 else CHEAP
    options = drawn_options(command)
    line = [command, *begins[command].split()]
    for _ in range(chance.choice((0, 1, 1, 2, 2, 3))):
        if chance.random() < 0.1:
            line.append("--" + _text(chance, "abc-"))
            choices = WORDS.split()
        else:
            option = chance.choice(sorted(options))
            choices = options[option]
            line += [option] if option.startswith("--") else []  # else one without a flag
        if chance.random() < (0.9 if choices else 0.2):
            line.append(_value(chance, choices))
    if command != CAMPAIGN and chance.random() < 0.3:
        line.append("--json")
    return line


def drawn_options(command: str) -> dict[str, list[str]]:
    """The options of a command and values that mean something for each; none for a flag."""
    if command == CAMPAIGN:
        return _options_of_campaign()
    from experiments.cli import COMMANDS

    found = dict(_options(COMMANDS[command]))
    return {flag: found[flag] for flag in found if flag not in ENDLESS.get(command, ())}


def _campaign() -> tuple[Any, Any, list[str]]:
    """Its `main` and its parser, and the names of its items."""
    root = str(Path(__file__).parents[1])
    sys.path.insert(0, root)
    try:
        from benchmarks.campaign.__main__ import main, parser
        from benchmarks.campaign.items import ITEMS
    finally:
        sys.path.remove(root)
    return main, parser(), [item.name for item in ITEMS]


def _options_of_campaign() -> dict[str, list[str]]:
    _, parser, items = _campaign()
    values = {Path: PLAUSIBLE[Path], float: PLAUSIBLE[float], None: items}
    actions = (one for one in parser._actions if one.dest != "help")
    return {
        one.option_strings[0]: [] if one.nargs == 0 else list(values[one.type]) for one in actions
    }


def _options(command: type) -> Iterator[tuple[str, list[str]]]:
    hints = get_type_hints(command, include_extras=True)
    for field in dataclasses.fields(command):
        kind, *marks = [hints[field.name]]
        if get_origin(kind) is Annotated:
            kind, *marks = get_args(kind)
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            yield from _options(kind)
        else:
            flag = "" if POSITIONAL in marks else "--"
            yield flag + field.name.replace("_", "-"), list(_plausible(kind))


def _plausible(kind: Any) -> Iterator[str]:
    """Values of a type: its choices, or some of it, or (of texts) words."""
    if isinstance(kind, (str, int)):
        yield str(kind)
    elif get_args(kind):
        for one in get_args(kind):
            yield from _plausible(one)
    elif kind not in (type(None), Ellipsis):
        yield from PLAUSIBLE.get(kind, WORDS.split())


def _value(chance: random.Random, choices: list[str]) -> str:
    kind = chance.random()
    if choices and kind < 0.75:
        return chance.choice(choices)
    if kind < 0.9:
        return chance.choice(WORDS.split())
    return chance.choice(ODD) if kind < 0.96 else _text(chance, LETTERS)


def _text(chance: random.Random, letters: str) -> str:
    return "".join(chance.choices(letters, k=chance.randrange(7)))


def write_files(folder: Path) -> None:
    """Files for the lines to name: some mean something, some do not."""
    (folder / "counts").write_text("5\n3\n1\n")
    (folder / "words").write_text("five\n")
    (folder / "empty").touch()
    (folder / "runs.csv").write_text("width,learning_rate,loss\n64,1,2\n64,2,2.5\n")
    (folder / "surface.csv").write_text(surface())
    (folder / "text").write_text("some words of text " * 50)
    (folder / "damaged").mkdir(exist_ok=True)
    (folder / "damaged" / "updates.nc").write_bytes(b"not a netCDF file")


def surface() -> str:
    """A table of runs with an optimum at each width."""
    rows = (
        f"{width},{rate},{seed},{2 + width**-0.5 + 0.3 * (place - 2) ** 2 + 0.01 * seed}"
        for width in (64, 128, 256)
        for place, rate in enumerate((0.01, 0.02, 0.04, 0.08, 0.16))
        for seed in (0, 1)
    )
    return "\n".join(("width,learning_rate,seed,loss", *rows))


def ending(line: list[str]) -> Ending:
    """How a line ends, in this process and in the folder that it stands in."""
    if line[0] == CAMPAIGN:
        main, words = _campaign()[0], line[1:]
    else:
        from experiments.cli import main

        words = line
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace") for _ in range(2))
    begun = time.process_time()
    code: int | None = None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(words)
        except SystemExit as stop:  # --help
            code = stop.code if isinstance(stop.code, int) else 0
        except Exception:
            traceback.print_exc()
    seconds = time.process_time() - begun
    texts = []
    for stream in (out, err):
        stream.flush()
        texts.append(stream.buffer.getvalue().decode())  # type: ignore[attr-defined]
    return Ending(code, *texts, seconds)


def complaint(line: list[str], end: Ending, bound: float = BOUND) -> str | None:
    """What is wrong with how a line ended."""
    if end.code is None or "Traceback" in end.err:
        return f"a traceback: {end.err[-3000:]}"
    if end.code not in CODES.get(line[0], (0, 2)):
        return f"exit code {end.code}"
    if "Warning" in end.out + end.err:
        return f"a warning: {(end.out + end.err)[:1000]}"
    if end.seconds > bound:
        return f"took {end.seconds:.0f} s"
    if end.code == 2:
        lines = [one.strip() for one in end.err.replace("\r", "\n").split("\n") if one.strip()]
        program = CAMPAIGN if line[0] == CAMPAIGN else "dynsim"
        errors = [one for one in lines if one.startswith(f"{program}: error: ")]
        if len(errors) != 1 or lines[-1:] != errors or end.err.count("\n") != 1:
            return f"not one line: {end.err[-1000:]!r}"
        if end.out and "cannot be written" not in errors[0]:
            return f"an error after output: {end.out[:300]!r}"
    elif "--json" in line and not {"-h", "--help"} & set(line):
        return _not_json(end.out)
    return None


def _not_json(text: str) -> str | None:
    """Why a text is not one JSON document that every parser reads."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError("a name twice")
        return found

    try:
        if text.count("\n") != 1 or not text.endswith("\n"):
            raise ValueError("not one line")
        found = json.loads(text, parse_constant=refuse, object_pairs_hook=once)
        json.dumps(found, ensure_ascii=False).encode()  # no half of a character
    except ValueError as error:
        return f"no JSON: {error}: {text[:300]!r}"
    return None


def _hang(*_: object) -> None:
    raise RuntimeError(f"no end after {HANGS} seconds")


def main(lines: int, seed: int, first: int) -> int:
    """Tries lines from the `first` on, prints each with its seconds and what is wrong; 1 where
    something is."""
    import jax

    chance = random.Random(seed)
    signal.signal(signal.SIGALRM, _hang)
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        os.environ["DYNSIM_CACHE"] = str(Path(folder) / "cache")
        os.chdir(folder)
        for number in range(lines):
            line = command_line(chance, work=True)
            if number < first:
                continue
            write_files(Path())
            if "--resume" not in line:
                for name in ("sweep.nc.cells", "sweep.nc"):
                    shutil.rmtree(name, ignore_errors=True)  # another command may make it a folder
                    Path(name).unlink(missing_ok=True)
            print(
                f"{number:4d}",
                " ".join(f"{word:.60}" for word in line).encode("utf-8", "backslashreplace"),
                flush=True,
            )
            signal.alarm(HANGS)
            end = ending(line)
            signal.alarm(0)
            found = complaint(line, end)
            wrong += found is not None
            print(f"     {end.code} after {end.seconds:.1f} s", *filter(None, [found]), flush=True)
            if number % 50 == 49:
                jax.clear_caches()  # Linux allows a process so many programs
        os.chdir("/")
    print(f"{wrong} of {lines - first} lines ended in another way than they should")
    return int(wrong > 0)


if __name__ == "__main__":
    root = Path(__file__).parent.parent
    sys.path.insert(0, str(root))
    os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")  # for tiny networks
    given = [int(argument) for argument in sys.argv[1:]]
    sys.exit(main(*[*given, *(1000, 0, 0)[len(given) :]]))
