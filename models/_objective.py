"""What a zoo objective is: a model, a search space and a pure training function under one name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax

Spec = dict[str, dict[str, Any]]
TrainFn = Callable[[jax.Array, Mapping[str, Any]], dict[str, jax.Array]]


@dataclass(frozen=True, eq=False)
class Objective:
    """A tunable training run.

    Objects compare by identity, so an objective can be a static argument or a dictionary key.

    Attributes:
        name: identifier, for example ``"digits_mlp"``.
        description: one line for a listing.
        space: the search space as plain JSON-able data, one entry a hyperparameter, in order. ``type`` is
            ``"float"`` (``low``, ``high``, ``log``), ``"int"`` (``low``, ``high``, ``log``, ``step``),
            ``"categorical"`` (``choices``) or ``"ordinal"`` (``values``).
        train: pure function ``train(key, hparams) -> metrics``. ``hparams`` maps every name of ``space`` to a
            scalar: the value of a float or int, the *position* in ``choices`` or ``values`` of a categorical
            or ordinal. ``metrics`` maps names to float32 scalars, always finite. It can be jitted, and
            vmapped over ``key`` and ``hparams``.
        metric: the entry of ``metrics`` to tune. The test split's entries are there to be reported only.
        direction: ``"maximize"`` or ``"minimize"``, for ``metric``.
        num_steps: gradient steps in one run.
    """

    name: str
    description: str
    space: Spec
    train: TrainFn
    metric: str
    direction: str
    num_steps: int
