"""What a searcher for Ray Tune is given, checked, and what a trial reports."""

from collections.abc import Mapping
from typing import Any


def check_goal(metric: Any, mode: Any) -> None:
    """Raises ValueError or TypeError for a wrong metric or mode."""
    for name, value in (("metric", metric), ("mode", mode)):
        if isinstance(value, list | tuple):
            raise ValueError(f"`{name}` must be one, got {value!r}. Report one number that weighs the others.")
    if metric is not None and not isinstance(metric, str):
        raise TypeError(f"`metric` must be a name, got {metric!r}.")
    if mode not in (None, "min", "max"):
        raise ValueError(f'`mode` must be "min" or "max", got {mode!r}.')


def check_settings(seed: Any, algorithm: Any) -> None:
    """Raises ValueError or TypeError for a wrong seed or algorithm."""
    if seed is not None and (isinstance(seed, bool) or not hasattr(seed, "__index__") or not 0 <= int(seed) < 2**32):
        raise ValueError(f"`seed` must be a whole number of at least 0 and below 2**32, or None, got {seed!r}.")
    if algorithm is not None and not callable(algorithm):
        raise TypeError(f"`algorithm` must be a function of (space, q), got {algorithm!r}.")


def checked_points(points: Any, rewards: Any) -> list[dict[str, Any]]:
    """The points to evaluate, or an error that names what is wrong with them or their values."""
    if points is None and rewards is not None:
        raise ValueError("`evaluated_rewards` must come with `points_to_evaluate`, got none.")
    if points is None:
        return []
    if not isinstance(points, list | tuple) or not all(isinstance(point, Mapping) for point in points):
        raise TypeError(f"`points_to_evaluate` must be a list of configurations (dicts), got {points!r}.")
    if rewards is not None and (not isinstance(rewards, list | tuple) or len(rewards) != len(points)):
        raise ValueError(f"`evaluated_rewards` must be a list of {len(points)} numbers, one a point, got {rewards!r}.")
    return [dict(point) for point in points]


def reported(result: Mapping[str, Any] | None, metric: str | None) -> Any:
    """The metric in a reported dict, nested or with paths as keys; None if it is not there."""
    if not result or metric is None:
        return None
    if metric in result:
        return result[metric]
    inside: Any = result
    for part in metric.split("/"):
        inside = inside.get(part) if isinstance(inside, Mapping) else None
    return inside
