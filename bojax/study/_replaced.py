"""Trials that another trial of the study replaces: finished trials cannot be changed, so a correction is a new one."""

from collections.abc import Sequence

from optuna.trial import FrozenTrial

CORRECTS = "bojax:corrects"
"""Number of the trial that this trial replaces."""
CARRIED_FROM = "bojax:carried_from"
"""Study and number of the trial of which this one is the copy, in a study whose space was changed."""


def corrections(trials: Sequence[FrozenTrial]) -> dict[int, int]:
    """From the number of every replaced trial to that of the trial that counts in its place.

    Args:
        trials: all trials of a study, by number. Of several corrections of one trial the last one counts.
    """
    origin: dict[int, int] = {}
    latest: dict[int, int] = {}
    for trial in trials:
        target = int(trial.user_attrs.get(CORRECTS, -1))
        if target >= 0:
            origin[trial.number] = origin.get(target, target)
            latest[origin[trial.number]] = trial.number
    chains = {**{number: number for number in latest}, **origin}
    return {number: latest[first] for number, first in chains.items() if latest[first] != number}
