"""What stands under `BayesianOptimization`: results as arrays, and suggestions from a `bojax.Study`."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from bojax._plain import plain_number
from bojax._runtime import host_scope
from bojax.integrations.gpyopt._algorithms import factory_of
from bojax.integrations.gpyopt._designs import random_rows
from bojax.integrations.gpyopt._domain import Domain, value_of
from bojax.integrations.gpyopt._settings import Settings
from bojax.study import Study

SHORTEST = 1e-9
"""Smallest cost of an evaluation that is timed, in seconds: costs must be positive."""


class Rows(NamedTuple):
    """Evaluated points.

    Attributes:
        X: [n, d] the points.
        Y: [n] their values, to be minimized; NaN for a failed evaluation.
        costs: [n] their costs; NaN where unknown.
    """

    X: np.ndarray
    Y: np.ndarray
    costs: np.ndarray

    def joined(self, other: "Rows") -> "Rows":
        """These rows and then those."""
        return Rows(*(np.concatenate(pair) for pair in zip(self, other, strict=True)))


class Campaign:
    """Suggestions for a domain, given evaluated points.

    Args:
        domain: the domain.
        settings: the settings.
        seed: all randomness of the suggestions.
    """

    def __init__(self, domain: Domain, settings: Settings, seed: int) -> None:
        self.domain, self.settings, self.seed = domain, settings, seed
        if domain.arms is not None and settings.evaluator == "thompson_sampling":
            raise ValueError(
                "`evaluator_type` must be 'local_penalization' or 'random' with bandits, got 'thompson_sampling'."
            )
        if domain.arms is not None and settings.model == "RF":
            raise ValueError("`model_type` must be a Gaussian process with bandits, got 'RF'.")
        space, arms = domain.space, None
        if domain.arms is not None:
            arms = np.stack([space.from_params(domain.params(arm, "an arm")) for arm in domain.arms])
        self.algorithm = factory_of(settings, arms)
        self.rng = np.random.default_rng(seed)

    def study(self, rows: Rows) -> Study:
        """A new study that holds evaluated points."""
        study = Study(self.domain.space, seed=self.seed, algorithm=self.algorithm)
        self.record(study, rows)
        return study

    def record(self, study: Study, rows: Rows) -> None:
        """Adds evaluated points to a study."""
        for x, y, cost in zip(*rows, strict=True):
            value, state, known = self.outcome(y, cost)
            study.add(self.domain.params(x, "`X`"), value, state=state, cost=known)

    def outcome(self, y: float, cost: float) -> tuple[float | None, str | None, float | None]:
        """Value, state and cost of an evaluation, as a study takes them."""
        known = float(cost) if self.settings.with_cost and np.isfinite(cost) else None
        return (float(y), None, known) if np.isfinite(y) else (None, "fail", known)

    def suggest(self, study: Study, context: Mapping[str, Any]) -> tuple[np.ndarray, list[Any]]:
        """The next points [q, d], and the trials that hold them."""
        random, q = self.settings.evaluator == "random", self.settings.batch_size
        trials = study.ask(1 if random else q, fixed=context or None)
        X = np.array([self.domain.row(trial.params) for trial in trials])
        if random and q > 1:
            X = np.concatenate([X, random_rows(self.domain, q - 1, self.rng, context)])
        return X, trials

    def is_feasible(self, params: Mapping[str, Any]) -> bool:
        """Whether parameters satisfy the constraints."""
        space = self.domain.space
        with host_scope():
            return not space.constraints or bool(space.is_feasible(jnp.asarray(space.from_params(params))))

    def context(self, given: Any) -> dict[str, Any]:
        """The fixed parameters of a context, by name.

        Raises:
            TypeError: it is no dict.
            ValueError: a name is unknown, a value does not belong to its variable, or the domain has bandits.
        """
        if given is None:
            return {}
        if not isinstance(given, Mapping):
            raise TypeError(f"`context` must be a dict of names and values, got {given!r}.")
        if given and self.domain.arms is not None:
            raise ValueError(f"`context` must be None with bandits, got {dict(given)!r}. Leave arms out of the domain.")
        names = self.domain.names
        for name in given:
            if name not in names:
                raise ValueError(f"`context` must have names of the columns {list(names)}, got {name!r}.")
        return {name: value_of(self.domain.space[name], value, f"`context[{name!r}]`") for name, value in given.items()}

    def points(self, X: Any, name: str) -> np.ndarray:
        """An argument as points [n, d] of the domain.

        Raises:
            ValueError: it has another shape, or a row does not belong to the domain.
        """
        d = len(self.domain.names)
        try:
            X = np.array(X, float)
        except (TypeError, ValueError):
            raise ValueError(f"`{name}` must be an array of numbers [n, {d}], got {X!r}.") from None
        X = X[None] if X.ndim == 1 and d > 1 and len(X) == d else X
        if X.ndim != 2 or X.shape[1] != d:
            raise ValueError(f"`{name}` must be an array of numbers [n, {d}], got the shape {X.shape}.")
        for i, row in enumerate(X):
            if not np.isfinite(row).all():
                raise ValueError(f"`{name}[{i}]` must be finite, got {row.tolist()}.")
            X[i] = self.domain.row(self.domain.params(row, f"`{name}[{i}]`"))
        return X


def values_of(f: Callable[..., Any], X: np.ndarray, num_cores: int) -> list[Any]:
    """What a function of [1, d] arrays returns for each row, by so many threads at a time."""
    if num_cores == 1 or len(X) == 1:
        return [f(row[None].copy()) for row in X]
    with ThreadPoolExecutor(min(num_cores, len(X))) as pool:
        return list(pool.map(lambda row: f(row[None].copy()), X))


def costs_of(cost: Any, X: np.ndarray, seconds: Sequence[float] | None) -> np.ndarray:
    """[n] the costs of evaluated points; NaN where they are unknown.

    Args:
        cost: the argument `cost_withGradients`.
        X: [n, d] the points.
        seconds: how long the evaluations took; None if that is unknown.

    Raises:
        ValueError: a cost is not positive.
        TypeError: the function returns no number.
    """
    timed = isinstance(cost, str)
    if cost is None or (timed and seconds is None):
        return np.full(len(X), np.nan)
    if timed:
        return np.maximum(np.array(seconds, float), SHORTEST)
    found = values_of(cost, X, 1)
    costs = [as_number(each[0] if isinstance(each, tuple) else each, "`cost_withGradients`") for each in found]
    wrong = next((i for i, each in enumerate(costs) if not (np.isfinite(each) and each > 0)), None)
    if wrong is not None:
        raise ValueError(f"`cost_withGradients` must be positive, got {costs[wrong]} at {X[wrong].tolist()}.")
    return np.array(costs)


def as_number(result: Any, what: str) -> float:
    """A number, or an array or list that holds one.

    Raises:
        TypeError: it is something else. The message begins with `what`.
    """
    found = plain_number(result)
    if not isinstance(found, str | bytes):
        try:
            array = np.asarray(found)
            if array.size == 1 and array.dtype.kind in "biuf":
                return float(array.reshape(-1)[0])
        except (TypeError, ValueError):
            pass
    raise TypeError(f"{what} must return one number for an array [1, d]: a float or an array [1, 1], got {result!r}.")


def values_array(Y: Any, count: int) -> np.ndarray:
    """The argument `Y` as [n].

    Raises:
        ValueError: it does not have one number for each row of `X`.
    """
    try:
        values = np.array(Y, float)
    except (TypeError, ValueError):
        raise ValueError(f"`Y` must be an array of numbers [n, 1], got {Y!r}.") from None
    if values.ndim not in (1, 2) or values.size != count or (values.ndim == 2 and values.shape[1] != 1):
        raise ValueError(f"`Y` must have one value for each of the {count} rows of `X`, got the shape {values.shape}.")
    return values.reshape(-1)
