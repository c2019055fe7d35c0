"""Functions of any number of dimensions: Ackley, Griewank, Levy, Rastrigin, Rosenbrock, sphere, Styblinski-Tang.

Formulas and bounds as in Surjanovic and Bingham, Virtual Library of Simulation Experiments (sfu.ca/~ssurjano).
Beware that the optimum of several is the center of the box, which some optimizers try first.
"""

import math
from collections.abc import Callable

import jax.numpy as jnp

from bojax._types import Array
from bojax.objectives._objective import SyntheticObjective, on_box

# The root of 4 x^3 - 32 x + 5 that minimizes x^4 - 16 x^2 + 5 x, and half of that minimum.
_STYBLINSKI_X, _STYBLINSKI_F = -2.903534027771177, -39.16616570377142


def ackley(d: int = 2) -> SyntheticObjective:
    """Returns Ackley's function: nearly flat far out, full of local minima, with a deep hole at the origin.

    -20 exp(-0.2 sqrt(mean x^2)) - exp(mean cos(2 pi x)) + 20 + e on [-32.768, 32.768]^d.

    Args:
        d: number of dimensions, at least 1.

    Returns:
        A `SyntheticObjective` with a Float for each dimension, `x1`, ..., `xd`.

    Raises:
        TypeError: `d` is no int.
        ValueError: `d` is too small.

    Example:
        >>> from bojax import objectives
        >>> f = objectives.ackley()
        >>> round(f.evaluate({"x1": 0.5, "x2": 0.5}), 4), round(f.optimum, 4)
        (4.2537, 0.0)
    """

    def f(x: Array) -> Array:
        square = jnp.mean(x**2)
        root = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)  # no NaN slope at the origin
        return -20 * jnp.expm1(-0.2 * root) - math.e * jnp.expm1(jnp.mean(jnp.cos(2 * math.pi * x)) - 1)

    return _of_any_size("ackley", f, d, bound=(-32.768, 32.768), best=0.0)


def griewank(d: int = 2) -> SyntheticObjective:
    """Returns Griewank's function: sum x_i^2 / 4000 - prod cos(x_i / sqrt(i)) + 1 on [-600, 600]^d.

    Args:
        d: number of dimensions, at least 1.

    Returns:
        A `SyntheticObjective` with a Float for each dimension, `x1`, ..., `xd`.

    Raises:
        TypeError: `d` is no int.
        ValueError: `d` is too small.

    Example:
        >>> from bojax import objectives
        >>> f = objectives.griewank()
        >>> round(f.evaluate({"x1": 0.5, "x2": 0.5}), 4), round(f.optimum, 4)
        (0.1768, 0.0)
    """

    def f(x: Array) -> Array:
        i = jnp.arange(1, d + 1, dtype=x.dtype)
        return jnp.sum(x**2) / 4000 - jnp.prod(jnp.cos(x / jnp.sqrt(i))) + 1

    return _of_any_size("griewank", f, d, bound=(-600, 600), best=0.0)


def levy(d: int = 2) -> SyntheticObjective:
    """Returns Levy's function on [-10, 10]^d, with its minimum 0 at (1, ..., 1).

    With w = 1 + (x - 1) / 4: sin^2(pi w_1) + sum_{i<d} (w_i - 1)^2 (1 + 10 sin^2(pi w_i + 1))
    + (w_d - 1)^2 (1 + sin^2(2 pi w_d)).

    Args:
        d: number of dimensions, at least 1.

    Returns:
        A `SyntheticObjective` with a Float for each dimension, `x1`, ..., `xd`.

    Raises:
        TypeError: `d` is no int.
        ValueError: `d` is too small.

    Example:
        >>> from bojax import objectives
        >>> f = objectives.levy()
        >>> round(f.evaluate({"x1": 0.5, "x2": 0.5}), 4), round(f.optimum, 4)
        (0.2364, 0.0)
    """

    def f(x: Array) -> Array:
        w = 1 + (x - 1) / 4
        inner, last = w[:-1], w[-1]
        middle = jnp.sum((inner - 1) ** 2 * (1 + 10 * jnp.sin(math.pi * inner + 1) ** 2))
        end = (last - 1) ** 2 * (1 + jnp.sin(2 * math.pi * last) ** 2)
        return jnp.sin(math.pi * w[0]) ** 2 + middle + end

    return _of_any_size("levy", f, d, bound=(-10, 10), best=1.0)


def rastrigin(d: int = 2) -> SyntheticObjective:
    """Returns Rastrigin's function: 10 d + sum (x_i^2 - 10 cos(2 pi x_i)) on [-5.12, 5.12]^d.

    Args:
        d: number of dimensions, at least 1.

    Returns:
        A `SyntheticObjective` with a Float for each dimension, `x1`, ..., `xd`.

    Raises:
        TypeError: `d` is no int.
        ValueError: `d` is too small.

    Example:
        >>> from bojax import objectives
        >>> f = objectives.rastrigin()
        >>> round(f.evaluate({"x1": 0.5, "x2": 0.5}), 4), round(f.optimum, 4)
        (40.5, 0.0)
    """

    def f(x: Array) -> Array:
        return jnp.sum(x**2 + 10 * (1 - jnp.cos(2 * math.pi * x)))

    return _of_any_size("rastrigin", f, d, bound=(-5.12, 5.12), best=0.0)


def rosenbrock(d: int = 2) -> SyntheticObjective:
    """Returns Rosenbrock's function, a curved valley: sum_{i<d} 100 (x_{i+1} - x_i^2)^2 + (1 - x_i)^2 on [-5, 10]^d.

    Args:
        d: number of dimensions, at least 2.

    Returns:
        A `SyntheticObjective` with a Float for each dimension, `x1`, ..., `xd`.

    Raises:
        TypeError: `d` is no int.
        ValueError: `d` is too small.

    Example:
        >>> from bojax import objectives
        >>> f = objectives.rosenbrock()
        >>> round(f.evaluate({"x1": 0.5, "x2": 0.5}), 4), round(f.optimum, 4)
        (6.5, 0.0)
    """

    def f(x: Array) -> Array:
        return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)

    return _of_any_size("rosenbrock", f, d, bound=(-5, 10), best=1.0, smallest=2)


def sphere(d: int = 2) -> SyntheticObjective:
    """Returns the sphere function: sum x_i^2 on [-5.12, 5.12]^d.

    Args:
        d: number of dimensions, at least 1.

    Returns:
        A `SyntheticObjective` with a Float for each dimension, `x1`, ..., `xd`.

    Raises:
        TypeError: `d` is no int.
        ValueError: `d` is too small.

    Example:
        >>> from bojax import objectives
        >>> f = objectives.sphere()
        >>> round(f.evaluate({"x1": 0.5, "x2": 0.5}), 4), round(f.optimum, 4)
        (0.5, 0.0)
    """
    return _of_any_size("sphere", lambda x: jnp.sum(x**2), d, bound=(-5.12, 5.12), best=0.0)


def styblinski_tang(d: int = 2) -> SyntheticObjective:
    """Returns the function of Styblinski and Tang: sum (x_i^4 - 16 x_i^2 + 5 x_i) / 2 on [-5, 5]^d.

    Args:
        d: number of dimensions, at least 1.

    Returns:
        A `SyntheticObjective` with a Float for each dimension, `x1`, ..., `xd`.

    Raises:
        TypeError: `d` is no int.
        ValueError: `d` is too small.

    Example:
        >>> from bojax import objectives
        >>> f = objectives.styblinski_tang()
        >>> round(f.evaluate({"x1": 0.5, "x2": 0.5}), 4), round(f.optimum, 4)
        (-1.4375, -78.3323)
    """

    def f(x: Array) -> Array:
        return jnp.sum(x**4 - 16 * x**2 + 5 * x) / 2

    return _of_any_size("styblinski_tang", f, d, bound=(-5, 5), best=_STYBLINSKI_X, lowest=_STYBLINSKI_F)


def _of_any_size(
    name: str,
    f: Callable[[Array], Array],
    d: int,
    *,
    bound: tuple[float, float],
    best: float,
    lowest: float = 0.0,
    smallest: int = 1,
) -> SyntheticObjective:
    """Returns f on bound^d; it is smallest at (best, ..., best), where it is d times `lowest`."""
    if isinstance(d, bool) or not isinstance(d, int):
        raise TypeError(f"`d` must be an int, got {d!r} ({type(d).__name__}).")
    if d < smallest:
        raise ValueError(f"`d` must be at least {smallest} for {name}, got {d}.")
    return on_box(f"{name}{d}", f, bounds=[bound] * d, optimum=d * lowest, optimizers=[[best] * d])
