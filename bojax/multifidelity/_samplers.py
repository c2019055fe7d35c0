"""Samplers of the configurations of a bracket: random, or any algorithm that learns from the rungs so far."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from bojax._alike import Alike
from bojax._runtime import as_key, host_scope, under_own_settings
from bojax._types import Key
from bojax.acquisition import batch_log_ei
from bojax.data import Told
from bojax.loop import Algorithm, bayesopt, restore
from bojax.multifidelity._history import Recorder
from bojax.space import Space

Sampler = Callable[[Key, int, Recorder], np.ndarray]
"""`sampler(key, n, recorder) -> X [n, d]`, points of the unit cube."""


def random_sampler(space: Space) -> Sampler:
    """Random configurations, uniform on the unit cube.

    Args:
        space: the search space.

    Returns:
        A sampler `(key, n, recorder) -> X [n, d]`; it ignores the recorder.

    Example:
        >>> import bojax, jax
        >>> sample = random_sampler(bojax.Space(x=bojax.Float(0.0, 1.0)))
        >>> sample(jax.random.key(0), 3, None).shape
        (3, 1)
    """

    def sample(key: Key, n: int, recorder: Recorder) -> np.ndarray:
        del recorder
        return sampled(space, key, np.arange(n))

    return sample


@under_own_settings
def sampled(space: Space, key: Key, numbers: np.ndarray) -> np.ndarray:
    """Points [n, d] that depend only on `key` and their numbers [n]."""
    return np.asarray(_sampled(space, as_key(key), jnp.asarray(_padded(numbers), jnp.uint32)), float)[: len(numbers)]


@under_own_settings
def decoded(space: Space, X: np.ndarray) -> dict[str, np.ndarray]:
    """The hyperparameters at points of the unit cube, NumPy arrays [n]."""
    columns = jax.device_get(_decoded(space, jnp.asarray(_padded(np.asarray(X)))))
    return {name: column[: len(X)] for name, column in columns.items()}


def _padded(rows: np.ndarray) -> np.ndarray:
    """Rows [n, ...] padded with copies of the last to a power of two, so that few programs are compiled."""
    size = 1 << (len(rows) - 1).bit_length()
    return np.concatenate([rows, np.repeat(rows[-1:], size - len(rows), axis=0)])


@functools.partial(jax.jit, static_argnums=0)
def _decoded(space: Space, X: jax.Array) -> dict[str, jax.Array]:
    return space.decode(X)


@functools.partial(jax.jit, static_argnums=0)
def _sampled(space: Space, key: Key, numbers: jax.Array) -> jax.Array:
    return jax.vmap(lambda number: space.sample(jax.random.fold_in(key, number), 1, jnp.float32)[0])(numbers)


def model_sampler(
    space: Space,
    algorithm: Callable[[Space, int], Algorithm] | None = None,
    *,
    random_share: float = 1 / 3,
    min_observations: int | None = None,
) -> Sampler:
    """The sampler of BOHB (Falkner, Klein and Hutter 2018, arXiv:1807.01774).

    It proposes from a model of the highest rung with enough observations. Before there is one, and for a fixed fraction
    afterwards, configurations are random.

    Args:
        space: the search space.
        algorithm: `algorithm(space, q) -> Algorithm`, the model; `bayesopt` by default, whereas the paper uses a
            tree-structured Parzen estimator.
        random_share: fraction of random configurations, in [0, 1].
        min_observations: number of observations a rung must have; d + 2 by default.

    Returns:
        A sampler `(key, n, recorder) -> X [n, d]`.

    Raises:
        ValueError: `random_share` is outside [0, 1].

    Example:
        >>> import bojax, jax
        >>> from bojax import multifidelity
        >>> sample = model_sampler(bojax.Space(x=bojax.Float(0.0, 1.0)), random_share=0.5)
        >>> callable(sample)
        True
    """
    if not 0 <= random_share <= 1:
        raise ValueError(f"`random_share` must lie in [0, 1], got {random_share}.")
    make = algorithm or _greedy_bayesopt
    enough = space.num_dims + 2 if min_observations is None else min_observations
    at_random = random_sampler(space)

    def sample(key: Key, n: int, recorder: Recorder) -> np.ndarray:
        random_key, ask_key, init_key = jax.random.split(as_key(key), 3)
        for steps in sorted({steps for _, steps, _ in recorder.rows}, reverse=True):
            X, values = recorder.values_at(steps)
            if np.isfinite(values).sum() < enough:
                continue
            num_random = round(random_share * n)
            with host_scope():
                drawn = [at_random(random_key, num_random, recorder)] if num_random else []
                if n > num_random:
                    model, ask = _compiled(Alike(make(space, n - num_random)))
                    values = np.where(np.isfinite(values), values, np.nan)
                    state = restore(model.init(init_key), Told(X, values, X[:0]))
                    asked, _, info = ask(ask_key, state)
                    drawn.append(np.asarray(asked, float)[np.asarray(info.valid)])
            drawn = np.concatenate(drawn)
            missing = n - len(drawn)  # because a finite space is exhausted
            return drawn if missing == 0 else np.concatenate([drawn, at_random(init_key, missing, recorder)])
        return at_random(random_key, n, recorder)

    return sample


def _greedy_bayesopt(space: Space, q: int) -> Algorithm:
    return bayesopt(space, q=q, acquisition=batch_log_ei(joint=False))


@functools.lru_cache(maxsize=64)
def _compiled(made: Alike) -> tuple[Algorithm, Callable]:
    """An algorithm and its jitted `ask`, shared by all brackets and runs."""
    return made.value, jax.jit(made.value.ask)
