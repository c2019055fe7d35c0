"""A `lax.scan` over step numbers that keeps what reverse mode is to keep."""

import math
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

Checkpoint = Literal["step", "sqrt"] | None
"""What reverse mode keeps of T steps: everything (None), the T carries, or about 2 sqrt(T) carries."""


def repeat(step: Callable[[Any, Any], Any], carry: Any, start: int, stop: int, checkpoint: Checkpoint = None) -> Any:
    """step(...step(step(carry, start), start + 1)..., stop - 1).

    Args:
        step: `step(carry, t)`, the next carry.
        carry: where to start.
        start: the first step number.
        stop: one past the last.
        checkpoint: None keeps all intermediate values of every step. "step" keeps the carry before each step and
            computes the step again on the way back. "sqrt" keeps the carries before stretches of about sqrt(T) steps
            and, one stretch at a time, those inside.
    """

    def body(carry, t):
        return step(carry, t), None

    if checkpoint is not None:
        body = jax.checkpoint(body, prevent_cse=False)
    if checkpoint != "sqrt":
        return jax.lax.scan(body, carry, jnp.arange(start, stop, dtype=jnp.int32))[0]

    def stretch(carry, steps):
        return jax.lax.scan(body, carry, steps)

    stretch = jax.checkpoint(stretch, prevent_cse=False)
    length = _stretch_length(stop - start)
    whole = start + (stop - start) // length * length
    grid = jnp.arange(start, whole, dtype=jnp.int32).reshape(-1, length)
    carry, _ = jax.lax.scan(stretch, carry, grid)
    if whole < stop:
        carry, _ = stretch(carry, jnp.arange(whole, stop, dtype=jnp.int32))
    return carry


def _stretch_length(num_steps: int) -> int:
    """A divisor of the number of steps near its root, so that the step stands in the program once; else the root."""
    root = max(1, math.isqrt(num_steps))
    near = [k for k in range(max(1, root // 2), 2 * root + 1) if num_steps % k == 0]
    return min(near, key=lambda k: abs(k - root)) if near else root
