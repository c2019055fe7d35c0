"""Points of a search space, and the bojax space of one."""

from collections.abc import Mapping
from typing import Any

from bojax.integrations._hyperopt._expressions import evaluate
from bojax.integrations._hyperopt._forms import forms_of
from bojax.integrations._hyperopt._pyll import from_pyll
from bojax.space import Space


def space_eval(space: Any, hp_assignment: Mapping[str, Any]) -> Any:
    """The point of a space that values of its labels make.

    Args:
        space: the space, as `fmin` takes it.
        hp_assignment: values by label, of choices the number of the option, as `fmin` returns them; or the `params` of
            a trial of `space_from_hyperopt(space)`.

    Returns:
        The point, as the objective gets it.

    Raises:
        ValueError: a value that is needed is missing.

    Example:
        >>> from bojax.integrations.hyperopt import hp
        >>> space = {"kind": hp.choice("kind", ["linear", {"rbf": hp.uniform("gamma", 0, 1)}])}
        >>> space_eval(space, {"kind": 1, "gamma": 0.5})
        {'kind': {'rbf': 0.5}}
    """
    expression = from_pyll(space)
    return evaluate(expression, hp_assignment)[0]


def space_from_hyperopt(hp_space: Any) -> Space:
    """The bojax space of a search space of Hyperopt's kind, for `Study`, `minimize` and every algorithm of bojax.

    Each label is a parameter: choices are Categoricals of the numbers of their options, whole numbers Ints, all others
    Floats, with a `step` for those with a `q`. Labels within an option exist only with it (`when`). Normal
    distributions are cut at `mu +- 4.89 sigma`, and the space does not know which values are more likely. `space_eval`
    makes the point from the params of a trial. It rounds values with a `q` that begin with 0 on a logarithmic scale.

    Args:
        hp_space: dicts, lists and tuples, nested, of constants and `hp.*`, either of this module or of Hyperopt.

    Returns:
        The space. Labels with a single value are not in it.

    Raises:
        BadSearchSpace: nothing is to be chosen, or something in the space cannot be read.
        DuplicateLabel: two hyperparameters have the same label.

    Example:
        >>> from bojax.integrations.hyperopt import hp
        >>> space_from_hyperopt([hp.quniform("width", 8, 64, 8), hp.choice("kind", ["relu", "tanh"])])
        Space({'width': Float(low=8.0, high=64.0, log=False, step=8.0), 'kind': Categorical(choices=(0, 1))})
    """
    space = forms_of(hp_space).space
    if space is None:
        raise ValueError(f"`hp_space` must have a hyperparameter with two values or more, got {hp_space!r}.")
    return space
