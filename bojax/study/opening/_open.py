"""Opens a stored study or creates a new one. Everything is compared before anything is written."""

import secrets
from typing import Any, SupportsInt

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, check_distribution_compatibility
from optuna.storages import BaseStorage
from optuna.study import Study as OptunaStudy
from optuna.trial import FrozenTrial, TrialState

from bojax._errors import StudyError
from bojax.space import CONSTRAINTS, Float, Space, describes
from bojax.storage import open_storage, to_distributions
from bojax.study._checks import DIRECTIONS
from bojax.study.opening._carry import ROOT, SpaceChanged, carry, current
from bojax.study.records import _storage


def study_names(storage: str | BaseStorage) -> list[str]:
    """The names of the bojax studies in a storage.

    A study whose space was changed is listed once, by the name that opens it.

    Args:
        storage: the URL of an Optuna storage, or the storage itself.

    Returns:
        The names, in the order in which Optuna lists the studies.

    Raises:
        StudyError: the storage cannot be opened; a SQLite file is not created.

    Example:
        >>> import bojax, optuna
        >>> storage = optuna.storages.InMemoryStorage()
        >>> study = bojax.Study(bojax.Space(x=bojax.Float(0.0, 1.0)), storage=storage, name="first")
        >>> study_names(storage)
        ['first']
    """
    backend = open_storage(storage, create=False)
    summaries = optuna.get_all_study_summaries(backend, include_best_trial=False)
    attrs = {summary.study_name: summary.user_attrs for summary in summaries}
    # A changed space has an Optuna study of its own, which names the first one as its root.
    return [name for name, known in attrs.items() if _storage.VERSION in known and ROOT not in known]


def open_study(
    backend: BaseStorage,
    name: str,
    space: Space | None,
    direction: str | None,
    seed: SupportsInt | None,
    space_changed: SpaceChanged = "error",
) -> tuple[OptunaStudy, dict[str, Any]]:
    """Opens or creates an Optuna study; returns it with its attributes."""
    seed = None if seed is None else int(seed)
    if space is None:
        try:
            with _storage.quiet():
                study, created = optuna.load_study(study_name=name, storage=backend), False
        except KeyError:
            raise StudyError(f"there is no study {name!r} in the storage. To make one, give a `space`.") from None
    else:
        study, created = _storage.create_or_open(backend, name, direction or DIRECTIONS[0])
    study = study if created else current(study)
    if len(study.directions) != 1:
        raise StudyError(f"the study {name!r} has several objectives; bojax needs one.")
    stored_direction = study.direction.name.lower()
    if direction is not None and stored_direction != direction:
        raise _differs(name, "direction", repr(stored_direction), direction)
    attrs = {} if created else _storage.read_attrs(study, wait=True)
    if not attrs:
        if space is None:
            raise StudyError(f"the study {name!r} was not made by bojax. To go on with it, give a `space`.")
        if not created:
            _check_trials(study, space)
        seed = secrets.randbits(31) if seed is None else seed
        _storage.write_attrs(study, space.to_spec(), seed)
        return study, {_storage.SPACE: space.to_spec(), _storage.SEED: seed}
    if attrs[_storage.VERSION] > _storage.FORMAT_VERSION:
        raise StudyError(f"the study {name!r} was made by a newer bojax: update bojax to open it.")
    if space is not None and space_changed == "error" and not describes(attrs[_storage.SPACE], space):
        raise _differs(name, "space", _shown(attrs[_storage.SPACE]), space)
    functions = [entry for entry in attrs[_storage.SPACE].get(CONSTRAINTS, []) if entry["type"] == "function"]
    if space is None and functions:
        names = [entry["name"] for entry in functions]
        raise StudyError(
            f"the space of the study {name!r} has the constraint functions {names}, which a storage cannot hold: give "
            "the same `space` again. Linear constraints are stored: bojax.linear(...)."
        )
    if seed is not None and attrs[_storage.SEED] != seed:
        raise _differs(name, "seed", repr(attrs[_storage.SEED]), seed)
    if space is not None and space_changed != "error":
        return carry(study, space, space_changed)
    return study, attrs


def _shown(spec: dict[str, Any]) -> str:
    """A stored space for messages."""
    space = Space.from_spec({name: fields for name, fields in spec.items() if name != CONSTRAINTS})
    return f"{space!r}{f' with the constraints {spec[CONSTRAINTS]!r}' if CONSTRAINTS in spec else ''}"


def _check_trials(study: OptunaStudy, space: Space) -> None:
    """Raises StudyError if a trial of a study made by Optuna does not belong to the space."""
    distributions = to_distributions(space)
    for trial in _storage.retry(lambda: study.get_trials(deepcopy=False)):
        wrong = _misfit(trial, space, distributions)
        if wrong is not None:
            raise StudyError(
                f"the study {study.study_name!r} was made with another space: trial {trial.number} {wrong}. "
                "Give the space of its trials, or choose another `name`."
            )


def _misfit(trial: FrozenTrial, space: Space, distributions: dict[str, BaseDistribution]) -> str | None:
    """Why a trial does not belong to the space; None if it does."""
    params = trial.system_attrs.get("fixed_params", {}) | trial.params
    for name, value in params.items():
        if name not in distributions:
            return f"has a parameter {name!r}, which the space lacks"
        if name in trial.distributions:
            wrong = _incompatible(trial.distributions[name], distributions[name])
            if wrong is not None:
                return f"has {name!r} {wrong}"
        parameter = space[name]
        try:
            parameter.check(value, name=name) if isinstance(parameter, Float) else parameter.position(value, name=name)
        except (ValueError, TypeError) as error:
            return f"does not fit: {str(error).rstrip('.')}"
    missing = [name for name in space.active_names(params) if name not in params]
    if missing and trial.state == TrialState.COMPLETE:
        return f"has no parameter {missing[0]!r}"
    return None


def _incompatible(stored: BaseDistribution, own: BaseDistribution) -> str | None:
    """How a stored distribution differs from the space's in a way that Optuna does not allow; None if it does not."""
    try:
        check_distribution_compatibility(stored, own)
    except ValueError:
        if isinstance(stored, CategoricalDistribution) and isinstance(own, CategoricalDistribution):
            return f"with the choices {list(stored.choices)}, not {list(own.choices)} in this order"
        return f"as {stored}, not as {own}"
    return None


def _differs(name: str, what: str, stored: Any, given: Any) -> StudyError:
    way_out = ', or carry its results over: Study(..., space_changed="carry")' if what == "space" else ""
    return StudyError(
        f"the study {name!r} exists with another {what}: stored {stored}, given {given!r}. "
        f"Leave `{what}` out to go on with it, or choose another `name`{way_out}."
    )
