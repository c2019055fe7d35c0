"""The arguments of `fmin`, checked before any work."""

import inspect
import numbers
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from bojax._plain import plain
from bojax.integrations._hyperopt._forms import Forms, params_of


class Limits(NamedTuple):
    """When the loop ends, and what it does on the way: see `fmin`."""

    max_evals: int | None
    timeout: float | None
    loss_threshold: float | None
    early_stop_fn: Callable[..., Any] | None
    max_queue_len: int
    catch: bool


def annotated(fn: Callable[..., Any], space: Any) -> tuple[Callable[[Any], Any], Any]:
    """The function and the space, which may be in the annotations of the function."""
    if not isinstance(space, str):
        return fn, space
    if space != "annotated":
        raise ValueError(f"`space` must be made of hp.*, or be 'annotated', got {space!r}.")
    found = inspect.get_annotations(fn)
    found.pop("return", None)
    return (lambda point: fn(**point)), found


def checked_points(forms: Forms, points: Any) -> list[dict[str, Any]]:
    """The points, if they belong to the space."""
    if points is None:
        return []
    if isinstance(points, Mapping) or not all(isinstance(point, Mapping) for point in points):
        raise TypeError(f"`points_to_evaluate` must be a list of dicts from label to value, got {points!r}.")
    for point in points:
        params_of(forms, point)
    return [{label: plain(value) for label, value in point.items()} for point in points]


def checked_limits(given: Mapping[str, Any]) -> Limits:
    """The limits among the arguments of `fmin`."""
    max_evals, queue = plain(given["max_evals"]), plain(given["max_queue_len"])
    timeout, threshold, stop = plain(given["timeout"]), plain(given["loss_threshold"]), given["early_stop_fn"]
    whole = isinstance(max_evals, int) and not isinstance(max_evals, bool)
    if max_evals is not None and not (whole and max_evals >= 0):
        raise ValueError(f"`max_evals` must be a whole number of at least 0, or None, got {max_evals!r}.")
    if not isinstance(queue, numbers.Integral) or isinstance(queue, bool) or queue < 1:
        raise ValueError(f"`max_queue_len` must be a whole number of at least 1, got {queue!r}.")
    for name, value in (("timeout", timeout), ("loss_threshold", threshold)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, numbers.Real)):
            raise TypeError(f"`{name}` must be a number or None, got {value!r}.")
    if timeout is not None and not timeout > 0:
        raise ValueError(f"`timeout` must be positive, got {timeout!r}.")
    if stop is not None and not callable(stop):
        raise TypeError(f"`early_stop_fn` must be a function of the trials, got {stop!r}.")
    if max_evals is None and timeout is None and threshold is None and stop is None:
        raise ValueError(
            "`max_evals` must be a number where nothing else ends the loop, got None. "
            "Or give `timeout`, `loss_threshold` or `early_stop_fn`."
        )
    return Limits(max_evals, timeout, threshold, stop, int(queue), bool(given["catch_eval_exceptions"]))


def seed_of(rstate: Any, seed: Any) -> int:
    """The seed, drawn from a generator if there is one."""
    seed = plain(seed)
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**32:
        raise ValueError(f"`seed` must be a whole number from 0 to 2**32 - 1, got {seed!r}.")
    if rstate is None:
        return seed
    if seed != 0:
        raise ValueError(f"`seed` must not be given together with `rstate`, got {seed!r}. Drop one.")
    if isinstance(rstate, np.random.Generator):
        return int(rstate.integers(2**31 - 1))
    if isinstance(rstate, np.random.RandomState):
        return int(rstate.randint(2**31 - 1))
    raise TypeError(f"`rstate` must be a NumPy generator, got {rstate!r}. For a number use `seed`.")
