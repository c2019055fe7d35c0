"""What is minimised and what is measured."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from models._tasks import classification, language, regression, sequence, smoothed_cross_entropy


def _logits(*shape):
    return 3 * jax.random.normal(jax.random.key(0), shape)


@pytest.mark.long
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_smoothed_cross_entropy_equals_optax(smoothing):
    logits, labels = _logits(5, 7), jnp.array([0, 3, 6, 3, 1])
    smooth = optax.smooth_labels(jax.nn.one_hot(labels, 7), smoothing)
    expected = optax.softmax_cross_entropy(logits, smooth)
    np.testing.assert_allclose(smoothed_cross_entropy(logits, labels, jnp.float32(smoothing)), expected, rtol=1e-5)
    np.testing.assert_array_equal(
        classification.loss(logits, labels, jnp.float32(smoothing)),
        smoothed_cross_entropy(logits, labels, jnp.float32(smoothing)),
    )


def test_measures_of_classification():
    logits = jnp.array([[0.0, 2.0, 1.0], [3.0, 0.0, 0.0]])
    measures = classification.measures(logits, jnp.array([1, 2]))
    assert measures["accuracy"].tolist() == [1, 0]
    np.testing.assert_allclose(measures["loss"], [np.log(1 + np.e**2 + np.e) - 2, np.log(np.e**3 + 2)], rtol=1e-5)


@pytest.mark.long
def test_measures_of_sequences():
    tokens = jnp.array([[0, 1, 2, 3], [3, 2, 1, 0]])
    guesses = tokens.at[1, 2].set(3)
    logits = _logits(2, 4, 4) + 50 * jax.nn.one_hot(guesses, 4)
    measures = sequence.measures(logits, tokens)
    assert measures["exact_match"].tolist() == [1, 0] and measures["accuracy"].tolist() == [1, 0.75]
    each = optax.softmax_cross_entropy_with_integer_labels(logits, tokens)
    np.testing.assert_allclose(measures["loss"], each.mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(sequence.loss(logits, tokens, jnp.float32(0)), each.mean(axis=1), rtol=1e-6)


@pytest.mark.long
@pytest.mark.parametrize("size", [2, 32])
def test_a_uniform_guess_costs_the_bits_of_the_alphabet(size):
    tokens = jnp.zeros((3, 5), jnp.int32)
    measures = language.measures(jnp.ones((3, 5, size)), tokens)
    np.testing.assert_allclose(measures["bits_per_character"], np.full(3, np.log2(size)), rtol=1e-6)
    np.testing.assert_allclose(measures["loss"], np.full(3, np.log(size)), rtol=1e-6)


def test_regression_is_the_squared_error():
    outputs, targets = jnp.array([[1.0], [-2.0]]), jnp.array([3.0, -2.0])
    assert regression.measures(outputs, targets)["loss"].tolist() == [4, 0]
    assert regression.loss(outputs, targets, jnp.float32(0.1)).tolist() == [4, 0]


@pytest.mark.parametrize(
    "task, shape, targets",
    [
        (classification, (2, 3), jnp.zeros(2, jnp.int32)),
        (regression, (2, 1), jnp.zeros(2)),
        (sequence, (2, 4, 3), jnp.zeros((2, 4), jnp.int32)),
        (language, (2, 4, 3), jnp.zeros((2, 4), jnp.int32)),
    ],
    ids=["classification", "regression", "sequence", "language"],
)
def test_every_measure_has_a_worst(task, shape, targets):
    measures = task.measures(_logits(*shape), targets)
    assert set(measures) == set(task.worst) and all(m.shape == (2,) for m in measures.values())
    assert task.loss(_logits(*shape), targets, jnp.float32(0.1)).shape == (2,)
