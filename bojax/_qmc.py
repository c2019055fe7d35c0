"""Quasi-random points of the unit cube, drawn inside compiled code.

The Sobol sequence is computed once on the host, as 32-bit integers. In compiled code a random digital shift
(exclusive or with one random integer per dimension) turns it into uniformly distributed points that keep the even
spread of the sequence (Owen 2003, "Variance with alternative scramblings of digital nets").
"""

import functools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bojax._namespace import AnyArray, namespace
from bojax._types import Array, Float, Key

MAX_DIMS = 21201
"""Number of dimensions of SciPy's direction numbers (Joe and Kuo 2008)."""


NUM_BITS = 32


@functools.lru_cache(maxsize=64)
def sobol_integers(num_points: int, num_dims: int) -> np.ndarray:
    """The first points of the unscrambled sequence as read-only uint32 [num_points, num_dims]."""
    if num_dims > MAX_DIMS:
        raise ValueError(f"`num_dims` must be at most {MAX_DIMS}, got {num_dims}.")
    try:
        directions = _directions(num_dims)
    except (OSError, KeyError):  # another version of SciPy may keep its table elsewhere
        points = _by_scipy(num_points, num_dims)
    else:
        # In Gray-code order a point differs from the one before by the direction of the lowest zero bit of its number.
        numbers = np.arange(max(num_points - 1, 0))
        lowest_zero = np.frexp(~numbers & (numbers + 1))[1] - 1
        points = np.zeros((num_points, num_dims), np.uint32)
        points[1:] = np.bitwise_xor.accumulate(directions[lowest_zero], axis=0)
    points.setflags(write=False)
    return points


def direction_integers(num_dims: int) -> np.ndarray:
    """The direction integers of the sequence, uint32 [num_dims, 32]: those that the bits of a point's number switch.

    Raises:
        ValueError: `num_dims` is above 21,201.
    """
    if num_dims > MAX_DIMS:
        raise ValueError(f"`num_dims` must be at most {MAX_DIMS}, got {num_dims}.")
    return np.ascontiguousarray(_directions(num_dims).T)


def _by_scipy(num_points: int, num_dims: int) -> np.ndarray:
    from scipy.stats import qmc

    power = max(num_points - 1, 0).bit_length()
    points = qmc.Sobol(num_dims, scramble=False, bits=NUM_BITS).random_base2(power)
    return (points[:num_points] * 2.0**32).astype(np.uint32)


@functools.lru_cache(maxsize=64)
def _directions(num_dims: int) -> np.ndarray:
    """The direction integers, uint32 [NUM_BITS, num_dims], from SciPy's table.

    SciPy computes them as well, but to import `scipy.stats` takes longer than the rest of a first suggestion.

    Source: Bratley and Fox (1988), "Algorithm 659", equation 2; Joe and Kuo (2008) for the table.
    """
    polynomials, initial = _table()
    degrees = np.frexp(polynomials[:num_dims])[1] - 1
    numbers = np.ones((NUM_BITS, num_dims), np.int64)  # of the first dimension all are 1
    for degree in set(degrees[1:].tolist()):
        dims = np.flatnonzero(degrees == degree)
        dims = dims[dims > 0]
        bits = polynomials[dims] >> np.arange(degree - 1, -1, -1)[:, None] & 1
        numbers[:degree, dims] = initial[dims, :degree].T
        for j in range(degree, NUM_BITS):
            new = numbers[j - degree, dims]
            for k in range(degree):
                new = new ^ (bits[k] * numbers[j - k - 1, dims] << (k + 1))
            numbers[j, dims] = new
    return (numbers << np.arange(NUM_BITS - 1, -1, -1)[:, None]).astype(np.uint32)


@functools.cache
def _table() -> tuple[np.ndarray, np.ndarray]:
    """The primitive polynomials [21201] and initial numbers [21201, 18] of Joe and Kuo, as SciPy keeps them."""
    import scipy

    with np.load(pathlib.Path(scipy.__file__).parent / "stats" / "_sobol_direction_numbers.npz") as table:
        return table["poly"].astype(np.int64), table["vinit"].astype(np.int64)


def random_shift(key: Key, num_dims: int) -> Array:
    """A random digital shift, uint32 [num_dims]."""
    return jax.random.bits(key, (num_dims,), jnp.uint32)


def to_unit(bits: AnyArray, dtype) -> Any:
    """Random 32-bit integers as floats in the open unit interval."""
    if jnp.finfo(dtype).bits >= 64:
        return (bits.astype(dtype) + 0.5) * 2.0**-32
    return ((bits >> 9).astype(dtype) + 0.5) * 2.0**-23


def shifted(integers: AnyArray, shift: AnyArray, dtype) -> Any:
    """Points in the open unit cube from integers [n, d] and a shift [d]."""
    return to_unit(namespace(integers, shift).bitwise_xor(integers, shift[None, :]), dtype)


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
