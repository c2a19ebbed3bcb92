"""`dynsim lifetime`: how many steps the LV regime lives before learned embeddings end it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dynsim import InputError, check_integer, token_law
from experiments.output import number, print_json, print_table

from ._options import Json

AGES = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)  # in lifetimes


@dataclass(frozen=True)
class Lifetime:
    """How long the LV regime lives: steps until learned embeddings restore alignment.

    Sign descent (or Adam in full batch) on uniform tokens, while residuals keep their size. The
    regime ends where coherent and incoherent power of a step are equal: exponent 3/4.
    """

    width: int = 1024
    """width d"""
    vocab_size: int = 32768
    """vocabulary size m"""
    outputs: float = 1.0
    """independent directions of the residuals n_eff (1: one output)"""
    embedding_lr: float = 0.01
    """learning rate of the embedding, in its initial standard deviations"""
    batch_size: int = 0
    """tokens per batch, 0 for the full batch"""
    json: Json = False

    def run(self) -> int:
        """Prints the lifetime in displacement, steps and visits, and the exponent at some ages."""
        from dynsim import aged_update, restoration_displacement
        from dynsim.theory import visit_chance
        from experiments.precision import enable_x64

        check_integer("width", self.width, 2, 2**53)
        check_integer("batch_size", self.batch_size, 0, 2**53)
        law = token_law("uniform", self.vocab_size)
        if not 1 <= self.outputs <= self.vocab_size:
            raise InputError("outputs", self.outputs, "must be from 1 to --vocab-size")
        if not 1e-30 <= self.embedding_lr <= 1e30:
            raise InputError("embedding_lr", self.embedding_lr, "must be from 1e-30 to 1e30")
        enable_x64()
        end = restoration_displacement(
            self.width,
            law.vocab_size,
            effective_outputs=self.outputs,
            batch_size=self.batch_size,
        )
        chance = visit_chance(law, self.batch_size) if self.batch_size else 1.0
        per_step = self.embedding_lr * chance
        displacements = np.array(AGES) * (end or self.width**-0.5)
        steps = displacements / per_step
        aged = aged_update(
            self.width,
            law,
            self.embedding_lr * steps,
            effective_outputs=self.outputs,
            batch_size=self.batch_size,
            embedding_lr=self.embedding_lr,
        )
        rows = [
            {"displacement": move, "step": step, "local_exponent": float(slope)}
            for move, step, slope in zip(displacements, steps, aged.local_exponent, strict=True)
        ]
        document = {
            "width": self.width,
            "vocab_size": law.vocab_size,
            "outputs": self.outputs,
            "embedding_lr": self.embedding_lr,
            "batch_size": self.batch_size,
            "born": "LV" if end else "muP",
            "lifetime_displacement": end,
            "lifetime_steps": end / per_step,
            "lifetime_visits": end / self.embedding_lr,
            "visits_per_step": chance,
            "ages": rows,
        }
        if self.json:
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
