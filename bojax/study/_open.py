"""Opening a study: the one that is stored, or a new one."""

import secrets
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.study import Study as OptunaStudy

from bojax._errors import StudyError
from bojax.space import Space
from bojax.study import _storage
from bojax.study._carry import SpaceChanged, carry, current
from bojax.study._checks import DIRECTIONS


def open_study(
    backend: BaseStorage,
    name: str,
    space: Space | None,
    direction: str | None,
    seed: int | None,
    space_changed: SpaceChanged = "error",
) -> tuple[OptunaStudy, dict[str, Any]]:
    """Opens or creates the Optuna study and returns it with the attributes that hold for it."""
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
        raise _differs(name, "direction", stored_direction, direction)
    attrs = {} if created else _storage.read_attrs(study, wait=True)
    if not attrs:
        if space is None:
            raise StudyError(f"the study {name!r} was not made by bojax. To go on with it, give a `space`.")
        seed = secrets.randbits(31) if seed is None else int(seed)
        _storage.write_attrs(study, space.to_spec(), seed)
        return study, {_storage.SPACE: space.to_spec(), _storage.SEED: seed}
    if attrs[_storage.VERSION] > _storage.FORMAT_VERSION:
        raise StudyError(f"the study {name!r} was made by a newer bojax: update bojax to open it.")
    if space is not None and space_changed == "error" and Space.from_spec(attrs[_storage.SPACE]) != space:
        raise _differs(name, "space", Space.from_spec(attrs[_storage.SPACE]), space)
    if seed is not None and attrs[_storage.SEED] != seed:
        raise _differs(name, "seed", attrs[_storage.SEED], seed)
    if space is not None and space_changed != "error":
        return carry(study, space, space_changed)
    return study, attrs


def _differs(name: str, what: str, stored: Any, given: Any) -> StudyError:
    way_out = ', or carry its results over: Study(..., space_changed="carry")' if what == "space" else ""
    return StudyError(
        f"the study {name!r} exists with another {what}: stored {stored!r}, given {given!r}. "
        f"Leave `{what}` out to go on with it, or choose another `name`{way_out}."
    )
