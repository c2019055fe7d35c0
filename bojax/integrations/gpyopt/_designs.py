"""Initial designs: points of the cube that are evaluated before a model chooses."""

import warnings
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bojax._errors import BojaxError, BojaxWarning
from bojax._runtime import host_scope
from bojax.integrations.gpyopt._domain import Domain
from bojax.optim import sobol
from bojax.space import Float

MAX_TRIES = 4096
"""Random points among which feasible ones with fixed parameters are looked for."""


def initial_rows(kind: str, domain: Domain, count: int, rng: np.random.Generator) -> np.ndarray:
    """The rows of X of an initial design.

    Args:
        kind: "random", "latin", "sobol" or "grid". A grid has the largest number of levels per continuous variable
            with which it has at most `count` points; other variables are random.
        domain: the domain.
        count: number of rows, >= 1.
        rng: source of random numbers.

    Returns:
        [count, d] rows; fewer for a grid, and for bandits with fewer arms.
    """
    space = domain.space
    if kind == "random":
        return random_rows(domain, count, rng)
    for reason in ("bandits",) * (domain.arms is not None) + ("constraints",) * bool(space.constraints):
        raise ValueError(f"`initial_design_type` must be 'random' with {reason}, got {kind!r}.")
    return np.array([domain.row(space.to_params(point)) for point in _cube_points(kind, domain, count, rng)])


def random_rows(
    domain: Domain, count: int, rng: np.random.Generator, held: Mapping[str, Any] | None = None
) -> np.ndarray:
    """Random rows of X.

    Args:
        domain: the domain.
        count: number of rows, >= 1.
        rng: source of random numbers.
        held: fixed parameters of all rows.

    Returns:
        [count, d] feasible rows; distinct arms for bandits, fewer where there are no more.

    Raises:
        BojaxError: with the fixed parameters too few of many random points are feasible.
    """
    if domain.arms is not None:
        return domain.arms[rng.permutation(len(domain.arms))[:count]]
    space, held = domain.space, dict(held or {})
    if not space.constraints:
        points = rng.random((count, space.num_dims))
    elif not held:
        with host_scope():
            points = np.asarray(space.sample(jax.random.key(int(rng.integers(2**31))), count))
    else:
        points = rng.random((MAX_TRIES, space.num_dims))
        params = space.to_params(points[0]) | held
        fixed = [name in held for name in space.names]
        points[:, fixed] = space.from_params(params)[fixed]
        with host_scope():
            points = points[np.asarray(space.is_feasible(jnp.asarray(points)))][:count]
        if len(points) < count:
            raise BojaxError(
                f"`context` must leave feasible points, got {held}: of {MAX_TRIES} random ones too few are."
            )
    return np.array([domain.row({**space.to_params(point), **held}) for point in points])


def _cube_points(kind: str, domain: Domain, count: int, rng: np.random.Generator) -> np.ndarray:
    d = domain.space.num_dims
    if kind == "grid":
        return _grid(domain, count, rng)
    if kind == "latin":  # one point in each of `count` slices of every column
        slices = np.stack([rng.permutation(count) for _ in range(d)], axis=1)
        return (slices + rng.random((count, d))) / count
    return np.asarray(sobol(jax.random.key(int(rng.integers(2**31))), count, d), float)


def _grid(domain: Domain, count: int, rng: np.random.Generator) -> np.ndarray:
    free = [i for i, p in enumerate(domain.space.parameters) if isinstance(p, Float)]
    if not free:
        return rng.random((count, domain.space.num_dims))
    levels = max(1, int(np.floor(count ** (1.0 / len(free)) + 1e-9)))
    axes = [np.linspace(0.0, 1.0, levels) if levels > 1 else np.array([0.5])] * len(free)
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(free))
    if len(grid) < count:
        warnings.warn(
            f"the grid has {len(grid)} points instead of {count}: {levels} levels of {len(free)} continuous variables.",
            BojaxWarning,
            stacklevel=5,
        )
    points = rng.random((len(grid), domain.space.num_dims))
    points[:, free] = grid
    return points
