"""Steps of an optax optimizer on the inner loss, whose settings may be hyperparameters."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from bojax._types import Array
from bojax.hypergrad import _tree

Optimizer = optax.GradientTransformation | Callable[[Any], optax.GradientTransformation]
"""An optimizer, or a function of the hyperparameters that returns one."""
Batch = Callable[[Any, Any, Any], Any]
"""`batch(key, step, data)`, the part of the inner data that one step sees."""


def check_training(optimizer: Any, num_steps: int) -> None:
    """Raise if the settings that all training loops share are wrong."""
    if num_steps < 1:
        raise ValueError(f"`num_steps` must be at least 1, got {num_steps}.")
    if not callable(optimizer) and not hasattr(optimizer, "update"):
        raise TypeError(f"`optimizer` must be an optax optimizer or a function that makes one, got {optimizer!r}.")


def build(optimizer: Any, hparams: Any) -> optax.GradientTransformationExtraArgs:
    """The optimizer at these hyperparameters."""
    made = optimizer if hasattr(optimizer, "update") else optimizer(hparams)
    return optax.with_extra_args_support(made)


def singular_at_zero(optimizer: Optimizer, hparams: Any, params: Any) -> Array:
    """Whether a first step has no finite derivative where an entry of the gradient is exactly zero.

    Tested by differentiating a step whose gradient is zero in the first entry of each leaf and one elsewhere.
    """
    made = build(optimizer, hparams)
    g = jax.tree.map(lambda w: (jnp.arange(w.size) > 0).reshape(w.shape).astype(w.dtype), params)
    g = jax.lax.optimization_barrier(g)  # XLA simplifies 0 * inf of constants to 0
    along = jax.tree.map(jnp.ones_like, g)
    _, slopes = jax.jvp(lambda g: made.update(g, made.init(params), params)[0], (g,), (along,))
    return ~_tree.all_finite(slopes)


def pick(batch: Batch | None, key: Any, step: Any, data: Any) -> Any:
    """The data of one step; randomness is a function of the key and the step."""
    if batch is None:
        return data
    if key is None:
        raise ValueError("`key` must be given when `batch` draws parts of the data, got None.")
    return batch(jax.random.fold_in(key, step), step, data)
