"""What a second process judges and draws, and what happens without it."""

import os
import subprocess
import sys
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool

import pytest

from experiments.commands import _second_process
from experiments.commands._second_process import begun, second_process
from experiments.commands._verdicts import in_one_sentence


class Broken:
    """A pool whose process dies, at once or while it works."""

    def __init__(self, at_once: bool):
        self.at_once = at_once

    def submit(self, *_) -> Future:
        if self.at_once:
            raise BrokenProcessPool
        lost = Future()
        lost.set_exception(BrokenProcessPool())
        return lost


@pytest.mark.parametrize("pool", [None, Broken(True), Broken(False)])
def test_without_a_second_process_the_first_does_the_work(pool):
    assert begun(pool, pow, 2, 10)() == 1024


def test_the_second_process_does_the_work_and_passes_errors_on():
    with second_process() as pool:
        assert pool is not None
        assert begun(pool, os.getpid)() != os.getpid()
        with pytest.raises(ZeroDivisionError):
            begun(pool, divmod, 1, 0)()
        child = begun(pool, os.getpid)()
    assert not _runs(child)


def test_an_error_ends_the_second_process():
    with pytest.raises(KeyError) as caught, second_process() as pool:
        raise KeyError(begun(pool, os.getpid)())
    assert not _runs(caught.value.args[0])


ASKED_IN_A_FRESH_ONE = """
import signal
from experiments.commands._second_process import second_process

if __name__ == "__main__":
    with second_process() as pool:
        blocked = pool.submit(signal.pthread_sigmask, signal.SIG_BLOCK, []).result()
    print(signal.SIGINT in blocked, signal.pthread_sigmask(signal.SIG_BLOCK, []))
"""


def test_ctrl_c_is_for_the_first_process_alone(tmp_path):
    """Asked in a fresh process, where Python's tracker of semaphores has not run yet."""
    script = tmp_path / "fresh.py"
    script.write_text(ASKED_IN_A_FRESH_ONE)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "set()"]


def test_no_second_process_can_start(monkeypatch):
    def none(*_):
        raise OSError("no semaphores")

    monkeypatch.setattr(_second_process, "ProcessPoolExecutor", none)
    with second_process() as pool:
        assert pool is None


def test_no_claims_have_a_sentence_of_their_own():
    assert in_one_sentence([]) == "No claim is judged by what was measured."


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True
