"""Time of `dynsim.exponent` with its defaults, and of the loop that a user would write by hand.

    python -m benchmarks.exponent

By hand: for each width a jitted training step, and a Python loop over the seeds. Both start in a
fresh process and contain its start, imports and compilation.
"""

from __future__ import annotations

import subprocess
import sys
import time

WIDTHS, VOCABULARY, SEEDS, RATE = (128, 256, 512, 1024), 1024, 8, 0.01

EXPONENT = """
import time; start = time.perf_counter()
import jax; jax.config.update("jax_enable_x64", True)
import dynsim
def report(found):
    column = "derived" if found.mean_field is None else "mean field"
    print(f"  {column} after {time.perf_counter() - start:.1f} s", flush=True)
print("  measured", dynsim.exponent(report=report).measured.value)
"""
BY_HAND = f"""
import jax, jax.numpy as jnp, numpy as np
values = []
for width in {WIDTHS}:
    @jax.jit
    def step_rms(key):
        embedding, projection = jax.random.split(key)
        e = jax.random.normal(embedding, ({VOCABULARY}, width))
        w = jax.random.normal(projection, (1, width)) / width
        y = jax.random.normal(jax.random.key(0), ({VOCABULARY}, 1))
        loss = lambda w: 0.5 * jnp.mean(jnp.sum((e @ w.T - y) ** 2, axis=1))
        change = -{RATE} * jnp.sign(jax.grad(loss)(w))
        return jnp.mean((e @ change.T) ** 2)
    squares = [float(step_rms(jax.random.key(seed))) for seed in range({SEEDS})]
    values.append(np.sqrt(np.mean(squares)))
print("  measured", np.polyfit(np.log({WIDTHS}), np.log(values), 1)[0])
"""


def seconds(program: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True)
    return time.perf_counter() - start


def main() -> None:
    by_hand = seconds(BY_HAND)
    print(f"by hand, without interval and theory: {by_hand:.1f} s", flush=True)
    taken = seconds(EXPONENT)
    print(f"dynsim.exponent: {taken:.1f} s, {taken / by_hand:.1f} times as long")


if __name__ == "__main__":
    main()
