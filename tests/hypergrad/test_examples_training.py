"""Worked examples in which the training run itself has hyperparameters. Copy them.

Each example is a function that returns what it reached; the test below it says what that must be.
"""

from typing import NamedTuple

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx
from sklearn.model_selection import train_test_split

from bojax import hypergrad as hg
from models.mlp import MLP
from tests.hypergrad import tables


def cross_entropy(logits, labels):
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))


# A learning rate for every step.


class Schedules(NamedTuple):
    """Validation and test cross entropy with the best constant learning rate and with the learned schedule."""

    constant: tuple[float, float]
    learned: tuple[float, float]


def network(w, X):
    """A multilayer perceptron 64-32-10; biases are rows."""
    return jnp.tanh(X @ w["hidden"]["kernel"] + w["hidden"]["bias"]) @ w["head"]["kernel"] + w["head"]["bias"]


def initial(key):
    def layer(key, fan_in, fan_out):
        return {"kernel": jax.random.normal(key, (fan_in, fan_out)) / fan_in**0.5, "bias": jnp.zeros((1, fan_out))}

    hidden, head = jax.random.split(key)
    return {"hidden": layer(hidden, 64, 32), "head": layer(head, 32, 10)}


def learn_schedule(seed, num_outer_steps, num_steps=100):
    """One learning rate for each of 100 steps of momentum SGD and a weight decay for each layer: 102 hyperparameters.

    The search starts at the best of 16 constant rates.
    """
    train, valid, test = tables.digits(seed)
    w0 = initial(jax.random.key(seed))

    def inner_loss(w, h, data):
        X, y = data
        return cross_entropy(network(w, X), y) + hg.l2(w, h["log_decay"])

    def outer_loss(w, h, data):
        X, y = data
        return cross_entropy(network(w, X), y)

    def optimizer(h):
        return optax.sgd(hg.Schedule(jnp.exp(h["log_rates"]), num_steps, "piecewise"), momentum=0.9)

    fn = hg.hypergradient(inner_loss, outer_loss, method=hg.Unrolled(optimizer, num_steps))

    def start(log_rate):
        decays = {"hidden": jnp.log(1e-4), "head": jnp.log(1e-4)}
        return {"log_rates": jnp.full(num_steps, log_rate), "log_decay": decays}

    grid = jnp.linspace(jnp.log(0.01), jnp.log(3.0), 16)
    constant = jax.jit(lambda grid: jax.lax.map(lambda r: fn(start(r), w0, train, valid)._replace(grad=None), grid))(grid)
    best = jnp.nanargmin(constant.value)
    learned = jax.jit(
        lambda h: hg.optimize(
            fn, h, w0, train, valid, num_steps=num_outer_steps, optimizer=optax.adam(0.05), warm_start=False
        )
    )(start(grid[best]))
    test_loss = lambda w: float(outer_loss(w, None, test))  # noqa: E731
    return grid,best,learned, Schedules(
        (float(constant.value[best]), test_loss(jax.tree.map(lambda a: a[best], constant.params))),
        (float(learned.value), test_loss(learned.params)),
    )
