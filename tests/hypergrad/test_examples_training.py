"""Worked examples in which the training run itself has hyperparameters. Copy them.

Each example is a function that returns what it reached; the test below it says what that must be.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from sklearn.model_selection import train_test_split

from bojax import hypergrad as hg
from models.mlp import MLP
from tests.hypergrad import tables


def cross_entropy(logits, labels):
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))


# A learning rate for every step.


class Schedules(NamedTuple):
    """(validation, test) cross entropy with the best constant learning rate and with the learned schedule."""

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

    The search starts at a quarter of the best of 16 constant rates, away from where training gets unstable. Clipping
    lets Adam forget a step that did.
    """
    (X, y), *rest = tables.digits(seed)
    train, valid, test = (((Z - X.mean()) / X.std(), labels) for Z, labels in [(X, y), *rest])
    w0 = initial(jax.random.key(seed))

    def inner_loss(w, h, data):
        return outer_loss(w, h, data) + hg.l2(w, h["log_decay"])

    def outer_loss(w, h, data):
        X, y = data
        return cross_entropy(network(w, X), y)

    def optimizer(h):
        return optax.sgd(hg.Schedule(jnp.exp(h["log_rates"]), num_steps, "piecewise"), momentum=0.9)

    def start(log_rate):
        decays = {"hidden": jnp.log(3e-4), "head": jnp.log(3e-4)}
        return {"log_rates": jnp.full(num_steps, log_rate), "log_decay": decays}

    fn = hg.hypergradient(inner_loss, outer_loss, method=hg.Unrolled(optimizer, num_steps))

    @jax.jit
    def constant(log_rate):
        result = fn(start(log_rate), w0, train, valid)
        return result.value, outer_loss(result.params, None, test)

    @jax.jit
    def search(h):
        adam = optax.chain(optax.clip_by_global_norm(0.1), optax.adam(0.05))
        return hg.optimize(fn, h, hg.ColdStart(w0), train, valid, num_steps=num_outer_steps, optimizer=adam)

    grid = np.linspace(np.log(0.01), np.log(3.0), 16)
    losses = np.array([constant(log_rate) for log_rate in grid])
    best = np.nanargmin(losses[:, 0])
    learned = search(start(grid[best] + np.log(0.25)))
    return Schedules(tuple(losses[best]), (float(learned.value), float(outer_loss(learned.params, None, test))))


@pytest.mark.slow
def test_a_learned_schedule_beats_constant_rates():
    result = learn_schedule(seed=2, num_outer_steps=80)
    assert result.learned[0] < 0.75 * result.constant[0]


@pytest.mark.slow
def test_a_learned_schedule_halves_the_validation_loss_in_the_mean():
    results = [learn_schedule(seed, num_outer_steps=100) for seed in range(5)]
    constant, learned = (np.mean([getattr(r, name) for r in results], 0) for name in ("constant", "learned"))
    assert learned[0] <= 0.5 * constant[0]
    assert learned[1] <= constant[1]


# A weight decay for each layer of a Flax model.


def tune_layers(apply, w0, log_decay, num_outer_steps=30):
    """Decays of layers, a tree prefix of the parameters w0, of a model that is trained for 100 steps.

    Returns the result of the search and the hypergradients' check at its start.
    """
    train, valid = tables.digits(seed=0, sizes=(200, 500, 1097))[:2]

    def loss(w, h, data):
        X, y = data
        return cross_entropy(apply(w, X), y)

    def penalised(w, h, data):
        return loss(w, h, data) + hg.l2(w, h)

    method = hg.Unrolled(optax.sgd(0.3, momentum=0.9), num_steps=100)
    fn = hg.hypergradient(penalised, loss, method=method)

    @jax.jit
    def search(h):
        return hg.optimize(fn, h, hg.ColdStart(w0), train, valid, num_steps=num_outer_steps, optimizer=optax.adam(0.2))

    return search(log_decay), hg.check_hypergradient(fn, log_decay, w0, train, valid, step=0.3)


@pytest.mark.slow
def test_decays_of_the_layers_of_a_linen_model():
    model = MLP(max_width=32, max_depth=2)
    architecture = {"width": 32, "depth": 2, "activation": jnp.int32(3)}
    w0 = model.init(jax.random.key(0), jnp.zeros((1, 64)), architecture)["params"]
    apply = lambda w, X: model.apply({"params": w}, X, architecture)  # noqa: E731
    result, check = tune_layers(apply, w0, {name: jnp.log(1e-4) for name in w0})
    assert set(result.hparams) == {"hidden_0", "hidden_1", "head"}
    assert check.cosine > 0.99
    assert result.value < 0.95 * result.history.value[0]
    assert len({round(float(decay), 2) for decay in result.hparams.values()}) == 3


class Net(nnx.Module):
    def __init__(self, rngs):
        self.hidden = nnx.Linear(64, 32, rngs=rngs)
        self.head = nnx.Linear(32, 10, rngs=rngs)

    def __call__(self, X):
        return self.head(nnx.tanh(self.hidden(X)))


@pytest.mark.long
def test_decays_of_the_layers_of_an_nnx_model():
    """The module is split into its form and its parameters; as plain dicts those take decays by the names of layers."""
    form, state = nnx.split(Net(nnx.Rngs(0)))
    w0 = nnx.to_pure_dict(state)
    apply = lambda w, X: nnx.merge(form, w)(X)  # noqa: E731
    result, check = tune_layers(apply, w0, {"hidden": jnp.log(1e-4), "head": jnp.log(1e-4)})
    assert check.cosine > 0.99
    assert result.value < 0.95 * result.history.value[0]


# A published run.


def published_run():
    """The validation losses of the logistic regression example of hypertorch (Grazzi et al. 2020, arXiv:2006.16218).

    Each of 20 features has a penalty; 100 steps of gradient descent, of which the last 10 are differentiated.
    """
    rng = np.random.RandomState(1)
    w = rng.randn(20)
    X = rng.randn(1000, 20)
    y = (X @ w + 0.1 * rng.randn(1000) > 0).astype(float)
    X, V, y, z = (jnp.asarray(a, jnp.float32) for a in train_test_split(X, y, test_size=0.5, random_state=rng))

    def loss(w, h, data):
        X, y = data
        return jnp.mean(optax.sigmoid_binary_cross_entropy(X @ w, y))

    def penalised(w, h, data):
        return loss(w, h, data) + 0.5 * jnp.sum(h * w**2)

    fn = hg.hypergradient(penalised, loss, method=hg.Unrolled(optax.sgd(0.1), num_steps=100, truncate=10))

    @jax.jit
    def search(h):
        sgd = optax.sgd(1.0, momentum=0.9)
        return hg.optimize(
            fn, h, hg.ColdStart(jnp.zeros(20)), (X, y), (V, z), num_steps=201, optimizer=sgd, bounds=(0.0, np.inf)
        )

    return search(jnp.ones(20)).history.value


@pytest.mark.long
def test_published_losses():
    steps = np.array([0, 10, 20, 50, 100, 200])
    np.testing.assert_allclose(
        published_run()[steps], [0.5744, 0.5338, 0.3615, 0.2945, 0.2854, 0.2817], rtol=0, atol=1e-4
    )
