"""Hyperopt's errors under their names; all are errors of bojax, too."""

from bojax._errors import BojaxError


class BadSearchSpace(BojaxError, ValueError):
    """A search space cannot be searched."""


class DuplicateLabel(BadSearchSpace):
    """Two hyperparameters of a search space have the same label."""


class InvalidTrial(BojaxError, ValueError):
    """A document that was given as a trial lacks what a trial has."""


class InvalidResultStatus(BojaxError, ValueError):
    """The `status` of a result is not one of `STATUS_STRINGS`."""


class InvalidLoss(BojaxError, ValueError):
    """A result with status "ok" has no `loss` that is a number."""


class AllTrialsFailed(BojaxError):
    """No trial has a loss, so there is no best one."""
