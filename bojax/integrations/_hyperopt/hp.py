"""Hyperopt's `hp`: hyperparameters by label, for nested search spaces."""

import math
from collections.abc import Sequence
from typing import Any

from bojax.integrations._hyperopt._errors import BadSearchSpace
from bojax.integrations._hyperopt._expressions import Choice, Draw, Node, checked_number
from bojax.integrations._hyperopt._priors import Prior, check_prior


def choice(label: str, options: Sequence[Any]) -> Node:
    """One of several options, each a constant of any type or a space of its own."""
    options = tuple(options)
    if not options:
        raise BadSearchSpace(f"`options` of {label!r} must not be empty.")
    return Choice(_checked_label(label), options)


def pchoice(label: str, p_options: Sequence[tuple[float, Any]]) -> Node:
    """One of several options with probabilities, given as pairs (probability, option) that sum to 1."""
    pairs = [tuple(pair) for pair in p_options]
    if not pairs or any(len(pair) != 2 for pair in pairs):
        raise BadSearchSpace(f"`p_options` of {label!r} must be pairs (probability, option), got {p_options!r}.")
    weights = tuple(checked_number(p, "probability", label) for p, _ in pairs)
    if min(weights) < 0 or not math.isclose(sum(weights), 1.0, abs_tol=1e-6):
        raise BadSearchSpace(f"the probabilities of {label!r} must not be negative and sum to 1, got {list(weights)}.")
    options = tuple(option for _, option in pairs)
    return Choice(_checked_label(label), options, None if len(set(weights)) == 1 else weights)


def uniform(label: str, low: float, high: float) -> Node:
    """A number between `low` and `high`."""
    return _draw(label, "uniform", low=low, high=high)


def quniform(label: str, low: float, high: float, q: float) -> Node:
    """The multiple of `q` next to a number between `low` and `high`, as a float."""
    return _draw(label, "uniform", low=low, high=high, q=q)


def uniformint(label: str, low: float, high: float, q: float = 1.0) -> Node:
    """A whole number between `low` and `high`, both included."""
    if q != 1:
        raise BadSearchSpace(f"`q` of {label!r} must be 1, got {q}. Use scope.int(hp.quniform(...)).")
    return _draw(label, "uniform", low=low, high=high, q=q, whole=True)


def loguniform(label: str, low: float, high: float) -> Node:
    """exp of a number between `low` and `high`, which are logarithms."""
    return _draw(label, "uniform", low=low, high=high, log=True)


def qloguniform(label: str, low: float, high: float, q: float) -> Node:
    """The multiple of `q` next to exp of a number between `low` and `high`, which are logarithms."""
    return _draw(label, "uniform", low=low, high=high, q=q, log=True)


def normal(label: str, mu: float, sigma: float) -> Node:
    """A normal number, cut at `mu +- 4.89 sigma`."""
    return _draw(label, "normal", mu=mu, sigma=sigma)


def qnormal(label: str, mu: float, sigma: float, q: float) -> Node:
    """The multiple of `q` next to a normal number, which is cut at `mu +- 4.89 sigma`."""
    return _draw(label, "normal", mu=mu, sigma=sigma, q=q)


def lognormal(label: str, mu: float, sigma: float) -> Node:
    """exp of a normal number, which is cut at `mu +- 4.89 sigma`."""
    return _draw(label, "normal", mu=mu, sigma=sigma, log=True)


def qlognormal(label: str, mu: float, sigma: float, q: float) -> Node:
    """The multiple of `q` next to exp of a normal number, which is cut at `mu +- 4.89 sigma`."""
    return _draw(label, "normal", mu=mu, sigma=sigma, q=q, log=True)


def randint(label: str, low: int, high: int | None = None) -> Node:
    """A whole number from `low` to `high - 1`, or from 0 to `low - 1` if `high` is not given."""
    given = {"upper": low} if high is None else {"low": low, "high": high}
    bounds = [checked_number(bound, name, label) for name, bound in given.items()]
    if any(bound != int(bound) for bound in bounds):
        raise BadSearchSpace(f"the bounds of {label!r} must be whole numbers, got {given}.")
    first, last = (0.0, *bounds) if high is None else bounds
    return Draw(_checked_label(label), check_prior(Prior("integer", first, last, whole=True), label))


def _draw(
    label: Any, base: Any, *, q: float | None = None, log: bool = False, whole: bool = False, **bounds: Any
) -> Node:
    first, second = (checked_number(value, name, label) for name, value in bounds.items())
    q = None if q is None else checked_number(q, "q", label)
    return Draw(_checked_label(label), check_prior(Prior(base, first, second, log, q, whole), label))


def _checked_label(label: Any) -> str:
    if not isinstance(label, str) or not label:
        raise TypeError(f"`label` must be a str that is not empty, got {label!r}. The label comes first.")
    return label
