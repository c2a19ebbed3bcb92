"""Derivations from several threads at once."""

from __future__ import annotations

import subprocess
import sys

# In a process of its own: what races are tables that sympy fills at first use.
THREADS = """
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import derivations

together = Barrier(4)


def derived(number):
    together.wait()
    mean, rms = derivations.head_step(("head", "embedding")[number % 2], "sign")
    return str(mean.expression), str(rms.expression)


with ThreadPoolExecutor(4) as threads:
    found = list(threads.map(derived, range(4)))
assert found[0] == found[2] and found[1] == found[3], found
"""


def test_several_threads_derive_the_same():
    ended = subprocess.run(
        [sys.executable, "-c", THREADS], capture_output=True, text=True, timeout=300, check=False
    )
    assert ended.returncode == 0, ended.stderr
