"""Functions for `early_stop_fn`."""

import math
from collections.abc import Callable
from typing import Any


def no_progress_loss(iteration_stop_count: int = 20, percent_increase: float = 0.0) -> Callable[..., Any]:
    """A function for `early_stop_fn` that stops after rounds in which the best loss did not improve.

    Args:
        iteration_stop_count: number of rounds without an improvement, >= 1.
        percent_increase: improvement that counts, in percent of the best loss, >= 0.

    Returns:
        A function of the trials, the best loss so far, and a number of rounds.

    Raises:
        ValueError: a number is out of range.

    Example:
        >>> from bojax.integrations.hyperopt import Trials, fmin, hp
        >>> trials, stop = Trials(), no_progress_loss(4)
        >>> _ = fmin(lambda x: 1.0, hp.uniform("x", 0, 1), trials=trials, early_stop_fn=stop, show_progressbar=False)
        >>> len(trials)
        4
    """
    if iteration_stop_count < 1:
        raise ValueError(f"`iteration_stop_count` must be at least 1, got {iteration_stop_count}.")
    if not percent_increase >= 0:
        raise ValueError(f"`percent_increase` must not be negative, got {percent_increase}.")

    def stop(trials: Any, best: float | None = None, rounds: int = 0) -> tuple[bool, list[Any]]:
        loss = trials.trials[-1]["result"].get("loss") if trials.trials else None
        loss = math.inf if loss is None or math.isnan(loss) else loss
        if best is None:
            return False, [loss, rounds + 1]  # the first round counts, as in Hyperopt
        margin = abs(best) * percent_increase / 100.0 if math.isfinite(best) else 0.0
        if loss < best - margin:
            return False, [loss, 0]
        return rounds + 1 >= iteration_stop_count, [best, rounds + 1]

    return stop
