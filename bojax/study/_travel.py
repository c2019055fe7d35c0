"""Studies in other processes: they can be pickled, but not used after a fork.

A study in memory is pickled with a copy of its trials. Any other is opened again from its storage.
"""

import os
import sys
import types
from typing import Any

import optuna

from bojax._errors import StudyError
from bojax._runtime import check_not_forked
from bojax.space import Space
from bojax.study._core import Core


def reduced(kind: type, core: Core) -> tuple[Any, ...]:
    """The pickled form of a study of class `kind`.

    Raises:
        StudyError: the algorithm is a function that pickle cannot find by name.
    """
    algorithm = core.algorithm
    if isinstance(algorithm, types.FunctionType) and not _importable(algorithm) and not _pickles_by_value():
        raise StudyError(
            f"a study with the algorithm {algorithm.__qualname__!r} cannot be pickled: pickle finds functions by name. "
            "Define it at the top level of a module."
        )
    space = core.space if core.space.functions() else None  # a storage does not hold constraint functions
    return reopened, (kind, core.storage, core.name, algorithm, space)


def reopened(
    kind: type, storage: optuna.storages.BaseStorage, name: str, algorithm: Any, space: Space | None = None
) -> Any:
    """The study of that name; the inverse of `reduced`."""
    return kind(space, storage=storage, name=name, algorithm=algorithm)


def check_process(core: Core, *, computes: bool) -> None:
    """Raises StudyError in a forked process, where a study would hang or its results would be lost.

    Args:
        core: the parts of the study.
        computes: whether JAX is about to run.
    """
    is_elsewhere = core.process != os.getpid()
    if is_elsewhere and isinstance(core.storage, optuna.storages.InMemoryStorage):
        raise StudyError(
            f"the study {core.name!r} is in the memory of another process, from which this one was forked: what it is "
            "asked or told here would be lost. Ask and tell in that process, or give the study a `storage`, such as "
            '"sqlite:///study.db", and open it by that URL in each worker.'
        )
    if computes:
        check_not_forked()


def _importable(function: types.FunctionType) -> bool:
    found: Any = sys.modules.get(function.__module__)
    for part in function.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is function


def _pickles_by_value() -> bool:
    """Whether the caller is cloudpickle or dill, which pickle the code of a function."""
    frame = sys._getframe()
    while frame is not None:
        if any(name in str(frame.f_globals.get("__name__")) for name in ("cloudpickle", "dill")):
            return True
        frame = frame.f_back
    return False
