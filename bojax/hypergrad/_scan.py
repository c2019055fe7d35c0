"""A `lax.scan` over step numbers that keeps what reverse mode is to keep."""

import math
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

Checkpoint = Literal["step", "sqrt"] | None
"""What reverse mode keeps of T steps: everything (None), the T carries, or about 2 sqrt(T) carries."""


def unroll(step: Callable[[Any, Any], Any], state: Any, num_steps: int, *, checkpoint: Checkpoint = "step") -> Any:
    """A loop of one's own whose reverse-mode derivative keeps little.

    `Unrolled` is built on the same loop; here a step may be anything: a simulator, a solver, an optimizer that is not
    of optax. With `mixflow_grad` in place of `jax.grad` inside of the step it takes as little memory as `Unrolled`.

    Args:
        step: `step(state, t)`, the next state, of the same form; t is int32 and runs from 0. It may close over what is
            differentiated.
        state: where to start.
        num_steps: T.
        checkpoint: "step" keeps the state before each step and computes the step again on the way back, "sqrt" about
            2 sqrt(T) states at the price of one more forward pass, None all intermediate values. The result is the
            same.

    Returns:
        The state after T steps.

    Raises:
        ValueError: `num_steps` is negative, or `checkpoint` is none of these.

    Example:
        >>> import jax
        >>> halve = lambda rate: unroll(lambda w, t: w - rate * w, 1.0, 3)
        >>> float(halve(0.5)), float(jax.grad(halve)(0.5))
        (0.125, -0.75)
    """
    if num_steps < 0:
        raise ValueError(f"`num_steps` must not be negative, got {num_steps}.")
    check_checkpoint(checkpoint)
    return repeat(step, state, 0, num_steps, checkpoint)


def check_checkpoint(checkpoint: Any) -> None:
    """Raise if `checkpoint` is none of those that `repeat` knows."""
    if checkpoint not in ("step", "sqrt", None):
        raise ValueError(f"`checkpoint` must be 'step', 'sqrt' or None, got {checkpoint!r}.")


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
