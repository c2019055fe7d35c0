"""Annealing: draws from the distributions of a space, in a window around good trials that shrinks.

A good trial is picked by its rank, with geometric probabilities, and each value is drawn near its own. After T trials
that use a label, the window is 1 / (1 + c T) of the range or of the standard deviation, and a choice is drawn anew with
probability 1 / (1 + c T).

Source: the documentation of Hyperopt's `anneal`, in Bergstra, Yamins, Cox (2013), "Hyperopt: a Python library for
optimizing the hyperparameters of machine learning algorithms".
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from bojax.integrations._hyperopt._expressions import Choice, Draw, evaluate
from bojax.integrations._hyperopt._forms import Forms, drawn
from bojax.integrations._hyperopt._priors import Prior, limits, value_of


def draw_near_good(
    forms: Forms, ranked: Sequence[dict[str, Any]], rng: np.random.Generator, *, mean_rank: float, shrinking: float
) -> dict[str, Any]:
    """A random point near a good one: the values of the labels that it uses.

    Args:
        forms: the search space.
        ranked: values by label of earlier trials, the best one first.
        rng: the generator.
        mean_rank: mean rank of the trial that is picked, counted from 1; >= 1.
        shrinking: how fast windows shrink; > 0.
    """
    good = ranked[min(int(rng.geometric(1 / mean_rank)), len(ranked)) - 1] if ranked else {}
    vals = {}
    for label, (node, _) in forms.labels.items():
        count = sum(label in values for values in ranked)
        near = label in good and label not in forms.constants
        vals[label] = _near(node, good[label], 1 / (1 + shrinking * count), rng) if near else drawn(node, rng)
    _, used = evaluate(forms.expression, vals)
    return {label: vals[label] for label in forms.labels if label in used}


def _near(node: Draw | Choice, value: Any, window: float, rng: np.random.Generator) -> Any:
    if isinstance(node, Choice):
        return drawn(node, rng) if rng.uniform() < window else int(value)
    prior, (low, high) = node.prior, limits(node.prior)
    center = min(max(_raw(prior, value), low), high)
    if prior.base == "normal":
        number = float(np.clip(rng.normal(center, prior.second * window), low, high))
    elif prior.base == "integer":
        half = window * (high - low) / 2
        number = float(np.round(np.clip(rng.uniform(center - half - 0.5, center + half + 0.5), low, high)))
    else:
        half = window * (high - low) / 2
        center = min(max(center, low + half), high - half)
        number = float(np.clip(rng.uniform(center - half, center + half), low, high))
    return value_of(prior, math.exp(number) if prior.log else number)


def _raw(prior: Prior, value: Any) -> float:
    """The draw that a value stands for; of 0 on a logarithmic scale the largest that is rounded to it."""
    if not prior.log:
        return float(value)
    return math.log(max(float(value), (prior.q or 0.0) / 2))
