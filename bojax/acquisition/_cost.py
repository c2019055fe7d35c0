"""Utility per cost.

    log u(x) - a log cost(x)

With a = 1 this maximizes the expected improvement per unit of cost (Snoek, Larochelle, Adams 2012, arXiv:1206.2944),
which rarely evaluates expensive points as long as cheap ones have any expected improvement. With a budget the exponent
cools as the budget is spent, a = 1 - spent / budget, so that the last evaluations maximize the improvement regardless
of cost (Lee, Perrone, Archambeau, Seeger 2020, arXiv:2003.10870).
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
    """Divide an acquisition by a power of the cost of an evaluation.

    With utility u the value is log u(x) - a log cost(x), where a = exponent (1 - spent / budget).

    Args:
        acquisition: the acquisition to weight, a `BatchAcquisition` or a function of single points.
        log_cost: maps [k, d] points of the cube to natural logarithms [k] of their costs.
        exponent: the power, a number or an array [] that depends on the state of a study. The default, 1, gives utility
            per unit of cost; 0 ignores the cost.
        budget: total cost that may be spent, > 0, in the units of the cost. The exponent falls to 0 as it is spent. The
            modeled cost of all observed points except failed ones counts as spent. By default the exponent is constant.

    Returns:
        A `BatchAcquisition` with `in_logs` True.

    Raises:
        ValueError: `budget` is not positive.

    Example:
        >>> import bojax
        >>> from bojax.acquisition import batch_log_ei, per_cost
        >>> acquisition = per_cost(batch_log_ei(), lambda X: 3.0 * X[:, 0], budget=100.0)
        >>> bojax.bayesopt(bojax.Space(x=bojax.Float(0.0, 1.0)), q=2, acquisition=acquisition).q
        2

    Source: Snoek, Larochelle, Adams (2012), arXiv:1206.2944; for the budget Lee, Perrone, Archambeau, Seeger (2020),
    arXiv:2003.10870.
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
    """Remaining fraction of a budget.

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
