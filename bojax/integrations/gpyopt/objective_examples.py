"""The test functions of GPyOpt's examples, under the names that its scripts use.

    experiments1d    forrester
    experiments2d    beale, branin, cosines, dropwave, eggholder, goldstein, mccormick, powers, rosenbrock, sixhumpcamel
    experimentsNd    ackley, alpine1, alpine2

Each is a class: `branin(sd=0.1).f(X)` gives [n, 1] values of points [n, d], with normal noise of standard deviation
`sd` from `numpy.random`. `bounds`, `min` and `fmin` hold the box, the points of the minimum and its value. Formulas are
those of Surjanovic and Bingham, Virtual Library of Simulation Experiments (sfu.ca/~ssurjano); `alpine1`, `alpine2` and
`powers` those of Jamil and Yang (2013), arXiv:1308.4008.
"""

import math
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

__all__ = ["TestFunction", "experiments1d", "experiments2d", "experimentsNd"]

Bounds = list[tuple[float, float]]


class TestFunction:
    """A function of arrays [n, d], to be minimized.

    Args:
        function: from [n, d] to [n].
        bounds: (low, high) for each column.
        minimizers: the points of the minimum.
        fmin: the minimum.
        sd: standard deviation of the noise, >= 0; None for none.

    Example:
        >>> sphere = TestFunction(lambda X: (X**2).sum(axis=1), [(-1, 1)] * 2, [(0, 0)], 0.0, None)
        >>> sphere.f([[0.5, 0.5]]).tolist()
        [[0.5]]
    """

    __test__ = False

    def __init__(
        self,
        function: Callable[[np.ndarray], np.ndarray],
        bounds: Bounds,
        minimizers: Sequence[Any],
        fmin: float,
        sd: float | None,
    ) -> None:
        if sd is not None and not sd >= 0:
            raise ValueError(f"`sd` must be at least 0, got {sd!r}.")
        self.function, self.bounds, self.sd = function, list(bounds), 0.0 if sd is None else float(sd)
        self.input_dim, self.min, self.fmin = len(self.bounds), list(minimizers), fmin

    def f(self, X: Any) -> np.ndarray:
        """The values [n, 1] of points [n, d], or of one point [d]."""
        X = np.asarray(X, float)
        X = X.reshape(1, -1) if X.size == self.input_dim else X.reshape(len(X), -1)
        if X.shape[1] != self.input_dim:
            raise ValueError(f"`X` must have shape [n, {self.input_dim}], got {X.shape}.")
        values = self.function(X)[:, None]
        return values + np.random.normal(0.0, self.sd, values.shape) if self.sd else values


def _forrester(X: np.ndarray) -> np.ndarray:
    return (6.0 * X[:, 0] - 2.0) ** 2 * np.sin(12.0 * X[:, 0] - 4.0)


def _forrester_class(sd: float | None = None) -> TestFunction:
    return TestFunction(_forrester, [(0, 1)], [(0.757249,)], -6.02074, sd)


def _beale(X: np.ndarray) -> np.ndarray:
    a, b = X.T
    return (1.5 - a + a * b) ** 2 + (2.25 - a + a * b**2) ** 2 + (2.625 - a + a * b**3) ** 2


def _branin(X: np.ndarray) -> np.ndarray:
    a, b = X.T
    valley = b - 5.1 / (2.0 * math.pi) ** 2 * a**2 + 5.0 / math.pi * a - 6.0
    return valley**2 + (10.0 - 1.25 / math.pi) * np.cos(a) + 10.0


def _cosines(X: np.ndarray) -> np.ndarray:
    Z = 1.6 * X - 0.5
    return np.sum(Z**2 - 0.3 * np.cos(3.0 * math.pi * Z), axis=1) - 1.0


def _dropwave(X: np.ndarray) -> np.ndarray:
    r2 = np.sum(X**2, axis=1)
    return -(1.0 + np.cos(12.0 * np.sqrt(r2))) / (0.5 * r2 + 2.0)


def _eggholder(X: np.ndarray) -> np.ndarray:
    a, b = X[:, 0], X[:, 1] + 47.0
    return -b * np.sin(np.sqrt(np.abs(b + a / 2.0))) - a * np.sin(np.sqrt(np.abs(a - b)))


def _goldstein(X: np.ndarray) -> np.ndarray:
    a, b = X.T
    first = 19 - 14 * a + 3 * a**2 - 14 * b + 6 * a * b + 3 * b**2
    second = 18 - 32 * a + 12 * a**2 + 48 * b - 36 * a * b + 27 * b**2
    return (1.0 + (a + b + 1.0) ** 2 * first) * (30.0 + (2.0 * a - 3.0 * b) ** 2 * second)


def _mccormick(X: np.ndarray) -> np.ndarray:
    a, b = X.T
    return np.sin(a + b) + (a - b) ** 2 - 1.5 * a + 2.5 * b + 1.0


def _powers(X: np.ndarray) -> np.ndarray:
    return np.sum(np.abs(X) ** np.arange(2, X.shape[1] + 2), axis=1)


def _rosenbrock(X: np.ndarray) -> np.ndarray:
    a, b = X.T
    return 100.0 * (b - a**2) ** 2 + (a - 1.0) ** 2


def _sixhumpcamel(X: np.ndarray) -> np.ndarray:
    a, b = X.T
    return 4.0 * a**2 - 2.1 * a**4 + a**6 / 3.0 + a * b - 4.0 * b**2 + 4.0 * b**4


_PLANE: dict[str, tuple[Any, Bounds, list[Any], float]] = {
    "beale": (_beale, [(-4.5, 4.5)] * 2, [(3.0, 0.5)], 0.0),
    "branin": (
        *(_branin, [(-5, 10), (1, 15)]),
        *([(-math.pi, 12.275), (math.pi, 2.275), (3 * math.pi, 2.475)], 1.25 / math.pi),
    ),
    "cosines": (_cosines, [(0, 1)] * 2, [(0.3125, 0.3125)], -1.6),
    "dropwave": (_dropwave, [(-1, 1)] * 2, [(0.0, 0.0)], -1.0),
    "eggholder": (_eggholder, [(-512, 512)] * 2, [(512.0, 404.2319)], -959.6407),
    "goldstein": (_goldstein, [(-2, 2)] * 2, [(0.0, -1.0)], 3.0),
    "mccormick": (_mccormick, [(-1.5, 4), (-3, 4)], [(-0.54719755, -1.54719755)], -1.91322295),
    "powers": (_powers, [(-1, 1)] * 2, [(0.0, 0.0)], 0.0),
    "rosenbrock": (_rosenbrock, [(-0.5, 3), (-1.5, 2)], [(1.0, 1.0)], 0.0),
    "sixhumpcamel": (_sixhumpcamel, [(-2, 2), (-1, 1)], [(0.089842, -0.712656), (-0.089842, 0.712656)], -1.03162845),
}
"""Function, box, minimizers and minimum of the functions of two inputs."""


def _on_plane(name: str) -> Callable[..., TestFunction]:
    function, box, minimizers, fmin = _PLANE[name]

    def make(bounds: Bounds | None = None, sd: float | None = None) -> TestFunction:
        return TestFunction(function, box if bounds is None else bounds, minimizers, fmin, sd)

    return make


def _ackley(X: np.ndarray) -> np.ndarray:
    far, waves = np.sqrt(np.mean(X**2, axis=1)), np.mean(np.cos(2.0 * math.pi * X), axis=1)
    return 20.0 + math.e - 20.0 * np.exp(-0.2 * far) - np.exp(waves)


def _alpine1(X: np.ndarray) -> np.ndarray:
    return np.sum(np.abs(X * np.sin(X) + 0.1 * X), axis=1)


def _alpine2(X: np.ndarray) -> np.ndarray:
    return -np.prod(np.sqrt(X) * np.sin(X), axis=1)


def _in_space(function: Any, box: tuple[float, float], minimizer: float, fmin: Callable[[int], float]) -> Any:
    def make(input_dim: int, bounds: Bounds | None = None, sd: float | None = None) -> TestFunction:
        wide = [box] * input_dim if bounds is None else bounds
        return TestFunction(function, wide, [(minimizer,) * input_dim], fmin(input_dim), sd)

    return make


experiments1d = SimpleNamespace(forrester=_forrester_class)
experiments2d = SimpleNamespace(**{name: _on_plane(name) for name in _PLANE})
experimentsNd = SimpleNamespace(
    ackley=_in_space(_ackley, (-32.768, 32.768), 0.0, lambda d: 0.0),
    alpine1=_in_space(_alpine1, (-10, 10), 0.0, lambda d: 0.0),
    alpine2=_in_space(_alpine2, (0, 10), 7.91705268, lambda d: -(2.80813118**d)),
)
