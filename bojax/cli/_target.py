"""Finds what is tuned: an objective of the zoo, or one in a module or a file."""

import importlib
import json
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

from bojax.cli._modules import import_file, import_module, is_path
from bojax.cli._output import near, one_line

if TYPE_CHECKING:
    from bojax.study import Training

LEARN_GRADIENTS = ("bayesopt",)
"""Algorithms that learn from gradients."""


class Target(NamedTuple):
    """The objective that `bojax tune` evaluates.

    Attributes:
        name: identifies it in messages and gives the study its default name.
        space: a `Space` or plain data.
        direction: "minimize", "maximize", or None where the objective does not say.
        objective: a function from params to a number; None for a training function.
        trainable: an objective for `bojax.tune`, with a method `train`; None for an ordinary objective.
        metric: name of the tuned metric.
    """

    name: str
    space: Any
    direction: str | None
    objective: Callable[[dict[str, Any]], Any] | None = None
    trainable: Any = None
    metric: str = ""


def find_target(target: str, steps: int | None = None) -> Target:
    """The objective behind a name of the zoo, `package.module:objective` or `folder/script.py:objective`.

    Space and direction may be attributes of the objective, or variables `space` and `direction` of its module.
    Attributes take precedence.

    Raises:
        typer.BadParameter: there is no such objective, or it cannot be used.
        BojaxError: the import of the module fails.
    """
    if ":" not in target and not is_path(target):
        return _find_in_zoo(target, steps)
    if steps is not None:
        raise typer.BadParameter("is for objectives of the zoo only.", param_hint="--steps")
    place, _, path = target.rpartition(":")
    if not place or not path or is_path(path):
        raise typer.BadParameter(
            f"write package.module:objective or folder/script.py:objective, got {target!r}.", param_hint="TARGET"
        )
    if is_path(place):
        module, seen = import_file(place)
        name, what = f"{seen}:{path}", f"file {place!r}"
    else:
        module, name, what = import_module(place), target, f"module {place!r}"
    found: Any = module
    for part in path.split("."):
        if not hasattr(found, part):
            raise typer.BadParameter(f"the {what} has no {path!r}.{near(path, vars(module))}", param_hint="TARGET")
        found = getattr(found, part)
    space = _beside(found, module, "space")
    direction = _beside(found, module, "direction")
    if direction is not None and not (isinstance(direction, str) and direction in ("minimize", "maximize")):
        raise typer.BadParameter(
            f'`direction` of {name} must be "minimize" or "maximize", got {direction!r}. Rename the variable, or give '
            "the objective an attribute `direction`.",
            param_hint="TARGET",
        )
    if hasattr(found, "train") and hasattr(found, "metric"):
        return Target(name, space, direction, trainable=found, metric=found.metric)
    if not callable(found):
        raise typer.BadParameter(f"{target} is not callable, it is {found!r}.", param_hint="TARGET")
    return Target(name, space, direction, objective=found)


def _beside(found: Any, module: Any, name: str) -> Any:
    """An attribute of the objective, or the variable of its module where the objective has none."""
    own = getattr(found, name, None)
    return getattr(module, name, None) if own is None else own


def _find_in_zoo(name: str, steps: int | None) -> Target:
    zoo = importlib.import_module("bojax.models")
    objectives = zoo.objectives()
    if name not in objectives:
        raise typer.BadParameter(
            f"the zoo has no objective {name!r}.{near(name, objectives)} `bojax list` shows them; "
            "your own objective is written package.module:objective or folder/script.py:objective.",
            param_hint="TARGET",
        )
    objective = objectives[name]
    if steps is not None:
        objective = objective.with_num_steps(steps)
        name = f"{name}@{steps}"
    return Target(name, objective.space, objective.direction, trainable=objective, metric=objective.metric)


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


def training_of_target(target: Target, gradients: bool | None, algorithm: str) -> "Training | None":
    """The training function of a target; None for an ordinary objective.

    Args:
        target: the objective.
        gradients: whether to learn from derivatives; None where the objective is differentiable.
        algorithm: name of the algorithm.

    Raises:
        typer.BadParameter: `gradients` is True and the objective has none, or the algorithm does not learn from them.
    """
    if target.trainable is None:
        if gradients:
            raise typer.BadParameter(f"{target.name} is no training function.", param_hint="--gradients")
        return None
    from bojax.study import Training

    kinds = {"metric": target.metric, "direction": target.direction}
    try:
        training = Training.of(target.trainable, target.space, gradients=gradients, **kinds)
        if training.gradients and algorithm not in LEARN_GRADIENTS:
            if gradients:
                raise typer.BadParameter(f"{algorithm} does not learn from them.", param_hint="--gradients")
            training = Training.of(target.trainable, target.space, gradients=False, **kinds)
        return training
    except (ValueError, TypeError) as error:
        raise typer.BadParameter(f"{target.name}: {one_line(error)}", param_hint="TARGET") from None
