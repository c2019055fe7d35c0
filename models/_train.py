"""The training run shared by the zoo's classifiers: one `lax.scan` over gradient steps.

The run is a pure function of a key and a dictionary of scalars. Nothing in it branches on a hyperparameter,
so a batch of q configurations trains under `vmap` as one program, and one that diverges costs its neighbours
nothing: its non-finite numbers stay in its own lane and are turned into the worst finite score at the end.

The length of the run is fixed in steps. A smaller ``batch_size`` sees fewer examples; it costs the same,
since a batch is a mask over the largest one.
"""

from collections.abc import Callable, Mapping
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jax import Array, lax

from ._data import Dataset, Split
from ._objective import Spec, TrainFn
from ._optimizers import selectable, warmup_cosine

WORST_LOSS = 1e6  # what a diverged run reports, and the ceiling of every loss, so that diverging never looks better
_EVALUATION_BATCH = 128  # examples evaluated at once: bounds the memory of a vmapped evaluation


def make_train(module: nn.Module, space: Spec, load: Callable[[], Dataset], num_steps: int) -> TrainFn:
    """Builds ``train(key, hparams) -> metrics`` for one module on one data set.

    Args:
        module: linen module called as ``module(images [n, 8, 8], hparams, dropout_key | None) -> logits [n,
            k]``; without a key it evaluates.
        space: the search space; must hold ``learning_rate``, ``weight_decay``, ``optimizer`` and
        ``batch_size``.
        load: returns the data; called when the function is traced, not before.
        num_steps: gradient steps, at least 1.

    Returns:
        The pure training function; see `Objective.train`. Metrics: ``train_loss``, ``validation_loss``,
        ``validation_accuracy``, ``test_loss``, ``test_accuracy``, all measured after the last step, without
        dropout.

    Raises:
        ValueError: if ``num_steps`` is below 1; and from the function, if the names in ``hparams`` are not
            the space's.
    """
    if num_steps < 1:
        raise ValueError(f"`num_steps` must be at least 1, got {num_steps}.")
    batch_sizes = space["batch_size"]["values"]

    def train(key: Array, hparams: Mapping[str, Any]) -> dict[str, Array]:
        data = load()
        h = _to_arrays(space, hparams)
        batch_size = jnp.asarray(batch_sizes, jnp.int32)[h["batch_size"]]
        init_key, batch_key, dropout_key = jax.random.split(key, 3)
        images, labels = jnp.asarray(data.train.images), jnp.asarray(data.train.labels)
        live = (jnp.arange(max(batch_sizes), dtype=jnp.int32) < batch_size).astype(jnp.float32)
        optimizer = selectable(h["optimizer"], warmup_cosine(h["learning_rate"], num_steps), h["weight_decay"])

        def predict(params: Any, x: Array, step_key: Array | None = None) -> Array:
            return cast(Array, module.apply({"params": params}, x, h, step_key))

        def loss(params, batch, step_key):
            logits = predict(params, images[batch], step_key)
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels[batch])
            return jnp.sum(losses * live) / batch_size.astype(jnp.float32)

        def step(carry, batch):
            params, state = carry
            grads = jax.grad(loss)(params, batch, jax.random.fold_in(dropout_key, state.count))
            updates, state = optimizer.update(grads, state, params)
            return (optax.apply_updates(params, updates), state), None

        params = module.init(init_key, images[:1], h)["params"]
        batches = batch_indices(batch_key, len(labels), batch_size, max(batch_sizes), num_steps)
        (trained, _), _ = lax.scan(step, (params, optimizer.init(params)), batches)

        losses, correct = _evaluate(lambda x: predict(trained, x), data)
        train_loss, validation_loss, test_loss = losses
        _, validation_accuracy, test_accuracy = correct
        return {
            "train_loss": train_loss,
            "validation_loss": validation_loss,
            "validation_accuracy": validation_accuracy,
            "test_loss": test_loss,
            "test_accuracy": test_accuracy,
        }

    return train


def batch_indices(key: Array, num_examples: int, batch_size: Array, max_batch: int, num_steps: int) -> Array:
    """Which examples every step sees: shuffled epochs end to end, cut into batches of ``batch_size``.

    Args:
        key: seeds the shuffles.
        num_examples: examples in the train part.
        batch_size: int32 scalar, at most ``max_batch``; may be traced.
        max_batch: the largest batch.
        num_steps: length of the run.

    Returns:
        [num_steps, max_batch] int32. The first ``batch_size`` of a row are the batch, the others are to be
        masked.
    """
    num_epochs = -(-num_steps * max_batch // num_examples)
    shuffles = jnp.argsort(jax.random.bits(key, (num_epochs, num_examples), jnp.uint32), axis=1)
    start = jnp.arange(num_steps, dtype=jnp.int32) * batch_size
    offset = jnp.arange(max_batch, dtype=jnp.int32)
    return shuffles.astype(jnp.int32).reshape(-1)[start[:, None] + offset[None, :]]


def _to_arrays(space: Spec, hparams: Mapping[str, Any]) -> dict[str, Array]:
    """Floats to float32, everything else to int32, whatever the caller's dtypes."""
    if set(hparams) != set(space):
        raise ValueError(
            f"`hparams` must hold exactly {sorted(space)}, got {sorted(hparams)}. "
            "Categorical and ordinal hyperparameters are given by their position."
        )
    dtypes = {name: jnp.float32 if entry["type"] == "float" else jnp.int32 for name, entry in space.items()}
    return {name: jnp.asarray(hparams[name]).astype(dtypes[name]) for name in space}


def _evaluate(predict: Callable[[Array], Array], data: Dataset) -> tuple[list[Array], list[Array]]:
    """Mean losses, at most `WORST_LOSS`, and accuracies of the three parts.

    An example with a non-finite logit counts as a wrong one.
    """
    images, labels = (np.concatenate([getattr(split, name) for split in data]) for name in Split._fields)
    num_batches = -(-len(labels) // _EVALUATION_BATCH)
    padding = np.zeros((num_batches * _EVALUATION_BATCH - len(labels), *images.shape[1:]), np.float32)
    batches = np.concatenate([images, padding]).reshape(num_batches, _EVALUATION_BATCH, *images.shape[1:])
    # One pass over all three parts: evaluation stands in the program once, not three times.
    logits = lax.map(predict, jnp.asarray(batches))
    logits = logits.reshape(-1, logits.shape[-1])[: len(labels)]

    losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.asarray(labels))
    correct = (jnp.argmax(logits, axis=-1) == labels) & jnp.all(jnp.isfinite(logits), axis=-1)
    cuts = np.cumsum([len(split.labels) for split in data])[:-1].tolist()
    losses = [jnp.mean(part) for part in jnp.split(losses, cuts)]
    losses = [jnp.where(jnp.isfinite(loss), jnp.minimum(loss, WORST_LOSS), WORST_LOSS) for loss in losses]
    return losses, [jnp.mean(part.astype(jnp.float32)) for part in jnp.split(correct, cuts)]
