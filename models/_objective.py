"""Zoo objectives: a search space and pure training functions under one name.

Some hyperparameters determine the shapes of arrays. *Structural* ones (the width of a transformer, the number of
layers) need a program for each value. *Sizes* (the width of a perceptron) can be traced, by masking arrays of a larger
size. They are rounded up to a few sizes with one program each, so that narrow configurations cost less than the widest.
The *structure* of a configuration is computed on the host. All other hyperparameters are traced, and configurations of
one structure train in one vmapped program.
"""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax

Spec = dict[str, dict[str, Any]]
Hparams = Mapping[str, Any]
TrainFn = Callable[..., dict[str, jax.Array]]


class Program(NamedTuple):
    """A training run in pieces: pure functions that can be jitted, and vmapped over all but `num_steps`.

    Attributes:
        init: ``init(key, hparams) -> state``, before the first step.
        advance: ``advance(state, hparams, num_steps) -> state`` after ``num_steps`` more steps, which may be traced. 3
            and then 4 steps are the same as 7.
        evaluate: ``evaluate(state, hparams) -> metrics``; dropout is off.
    """

    init: Callable[[jax.Array, Hparams], Any]
    advance: Callable[[Any, Hparams, Any], Any]
    evaluate: Callable[[Any, Hparams], dict[str, jax.Array]]


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
        train: pure function ``train(key, hparams, num_steps=None) -> metrics``. ``hparams`` maps every name of
            ``space`` to a scalar: the value of a float or int, the *position* in ``choices`` or ``values`` of a
            categorical or ordinal. ``metrics`` maps names to float32 scalars, always finite. It can be jitted, and
            vmapped over ``key`` and ``hparams``. ``num_steps`` is the fidelity: the number of steps of the full run.
            With traced structural hyperparameters one program contains those of all structures and, under `vmap`,
            computes all of them; grouping configurations by ``structure`` first is faster.
        curve: pure function ``curve(key, hparams, rungs=None) -> metrics`` with arrays [r]: the metrics after each
            of ``rungs`` steps, of one run.
        metric: the entry of ``metrics`` to tune. Entries of the test split are for reporting only.
        direction: ``"maximize"`` or ``"minimize"``, for ``metric``.
        num_steps: gradient steps in a full run; learning-rate schedules are laid out for it.
        rungs: the steps after which `curve` reports.
        structure: ``structure(hparams)``: a hashable that determines the shapes, from concrete hyperparameters.
        program: ``program(structure) -> Program``, the same object each time.
        structural: the hyperparameters that need a program for each of their values.
        sizes: the hyperparameters that are rounded up to one of a few sizes, and masked.
        rebuild: ``rebuild(num_steps)``: the result of `with_num_steps`.
        value_and_grad: None, or for a differentiable objective the pure function ``value_and_grad(key, hparams) ->
            (metrics, grads)`` for concrete or traced hyperparameters: the result of ``train``, and the derivatives of
            ``metric`` by floats, a dict of float32 scalars. It can be jitted and vmapped like ``train``.

    Example:
        >>> from bojax.models import digits_mlp
        >>> digits_mlp.metric, digits_mlp.direction, digits_mlp.num_steps
        ('validation_accuracy', 'maximize', 300)
        >>> digits_mlp.with_num_steps(27).rungs
        (27,)
    """

    name: str
    description: str
    space: Spec
    train: TrainFn
    curve: TrainFn
    metric: str
    direction: str
    num_steps: int
    rungs: tuple[int, ...]
    structure: Callable[[Hparams], Hashable]
    program: Callable[[Any], Program]
    rebuild: Callable[[int], "Objective"]
    structural: tuple[str, ...] = ()
    sizes: Mapping[str, tuple[int, ...]] | None = None
    value_and_grad: Callable[..., tuple[dict[str, jax.Array], dict[str, jax.Array]]] | None = None

    def with_num_steps(self, num_steps: int) -> "Objective":
        """The same objective with another length of a full run.

        Args:
            num_steps: steps in a full run, at least 1; learning-rate schedules are laid out for it.

        Returns:
            A new objective of the same name.

        Raises:
            ValueError: ``num_steps`` is below 1.

        Example:
            >>> from bojax.models import digits_cnn
            >>> short = digits_cnn.with_num_steps(90)
            >>> short.num_steps, short.rungs
            (90, (10, 30, 90))
        """
        return self.rebuild(num_steps)

    def kind(self, name: str) -> str:
        """Whether a hyperparameter is ``"structural"``, ``"size"`` (traced within a few sizes) or ``"traced"``."""
        if name not in self.space:
            raise KeyError(f"{self.name} has no hyperparameter {name!r}; it has {list(self.space)}.")
        if name in self.structural:
            return "structural"
        return "size" if name in (self.sizes or {}) else "traced"
