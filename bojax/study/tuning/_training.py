"""What `tune` trains: an objective or a function, as one program for a batch of configurations."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bojax._liveness import live_inputs
from bojax.multifidelity import Population
from bojax.space import Space, check_choices, to_space, warn_of_unread
from bojax.study.asking._suggest import AlgorithmFactory, bayesopt, gradient_bayesopt
from bojax.study.running._arguments import checked_direction


class Training(NamedTuple):
    """A training function, ready to be tuned.

    Attributes:
        train_batch: a function from keys [n] and hyperparameters, arrays [n], to a dict of metrics [n] and a dict of
            derivatives [n] of the tuned metric by hyperparameter. The latter is empty without gradients.
        metric: name of the tuned metric.
        space: the search space.
        direction: "maximize" or "minimize".
        fixed_size: whether every batch must have the same size, because a program is compiled for each size.
        programs: the programs compiled for training; it grows during training.
        gradients: whether derivatives are computed.
    """

    train_batch: Callable[[Any, Any], tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]
    metric: str
    space: Space
    direction: str
    fixed_size: bool
    programs: set[Any]
    gradients: bool = False

    @classmethod
    def of(
        cls,
        objective: Any,
        space: Any = None,
        *,
        metric: str | None = None,
        direction: str | None = None,
        gradients: bool | None = None,
    ) -> "Training":
        """Prepares an objective for `tune_study`.

        Args:
            objective: see `tune`, also for the other arguments.
            space: the search space; by default the objective's.
            metric: the number to tune; by default the objective's.
            direction: "maximize" or "minimize"; by default the objective's, or "minimize".
            gradients: whether to compute derivatives; by default where the objective has `value_and_grad`.

        Returns:
            The objective as one function of a batch. Nothing is compiled yet.

        Raises:
            TypeError: `objective` is neither an objective nor a function, there is no space, or `gradients` is True
                and there is nothing to differentiate.
            ValueError: `direction` is unknown.

        Example:
            >>> import bojax
            >>> def train(key, hparams):
            ...     return (hparams["x"] - 0.3) ** 2
            >>> training = Training.of(train, bojax.Space(x=bojax.Float(0.0, 1.0)))
            >>> training.metric, training.direction, training.gradients
            ('value', 'minimize', False)
        """
        if gradients is not None and not isinstance(gradients, bool | np.bool_):
            raise TypeError(f"`gradients` must be True, False or None, got {gradients!r}.")
        if metric is not None and (not isinstance(metric, str) or not metric):
            raise TypeError(f"`metric` must be the name of a number that the objective gives, or None, got {metric!r}.")
        space = getattr(objective, "space", None) if space is None else space
        if space is None:
            raise TypeError("`space` must be given: the objective has none.")
        space = to_space(space)
        own_metric = getattr(objective, "metric", None)
        metric = str(metric or own_metric or "value")
        if direction is None:
            direction = getattr(objective, "direction", None) or "minimize"
        direction = checked_direction(direction)
        differentiable = getattr(objective, "value_and_grad", None) if own_metric in (None, metric) else None
        gradients = bool(gradients or (gradients is None and differentiable is not None))
        programs: set[Any] = set()
        by_structure = not gradients and hasattr(objective, "program") and hasattr(objective, "structure")
        if by_structure:
            train_batch = _by_structure(objective, programs)
        else:
            function = (
                _gradient_function(objective, differentiable, metric, space) if gradients else _function(objective)
            )
            train_batch = _at_once(function, programs, space, metric)
        return cls(train_batch, metric, space, direction, not by_structure, programs, gradients)

    @property
    def default_algorithm(self) -> AlgorithmFactory:
        """`bojax.bayesopt`, which learns from the derivatives where there are any."""
        return gradient_bayesopt if self.gradients else bayesopt


def as_dict(metrics: Any) -> dict[str, Any]:
    """Metrics by name; one number is called "value"."""
    return metrics if isinstance(metrics, dict) else {"value": metrics}


def check_metric(metrics: Mapping[str, Any], metric: str) -> None:
    """Raises KeyError if the tuned metric is missing."""
    if metric not in metrics:
        raise KeyError(f"the objective gives no metric {metric!r}; it gives {sorted(metrics)}.")


def _function(objective: Any) -> Callable[[Any, Any], tuple[Any, dict[str, Any]]]:
    """A training function with an empty dict of derivatives."""
    function = getattr(objective, "train", objective)
    if not callable(function):
        raise TypeError(f"`objective` must be a function or have a method `train`, got {objective!r}.")
    return lambda key, hparams: (function(key, hparams), {})


def _gradient_function(objective: Any, differentiable: Any, metric: str, space: Space) -> Callable[[Any, Any], Any]:
    """The objective's own `value_and_grad`, or the derivative of its training function."""
    if differentiable is not None:
        return _checked(differentiable)
    return _differentiated(getattr(objective, "train", objective), metric, space)


def _checked(function):
    """The objective's own `value_and_grad`, whose result is checked."""
    if not callable(function):
        raise TypeError(f"`value_and_grad` of the objective must be a function, got {function!r}.")

    def value_and_grad(key, hparams):
        result = function(key, hparams)
        if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], Mapping) and result[1]):
            raise TypeError(
                "`value_and_grad` must return a pair of the metrics and a dict of derivatives that is not empty, got "
                f"{jax.tree.map(lambda leaf: getattr(leaf, 'aval', leaf), result)}."
            )
        return result

    return value_and_grad


def _differentiated(function, metric, space):
    """`value_and_grad` of a training function, through the training."""
    if not callable(function):
        raise TypeError(
            f"`gradients` needs an objective with `value_and_grad` or `train`, or a function, got {function!r}."
        )
    names = [name for name in space if not space[name].num_values]
    if not names:
        raise TypeError(
            f"`gradients` needs a Float without `step` to differentiate by, the space has only {list(space)}."
        )

    def value_and_grad(key, hparams):
        def tuned(floats):
            metrics = as_dict(function(key, {**hparams, **floats}))
            check_metric(metrics, metric)
            _check_smooth(metrics[metric], metric)
            return metrics[metric], metrics

        grads, metrics = jax.grad(tuned, has_aux=True)({name: hparams[name] for name in names})
        return metrics, grads

    return value_and_grad


def _by_structure(objective, programs):
    def train_batch(keys, hparams):
        population = Population(objective, keys, hparams)
        population.advance(objective.num_steps)
        metrics = population.evaluate()
        programs.update(population.programs)
        return metrics, {}

    return train_batch


def _at_once(function, programs, space, metric):
    """One program for a function from a key and scalars to metrics and derivatives; its first call is checked."""

    def train(key, hparams):
        metrics, grads = function(key, hparams)
        return as_dict(metrics), dict(grads)

    compiled = jax.jit(jax.vmap(train))

    def train_batch(keys, hparams):
        if not programs:
            check_choices(space, functools.partial(train, keys[0]), _scalars(hparams))
            traced = compiled.trace(keys, hparams)  # which the call below does not trace again
            metrics, grads = traced.out_info
            outputs = jax.tree.leaves(({name: name == metric for name in metrics}, dict.fromkeys(grads, False)))
            live = live_inputs(traced.jaxpr.jaxpr, outputs)[-len(hparams) :]
            if metric in metrics:
                warn_of_unread(space, [name for name, used in zip(sorted(hparams), live, strict=True) if not used])
        trained = jax.device_get(compiled(keys, hparams))
        programs.add(("train", keys.shape[0]))
        return trained

    return train_batch


def _scalars(hparams: Mapping[str, Any]) -> dict[str, Any]:
    """The shapes of one configuration of a batch, as a program sees them."""
    return {name: jax.ShapeDtypeStruct((), jax.dtypes.canonicalize_dtype(c.dtype)) for name, c in hparams.items()}


def _check_smooth(value: Any, metric: str) -> None:
    """Raises TypeError unless it is one floating-point number, as `jax.grad` needs."""
    array = value if hasattr(value, "dtype") else np.asarray(value)
    if array.shape != () or not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(
            f"`gradients` needs a metric that is one floating-point number, {metric!r} is {array.dtype} of shape "
            f"{list(array.shape)}. Tune a loss, or leave gradients out."
        )
