"""A space as Optuna's storages describe it."""

from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from bojax.space import Categorical, Float, Int, Ordinal, Space


def to_distributions(space: Space) -> dict[str, BaseDistribution]:
    """Optuna's description of a space; an ordinal is a categorical there."""
    return {name: _to_distribution(space[name]) for name in space.names}


def _to_distribution(parameter: Any) -> BaseDistribution:
    match parameter:
        case Float():
            # Optuna knows no steps on a log scale, and none that miss `high` by a rounding error: what matters is that
            # it takes the values. The scale stands in the specification of the space.
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
