"""How the command ends: interrupted at any moment, without a reader or room, by a mistake."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from strike import strike

from experiments import cli
from experiments.cli import main
from experiments.ending import CRASHED
from experiments.interruption import INTERRUPTED, forget, interrupted_line, keeping, tidy
from experiments.streams import printable

RUN = "import sys; from experiments.start import main; sys.exit(main())"
SLACK = 20.0  # of a busy machine, in seconds


def dynsim(*arguments: str, code: str = RUN, **options) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-c", code, *arguments]
    return subprocess.run(line, stderr=subprocess.PIPE, text=True, check=False, **options)


@pytest.mark.parametrize("command", ["train", "regimes", "sweep", "help"])
def test_interrupted_at_any_moment_it_ends_with_one_line(command):
    chance = random.Random(command)
    moment = chance.uniform(0, 1.5)
    assert strike(command, moment, chance.choice((signal.SIGINT, signal.SIGTERM)), SLACK) is None


SWALLOWED = """
import gc, os, signal, sys, time
from experiments import cli
def swallow(*_):
    gc.callbacks.append(lambda *_: os.kill(os.getpid(), signal.SIGINT))
    gc.collect()  # the exception of a callback goes nowhere
    gc.callbacks.clear()
    time.sleep(60)
cli.COMMANDS["tokens"].run = swallow
"""


def test_an_interruption_that_falls_into_a_callback_ends_the_command():
    done = dynsim("tokens", "uniform", code=SWALLOWED + RUN, timeout=SLACK + 30)
    assert (done.returncode, done.stderr) == (INTERRUPTED, "dynsim: error: interrupted\n")


def test_a_mistake_has_an_exit_code_of_its_own():
    broken = "from experiments import cli\ncli.COMMANDS['tokens'].run = lambda self: 1 / 0\n"
    done = dynsim("tokens", "uniform", code=broken + RUN)
    assert done.returncode == CRASHED
    assert "ZeroDivisionError" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("dynsim: error: a mistake of dynsim")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a full device")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_without_room_is_one_line(unbuffered):
    with open("/dev/full", "w") as full:
        surroundings = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
        done = dynsim("parametrization", "mup", stdout=full, env=surroundings)
    said = "dynsim: error: the output cannot be written (No space left on device)\n"
    assert (done.returncode, done.stderr) == (2, said)


def test_a_reader_that_has_gone_is_no_error():
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as gone:
        done = dynsim("parametrization", "mup", stdout=gone)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_figure_without_room_leaves_the_numbers_and_no_half_file(tmp_path, capsys, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    line = ["parametrization", "mup", "--out", str(tmp_path)]
    assert main(line[:-2]) == 0
    numbers = capsys.readouterr().out
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert main(line) == 2
    printed = capsys.readouterr()
    assert printed.out == numbers
    assert printed.err.startswith("dynsim: error: ")
    assert printed.err.endswith("cannot be written (No space left on device), and 1 more\n")
    assert printed.err.count("\n") == 1
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "failure",
    [
        MemoryError(),
        RuntimeError("INTERNAL: Error dispatching computation: Out of memory allocating 24 bytes"),
        RuntimeError("RESOURCE_EXHAUSTED: out of it"),
        OSError(errno.EIO, "Input/output error", "a\x1b[31mname"),
    ],
)
def test_what_the_machine_lacks_is_one_line(failure, capsys, monkeypatch):
    def fail(_):
        raise failure

    monkeypatch.setattr(cli.COMMANDS["tokens"], "run", fail)
    assert main(["tokens", "uniform"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert "memory" in printed.err or "Input/output error" in printed.err
    assert printed.err[:-1].isprintable()


def test_characters_that_steer_a_terminal_are_escaped_as_in_json():
    steering = "\x00\x07\x1b[31m\x9b\x7f\u202e\u2066\u200f\ufeff\U000e0041"
    assert printable(steering).isprintable()
    assert json.loads(f'"{printable(steering)}"') == steering
    kept = "d² η_E → ∞, \u4e2d\u6587 \u05d0\t\n"
    assert printable(kept) == kept


def test_long_values_are_shortened(capsys):
    assert main(["derive", "--layer", "x" * 5000 + "\u202eend"]) == 2
    err = capsys.readouterr().err
    assert len(err) < 1100
    assert "\u202e" not in err


def test_only_what_was_kept_is_promised():
    forget()
    assert interrupted_line() == "interrupted"
    tidied = []
    with keeping(lambda: "three are kept and `resume` goes on", lambda: tidied.append("three")):
        assert interrupted_line() == "interrupted; three are kept and --resume goes on"
        with keeping(lambda: "", lambda: tidied.append("none")):
            assert interrupted_line().startswith("interrupted; three")
            tidy()
    assert tidied == ["none", "three"]
    assert interrupted_line() == "interrupted"
    with pytest.raises(KeyboardInterrupt), keeping(lambda: "two are kept", tidied.clear):
        raise KeyboardInterrupt
    assert interrupted_line() == "interrupted; two are kept"
    tidy()
    assert tidied
    forget()
