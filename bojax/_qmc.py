"""Quasi-random points of the unit cube, drawn inside compiled code.

The Sobol sequence is computed once by SciPy on the host, as 32-bit integers. In compiled code a random digital shift
(exclusive or with one random integer per dimension) turns it into uniformly distributed points that keep the even
spread of the sequence (Owen 2003, "Variance with alternative scramblings of digital nets").
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from bojax._types import Array, Float, Key

MAX_DIMS = 21201
"""Number of dimensions of SciPy's direction numbers (Joe and Kuo 2008)."""


@functools.lru_cache(maxsize=64)
def sobol_integers(num_points: int, num_dims: int) -> np.ndarray:
    """The first points of the unscrambled sequence as read-only uint32 [num_points, num_dims]."""
    if num_dims > MAX_DIMS:
        raise ValueError(f"`num_dims` must be at most {MAX_DIMS}, got {num_dims}.")
    from scipy.stats import qmc  # takes half a second to import, so only when points are needed

    sampler = qmc.Sobol(num_dims, scramble=False, bits=32)
    power = max(num_points - 1, 0).bit_length()
    points = (sampler.random_base2(power)[:num_points] * 2.0**32).astype(np.uint32)
    points.setflags(write=False)
    return points


def random_shift(key: Key, num_dims: int) -> Array:
    """A random digital shift, uint32 [num_dims]."""
    return jax.random.bits(key, (num_dims,), jnp.uint32)


def to_unit(bits: Array, dtype) -> Array:
    """Random 32-bit integers as floats in the open unit interval."""
    if jnp.finfo(dtype).bits >= 64:
        return (bits.astype(dtype) + 0.5) * 2.0**-32
    return ((bits >> 9).astype(dtype) + 0.5) * 2.0**-23


def shifted(integers: Array | np.ndarray, shift: Array, dtype) -> Float[Array, "n d"]:
    """Points in the open unit cube from integers [n, d] and a shift [d]."""
    return to_unit(jnp.bitwise_xor(jnp.asarray(integers), shift[None, :]), dtype)


def sobol(key: Key, num_points: int, num_dims: int, dtype=None) -> Float[Array, "n d"]:
    """Draw randomly shifted Sobol points in the open unit cube.

    Each point is uniformly distributed, and together they fill the cube more evenly than independent points.

    Args:
        key: random key; it determines the shift.
        num_points: number of points n, >= 1. Prefer a power of two: only then is the sequence balanced.
        num_dims: number of dimensions d, between 1 and 21,201.
        dtype: floating dtype of the points; the default float of JAX by default.

    Returns:
        [n, d] points.

    Raises:
        ValueError: `num_dims` is above 21,201.

    Example:
        >>> import jax
        >>> points = sobol(jax.random.key(0), 4, 1)[:, 0]
        >>> sorted(int(4 * x) for x in points.tolist())  # one point in each quarter
        [0, 1, 2, 3]

    Source: Owen (2003), "Variance with alternative scramblings of digital nets".
    """
    dtype = jnp.zeros((), dtype).dtype
    return shifted(sobol_integers(num_points, num_dims), random_shift(key, num_dims), dtype)


def sobol_normal(key: Key, num_points: int, num_dims: int, dtype) -> Float[Array, "n d"]:
    """Quasi-random standard normal points: shifted Sobol points through the normal quantile function."""
    if num_dims == 0:
        return jnp.zeros((num_points, 0), dtype)
    unit = shifted(sobol_integers(num_points, num_dims), random_shift(key, num_dims), dtype)
    return jax.scipy.special.ndtri(unit)
