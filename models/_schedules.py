"""Learning-rate schedules whose kind, peak and warm-up are traced numbers."""

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array, lax

SCHEDULES = ("constant", "linear", "cosine", "exponential")
FINAL_SHARE = 0.01  # of the peak, at the end of an exponential schedule


def schedule(kind: Array, peak: Array, warmup: Array, num_steps: int) -> Callable[[Array], Array]:
    """Linear warm-up, then the schedule at position ``kind`` of `SCHEDULES`.

    After the warm-up, with p from 0 to 1 over the rest of the run, the rate is the peak times 1, 1 - p,
    (1 + cos(pi p)) / 2 (Loshchilov and Hutter, 2017, arXiv:1608.03983) or 0.01^p.

    Args:
        kind: int32 scalar.
        peak: float32 scalar, the largest learning rate.
        warmup: float32 scalar in [0, 1), fraction of the run in which the rate rises.
        num_steps: length of the full run.

    Returns:
        A function from steps done (int32) to learning rate (float32). The rate of the first step is not zero.
        The warm-up is a whole number of steps, so the derivative by ``warmup`` is 0.
    """
    num_warmup = jnp.maximum(1.0, jnp.floor(warmup * num_steps))

    def rate(count: Array) -> Array:
        steps = count.astype(jnp.float32)
        progress = jnp.clip((steps - num_warmup + 1) / jnp.maximum(1.0, num_steps - num_warmup + 1), 0.0, 1.0)
        shapes = (
            jnp.ones_like(progress),
            1 - progress,
            0.5 * (1 + jnp.cos(jnp.pi * progress)),
            jnp.exp(progress * jnp.log(jnp.float32(FINAL_SHARE))),
        )
        return peak * jnp.where(steps < num_warmup, (steps + 1) / num_warmup, lax.select_n(kind, *shapes))

    return rate
