"""Cheap evaluations first: utility per cost.

    log u(x) - a log cost(x)

With a = 1 the expected improvement per unit of cost is maximised (Snoek, Larochelle, Adams 2012, arXiv:1206.2944). That
never looks at expensive points while cheap ones promise anything; with a budget the exponent cools as it is spent,
a = 1 - spent / budget, so that the last evaluations go where improvement is largest at any cost (Lee, Perrone,
Archambeau, Seeger 2020, arXiv:2003.10870).
"""

from typing import Any

import jax.numpy as jnp

from bojax.acquisition._analytic import AcquisitionFn
from bojax.acquisition._batch import BatchAcquisition
from bojax.acquisition._weighted import LogWeight, weighted


def per_cost(
    acquisition: AcquisitionFn | BatchAcquisition,
    log_cost: LogWeight,
    *,
    exponent: Any = 1.0,
    budget: float | None = None,
) -> BatchAcquisition:
    """An acquisition divided by a power of the cost of an evaluation.

    Args:
        acquisition: what to weigh.
        log_cost: maps [k, d] points of the cube to natural logarithms [k] of their costs.
        exponent: the power, a number or an array [] that depends on the state of a study; 0 ignores the cost.
        budget: total cost that may be spent, > 0. The exponent falls in proportion to what is left of it; the cost of
            the observed points counts as spent (failed evaluations are not among them).

    Raises:
        ValueError: `budget` is not positive.

    Example:
        >>> import bojax
        >>> from bojax.acquisition import batch_log_ei, per_cost
        >>> acquisition = per_cost(batch_log_ei(), lambda X: 3.0 * X[:, 0], budget=100.0)
        >>> algorithm = bojax.bayesopt(bojax.Space(x=bojax.Float(0.0, 1.0)), acquisition=acquisition)
    """
    if budget is not None and not budget > 0:
        raise ValueError(f"`budget` must be positive, got {budget}.")

    def scale(context):
        power = jnp.asarray(exponent, context.best_f.dtype)
        if budget is None:
            return power
        spent = jnp.sum(jnp.where(context.mask, jnp.exp(log_cost(context.X)), 0.0))
        return power * cooled(spent, budget)

    return weighted(acquisition, lambda X: -log_cost(X), scale=scale)


def cooled(spent: Any, budget: float) -> Any:
    """The share of a budget that is left.

    Args:
        spent: cost spent so far, >= 0.
        budget: total cost that may be spent, > 0.

    Returns:
        1 - spent / budget, in [0, 1].

    Example:
        >>> float(cooled(25.0, 100.0))
        0.75
    """
    return jnp.clip(1.0 - spent / budget, 0.0, 1.0)
