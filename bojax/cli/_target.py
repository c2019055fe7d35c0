"""What is tuned: an objective of the zoo, or one that is written package.module:objective."""

import difflib
import importlib
import json
import os
import pathlib
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

from bojax._errors import BojaxError
from bojax.cli._output import one_line

if TYPE_CHECKING:
    from bojax.study._tune import Training


class Target(NamedTuple):
    """What `tune` evaluates.

    Attributes:
        name: identifies it in messages and gives the study its default name.
        space: a `Space` or plain data.
        direction: "minimize", "maximize", or None where the objective leaves it open.
        objective: from params to a number; None for a training function.
        trainable: what `bojax.tune` takes: it has a method `train`; None for an ordinary objective.
        metric: which of the metrics is tuned.
    """

    name: str
    space: Any
    direction: str | None
    objective: Callable[[dict[str, Any]], Any] | None = None
    trainable: Any = None
    metric: str = ""


def find_target(target: str, steps: int | None = None) -> Target:
    """The objective behind a name of the zoo or `package.module:objective`.

    Raises:
        typer.BadParameter: there is none, or it cannot be used.
        BojaxError: the module fails when it is imported.
    """
    if ":" not in target:
        return _find_in_zoo(target, steps)
    if steps is not None:
        raise typer.BadParameter("is for objectives of the zoo only.", param_hint="--steps")
    module_name, _, path = target.partition(":")
    if not module_name or not path:
        raise typer.BadParameter(f"write package.module:objective, got {target!r}.", param_hint="TARGET")
    module = _import(module_name)
    found: Any = module
    for part in path.split("."):
        if not hasattr(found, part):
            raise typer.BadParameter(
                f"the module {module_name!r} has no {path!r}.{_near(path, vars(module))}", param_hint="TARGET"
            )
        found = getattr(found, part)
    space = getattr(found, "space", None)
    space = getattr(module, "space", None) if space is None else space
    direction = getattr(found, "direction", None)
    if hasattr(found, "train") and hasattr(found, "metric"):
        return Target(target, space, direction, trainable=found, metric=found.metric)
    if not callable(found):
        raise typer.BadParameter(f"{target} is not callable, it is {found!r}.", param_hint="TARGET")
    return Target(target, space, direction, objective=found)


def _find_in_zoo(name: str, steps: int | None) -> Target:
    zoo = importlib.import_module("bojax.models")
    objectives = zoo.objectives()
    if name not in objectives:
        raise typer.BadParameter(
            f"the zoo has no objective {name!r}.{_near(name, objectives)} `bojax list` shows them; "
            "your own objective is written package.module:objective.",
            param_hint="TARGET",
        )
    objective = objectives[name]
    if steps is not None:
        objective = getattr(zoo, f"make_{name}")(num_steps=steps)
        name = f"{name}@{steps}"
    return Target(name, objective.space, objective.direction, trainable=objective, metric=objective.metric)


def _import(name: str) -> Any:
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name + ".").startswith(error.name + "."):
            raise typer.BadParameter(
                f"there is no module {error.name!r} here or among the installed ones.", param_hint="TARGET"
            ) from None
        raise BojaxError(f"the module {name!r} cannot be imported: {one_line(error)}") from error
    except Exception as error:
        raise BojaxError(f"the module {name!r} cannot be imported: {one_line(error)}") from error


def read_space(path: pathlib.Path) -> Any:
    """The space in a JSON file.

    Raises:
        typer.BadParameter: there is no such file, or it holds no space.
    """
    from bojax.space import to_space

    try:
        return to_space(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise typer.BadParameter(f"{path}: {one_line(error)}", param_hint="--space") from None


def training_of_target(target: Target, gradients: bool | None) -> "Training | None":
    """What `tune` trains; None for an ordinary objective."""
    if target.trainable is None:
        if gradients:
            raise typer.BadParameter(f"{target.name} is no training function.", param_hint="--gradients")
        return None
    from bojax.study._tune import training_of

    try:
        return training_of(target.trainable, target.space, target.metric, target.direction, gradients)
    except (ValueError, TypeError) as error:
        raise typer.BadParameter(f"{target.name}: {one_line(error)}", param_hint="TARGET") from None


def _near(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, [k for k in known if isinstance(k, str)], n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
