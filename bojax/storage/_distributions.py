"""Conversion of a space to Optuna's distributions."""

from collections.abc import Collection
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from bojax.space import Categorical, Float, Int, Ordinal, Space


def to_distributions(space: Space, names: Collection[str] | None = None) -> dict[str, BaseDistribution]:
    """Convert a space to Optuna's distributions.

    Args:
        space: the space. Ordinals become categorical distributions.
        names: the parameters to convert, such as those that exist at a point; all by default.

    Returns:
        A dict of distributions by parameter name.

    Example:
        >>> import bojax
        >>> to_distributions(bojax.Space(x=bojax.Float(0.0, 1.0)))
        {'x': FloatDistribution(high=1.0, log=False, low=0.0, step=None)}
    """
    return {name: _to_distribution(space[name]) for name in space.names if names is None or name in names}


def _to_distribution(parameter: Any) -> BaseDistribution:
    match parameter:
        case Float():
            # Optuna has no steps on a log scale, and none that miss `high` by a rounding error. It only has to accept
            # the values; the specification of the space keeps the scale.
            step = parameter.step if parameter.meets_high else None
            return FloatDistribution(parameter.low, parameter.high, log=parameter.log and not step, step=step)
        case Int():
            log = parameter.log and parameter.step == 1
            return IntDistribution(parameter.low, parameter.high, log=log, step=parameter.step)
        case Categorical():
            return CategoricalDistribution(parameter.choices)
        case Ordinal():
            return CategoricalDistribution(parameter.values)
        case _:
            raise TypeError(f"a study cannot store a parameter of type {type(parameter).__name__}.")
