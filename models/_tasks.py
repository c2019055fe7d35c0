"""Tasks: the loss and the score that a model is trained for.

A task turns outputs and targets into one loss and one score per example; the training run averages them.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

WORST_LOSS = 1e6  # the loss of a diverged run, and the largest of all losses, so that divergence is never better


class Task(NamedTuple):
    """A loss and a score.

    Attributes:
        loss: ``loss(outputs, targets, smoothing) -> [n]``, what is minimized; ``smoothing`` in [0, 1).
        measures: ``measures(outputs, targets) -> {name: [n]}``, reported as means, finite for finite outputs.
        worst: the value of a measure if an example's outputs are not finite; also the bound of reported values.
    """

    loss: Callable[[Any, Any, Array], Array]
    measures: Callable[[Any, Any], dict[str, Array]]
    worst: dict[str, float]


def smoothed_cross_entropy(logits: Array, labels: Array, smoothing: Array) -> Array:
    """Cross entropy with a fraction ``smoothing`` of every label spread over all classes; [..., k], [...] -> [...].

    Szegedy et al. (2016, arXiv:1512.00567).
    """
    exact = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    spread = -jnp.mean(jax.nn.log_softmax(logits), axis=-1)
    return (1 - smoothing) * exact + smoothing * spread


def _classification_measures(logits, labels):
    return {
        "loss": optax.softmax_cross_entropy_with_integer_labels(logits, labels),
        "accuracy": (jnp.argmax(logits, axis=-1) == labels).astype(jnp.float32),
    }


classification = Task(smoothed_cross_entropy, _classification_measures, {"loss": WORST_LOSS, "accuracy": 0.0})
"""Logits [n, k] and labels [n]."""


def _regression_loss(outputs, targets, smoothing):
    del smoothing
    return jnp.square(outputs[..., 0] - targets)


regression = Task(
    _regression_loss, lambda outputs, targets: {"loss": _regression_loss(outputs, targets, None)}, {"loss": WORST_LOSS}
)
"""Outputs [n, 1] and standardized targets [n]; the loss is the squared error, so 1 is no better than the mean."""


def _sequence_loss(logits, tokens, smoothing):
    return jnp.mean(smoothed_cross_entropy(logits, tokens, smoothing), axis=-1)


def _sequence_measures(logits, tokens):
    right = jnp.argmax(logits, axis=-1) == tokens
    return {
        "loss": _sequence_loss(logits, tokens, 0.0),
        "accuracy": jnp.mean(right.astype(jnp.float32), axis=-1),
        "exact_match": jnp.all(right, axis=-1).astype(jnp.float32),
    }


sequence = Task(_sequence_loss, _sequence_measures, {"loss": WORST_LOSS, "accuracy": 0.0, "exact_match": 0.0})
"""Logits [n, t, k] and tokens [n, t], every token predicted from the true ones before it.

The most probable token is right at every position exactly if greedy decoding gives the whole sequence.
"""


def _language_measures(logits, tokens):
    loss = _sequence_loss(logits, tokens, 0.0)
    return {"loss": loss, "bits_per_character": loss / jnp.log(2.0).astype(loss.dtype)}


language = Task(_sequence_loss, _language_measures, {"loss": WORST_LOSS, "bits_per_character": WORST_LOSS})
"""Logits [n, t, k] and the characters that follow, [n, t]."""
