"""A suggestion as a pure function of seed, ordinal, reported data and pending points."""

import functools
import inspect
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from bojax._background import before_threads
from bojax._errors import Status
from bojax._runtime import host_scope
from bojax._threefry import random_bits
from bojax.data import Told, next_capacity, unread_column
from bojax.space import Space
from bojax.study.asking._anchors import Anchors, Fit, anchor
from bojax.study.asking._job import AlgorithmFactory, Job, Params, capacity_for, job_of, seed_words


@before_threads()
def suggest(
    algorithm: AlgorithmFactory | None,
    space: Space,
    q: int = 1,
    *,
    seed: int,
    ordinal: int,
    told: Told,
    held: np.ndarray | None = None,
    num_initial: int = 0,
) -> tuple[list[dict[str, Any]], Status]:
    """Up to q suggestions, fewer only if a finite space is exhausted, and their status.

    A pure function of its arguments, for tools that keep their trials themselves. The initial design depends only on
    the seed, so it continues where it stopped. The randomness of a suggestion depends on seed and ordinal. The design
    is computed on the host. While it is evaluated, the first program is compiled, and each larger one before it is
    needed. Spaces of one size class share the programs of an algorithm that works on any lattice.

    Args:
        algorithm: a function from (space, q) to the algorithm; None for `bojax.bayesopt`.
        space: the search space.
        q: number of points chosen jointly, >= 1.
        seed: 0 <= seed < 2**32, the seed of the study.
        ordinal: number of earlier trials, >= 0.
        told: the reported data, in the order of the trials, and the pending points.
        held: [d] fixed coordinates of all points, NaN where a parameter is free. An algorithm whose `ask` has no
            argument `held` chooses as if all were free, and its choices are overwritten.
        num_initial: the points of the initial design, at least: while fewer are reported or pending, the algorithm is
            not asked. 0 leaves it to the algorithm, which may have an initial design of its own.

    Returns:
        The suggestions as plain Python values by name, and a `bojax.Status`.

    Raises:
        ValueError: the algorithm returns points of another shape.

    Example:
        >>> import bojax, numpy as np
        >>> space = bojax.Space(x=bojax.Float(-1.0, 1.0))
        >>> X = np.array([[0.1], [0.4], [0.6], [0.9]])
        >>> told = bojax.data.Told(X, y=-((X[:, 0] - 0.5) ** 2), pending=X[:0])
        >>> suggested, status = suggest(None, space, seed=0, ordinal=4, told=told)
        >>> abs(suggested[0]["x"]) < 0.1, status.name
        (True, 'OK')
    """
    algorithm = bayesopt if algorithm is None else algorithm
    job = job_of(algorithm, space, q)
    request = _Request(job, seed, ordinal, held if takes_held(algorithm, space, q) else None)
    shift = random_bits(seed_words(seed), space.num_dims)
    host, begin = (getattr(job.algorithm, name, None) for name in ("host", "begin"))
    if len(told.y) + len(told.pending) < num_initial:
        begin = _longer_design(space, q, num_initial)
    design = None if begin is None else begin(shift, told, request.held)
    if design is None:
        asked = _asked(request, told) if host is None else host.ask((seed, ordinal), shift, told, request.held)
        rows, valid, status = asked
        if rows.shape[0] != q or (job.lattice is None and rows.shape != (q, space.num_dims)):
            raise ValueError(
                f"the algorithm gave points of shape {rows.shape}, but ({q}, {space.num_dims}) was asked for. "
                "`algorithm` must be a function of (space, q)."
            )
        rows = rows[:, : space.num_dims]
    else:
        rows, valid = design
        status = Status.INITIAL if valid.all() else Status.EXHAUSTED
        if host is None:
            _compile_ahead(request, told, capacity_for(len(told.y) + q))
    if held is not None:
        rows = np.where(np.isnan(held), rows, held)
    return [space.to_params(row) for row in rows[valid]], Status(int(status))


@functools.lru_cache(maxsize=64)
def _longer_design(space: Space, q: int, num_initial: int) -> Any:
    """`Algorithm.begin` with that number of points."""
    from bojax import loop

    with host_scope():
        return loop.bayesopt(space, q=q, num_initial=num_initial).begin


class _Request(NamedTuple):
    """What is asked of which program, but for the data."""

    job: Job
    seed: int
    ordinal: int
    held: np.ndarray | None

    def run(self, told: Told, capacity: int, start: Params | None = None) -> tuple[np.ndarray, ...]:
        """The results of the program of `ask`."""
        with host_scope():
            arguments = self.job.ask_arguments(self.seed, self.ordinal, told, capacity, self.held, start)
            return tuple(map(np.asarray, self.job.ask(*arguments)))


def _asked(request: _Request, told: Told) -> tuple[np.ndarray, np.ndarray, Status]:
    """Points, which of them are suggestions, and the status."""
    count = len(told.y)
    capacity = capacity_for(count)
    larger, resumes, at = capacity_for(capacity + 1), request.job.lattice is not None, anchor(count)
    start = _ANCHORS.get(*_anchored(request, told, at, capacity)) if resumes and at else None
    rows, valid, status, *_ = request.run(told, capacity, start)
    if 3 * count >= 2 * capacity:
        _compile_ahead(request, told, larger)
    if resumes and anchor(capacity + 1) == count:
        _ANCHORS.ahead(*_anchored(request, told, count, larger))
    return rows, valid, Status(int(status))


def _anchored(request: _Request, told: Told, at: int, capacity: int) -> tuple[Any, Told, Fit]:
    """The fit from scratch to the first `at` trials: what it is of, its data, and how it is made."""
    before = Told(told.X[:at], told.y[:at], told.X[:0], {name: c[:at] for name, c in told.columns.items()})
    scratch = request._replace(ordinal=0, held=None)
    return (request.job.ask, request.seed, request.job.space), before, lambda told: scratch.run(told, capacity)[3:]


_ANCHORS = Anchors()


def _compile_ahead(request: _Request, told: Told, capacity: int) -> None:
    """Let the program of a capacity be compiled while the objective is evaluated."""
    fewer = told._replace(X=told.X[:0], y=told.y[:0], columns={name: c[:0] for name, c in told.columns.items()})
    with host_scope():
        request.job.ask.ahead(*request.job.ask_arguments(request.seed, 0, fewer, capacity, request.held))


def takes_held(algorithm: AlgorithmFactory, space: Space, q: int) -> bool:
    """Whether the algorithm accounts for held parameters."""
    return _takes_held(job_of(algorithm, space, q).algorithm.ask)


@functools.lru_cache(maxsize=64)
def _takes_held(ask: Any) -> bool:
    try:
        return "held" in inspect.signature(ask).parameters
    except ValueError:  # not every callable has a signature
        return False


def may_repeat(algorithm: AlgorithmFactory, space: Space) -> bool:
    """Whether the algorithm may suggest a point again, so that a finite space is never exhausted."""
    return bool(getattr(job_of(algorithm, space, 1).algorithm, "repeats", False))


def bayesopt(space: Space, q: int) -> Any:
    """The default algorithm."""
    from bojax import loop

    return loop.bayesopt(space, q=q)


def gradient_bayesopt(space: Space, q: int) -> Any:
    """The default algorithm for reported gradients."""
    from bojax import loop

    return loop.gradient_bayesopt(space, q=q)


def unread(algorithm: AlgorithmFactory, space: Space, told: Iterable[str]) -> list[str]:
    """Which of these columns the algorithm does not use; none if it does not declare its columns."""
    told = list(told)
    kept = getattr(job_of(algorithm, space, 1).algorithm, "columns", None) if told else None
    return [] if kept is None else [name for name in told if name not in kept]


def check_read(algorithm: AlgorithmFactory, space: Space, told: Iterable[str]) -> None:
    """Raises ValueError for a column that the algorithm does not use."""
    for name in unread(algorithm, space, told):
        raise ValueError(
            f"{unread_column(name)} Give it to the study by `algorithm`, or record it as a user attribute."
        )


def predicted(
    algorithm: AlgorithmFactory, space: Space, seed: int, told: Told, X: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean [k] and standard deviation [k] of what is maximized at points [k, d], by the algorithm's surrogate.

    For an algorithm without a surrogate it is that of the default algorithm.
    """
    job = job_of(algorithm, space, 1)
    host = getattr(job.algorithm, "host", None)
    if host is not None and host.predict is not None:
        return host.predict((seed,), told, X)
    job = job_of(bayesopt, space, 1) if job.predict is None else job
    predict: Any = job.predict
    padded = np.full((next_capacity(len(X)), X.shape[1]), 0.5)  # few sizes, so few programs are compiled
    padded[: len(X)] = X
    with host_scope():
        mean, std = predict(*job.predict_arguments(seed, told, capacity_for(len(told.y)), padded))
        return np.asarray(mean)[: len(X)], np.asarray(std)[: len(X)]
