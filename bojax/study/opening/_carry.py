"""A study whose space has changed: its results are copied into another Optuna study of the same storage.

Within one Optuna study a parameter can never change its kind, its choices or its scale. So each space of a study has
its own Optuna study:

- The first one has the study's name and is the *root*. The others are called `NAME [DIGEST]`, by a digest of their
  space, and name the root in `bojax:root`.
- `bojax:current` of the root names the current one, which the study's name opens.
- Finished and enqueued trials that fit the new space are copied. Each copy names its source in `bojax:carried_from`, so
  that nothing counts twice, no matter how often it is copied. Nothing is deleted: a later, wider space gets back what a
  narrower one left out.
"""

import hashlib
import json
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import optuna
from optuna.trial import FrozenTrial, TrialState

from bojax._errors import BojaxWarning, StudyError
from bojax.data import COLUMNS
from bojax.space import Space, describes
from bojax.storage import to_distributions
from bojax.study.asking._held import checked_values, valid_values
from bojax.study.records import _storage
from bojax.study.records._replaced import CARRIED_FROM, CORRECTS, corrections
from bojax.study.records._view import decided

ROOT, CURRENT = "bojax:root", "bojax:current"

SpaceChanged = str | Mapping[str, Any]
"""Type of `Study(space_changed=...)`."""

Source = tuple[str, int]
"""Optuna study and number of the original trial."""


class Carried(NamedTuple):
    """A trial that may be copied.

    Attributes:
        trial: the trial in one of the Optuna studies.
        params: all known parameters; of an enqueued trial, its fixed values.
        source: the original trial.
        corrects: the sources that it replaces, the nearest first.
    """

    trial: FrozenTrial
    params: dict[str, Any]
    source: Source
    corrects: list[Source]


def check_space_changed(space_changed: Any, space: Space | None) -> None:
    """Raises ValueError or TypeError for a wrong argument `space_changed` of a `Study`."""
    if space_changed == "error":
        return
    if space_changed != "carry" and not isinstance(space_changed, Mapping):
        raise ValueError(
            f'`space_changed` must be "error", "carry", or values of new parameters by name, got {space_changed!r}.'
        )
    if space is None:
        raise ValueError("`space_changed` needs a `space` to carry the results over to.")
    if isinstance(space_changed, Mapping) and space_changed:
        checked_values(space, space_changed, "space_changed", together=False)


def current(study: optuna.Study) -> optuna.Study:
    """The Optuna study of the current space."""
    name = _storage.retry(lambda: study.user_attrs).get(CURRENT, study.study_name)
    if name == study.study_name:
        return study
    try:
        with _storage.quiet():
            return optuna.load_study(study_name=name, storage=study._storage)
    except KeyError:
        raise StudyError(
            f"the study {study.study_name!r} was carried over to {name!r}, which is not in the storage any more."
        ) from None


def carry(study: optuna.Study, space: Space, space_changed: SpaceChanged) -> tuple[optuna.Study, dict[str, Any]]:
    """Copies a study into a space, including what workers have reported since an earlier copy.

    Args:
        study: the current Optuna study.
        space: the new space; if it is the current one, only missing trials are copied.
        space_changed: "carry", or values of the parameters that earlier trials lack.

    Returns:
        The Optuna study of that space and its attributes.

    Raises:
        StudyError: trials lack a parameter that has no given value. Nothing is written.
    """
    storage, attrs = study._storage, _storage.retry(lambda: study.user_attrs)
    root = attrs.get(ROOT, study.study_name)
    versions = _versions(storage, root)
    name = next((n for n, v in versions.items() if describes(v.user_attrs[_storage.SPACE], space)), None)
    name = _name(root, space) if name is None else name
    filled = space_changed if isinstance(space_changed, Mapping) else {}
    pool = _pool(versions)
    _check_complete(pool, versions, space, filled)
    target = _open_version(storage, root, name, space, study, attrs)
    num_outside = _copy(pool, target, space, filled)
    if name != study.study_name:
        root_study = optuna.load_study(study_name=root, storage=storage)
        _storage.retry(lambda: root_study.set_user_attr(CURRENT, name))
        if num_outside:
            warnings.warn(
                f"{num_outside} of {len(pool)} trials of the study {root!r} are left out: their parameters do not "
                "belong to the new space.",
                BojaxWarning,
                stacklevel=5,
            )
    return target, _storage.retry(lambda: target.user_attrs)


def _versions(storage: optuna.storages.BaseStorage, root: str) -> dict[str, optuna.Study]:
    """The Optuna studies of all spaces of a study by name, the first one first."""
    found = [
        (stored._study_id, stored.study_name)
        for stored in _storage.retry(storage.get_all_studies)
        if stored.study_name == root or stored.user_attrs.get(ROOT) == root
    ]
    with _storage.quiet():
        studies = [optuna.load_study(study_name=name, storage=storage) for _, name in sorted(found)]
    return {study.study_name: study for study in studies if _storage.SPACE in study.user_attrs}


def _name(root: str, space: Space) -> str:
    spec = json.dumps(space.to_spec())
    return f"{root} [{hashlib.sha256(spec.encode()).hexdigest()[:8]}]"


def _open_version(
    storage: optuna.storages.BaseStorage,
    root: str,
    name: str,
    space: Space,
    study: optuna.Study,
    attrs: Mapping[str, Any],
) -> optuna.Study:
    """The Optuna study of a space. The study's name does not open it before `bojax:current` is set."""
    target, _ = _storage.create_or_open(storage, name, study.direction.name.lower())
    known = _storage.retry(lambda: target.user_attrs)
    if name != root and known.get(ROOT, root) != root:
        raise StudyError(f"the storage has another study {name!r}: rename or delete it.")
    if _storage.VERSION not in known:
        of_bojax = (_storage.SPACE, _storage.SEED, _storage.VERSION, CURRENT)
        for key, attr in {**{k: a for k, a in attrs.items() if k not in of_bojax}, ROOT: root}.items():
            _storage.retry(lambda key=key, attr=attr: target.set_user_attr(key, attr))
        _storage.write_attrs(target, space.to_spec(), attrs[_storage.SEED])
    return target


def _pool(versions: Mapping[str, optuna.Study]) -> list[Carried]:
    """Each finished or enqueued trial that counts, once, in the order of spaces and numbers."""
    pool: dict[Source, Carried] = {}
    replaced: set[Source] = set()
    for name, study in versions.items():
        trials = [trial for trial in _storage.all_trials(study) if not _storage.is_given_up(trial)]
        by_number = {trial.number: trial for trial in trials}
        hidden = corrections(trials)
        for trial in trials:
            source = _source(name, trial)
            if trial.number in hidden:
                replaced.add(source)
            elif trial.state in (*_storage.FINISHED, TrialState.WAITING):
                params = decided(trial)
                corrects = _corrected(name, trial, by_number)
                if source in pool:  # an earlier copy may have parameters and corrections that this one lacks
                    params, corrects = {**pool[source].params, **params}, pool[source].corrects + corrects
                pool[source] = Carried(trial, params, source, corrects)
    return [carried for source, carried in pool.items() if source not in replaced]


def _source(study_name: str, trial: FrozenTrial) -> Source:
    name, number = trial.user_attrs.get(CARRIED_FROM, (study_name, trial.number))
    return name, number


def _corrected(study_name: str, trial: FrozenTrial, by_number: Mapping[int, FrozenTrial]) -> list[Source]:
    sources = []
    while (corrected := by_number.get(trial.user_attrs.get(CORRECTS, -1))) is not None:
        trial = corrected
        sources.append(_source(study_name, trial))
    return sources


def _check_complete(
    pool: list[Carried], versions: Mapping[str, optuna.Study], space: Space, filled: Mapping[str, Any]
) -> None:
    specs = [study.user_attrs[_storage.SPACE] for study in versions.values()]
    new = [name for name in space.names if name not in filled and any(name not in spec for spec in specs)]
    finished = [carried.params for carried in pool if carried.trial.state != TrialState.WAITING and carried.params]
    missing = [name for name in new if any(_needs(space, name, {**filled, **params}) for params in finished)]
    if missing:
        given = ", ".join(f"{name!r}: ..." for name in missing)
        raise StudyError(
            f"earlier trials have no value of {', '.join(map(repr, missing))}: say with which they were made, "
            f"`space_changed={{{given}}}`."
        )


def _needs(space: Space, name: str, params: Mapping[str, Any]) -> bool:
    """Whether a parameter exists at a point and has no value there."""
    return name not in params and name in space.active_names(params)


def _copy(pool: list[Carried], target: optuna.Study, space: Space, filled: Mapping[str, Any]) -> int:
    """Copies the trials that the target lacks; returns the number of trials that do not belong to the space."""
    trials = [trial for trial in _storage.all_trials(target) if not _storage.is_given_up(trial)]
    there = {_source(target.study_name, trial): trial.number for trial in trials}
    num_outside = 0
    for carried in pool:
        if carried.source in there:
            continue
        copy = _copied(carried, space, filled)
        if copy is None:
            num_outside += 1
            continue
        corrected = next((there[source] for source in carried.corrects if source in there), None)
        attrs = {**copy.user_attrs, CARRIED_FROM: list(carried.source)}
        copy.user_attrs = attrs if corrected is None else {**attrs, CORRECTS: corrected}
        there[carried.source] = _storage.add_trial(target, copy).number
        if carried.trial.state == TrialState.WAITING:  # or workers with the old space would take it as well
            _storage.end_trial(target, carried.trial, {_storage.STALE: True})
    return num_outside


def _copied(carried: Carried, space: Space, filled: Mapping[str, Any]) -> FrozenTrial | None:
    """A trial in the new space; None if its parameters do not belong to it."""
    trial, waiting = carried.trial, carried.trial.state == TrialState.WAITING
    given = carried.params if waiting else {**filled, **carried.params}
    given = {name: value for name, value in given.items() if name in space.names}
    active = space.active_names(given)
    given = {name: value for name, value in given.items() if name in active}
    values = valid_values(space, given)
    if len(values) < max(1, len(given)) or not (waiting or space.is_complete(values)):
        return None
    not_kept = (*_storage.HIDDEN, _storage.INSTEAD_OF, CARRIED_FROM, CORRECTS)
    attrs = {key: attr for key, attr in trial.user_attrs.items() if key not in not_kept}
    if _storage.is_lost(trial) and _storage.OWED in trial.user_attrs:
        attrs[_storage.OWED] = "carried"  # its retry replaces it there as well
    floats = [name for name in space.names if not space[name].num_values]
    for key in [_storage.column_key(name) for name, column in COLUMNS.items() if column.per_dim]:
        if key in attrs:
            attrs[key] = {name: slope for name, slope in attrs[key].items() if name in floats}
    copy = optuna.trial.create_trial(
        state=trial.state,
        values=trial.values,
        params={} if waiting else values,
        distributions={} if waiting else to_distributions(space, values),
        user_attrs=attrs,
        system_attrs={**trial.system_attrs, **({"fixed_params": values} if waiting else {})},
        intermediate_values=trial.intermediate_values,
    )
    copy.datetime_start, copy.datetime_complete = trial.datetime_start, trial.datetime_complete
    return copy
