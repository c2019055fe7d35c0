"""Evaluations in threads of this process."""

from collections.abc import Callable
from typing import Any

from bojax._runtime import as_user, user_settings
from bojax.study.running._optimize import outcome_of
from bojax.study.running._workers import Evaluator


class InThread:
    """Calls an objective in the thread of its worker, with the caller's settings of JAX. It cannot be ended.

    Args:
        objective: the objective.
        catch: exceptions that make a failed trial.
    """

    can_end, usable = False, True

    def __init__(self, objective: Callable[..., Any], catch: tuple[type[BaseException], ...]):
        self._objective, self._catch, self._settings = objective, catch, user_settings()

    def start(self) -> None:
        """Does nothing."""

    def evaluate(self, params: dict[str, Any]) -> Any:
        """What the objective returns, or a `Failure`."""
        with as_user(self._settings):
            return outcome_of(self._objective, params, self._catch)

    def end(self, at_once: bool) -> None:
        """Does nothing."""


def threads(objective: Callable[..., Any], catch: tuple[type[BaseException], ...]) -> Callable[[], Evaluator]:
    """A function that makes evaluators in threads."""
    return lambda: InThread(objective, catch)
