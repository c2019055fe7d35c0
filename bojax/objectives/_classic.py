"""The classic functions of fixed dimension: Branin, Hartmann-3, Hartmann-6 and the six-hump camel.

References: Dixon and Szego, "The global optimization problem: an introduction", in Towards Global Optimisation 2
(1978); formulas and bounds as in Surjanovic and Bingham, Virtual Library of Simulation Experiments
(sfu.ca/~ssurjano). Optima that are no closed form were found by Newton's method in float64.
"""

import math

import jax.numpy as jnp
import numpy as np

from bojax._types import Array
from bojax.objectives._objective import SyntheticObjective, on_box

_ALPHA = np.array([1.0, 1.2, 3.0, 3.2])
_A3 = np.array([[3.0, 10, 30], [0.1, 10, 35], [3.0, 10, 30], [0.1, 10, 35]])
# P_41 is 0.0381 as in Surjanovic and Bingham; the 0.03815 of some papers moves the optimum by 2e-6.
_P3 = 1e-4 * np.array([[3689, 1170, 2673], [4699, 4387, 7470], [1091, 8732, 5547], [381, 5743, 8828]])
_A6 = np.array(
    [[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14]]
)
_P6 = 1e-4 * np.array(
    [
        [1312, 1696, 5569, 124, 8283, 5886],
        [2329, 4135, 8307, 3736, 1004, 9991],
        [2348, 1451, 3522, 2883, 3047, 6650],
        [4047, 8828, 8732, 5743, 1091, 381],
    ]
)


def branin() -> SyntheticObjective:
    """Returns Branin's function, with three global minima of 10 / (8 pi) = 0.397887...

    (x2 - 5.1 / (4 pi^2) x1^2 + 5 / pi x1 - 6)^2 + 10 (1 - 1 / (8 pi)) cos x1 + 10 on [-5, 10] x [0, 15].

    Returns:
        A `SyntheticObjective` with the Floats `x1` and `x2`.

    Example:
        >>> from bojax import objectives
        >>> f = objectives.branin()
        >>> round(f.evaluate({"x1": 0.0, "x2": 0.0}), 4), round(f.optimum, 4)
        (55.6021, 0.3979)
    """

    def f(x: Array) -> Array:
        ridge = x[1] - 5.1 / (4 * math.pi**2) * x[0] ** 2 + 5 / math.pi * x[0] - 6
        return ridge**2 + 10 * (1 - 1 / (8 * math.pi)) * jnp.cos(x[0]) + 10

    return on_box(
        "branin",
        f,
        bounds=[(-5, 10), (0, 15)],
        optimum=10 / (8 * math.pi),
        optimizers=[(-math.pi, 12.275), (math.pi, 2.275), (3 * math.pi, 2.475)],
    )


def hartmann3() -> SyntheticObjective:
    """Returns the Hartmann function of 3 inputs on the unit cube: -sum_i alpha_i exp(-sum_j A_ij (x_j - P_ij)^2).

    Returns:
        A `SyntheticObjective` with the Floats `x1`, ..., `x3`.

    Example:
        >>> from bojax import objectives
        >>> f = objectives.hartmann3()
        >>> round(f.evaluate({f"x{i}": 0.5 for i in range(1, 4)}), 4), round(f.optimum, 4)
        (-0.628, -3.8628)
    """
    return on_box(
        "hartmann3",
        lambda x: _hartmann(x, _A3, _P3),
        bounds=[(0, 1)] * 3,
        optimum=-3.862779787332663,
        optimizers=[(0.11458887665506896, 0.5556488946169301, 0.8525469846866774)],
    )


def hartmann6() -> SyntheticObjective:
    """Returns the Hartmann function of 6 inputs on the unit cube: -sum_i alpha_i exp(-sum_j A_ij (x_j - P_ij)^2).

    Returns:
        A `SyntheticObjective` with the Floats `x1`, ..., `x6`.

    Example:
        >>> from bojax import objectives
        >>> f = objectives.hartmann6()
        >>> round(f.evaluate({f"x{i}": 0.5 for i in range(1, 7)}), 4), round(f.optimum, 4)
        (-0.5053, -3.3224)
    """
    return on_box(
        "hartmann6",
        lambda x: _hartmann(x, _A6, _P6),
        bounds=[(0, 1)] * 6,
        optimum=-3.322368011415515,
        optimizers=[
            (
                0.20168951100670543,
                0.15001069182345797,
                0.47687397422189703,
                0.2753324304940561,
                0.31165161660011326,
                0.6573005340656204,
            )
        ],
    )


def six_hump_camel() -> SyntheticObjective:
    """Returns the six-hump camel function, with two global minima.

    (4 - 2.1 x1^2 + x1^4 / 3) x1^2 + x1 x2 + (4 x2^2 - 4) x2^2 on [-3, 3] x [-2, 2].

    Returns:
        A `SyntheticObjective` with the Floats `x1` and `x2`.

    Example:
        >>> from bojax import objectives
        >>> f = objectives.six_hump_camel()
        >>> round(f.evaluate({"x1": 0.5, "x2": 0.5}), 4), round(f.optimum, 4)
        (0.374, -1.0316)
    """

    def f(x: Array) -> Array:
        a, b = x[0] ** 2, x[1] ** 2
        return (4 - 2.1 * a + a**2 / 3) * a + x[0] * x[1] + (4 * b - 4) * b

    return on_box(
        "six_hump_camel",
        f,
        bounds=[(-3, 3), (-2, 2)],
        optimum=-1.0316284534898774,
        optimizers=[(0.08984201310031807, -0.7126564030207396), (-0.08984201310031807, 0.7126564030207396)],
    )


def _hartmann(x: Array, A: np.ndarray, P: np.ndarray) -> Array:
    rates, centers, alpha = (jnp.asarray(constant, x.dtype) for constant in (A, P, _ALPHA))
    return -jnp.sum(alpha * jnp.exp(-jnp.sum(rates * (x[None, :] - centers) ** 2, axis=-1)))
