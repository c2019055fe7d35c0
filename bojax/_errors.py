"""Errors, warnings and status codes.

Mistakes of the caller raise `ValueError` or `TypeError` on the host, before any work is done. States that only a
running study can reach raise a `BojaxError`. Compiled code cannot raise: it returns a `Status` code and a finite
fallback, and the host turns the code into a warning or an error.
"""

import enum


class BojaxError(Exception):
    """Base class of bojax's own errors."""


class SpaceExhaustedError(BojaxError):
    """Every point of a finite search space has been told or is pending."""


class StudyError(BojaxError):
    """A study cannot do what was requested, given its trials or its storage."""


class NonDifferentiableHyperparameterError(BojaxError):
    """A hyperparameter has no derivative: it is an integer, a boolean or a choice."""


class InertHyperparameterError(BojaxError):
    """The differentiated loss does not depend on a hyperparameter, so its hypergradient would always be zero."""


class HypergradientError(BojaxError):
    """A hypergradient has a status other than ok."""


class BojaxWarning(UserWarning):
    """Base class of bojax's own warnings."""


class Status(enum.IntEnum):
    """The outcome of an `ask`, given as int32 in `Info.status`."""

    OK = 0
    """The suggestion maximizes the acquisition on a fitted surrogate."""
    INITIAL = 1
    """The suggestion belongs to the quasi-random initial design."""
    FALLBACK = 2
    """The surrogate was not finite; the suggestion is quasi-random."""
    EXHAUSTED = 3
    """All points have been told or are pending."""
    OVERFLOW = 4
    """More points are told or pending than the buffers hold; `grow` the state."""


STATUS_TEXT = {
    Status.OK: "suggested by the acquisition",
    Status.INITIAL: "initial design",
    Status.FALLBACK: "the surrogate was not finite, so a quasi-random point is suggested",
    Status.EXHAUSTED: "every point of the search space has been told or is pending",
    Status.OVERFLOW: "more was told, or is pending, than the buffers hold",
}
