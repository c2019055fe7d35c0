"""Gradients in native units, as users report them, converted to derivatives along the sides of the unit cube."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from bojax.space import Float, Space
from bojax.study._checks import to_float


def checked_gradient(space: Space, grad: Mapping[str, Any]) -> dict[str, float]:
    """The components of a gradient as plain floats, without those that are not finite.

    Raises:
        ValueError: a name is not in the space, or its parameter is not a continuous `Float`.
        TypeError: a component is not a number, or `grad` is not a mapping.
    """
    if not isinstance(grad, Mapping):
        raise TypeError(f"`grad` must map names of Floats to derivatives, got {grad!r} ({type(grad).__name__}).")
    for name in grad:
        if name not in list(space):
            raise ValueError(f"`grad` names {name!r}, which the space does not have; it has {list(space)}.")
        if space[name].num_values:
            raise ValueError(f"`grad` names {name!r}, which is discrete: only Floats without `step` have derivatives.")
    components = {str(name): to_float(value, f"grad[{name!r}]") for name, value in grad.items()}
    return {name: value for name, value in components.items() if math.isfinite(value)}


def cube_gradient(space: Space, params: Mapping[str, Any], grad: Mapping[str, float]) -> np.ndarray:
    """Derivatives along the sides of the unit cube, [d]; NaN where `grad` has no component.

    With u in [0, 1], a parameter is low + (high - low) u, or low (high / low)^u on the log scale.
    """
    out = np.full(space.num_dims, np.nan)
    for i, name in enumerate(space):
        parameter = space[name]
        if name in grad and name in params and isinstance(parameter, Float) and not parameter.num_values:
            log_slope = params[name] * math.log(parameter.high / parameter.low) if parameter.log else 0.0
            out[i] = grad[name] * (log_slope if parameter.log else parameter.high - parameter.low)
    return out
