"""`dynsim lifetime`: how many steps the LV regime lives before learned embeddings end it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dynsim import InputError, check_integer, token_law

from .output import number, print_json, print_table

if TYPE_CHECKING:
    from .cli import Lifetime

AGES = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)  # in lifetimes


def run_lifetime(options: Lifetime) -> int:
    """Prints the lifetime in displacement, steps and visits, and the exponent at some ages."""
    from dynsim import aged_update, restoration_displacement, visit_chance

    from .precision import enable_x64

    check_integer("--width", options.width, 2, 2**53)
    check_integer("--batch-size", options.batch_size, 0, 2**53)
    law = token_law("uniform", options.vocab_size)
    if not 1 <= options.outputs <= options.vocab_size:
        raise InputError("--outputs", options.outputs, "must be from 1 to --vocab-size")
    if not 1e-30 <= options.embedding_lr <= 1e30:
        raise InputError("--embedding-lr", options.embedding_lr, "must be from 1e-30 to 1e30")
    enable_x64()
    end = restoration_displacement(
        options.width,
        law.vocab_size,
        effective_outputs=options.outputs,
        batch_size=options.batch_size,
    )
    chance = visit_chance(law, options.batch_size) if options.batch_size else 1.0
    per_step = options.embedding_lr * chance
    displacements = np.array(AGES) * (end or options.width**-0.5)
    steps = displacements / per_step
    aged = aged_update(
        options.width,
        law,
        options.embedding_lr * steps,
        effective_outputs=options.outputs,
        batch_size=options.batch_size,
        embedding_lr=options.embedding_lr,
    )
    rows = [
        {"displacement": move, "step": step, "local_exponent": float(slope)}
        for move, step, slope in zip(displacements, steps, aged.local_exponent, strict=True)
    ]
    document = {
        "width": options.width,
        "vocab_size": law.vocab_size,
        "outputs": options.outputs,
        "embedding_lr": options.embedding_lr,
        "batch_size": options.batch_size,
        "born": "LV" if end else "muP",
        "lifetime_displacement": end,
        "lifetime_steps": end / per_step,
        "lifetime_visits": end / options.embedding_lr,
        "visits_per_step": chance,
        "ages": rows,
    }
    if options.json:
        print_json(document)
        return 0
    if end:
        print("Born in the LV regime; learned embeddings restore alignment at")
        print(f"  eta_E t_c = {number(end)} initial standard deviations of the embedding,")
        print(
            f"  that is after {number(document['lifetime_steps'])} steps "
            f"({number(document['lifetime_visits'])} visits of a token)"
        )
    else:
        print("Born in the muP regime: alignment holds from the first step")
    table = [[number(row[name]) for name in rows[0]] for row in rows]
    print_table(tuple(rows[0]), table)
    return 0
