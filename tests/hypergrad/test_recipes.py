"""Short recipes for hyperparameters that are not penalties. Copy them.

Each is checked against finite differences and shown to lower the validation loss.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bojax import hypergrad as hg
from tests.hypergrad import tables


def improve(fn, hparams, w0, train, valid, num_steps, **kwargs):
    """The check of the hypergradient at the start, and what gradient descent from there reaches."""
    check = hg.check_hypergradient(fn, hparams, w0, train, valid)
    assert check.cosine > 0.999999 and check.relative_error < 1e-5
    search = jax.jit(lambda h: hg.optimize(fn, h, w0, train, valid, num_steps=num_steps, **kwargs))
    return search(hparams)


# Shares of several sources of data.


def cross_entropies(w, data):
    X, labels = data
    return optax.softmax_cross_entropy_with_integer_labels(X @ w, labels)


@pytest.mark.long
def test_shares_of_sources(x64):
    """Four sources of digits, of whose labels 0, 0, 50 and 90 percent are drawn anew: the last two should count less.

    The shares are those of the sources' mean losses in the inner loss.
    """
    train, valid = tables.digits(seed=0, sizes=(400, 400, 997))[:2]
    rng = np.random.default_rng(0)
    X, labels = train[0].reshape(4, 100, 64), np.asarray(train[1]).reshape(4, 100)
    redrawn = rng.uniform(size=(4, 100)) < np.array([[0.0], [0.0], [0.5], [0.9]])
    sources = X, jnp.asarray(np.where(redrawn, rng.integers(0, 10, (4, 100)), labels))

    def inner_loss(w, h, sources):
        losses = jax.vmap(cross_entropies, (None, 0))(w, sources)
        return hg.simplex(h["logits"]) @ jnp.mean(losses, axis=1) + hg.l2(w, jnp.log(1e-2))

    def outer_loss(w, h, data):
        return jnp.mean(cross_entropies(w, data))

    fn = hg.hypergradient(inner_loss, outer_loss)
    result = improve(
        fn, {"logits": jnp.zeros(4)}, jnp.zeros((64, 10)), sources, valid, num_steps=30, optimizer=optax.adam(0.2)
    )
    shares = hg.simplex(result.hparams["logits"])
    assert result.value < 0.8 * result.history.value[0]
    assert shares[:2].min() > 5 * shares[2:].max()


# The strength of an augmentation.


@pytest.mark.slow
def test_strength_of_noise(x64):
    """Noise on the features of a small training set; its strength is learned through x + strength * noise.

    The noise is drawn once and part of the data, as a key could be, so that every evaluation sees the same draws:
    values can be compared, and the strength has a derivative. The search starts with too much.
    """
    (X, y), valid, _ = tables.cancer(seed=0)
    train = (X[:40], y[:40], jax.random.normal(jax.random.key(0), (10, 40, 30), X.dtype))

    def loss(w, X, y):
        return jnp.mean(optax.sigmoid_binary_cross_entropy(X @ w["slope"] + w["bias"], y))

    def inner_loss(w, h, data):
        X, y, noise = data
        noisy = X[None] + hg.positive(h["strength"]) * noise
        return jnp.mean(jax.vmap(loss, (None, 0, None))(w, noisy, y)) + hg.l2(w, jnp.log(1e-3))

    def outer_loss(w, h, data):
        return loss(w, *data)

    w0 = {"slope": jnp.zeros(30), "bias": jnp.zeros(())}
    fn = hg.hypergradient(inner_loss, outer_loss)
    result = improve(fn, {"strength": 3.0}, w0, train, valid, num_steps=25, optimizer=optax.adam(0.2))
    none = jax.jit(fn)({"strength": -30.0}, w0, train, valid).value
    assert result.value < 0.8 * result.history.value[0] and result.value < 0.8 * none


@pytest.mark.long
@pytest.mark.parametrize("strength", [-2.0, 0.5])
def test_other_noise_in_each_evaluation_has_no_derivative(x64, strength):
    """What the same key is for: values under fresh keys differ by far more than the difference wanted."""
    value = lambda key, s: jnp.mean((1.0 + hg.positive(s) * jax.random.normal(key, (100,))) ** 2)  # noqa: E731
    slope = jax.grad(value, argnums=1)(jax.random.key(0), strength)
    step = 1e-3
    difference = lambda ahead, behind: (value(ahead, strength + step) - value(behind, strength - step)) / (2 * step)  # noqa: E731
    keys = jax.random.split(jax.random.key(0), 2)
    same, fresh = difference(jax.random.key(0), jax.random.key(0)), difference(*keys)
    assert same == pytest.approx(float(slope), rel=1e-5)
    assert abs(fresh - slope) > 10 * abs(same - slope)
