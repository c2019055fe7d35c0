"""The differentiable objective: its Newton steps, and its derivatives against theory and finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer

from bojax import Space
from bojax import hypergrad as hg
from models import cancer_logistic
from models.data.tables import load_cancer
from models.logistic import GROUPS, QUANTITIES, SPACE, solve
from tests.models.zoo import middle, run_alone

KEY = jax.random.key(0)
NUM = 12


@pytest.fixture(scope="module")
def batch():
    """Configurations over the whole space with its corners, and what the objective gives for them."""
    space = Space.from_spec(SPACE)
    X = np.array(space.sample(KEY, NUM))
    X[0], X[1] = 0.0, 1.0
    hparams = {name: np.asarray(column) for name, column in space.decode(jnp.asarray(X)).items()}
    metrics, grads = jax.jit(jax.vmap(cancer_logistic.value_and_grad))(jax.random.split(KEY, NUM), hparams)
    return hparams, metrics, {name: np.asarray(column) for name, column in grads.items()}


def reference(hparams):
    """The validation loss and its derivatives in float64, of a problem written anew."""
    quantity = [name.rsplit(" ", 1)[0] if name.endswith(" error") else name.split(" ", 1)[1] for name in columns()]
    groups = [next(group for group, members in GROUPS.items() if name in members) for name in quantity]
    data = load_cancer()
    train, valid = (
        (jnp.asarray(p.inputs, float), jnp.asarray(p.targets, float)) for p in (data.train, data.validation)
    )

    def loss(w, h, data):
        X, y = data
        margin = X @ w["slope"] + w["intercept"]
        return jnp.mean(jnp.logaddexp(0.0, margin) - y * margin)

    def penalised(w, h, data):
        weights = jnp.stack([h[f"l2_{group}"] for group in groups])
        return loss(w, h, data) + 0.5 * jnp.sum(weights * w["slope"] ** 2) + 0.5e-6 * w["intercept"] ** 2

    fn = hg.hypergradient(penalised, loss, method=hg.Implicit(hg.Direct()))
    w0 = {"slope": jnp.zeros(30), "intercept": jnp.zeros(())}
    h = {name: jnp.asarray(column, float) for name, column in hparams.items()}
    return jax.jit(jax.vmap(lambda h: fn(h, w0, train, valid)))(h)


def columns():
    return [str(name) for name in load_breast_cancer()["feature_names"]]


def test_every_feature_is_in_one_group():
    assert sorted(sum(GROUPS.values(), ())) == sorted(QUANTITIES)
    expected = (
        [f"mean {q}" for q in QUANTITIES] + [f"{q} error" for q in QUANTITIES] + [f"worst {q}" for q in QUANTITIES]
    )
    assert columns() == expected
    assert list(SPACE) == [f"l2_{group}" for group in GROUPS]


@pytest.mark.long
def test_value_and_gradient_are_those_of_the_implicit_function_theorem(batch, x64):
    hparams, metrics, grads = batch
    result = reference(hparams)
    assert (result.info.status == hg.HypergradStatus.OK).all()
    np.testing.assert_allclose(metrics["validation_loss"], result.value, rtol=1e-5)
    assert set(grads) == set(SPACE)
    # By the logarithms of the penalties, in which the space is searched.
    got, expected = (np.stack([g[name] * hparams[name] for name in SPACE]) for g in (grads, result.grad))
    error = np.linalg.norm(got - expected, axis=0) / np.linalg.norm(expected, axis=0)
    assert error.max() < 1e-3 and np.median(error) < 1e-4


@pytest.mark.long
@pytest.mark.parametrize("name", list(SPACE))
def test_gradients_are_finite_differences(name):
    h = middle(cancer_logistic)
    both = jax.jit(cancer_logistic.value_and_grad)
    _, grads = both(KEY, h)
    low, high = (both(KEY, {**h, name: h[name] * factor})[0]["validation_loss"] for factor in (0.9, 1.1))
    expected = (float(high) - float(low)) / (0.2 * float(h[name]))
    assert float(grads[name]) == pytest.approx(expected, rel=0.03, abs=1e-4)


@pytest.mark.long
def test_the_metrics_are_those_of_train(batch):
    hparams, metrics, _ = batch
    row = {name: column[3] for name, column in hparams.items()}
    trained = run_alone(cancer_logistic, KEY, row)
    assert set(trained) == set(metrics)
    for name, value in trained.items():
        assert float(value) == pytest.approx(float(metrics[name][3]), rel=1e-4)


@pytest.mark.long
def test_steps_end_at_the_minimum_and_the_loss_falls():
    h = middle(cancer_logistic)
    curve = cancer_logistic.curve(KEY, h, rungs=(1, 2, 4, 15))
    assert (np.diff(curve["train_loss"]) < 0).all()
    longer = cancer_logistic.with_num_steps(30).train(KEY, h)
    np.testing.assert_allclose(longer["validation_loss"], curve["validation_loss"][-1], rtol=1e-5)


def test_elimination_solves(x64):
    A = np.random.default_rng(0).normal(size=(3, 9, 9))
    H, b = A @ np.swapaxes(A, 1, 2) + np.eye(9), A[:, 0]
    np.testing.assert_allclose(jax.vmap(solve)(H, b), np.linalg.solve(H, b[..., None])[..., 0], rtol=1e-9)
