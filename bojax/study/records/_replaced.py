"""Corrections of trials: finished trials cannot be changed, so a correction is a new trial."""

from collections.abc import Sequence

from optuna.trial import FrozenTrial

CORRECTS = "bojax:corrects"
"""Number of the trial that this trial replaces."""
CARRIED_FROM = "bojax:carried_from"
"""Study and number of the trial that this trial copies, in a study whose space was changed."""


def corrections(trials: Sequence[FrozenTrial]) -> dict[int, int]:
    """The numbers of the trials that count, by the numbers of the trials they replace.

    Args:
        trials: all trials of a study, by number. Of several corrections of a trial the last one counts.
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
