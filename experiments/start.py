"""Where the command `dynsim` begins. What ends it at a signal comes before all imports."""

import os
import signal


def main() -> int:
    """Runs the command of this process and returns its exit code, see `experiments.ending`."""
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, _end_at_once)  # until more is known
    from .ending import run_command

    return run_command(_command)


def _command() -> int:
    from .cli import main

    return main()


def _end_at_once(number: int, frame: object) -> None:
    os.write(2, b"dynsim: error: interrupted\n")
    os._exit(130)
