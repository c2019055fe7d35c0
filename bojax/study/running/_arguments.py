"""The arguments of a loop over an objective, checked before anything is evaluated or stored."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from bojax._plain import plain, plain_number
from bojax.study._checks import DIRECTIONS
from bojax.study.running._failures import MAX_FIRST_FAILURES

WORKERS = ("thread", "process")
"""Where trials can be evaluated beside the calling thread."""


class LoopArguments(NamedTuple):
    """The arguments that `minimize`, `Study.optimize` and `tune` have in common, checked and in one form.

    Attributes:
        num_trials: number of evaluations; None for no limit.
        batch_size: number of trials chosen jointly.
        progress: whether to show progress.
        callbacks: called as `callback(study, trial)` after each trial.
        timeout: seconds after which no further evaluation starts; infinity for no limit.
        max_first_failures: number of exceptions at the start that ends the loop; None for no limit.
        catch: exceptions that make a failed trial.
        vectorized: whether one call evaluates a whole batch.
        num_workers: number of trials that are evaluated side by side.
        worker: "thread" or "process"; None where the calling thread evaluates.
        trial_timeout: seconds after which an evaluation has failed; infinity for no limit.
    """

    num_trials: int | None
    batch_size: int
    progress: bool
    callbacks: tuple[Callable[..., Any], ...]
    timeout: float
    max_first_failures: int | None
    catch: tuple[type[BaseException], ...]
    vectorized: bool
    num_workers: int
    worker: str | None
    trial_timeout: float


_DEFAULTS = {"max_first_failures": MAX_FIRST_FAILURES, "catch": (Exception,), "vectorized": False, "num_workers": 1}
"""Arguments that not every loop has."""


def check_loop(given: Mapping[str, Any]) -> LoopArguments:
    """The arguments of a loop, checked and in one form.

    Args:
        given: all arguments of the calling function by name: its `locals()`, before anything else is defined there.

    Raises:
        ValueError, TypeError: one of them is wrong.
    """
    loop = LoopArguments(**{name: given.get(name, _DEFAULTS.get(name)) for name in LoopArguments._fields})
    if loop.num_trials is not None:
        check_count("num_trials", loop.num_trials, 0)
    check_count("batch_size", loop.batch_size, 1)
    if loop.max_first_failures is not None:
        check_count("max_first_failures", loop.max_first_failures, 1)
    check_flag("progress", loop.progress)
    check_flag("vectorized", loop.vectorized)
    check_count("num_workers", loop.num_workers, 1)
    return LoopArguments(
        num_trials=plain(loop.num_trials),
        batch_size=plain(loop.batch_size),
        progress=bool(loop.progress),
        callbacks=_to_callbacks(loop.callbacks),
        timeout=_to_seconds("timeout", loop.timeout),
        max_first_failures=plain(loop.max_first_failures),
        catch=_to_exceptions(loop.catch),
        vectorized=bool(loop.vectorized),
        num_workers=plain(loop.num_workers),
        worker=_checked_worker(loop),
        trial_timeout=_to_seconds("trial_timeout", loop.trial_timeout, may_be_zero=False),
    )


def check_end(loop: LoopArguments, cardinality: int | None) -> None:
    """Raises ValueError for a loop that nothing can end.

    Args:
        loop: the arguments.
        cardinality: number of points of the space; None if it is not finite.
    """
    if loop.num_trials is None and loop.timeout == math.inf and not loop.callbacks and cardinality is None:
        raise ValueError(
            "`num_trials=None` never ends here. Give a `timeout` in seconds, or a callback that calls `study.stop()`."
        )


def check_count(name: str, value: Any, low: int) -> None:
    """Raises ValueError unless it is an integer of at least `low`."""
    value = plain(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise ValueError(f"`{name}` must be an integer of at least {low}, got {value!r}.")


def check_flag(name: str, value: Any) -> None:
    """Raises TypeError unless it is True or False."""
    if not isinstance(plain(value), bool):
        raise TypeError(f"`{name}` must be True or False, got {value!r}.")


def checked_direction(direction: Any) -> str:
    """The direction; raises ValueError unless it is "minimize" or "maximize"."""
    if not isinstance(direction, str) or direction not in DIRECTIONS:
        raise ValueError(f'`direction` must be "minimize" or "maximize", got {direction!r}.')
    return direction


def _checked_worker(loop: LoopArguments) -> str | None:
    """Where trials are evaluated; None for the calling thread."""
    if loop.worker not in (None, *WORKERS):
        raise ValueError(f'`worker` must be "thread", "process" or None, got {loop.worker!r}.')
    if loop.worker is None and plain(loop.num_workers) == 1 and loop.trial_timeout is None:
        return None
    if loop.vectorized:
        raise ValueError(
            "`vectorized` must be False where `num_workers`, `worker` or `trial_timeout` is given: a vectorized call "
            "evaluates a whole batch, and there is nothing to evaluate beside it."
        )
    return WORKERS[0] if loop.worker is None else loop.worker


def _to_callbacks(callbacks: Any) -> tuple[Callable[..., Any], ...]:
    """A tuple of functions, from one function, several, or None."""
    if callbacks is None:
        return ()
    given = (callbacks,) if callable(callbacks) else _to_tuple(callbacks)
    for callback in given:
        if not callable(callback):
            raise TypeError(
                f"`callbacks` must be functions of (study, trial), got {callback!r}. "
                "For example: callbacks=[lambda study, trial: print(trial.value)]."
            )
    return given


def _to_exceptions(catch: Any) -> tuple[type[BaseException], ...]:
    """A tuple of exception types, from one type or several."""
    given = (catch,) if isinstance(catch, type) else _to_tuple(catch)
    for kind in given:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise TypeError(
                f"`catch` must be types of exceptions, got {kind!r}. For example: catch=(ValueError, MemoryError), or "
                "catch=() for none."
            )
    return given


def _to_tuple(value: Any) -> tuple[Any, ...]:
    several = isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping)
    return tuple(value) if several else (value,)


def _to_seconds(name: str, timeout: Any, *, may_be_zero: bool = True) -> float:
    if timeout is None:
        return math.inf
    timeout = plain_number(timeout)
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise TypeError(f"`{name}` must be a number of seconds or None, got {timeout!r}.")
    seconds = float(timeout)
    if not (seconds >= 0.0 if may_be_zero else seconds > 0.0):  # refuses NaN too
        bound = "at least" if may_be_zero else "more than"
        raise ValueError(f"`{name}` must be {bound} 0 seconds, got {timeout!r}. Write None for no limit.")
    return seconds
