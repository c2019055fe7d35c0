"""Compare a hypergradient with finite differences of its value."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from bojax._types import Array
from bojax.hypergrad._hypergradient import HypergradFn


class CheckResult(NamedTuple):
    """How well a hypergradient matches finite differences of its value.

    Attributes:
        cosine: between `slopes` and `differences`; 1 is perfect.
        relative_error: ||slopes - differences|| / ||differences||.
        slopes: [k] the hypergradient along each direction.
        differences: [k] central differences of the value along each, extrapolated.
        uncertainty: [k] change of each difference by the last extrapolation; larger than its error.
    """

    cosine: float
    relative_error: float
    slopes: Array
    differences: Array
    uncertainty: Array


def check_hypergradient(
    fn: HypergradFn,
    hparams: Any,
    inner_params0: Any,
    inner_data: Any = None,
    outer_data: Any = None,
    key: Any = None,
    *,
    num_directions: int = 8,
    step: float | None = None,
    seed: int = 0,
) -> CheckResult:
    """Compare a hypergradient with central finite differences along random directions. On the host.

    All values use the same key and starting point, so randomness cancels. The differences at `step` and half of it are
    extrapolated (Richardson). A large error has three common causes: the inner problem is not solved (see the status),
    the outer loss is not smooth, or the step does not suit the scale of the hyperparameters, which also makes
    `uncertainty` large.

    Args:
        fn: the result of `hypergradient`.
        hparams: where to check.
        inner_params0: as for `fn`.
        inner_data: as for `fn`.
        outer_data: as for `fn`.
        key: as for `fn`.
        num_directions: k; directions are orthonormal, so at most the number of scalar hyperparameters.
        step: length of the step in the coordinates of hparams; by default the fifth root of machine epsilon.
        seed: seed of the directions.

    Returns:
        Cosine and relative error of the projected gradients.

    Example:
        >>> import jax.numpy as jnp
        >>> from bojax import hypergrad as hg
        >>> inner = lambda w, h, data: 0.5 * jnp.sum((w - 1.0) ** 2 + jnp.exp(h) * w**2)
        >>> outer = lambda w, h, data: 0.5 * jnp.sum((w - 0.25) ** 2)
        >>> fn = hg.hypergradient(inner, outer)
        >>> hg.check_hypergradient(fn, 0.0, jnp.zeros(1)).cosine > 0.999
        True
    """
    grad = fn(hparams, inner_params0, inner_data, outer_data, key).grad
    flat, unravel = ravel_pytree(jax.tree.map(jnp.asarray, hparams))
    size = float(jnp.finfo(flat.dtype).eps) ** 0.2 if step is None else step
    directions = _directions(flat.size, num_directions, seed)

    def value(point):
        return fn(unravel(point), inner_params0, inner_data, outer_data, key).value

    def difference(v, t):
        ahead, behind = (float(value(flat + jnp.asarray(s * t * v, flat.dtype))) for s in (1, -1))
        return (ahead - behind) / (2 * t)

    coarse, fine = (np.array([difference(v, t) for v in directions]) for t in (size, size / 2))
    differences = (4 * fine - coarse) / 3
    slopes = directions @ np.asarray(ravel_pytree(grad)[0], np.float64)
    both = np.linalg.norm(slopes) * np.linalg.norm(differences)
    return CheckResult(
        cosine=float(slopes @ differences / both) if both > 0 else float(not np.any(slopes - differences)),
        relative_error=float(np.linalg.norm(slopes - differences) / max(np.linalg.norm(differences), 1e-300)),
        slopes=jnp.asarray(slopes),
        differences=jnp.asarray(differences),
        uncertainty=jnp.asarray(np.abs(fine - coarse) / 3),
    )


def _directions(size: int, number: int, seed: int) -> np.ndarray:
    """Random orthonormal rows."""
    normal = np.random.default_rng(seed).normal(size=(size, min(number, size)))
    return np.linalg.qr(normal)[0].T
