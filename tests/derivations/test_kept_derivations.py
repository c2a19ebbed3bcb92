"""Derivations that are kept as files: which, where, and what damage does."""

from __future__ import annotations

import hashlib
import pickle
import time
from pathlib import Path

import pytest
import sympy as sp

import derivations
from derivations import _kept, symbols
from derivations._kept import ENDING, VARIABLE, WORTH, kept

x = sp.Symbol("x", positive=True)


@pytest.fixture
def folder(monkeypatch, tmp_path) -> Path:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    return tmp_path


class Slow:
    """A derivation that takes long, as every new process would see it: `new` reads what is kept."""

    def __init__(self, result):
        self.result, self.calls = result, 0

    @property
    def new(self):
        def power(*args, **kwargs):
            self.calls += 1
            time.sleep(WORTH)
            return self.result(*args, **kwargs)

        return kept(power)


def test_another_process_reads_what_was_derived(folder):
    slow = Slow(lambda base, n=2: base**n)
    assert slow.new(x) == slow.new(x) == x**2
    assert slow.calls == 1
    assert slow.new(x, n=3) == slow.new(x, n=3) == x**3
    plain = sp.Symbol("x")  # of the same name
    assert slow.new(plain) == plain**2 != x**2
    assert slow.calls == 3
    assert {file.suffix for file in folder.iterdir()} == {ENDING}
    assert len(list(folder.iterdir())) == 3


def test_another_version_derives_again(folder, monkeypatch):
    slow = Slow(lambda base: base**2)
    slow.new(x)
    monkeypatch.setattr(_kept, "_sources", lambda: b"changed")
    slow.new(x)
    assert slow.calls == 2
    monkeypatch.setattr(_kept, "_sources", lambda: None)  # they cannot be read
    slow.new(x)
    assert slow.calls == 3
    assert len(list(folder.iterdir())) == 2


def test_a_damaged_file_is_derived_again(folder):
    slow = Slow(lambda base: base**2)
    slow.new(x)
    (file,) = folder.iterdir()
    whole = file.read_bytes()
    for damaged in (b"", whole[:10], whole[:-1], whole[:-1] + b"?", b"?" + whole[1:]):
        file.write_bytes(damaged)
        assert slow.new(x) == x**2
        assert file.read_bytes() == whole
    assert slow.calls == 6
    content = b"cderivations\nof_another_version\n."  # pickle asks for a name that is not there
    file.write_bytes(hashlib.sha256(content).digest() + content)
    assert slow.new(x) == x**2
    assert slow.calls == 7


def test_what_cannot_be_kept_is_derived_every_time(folder, tmp_path, monkeypatch):
    for result in (
        lambda base: sp.Add(base, base, evaluate=False),  # comes back as 2 x
        lambda base: [lambda: base],
    ):
        slow = Slow(result)
        slow.new(x)
        slow.new(x)
        assert slow.calls == 2
    slow = Slow(lambda base: base(x))
    assert slow.new(lambda value: value) == x
    quick = kept(lambda: x)
    assert quick() == x
    assert not list(folder.iterdir())
    for value in ("", "off", "OFF", str(tmp_path / "missing")):
        monkeypatch.setenv(VARIABLE, value)
        slow = Slow(lambda base: base**2)
        assert slow.new(x) == slow.new(x) == x**2
        assert slow.calls == 2


@pytest.mark.parametrize(
    "derive",
    [
        lambda: derivations.first_step("projection", "sign"),
        lambda: derivations.optimal_ratio(),
        lambda: derivations.head_step("head", "sign"),
        lambda: derivations.phase_diagram(["1/2", 1], [0, 1]),
    ],
    ids=["first step", "optimal ratio", "head", "phase diagram"],
)
def test_derivations_come_back_as_they_were(derive):
    found = derive()
    again = pickle.loads(pickle.dumps(found))
    assert again == found
    assert repr(again) == repr(found)


def test_symbols_keep_what_is_assumed_of_them():
    assert pickle.loads(pickle.dumps(symbols.width)).is_positive
