"""The training run that all models share, as pure functions of a state.

It does not branch on traced hyperparameters, so a batch of configurations trains under `vmap` as one program. A
configuration that diverges does not affect the others: its non-finite numbers stay in its own lane, and its evaluation
returns the worst finite score.

The length of a run is fixed in steps. All randomness is a function of the run's key and the number of steps done,
never of the sizes of arrays: a configuration is the same run alone, in a batch, in arrays of a larger size, and cut
into parts.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jax import Array, lax
from jax.core import Tracer

from ._objective import Hparams, Objective, Program, Spec
from ._optimizers import SelectableState, selectable
from ._schedules import schedule
from ._structure import NO_SHAPES, Shapes, Structure, dispatch, structure_fn
from ._tasks import Task
from .data.splits import Dataset

_EVALUATION_BATCH = 128  # examples evaluated at once: bounds the memory of a vmapped evaluation
_EVALUATED = 1024  # examples of a part that are evaluated, at most


class TrainState(NamedTuple):
    """A run after some steps.

    Attributes:
        params: parameters of the model.
        optimizer: moments, and the number of steps done.
        batch_key: seeds the order of examples.
        dropout_key: seeds dropout.
    """

    params: Any
    optimizer: SelectableState
    batch_key: Array
    dropout_key: Array


def make_objective(
    name: str,
    description: str,
    space: Spec,
    model: Callable[[dict[str, Any]], nn.Module],
    load: Callable[[], Dataset],
    task: Task,
    *,
    metric: str,
    direction: str = "maximize",
    num_steps: int,
    shapes: Shapes = NO_SHAPES,
) -> Objective:
    """Builds an objective of a model on a data set.

    Args:
        name: identifier, for example ``"digits_mlp"``.
        description: one line for a listing.
        space: the search space as plain data; holds `training_space`.
        model: a function from the structure of a configuration, as a dict, to a linen module called as
            ``module(inputs, hparams, dropout_key | None) -> outputs``; without a key it evaluates.
        load: returns the data; called when a function is traced, not before.
        task: the loss and the measures.
        metric: the measure to tune, for example ``"validation_loss"``.
        direction: ``"maximize"`` or ``"minimize"``, for ``metric``.
        num_steps: gradient steps in a full run; learning-rate schedules are laid out for it.
        shapes: the hyperparameters that determine the shapes of arrays.

    Returns:
        The objective. Its metrics are the task's measures of each part, for example ``validation_loss``, after the
        last step, without dropout and label smoothing.

    Raises:
        ValueError: if ``num_steps`` is below 1; and from the functions, if the names in ``hparams`` are not
            the space's.

    Example:
        >>> import numpy as np
        >>> from flax import linen as nn
        >>> from bojax.models import Dataset, Split, classification, make_objective, training_space
        >>> class Linear(nn.Module):
        ...     @nn.compact
        ...     def __call__(self, inputs, hparams, dropout_key=None):
        ...         return nn.Dense(2)(inputs)
        >>> def load():
        ...     X = np.linspace(-1, 1, 48, dtype=np.float32)[:, None]
        ...     y = (X[:, 0] > 0).astype(np.int32)
        ...     return Dataset(*(Split(X[i::3], y[i::3]) for i in range(3)))
        >>> line = make_objective("line", "A line", training_space((4, 8)), lambda structure: Linear(), load,
        ...                       classification, metric="validation_loss", direction="minimize", num_steps=30)
        >>> line.rungs, line.kind("learning_rate")
        ((10, 30), 'traced')
    """

    def programs(num_steps: int) -> Callable[[Structure], Program]:
        @cache
        def program(structure: Structure) -> Program:
            static = dict(structure)
            return _program(space, model(static), load, task, num_steps, static)

        return program

    return from_programs(
        name, description, space, programs, metric=metric, direction=direction, num_steps=num_steps, shapes=shapes
    )


def from_programs(
    name: str,
    description: str,
    space: Spec,
    programs: Callable[[int], Callable[[Structure], Program]],
    *,
    metric: str,
    direction: str,
    num_steps: int,
    shapes: Shapes = NO_SHAPES,
    value_and_grad: Callable[..., Any] | None = None,
) -> Objective:
    """Builds an objective from the programs of its structures, described as in `make_objective`.

    ``programs(num_steps)(structure)`` returns the same `Program` for a structure each time. ``value_and_grad(key,
    hparams, num_steps)`` is for differentiable objectives, see `Objective`.
    """
    if num_steps < 1:
        raise ValueError(f"`num_steps` must be at least 1, got {num_steps}.")
    program, rungs = programs(num_steps), default_rungs(num_steps)

    def train(key: Array, hparams: Hparams, num_steps: Any = num_steps) -> dict[str, Array]:
        h = to_arrays(space, hparams)

        def run(structure):
            init, advance, evaluate = program(structure)
            return evaluate(advance(init(key, h), h, num_steps), h)

        return dispatch(space, shapes, h, run)

    def curve(key: Array, hparams: Hparams, rungs: tuple[int, ...] = rungs) -> dict[str, Array]:
        h = to_arrays(space, hparams)
        lengths = jnp.asarray(np.diff([0, *rungs]), jnp.int32)

        def run(structure):
            init, advance, evaluate = program(structure)

            def leg(state, length):
                state = advance(state, h, length)
                return state, evaluate(state, h)

            return lax.scan(leg, init(key, h), lengths)[1]

        return dispatch(space, shapes, h, run)

    def rebuild(num_steps: int) -> Objective:
        return from_programs(
            name,
            description,
            space,
            programs,
            metric=metric,
            direction=direction,
            num_steps=num_steps,
            shapes=shapes,
            value_and_grad=value_and_grad,
        )

    return Objective(
        name=name,
        description=description,
        space=space,
        train=train,
        curve=curve,
        metric=metric,
        direction=direction,
        num_steps=num_steps,
        rungs=rungs,
        structure=structure_fn(space, shapes),
        program=program,
        rebuild=rebuild,
        structural=shapes.structural,
        sizes=dict(shapes.sizes),
        value_and_grad=None if value_and_grad is None else partial(value_and_grad, num_steps=num_steps),
    )


def default_rungs(num_steps: int) -> tuple[int, ...]:
    """A full run, a third of it, a ninth, ... down to about ten steps; ascending."""
    rungs = [num_steps]
    while rungs[0] >= 30:
        rungs.insert(0, -(-rungs[0] // 3))
    return tuple(rungs)


def _program(space, module, load, task, num_steps, static) -> Program:
    batch_sizes = np.asarray(space["batch_size"]["values"], np.int32)
    max_batch = int(static.get("batch_size", batch_sizes.max()))

    def predict(params: Any, inputs: Any, h: Hparams, step_key: Array | None = None) -> Any:
        return module.apply({"params": params}, inputs, h, step_key)

    def init(key: Array, hparams: Hparams) -> TrainState:
        data, h = load(), to_arrays(space, hparams)
        init_key, batch_key, dropout_key = jax.random.split(key, 3)
        params = module.init(init_key, _take(data.train.inputs, slice(0, 1)), h, None)["params"]
        params = jax.tree.map(lambda p: h["init_scale"] * p if p.ndim > 1 else p, params)
        moments = cast(SelectableState, _optimizer(h, num_steps).init(params))
        return TrainState(params, moments, batch_key, dropout_key)

    def advance(state: TrainState, hparams: Hparams, steps: Any) -> TrainState:
        data, h = load(), to_arrays(space, hparams)
        optimizer = _optimizer(h, num_steps)
        inputs, targets = jax.tree.map(jnp.asarray, tuple(data.train))
        batch_size = jnp.minimum(jnp.asarray(batch_sizes)[h["batch_size"]], max_batch)
        batches = batch_indices(state.batch_key, len(data.train.targets), batch_size, max_batch, num_steps)
        live = (jnp.arange(max_batch, dtype=jnp.int32) < batch_size).astype(jnp.float32)
        smoothing = h.get("label_smoothing", jnp.float32(0))

        def loss(params, rows, step_key):
            outputs = predict(params, _take(inputs, rows), h, step_key)
            losses = task.loss(outputs, targets[rows], smoothing)
            # Rows beyond the batch are removed before the product, since their losses may be infinite.
            return jnp.sum(jnp.where(live > 0, losses, 0.0)) / batch_size.astype(jnp.float32)

        def step(_, carry):
            params, state = carry
            rows, step_key = batches[state.count % num_steps], jax.random.fold_in(dropout_key, state.count)
            grads = clip(jax.grad(loss)(params, rows, step_key), h["clip_norm"])
            updates, state = optimizer.update(grads, state, params)
            return optax.apply_updates(params, updates), state

        dropout_key = state.dropout_key
        params, optimizer_state = lax.fori_loop(0, steps, step, (state.params, state.optimizer))
        return state._replace(params=params, optimizer=optimizer_state)

    def evaluate(state: TrainState, hparams: Hparams) -> dict[str, Array]:
        h = to_arrays(space, hparams)
        return evaluate_parts(lambda inputs: predict(state.params, inputs, h), load(), task)

    return Program(init, advance, evaluate)


def _optimizer(h: Hparams, num_steps: int) -> optax.GradientTransformation:
    rate = schedule(h["schedule"], h["learning_rate"], h["warmup"], num_steps)
    return selectable(h["optimizer"], rate, h["weight_decay"])


def clip(grads: Any, max_norm: Array) -> Any:
    """Gradients scaled so that their joint norm is at most ``max_norm`` (Pascanu et al., 2013)."""
    # Bounded below before the root, which has no derivative at 0.
    norm = jnp.sqrt(jnp.maximum(optax.tree.norm(grads, squared=True), 1e-24))
    factor = jnp.minimum(1.0, max_norm / norm)
    return jax.tree.map(lambda g: factor * g, grads)


def batch_indices(key: Array, num_examples: int, batch_size: Array, max_batch: int, num_steps: int) -> Array:
    """The examples of every step: concatenated shuffled epochs, divided into batches of ``batch_size``.

    Args:
        key: seeds the shuffles.
        num_examples: examples in the train part.
        batch_size: int32 scalar, at most ``max_batch``; may be traced.
        max_batch: the largest batch.
        num_steps: length of the run.

    Returns:
        [num_steps, max_batch] int32. The first ``batch_size`` entries of a row are the batch; mask the others.
    """
    num_epochs = -(-num_steps * max_batch // num_examples)
    keys = jax.vmap(lambda epoch: jax.random.fold_in(key, epoch))(jnp.arange(num_epochs, dtype=jnp.int32))
    shuffles = jax.vmap(lambda k: jnp.argsort(jax.random.bits(k, (num_examples,), jnp.uint32)))(keys)
    start = jnp.arange(num_steps, dtype=jnp.int32) * batch_size
    offset = jnp.arange(max_batch, dtype=jnp.int32)
    return shuffles.astype(jnp.int32).reshape(-1)[start[:, None] + offset[None, :]]


def to_arrays(space: Spec, hparams: Hparams) -> dict[str, Array]:
    """Floats to float32, everything else to int32, whatever the caller's dtypes; concrete numbers stay concrete."""
    if set(hparams) != set(space):
        raise ValueError(
            f"`hparams` must hold exactly {sorted(space)}, got {sorted(hparams)}. "
            "Categorical and ordinal hyperparameters are given by their position."
        )

    def convert(name):
        dtype = np.float32 if space[name]["type"] == "float" else np.int32
        value = hparams[name]
        return value.astype(dtype) if isinstance(value, Tracer) else np.asarray(value, dtype)

    return cast(dict[str, Array], {name: convert(name) for name in space})


def _take(inputs: Any, rows: Any) -> Any:
    return jax.tree.map(lambda a: a[rows], inputs)


def evaluate_parts(predict: Callable[[Any], Any], data: Dataset, task: Task) -> dict[str, Array]:
    """Mean measures of the three parts, bounded by the task's worst."""
    parts = [_take(tuple(part), slice(0, _EVALUATED)) for part in data]
    counts = [len(targets) for _, targets in parts]
    num_batches = -(-sum(counts) // _EVALUATION_BATCH)

    def batched(*arrays):
        joined = np.concatenate(arrays)
        padding = np.zeros((num_batches * _EVALUATION_BATCH - len(joined), *joined.shape[1:]), joined.dtype)
        return jnp.asarray(np.concatenate([joined, padding]).reshape(num_batches, -1, *joined.shape[1:]))

    inputs, targets = jax.tree.map(batched, *parts)

    def measure(batch):
        outputs = predict(batch[0])
        finite = jnp.all(jnp.isfinite(outputs.reshape(outputs.shape[0], -1)), axis=-1)
        measures = task.measures(outputs, batch[1])
        return {name: jnp.where(finite, m, task.worst[name]) for name, m in measures.items()}

    # One pass over all three parts, so that the program contains the evaluation once.
    measures = lax.map(measure, (inputs, targets))
    cuts = np.cumsum(counts).tolist()
    metrics = {}
    for name, values in measures.items():
        for part, mean in zip(data._fields, jnp.split(values.reshape(-1), cuts)[:3], strict=True):
            metrics[f"{part}_{name}"] = _bounded(jnp.mean(mean), task.worst[name])
    return metrics


def _bounded(mean: Array, worst: float) -> Array:
    """The mean, bounded by the worst value, which also replaces NaN."""
    limit = jnp.minimum if worst > 0 else jnp.maximum
    return jnp.where(jnp.isnan(mean), worst, limit(mean, worst)).astype(jnp.float32)
