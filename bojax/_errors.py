"""What bojax says when something is wrong.

Mistakes of the caller raise `ValueError` or `TypeError` on the host, before any work is done; states that only a
running study can reach raise a `BojaxError`. Compiled code cannot raise: it returns a `Status` code beside a finite
fallback, and the host turns the code into a warning or an error.
"""

import enum


class BojaxError(Exception):
    """Base class of the errors that bojax itself raises."""


class SpaceExhaustedError(BojaxError):
    """Every point of a finite search space has been told or is pending."""


class StudyError(BojaxError):
    """A study was asked for something its trials do not allow."""


class NonDifferentiableHyperparameterError(BojaxError):
    """A hyperparameter has no derivative: it is an integer, a boolean or a choice."""


class InertHyperparameterError(BojaxError):
    """A hyperparameter does not reach what is differentiated, so that its hypergradient would be zero in silence."""


class HypergradientError(BojaxError):
    """A hypergradient came out with a status other than ok."""


class BojaxWarning(UserWarning):
    """Base class of the warnings that bojax itself gives."""


class Status(enum.IntEnum):
    """What an `ask` did, as `Info.status` (int32) tells it."""

    OK = 0
    """The suggestion maximises the acquisition on a fitted surrogate."""
    INITIAL = 1
    """The suggestion belongs to the quasi-random initial design."""
    FALLBACK = 2
    """The surrogate was not finite; the suggestion is quasi-random."""
    EXHAUSTED = 3
    """No point is left that is neither told nor pending."""
    OVERFLOW = 4
    """More was told, or is pending, than the buffers hold; `grow` the state."""


STATUS_TEXT = {
    Status.OK: "suggested by the acquisition",
    Status.INITIAL: "initial design",
    Status.FALLBACK: "the surrogate was not finite, so a quasi-random point is suggested",
    Status.EXHAUSTED: "every point of the search space has been told or is pending",
    Status.OVERFLOW: "more was told, or is pending, than the buffers hold",
}
