"""Data without `ask`: results from elsewhere, settings to try, and corrections of reported results."""

import math
import numbers
import warnings
from collections.abc import Mapping
from typing import Any, SupportsIndex, TypeVar

import optuna
from optuna.trial import FrozenTrial, TrialState

from bojax._errors import BojaxWarning, StudyError
from bojax._plain import plain
from bojax.data import COLUMNS
from bojax.space import Space
from bojax.study._checks import check_attrs
from bojax.study._core import Core
from bojax.study._travel import check_process
from bojax.study.asking._held import check_feasible, checked_values
from bojax.study.records import _storage
from bojax.study.records._replaced import CARRIED_FROM, CORRECTS
from bojax.study.records._trial import Trial
from bojax.study.telling._outcome import Outcome, checked_outcome
from bojax.study.telling._telling import check_params, frozen_trial

CORRECTED = "bojax:corrected"
"""Earlier number, state and value of a corrected trial."""


_NOT_KEPT = {CORRECTED, CORRECTS, CARRIED_FROM, _storage.ERROR, _storage.TOLD, _storage.LOST} | {
    _storage.column_key(name) for name, column in COLUMNS.items() if column.per_dim
}
"""Attributes that a correction does not copy from the old trial."""


StudyT = TypeVar("StudyT", bound="KnownResults")


class KnownResults:
    """The part of `Study` that records results without `ask`, and carries them into another space."""

    _core: Core

    def enqueue(
        self,
        params: Mapping[str, Any],
        *,
        skip_if_exists: bool = False,
        user_attrs: Mapping[str, Any] | None = None,
    ) -> bool:
        """Queues parameters for the next `ask`, for example settings known to work.

        Args:
            params: values of all or some parameters; the others are chosen by `ask`, given these.
            skip_if_exists: do nothing if a trial with exactly these parameters is finished, running or queued.
                Incomplete parameters are compared with earlier enqueued ones.
            user_attrs: recorded with the trial; values must fit into JSON.

        Returns:
            Whether the parameters were queued.

        Raises:
            ValueError, TypeError: the parameters do not belong to the space, or break a constraint. Nothing is queued.
            BojaxError: no feasible point with these parameters is found. Nothing is queued.
        """
        check_process(self._core, computes=False)
        values = checked_values(self._core.space, params, "params")
        check_feasible(self._core.space, values, "params")
        attrs = check_attrs(user_attrs)
        if skip_if_exists and any(_asks_for(trial, values) for trial in self._core.ledger.refresh().counted()):
            return False
        with _storage.quiet():
            self._core.optuna.enqueue_trial(values, user_attrs=attrs or None)
        return True

    def add(
        self,
        params: Mapping[str, Any],
        value: Any = None,
        *,
        state: str | None = None,
        noise_var: float | None = None,
        cost: float | None = None,
        grad: Mapping[str, Any] | None = None,
        user_attrs: Mapping[str, Any] | None = None,
    ) -> Trial:
        """Adds a known result, for example from an earlier experiment. Its point may be infeasible.

        Args:
            params: a value for every parameter that exists at the point.
            value: the value (see `Study.tell`).
            state: "complete" (the same as None), or "fail" for an evaluation without a value.
            noise_var: known variance of the value's noise, >= 0.
            cost: the cost of the evaluation, > 0.
            grad: derivatives of the value by Float parameters, by name, in native units.
            user_attrs: anything else to record with the trial; values must fit into JSON.

        Returns:
            The trial as it is recorded. The next `ask` uses it like any other trial.

        Raises:
            ValueError, TypeError: the parameters do not belong to the space, or see `tell`. Nothing is recorded.
        """
        columns = {"noise_var": noise_var, "cost": cost, "grad": grad}
        check_process(self._core, computes=False)
        outcome = checked_outcome(self._core, value, state, columns, user_attrs)
        self._core.space.from_params(params)
        return _record(self._core, checked_values(self._core.space, params, "params"), outcome)

    def correct(
        self,
        trial: Trial | SupportsIndex,
        value: Any = None,
        *,
        state: str | None = None,
        noise_var: float | None = None,
        cost: float | None = None,
        grad: Mapping[str, Any] | None = None,
        user_attrs: Mapping[str, Any] | None = None,
    ) -> Trial:
        """Replaces the result of a trial, for example after a wrong measurement.

        Args:
            trial: a finished trial, or its number.
            value: the correct value (see `Study.tell`). `noise_var`, `cost` and `user_attrs` keep their earlier values
                unless given; `grad` does not.
            state: "complete" (the same as None), or "fail" for an evaluation without a value.
            noise_var: known variance of the value's noise, >= 0.
            cost: the cost of the evaluation, > 0.
            grad: derivatives of the value by Float parameters, by name, in native units.
            user_attrs: anything else to record with the trial; values must fit into JSON.

        Returns:
            The corrected trial. It has a new number, and replaces the old one in `trials` and in the data of
            algorithms; only `study.optuna` still shows the old one. The earlier result is in
            `user_attrs["bojax:corrected"]`.

        Raises:
            StudyError: the trial is unknown or has no result yet.
            ValueError, TypeError: see `tell`. Nothing is recorded.
        """
        columns = {"noise_var": noise_var, "cost": cost, "grad": grad}
        check_process(self._core, computes=False)
        trial = plain(trial)
        if isinstance(trial, bool) or not isinstance(trial, Trial | numbers.Integral):
            raise TypeError(f"`trial` must be a Trial or its number, got {trial!r}.")
        outcome = checked_outcome(self._core, value, state, columns, user_attrs)
        with self._core.lock:
            old = _finished(self._core, trial)
            kept = {key: attr for key, attr in _storage.shown_attrs(old.user_attrs).items() if key not in _NOT_KEPT}
            said = {"number": old.number, "state": old.state.name.lower(), "value": _value(old)}
            said |= {"before": old.user_attrs[CORRECTED]} if CORRECTED in old.user_attrs else {}
            attrs = {**kept, **outcome.attrs, CORRECTS: old.number, CORRECTED: said}
            return _record(self._core, old.params, outcome._replace(attrs=attrs), old)

    def carry(self: StudyT, space: Space | Mapping[str, Any], new_params: Mapping[str, Any] | None = None) -> StudyT:
        """Continues with a changed space: the study that `Study(space, space_changed=...)` opens in the same storage.

        Args:
            space: the new space, with choices, values or parameters added or removed, or ranges or scales changed.
            new_params: values of new parameters with which the earlier trials were made, by name.

        Returns:
            The study with the new space and all trials that belong to it; see `space_changed` of `Study`.

        Raises:
            StudyError: trials lack a parameter that is not in `new_params`.

        Example:
            >>> import bojax
            >>> study = bojax.Study({"act": bojax.Categorical(["relu", "tanh"])}, seed=0)
            >>> _ = study.add({"act": "relu"}, 0.5)
            >>> wider = study.carry({"act": bojax.Categorical(["relu", "tanh", "gelu"])})
            >>> wider.best_params
            {'act': 'relu'}
        """
        core, kind = self._core, type(self)
        settings: dict[str, Any] = {"algorithm": core.algorithm, "space_changed": new_params or "carry"}
        return kind(space, storage=core.storage, name=core.name, **settings)  # type: ignore[call-arg]


def _record(core: Core, params: Mapping[str, Any], outcome: Outcome, old: FrozenTrial | None = None) -> Trial:
    """Stores a finished trial in one write; a correction has the times and distributions of the old trial."""
    value, attrs = outcome
    told = value
    if value is not None and not math.isfinite(value):
        attrs, value = {**attrs, _storage.TOLD: repr(value)}, None
    trial = optuna.trial.create_trial(
        state=TrialState.FAIL if value is None else TrialState.COMPLETE,
        value=value,
        params=dict(params),
        distributions={name: (core.distributions if old is None else old.distributions)[name] for name in params},
        user_attrs=attrs,
        system_attrs=None if old is None else old.system_attrs,
        intermediate_values=None if old is None else old.intermediate_values,
    )
    if old is not None:
        trial.datetime_start, trial.datetime_complete = old.datetime_start, old.datetime_complete
    with _storage.quiet():
        stored = _storage.add_trial(core.optuna, trial)
    if told is not value:
        text = f"trial {stored.number} was told {told}, which is not finite: it counts as failed."
        warnings.warn(text, BojaxWarning, stacklevel=4)
    return core.view(stored)


def _finished(core: Core, trial: Trial | SupportsIndex) -> FrozenTrial:
    """The finished trial with that number, or its replacement."""
    number = trial.number if isinstance(trial, Trial) else int(trial)
    check_params(core, trial, frozen_trial(core, number))
    found = core.ledger.trial(core.ledger.correction_of(number))
    if found is None or found.state not in _storage.FINISHED or _storage.is_given_up(found):
        raise StudyError(f"trial {number} was not told yet, so there is nothing to correct: `tell` it.")
    return found


def _value(trial: FrozenTrial) -> float | None:
    return trial.values[0] if trial.values and trial.state != TrialState.FAIL else None


def _asks_for(trial: FrozenTrial, values: Mapping[str, Any]) -> bool:
    """Whether a trial has these parameters, or was enqueued with exactly these."""
    enqueued = trial.system_attrs.get("fixed_params")
    return _same(trial.params, values) or (enqueued is not None and _same(enqueued, values))


def _same(params: Mapping[str, Any], values: Mapping[str, Any]) -> bool:
    # 1 == True in Python, but they are different choices.
    kinds_agree = all(isinstance(params.get(name), bool) == isinstance(values[name], bool) for name in values)
    return dict(params) == dict(values) and kinds_agree
