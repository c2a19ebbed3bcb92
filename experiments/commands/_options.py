"""Options that several commands share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

from dynsim.laboratory import NetworkSetup

Json = Annotated[
    bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help="print one JSON document to stdout")
]
# No option: the grid sets it. (With Any in place of the types tyro's cache takes 0.0 for 0.)
GridSize = tyro.conf.Suppress[tyro.conf.Fixed[int]]
GridRate = tyro.conf.Suppress[tyro.conf.Fixed[float]]


@dataclass(frozen=True)
class SizedSetup(NetworkSetup):
    """What networks of several sizes share. It is checked at every size, not here."""

    width: GridSize = 0
    vocab_size: GridSize = 0

    def __post_init__(self) -> None:
        pass
