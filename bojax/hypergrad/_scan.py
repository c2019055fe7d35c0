"""A `lax.scan` over step numbers with checkpoints for reverse mode.

The backward pass recomputes whatever is not stored, so every level of nesting costs one more run of the steps (Chen et
al. 2016, arXiv:1604.06174).
"""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

Checkpoint = Literal["step", "sqrt"] | None
"""What reverse mode stores of T steps: everything (None), the T carries, or at most about 2 sqrt(T) carries."""

KEPT = "bojax_inner_gradient"
"""Arrays with this name (`jax.ad_checkpoint.checkpoint_name`) are stored with the carry of their step."""

LONG = 256
"""Above this number of steps "sqrt" nests three levels deep: half the memory at T = 1024 for a quarter more time."""


def unroll(step: Callable[[Any, Any], Any], state: Any, num_steps: int, *, checkpoint: Checkpoint = "step") -> Any:
    """A loop whose reverse-mode derivative needs little memory.

    `Unrolled` uses the same loop; here a step may be anything: a simulator, a solver, an optimizer from outside optax.
    With `mixflow_grad` instead of `jax.grad` inside the step it takes as little memory as `Unrolled`.

    Args:
        step: `step(state, t)`, the next state, of the same structure; t is int32 and runs from 0. It may close over
            differentiated values.
        state: where to start.
        num_steps: T.
        checkpoint: "step" stores the state before each step and recomputes the step in the backward pass, "sqrt" stores
            at most about 2 sqrt(T) states at the cost of one more forward pass (two above T = 256), None stores all
            intermediate values. The result is the same.

    Returns:
        The state after T steps.

    Raises:
        ValueError: `num_steps` is negative, or `checkpoint` is not one of these.

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
    """Raise if `repeat` does not know `checkpoint`."""
    if checkpoint not in ("step", "sqrt", None):
        raise ValueError(f"`checkpoint` must be 'step', 'sqrt' or None, got {checkpoint!r}.")


def repeat(step: Callable[[Any, Any], Any], carry: Any, start: int, stop: int, checkpoint: Checkpoint = None) -> Any:
    """step(...step(step(carry, start), start + 1)..., stop - 1).

    Args:
        step: `step(carry, t)`, the next carry.
        carry: where to start.
        start: the first step number.
        stop: one past the last.
        checkpoint: None stores all intermediate values of every step. "step" stores the carry before each step, and
            values named `KEPT` if the derivative needs them, and recomputes the step in the backward pass. "sqrt"
            stores the carries before segments of about sqrt(T) steps and, one segment at a time, what "step" stores of
            it; for T above 256 the segments are divided in the same way, and about 3 T^(1/3) carries are stored.
    """

    def body(carry, t):
        return step(carry, t), None

    if checkpoint is not None:
        policy = jax.checkpoint_policies.save_only_these_names(KEPT)
        body = jax.checkpoint(body, prevent_cse=False, policy=policy)
    depth = 1 if checkpoint != "sqrt" else 2 if stop - start <= LONG else 3
    return _nested(body, carry, jnp.arange(start, stop, dtype=jnp.int32), depth)


def _nested(body: Any, carry: Any, steps: Any, depth: int) -> Any:
    """A scan; above depth 1 in segments, of which reverse mode stores only the first carry."""
    if depth == 1:
        return jax.lax.scan(body, carry, steps)[0]

    def stretch(carry, steps):
        return _nested(body, carry, steps, depth - 1), None

    stretch = jax.checkpoint(stretch, prevent_cse=False)
    length = _stretch_length(len(steps), depth)
    whole = len(steps) // length * length
    carry, _ = jax.lax.scan(stretch, carry, steps[:whole].reshape(-1, length))
    return stretch(carry, steps[whole:])[0] if whole < len(steps) else carry


def _stretch_length(num_steps: int, depth: int) -> int:
    """Near T^(1 - 1 / depth) with the smallest remainder: without one the program contains the step once."""
    wanted = max(1, round(num_steps ** (1 - 1 / depth)))
    near = range(max(1, wanted // 2), max(1, min(2 * wanted, num_steps)) + 1)
    return min(near, key=lambda k: (num_steps % k, abs(k - wanted)))
