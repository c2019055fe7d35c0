"""`SyntheticObjective`: a function to be minimized, with its space, its optimum and the points that reach it."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from bojax._types import Array
from bojax.space import Float, Space


@dataclasses.dataclass(frozen=True, eq=False)
class SyntheticObjective:
    """A synthetic function f, to be minimized. It is not a pytree: close over it in compiled code.

    `objective(params)` takes a dict of arrays [...] as `space.decode` gives it and returns values [...] in the dtype
    of the Floats. It is traceable and differentiable in the Floats. The core of bojax maximizes, so give it
    `lambda params: -objective(params)`.

    Attributes:
        name: what the literature calls it, with the number of dimensions where that is free.
        space: its search space.
        fn: the function that `objective(params)` calls.
        optimum: the smallest value of f on `space`.
        optimizers: the points where f is smallest, as dicts of plain Python values (`space.from_params` takes them).

    Example:
        >>> from bojax import objectives
        >>> f = objectives.sphere(2)
        >>> f.evaluate({"x1": 3.0, "x2": 4.0}), f.optimum
        (25.0, 0.0)
    """

    name: str
    space: Space
    fn: Callable[[Mapping[str, Any]], Array]
    optimum: float
    optimizers: tuple[dict[str, Any], ...]

    def __call__(self, params: Mapping[str, Any]) -> Array:
        """Returns f at `params`: a dict of arrays [...] in, values [...] out."""
        return self.fn(params)

    def regret(self, value: Any) -> Any:
        """Returns how far `value` lies above the optimum."""
        return value - self.optimum

    def evaluate(self, params: Mapping[str, Any]) -> float:
        """Returns f at one dict of plain Python values, on the host in float64; checked by the space."""
        arrays = self.space.to_arrays([params])
        with jax.enable_x64(True):
            return float(jax.jit(self.fn)({name: column[0] for name, column in arrays.items()}))


def on_box(
    name: str,
    f: Callable[[Array], Array],
    *,
    bounds: Sequence[tuple[float, float]],
    optimum: float,
    optimizers: Sequence[Sequence[float]],
) -> SyntheticObjective:
    """Returns the objective of a function f: x [d] -> [] on a box, with parameters `x1`, ..., `xd`.

    Args:
        name: its name.
        f: the function of one point; it keeps the dtype of x.
        bounds: (low, high) for each dimension.
        optimum: the smallest value.
        optimizers: the points [d] where f is smallest.
    """
    names = [f"x{i + 1}" for i in range(len(bounds))]
    batched = jnp.vectorize(f, signature="(d)->()")

    def fn(params: Mapping[str, Any]) -> Array:
        columns = jnp.broadcast_arrays(*(params[name] for name in names))
        x = jnp.stack(columns, axis=-1)
        return batched(x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(jnp.result_type(float)))

    return SyntheticObjective(
        name=name,
        space=Space({name: Float(low, high) for name, (low, high) in zip(names, bounds, strict=True)}),
        fn=fn,
        optimum=optimum,
        optimizers=tuple(dict(zip(names, map(float, x), strict=True)) for x in optimizers),
    )
