"""Worked examples in which the hyperparameters are part of the inner loss. Copy them.

Each example is a function that returns what it reached; the test below it says what that must be.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.metrics import roc_auc_score

from bojax import hypergrad as hg
from tests.hypergrad import problems, tables

# One penalty.


def mean_squares(w, h, data):
    X, y = data
    return 0.5 * jnp.mean((X @ w - y) ** 2)


def ridge_loss(w, h, data):
    return mean_squares(w, h, data) + hg.l2(w, h["log_l2"])


def tune_ridge():
    """The L2 penalty of ridge regression by gradient descent on the validation loss."""
    train, valid = problems.regression_data(n=20, d=12)
    fn = hg.hypergradient(ridge_loss, mean_squares)
    search = jax.jit(
        lambda h: hg.optimize(fn, h, jnp.zeros(12), train, valid, num_steps=200, optimizer=optax.adam(0.1))
    )
    return search({"log_l2": 0.0})


def ridge_by_hand(log_l2):
    """The validation loss of the closed-form solution, and its derivative by log_l2."""
    (X, y), (V, z) = (tuple(np.asarray(a) for a in part) for part in problems.regression_data(n=20, d=12))
    weight = np.exp(log_l2)
    H = X.T @ X / len(y) + weight * np.eye(X.shape[1])
    w = np.linalg.solve(H, X.T @ y / len(y))
    adjoint = np.linalg.solve(H, V.T @ (V @ w - z) / len(z))
    return 0.5 * np.mean((V @ w - z) ** 2), -weight * w @ adjoint


@pytest.mark.long
@pytest.mark.parametrize("log_l2", [-4.0, -1.0, 2.0])
def test_ridge_hypergradient_is_the_closed_form(x64, log_l2):
    train, valid = problems.regression_data(n=20, d=12)
    result = jax.jit(hg.hypergradient(ridge_loss, mean_squares))({"log_l2": log_l2}, jnp.zeros(12), train, valid)
    value, slope = ridge_by_hand(log_l2)
    hg.raise_for_status(result)
    assert result.value == pytest.approx(value, rel=1e-10)
    assert result.grad["log_l2"] == pytest.approx(slope, rel=1e-10)


@pytest.mark.long
def test_ridge_finds_what_a_grid_finds(x64):
    result = tune_ridge()
    grid = np.linspace(-6.0, 3.0, 9001)
    values = [ridge_by_hand(log_l2)[0] for log_l2 in grid]
    assert 0 < np.argmin(values) < len(grid) - 1
    assert result.hparams["log_l2"] == pytest.approx(grid[np.argmin(values)], abs=2e-3)
    assert result.value <= min(values) + 1e-9


# A penalty for each feature.


class FeatureL2(NamedTuple):
    """(validation, test) cross entropy with the best single penalty and with one for each feature."""

    single: tuple[float, float]
    each: tuple[float, float]


def tune_feature_l2(seed):
    """Logistic regression on breast cancer, whose 30 features get an L2 weight each.

    The bounds keep 30 penalties from overfitting the validation part: without them its loss falls further, and that of
    the test part rises.
    """
    train, valid, test = tables.cancer(seed)
    w0 = {"slope": jnp.zeros(30), "bias": jnp.zeros(())}

    def loss(w, h, data):
        X, y = data
        return jnp.mean(optax.sigmoid_binary_cross_entropy(X @ w["slope"] + w["bias"], y))

    def penalised(w, h, data):
        return loss(w, h, data) + hg.l2(w["slope"], h["log_l2"])

    fn = hg.hypergradient(penalised, loss, method=hg.Implicit(), inner_solver=hg.Newton())

    grid = jnp.linspace(-12.0, 2.0, 60)
    single = jax.jit(jax.vmap(lambda a: fn({"log_l2": jnp.full(30, a)}, w0, train, valid)))(grid)
    best = jnp.argmin(single.value)

    @jax.jit
    def search(h):
        return hg.optimize(fn, h, w0, train, valid, num_steps=100, optimizer=optax.adam(0.1), bounds=(-7.0, 5.0))

    each = search({"log_l2": jnp.full(30, jnp.clip(grid[best], -7.0, 5.0))})

    test_loss = lambda w: float(loss(w, None, test))  # noqa: E731
    return FeatureL2(
        (float(single.value[best]), test_loss(jax.tree.map(lambda a: a[best], single.params))),
        (float(each.value), test_loss(each.params)),
    )


@pytest.mark.slow
def test_a_penalty_for_each_feature_beats_the_best_single_one(x64):
    result = tune_feature_l2(seed=0)
    assert result.each[0] < 0.8 * result.single[0]


@pytest.mark.slow
def test_a_penalty_for_each_feature_beats_the_best_single_one_in_the_mean(x64):
    results = [tune_feature_l2(seed) for seed in range(5)]
    single, each = (np.array([getattr(r, name) for r in results]) for name in ("single", "each"))
    assert (each[:, 0] < single[:, 0]).all()
    assert each[:, 0].mean() < 0.8 * single[:, 0].mean()
    assert each[:, 1].mean() < 1.05 * single[:, 1].mean()


# A weight for each example.


class Cleaning(NamedTuple):
    """What cleaning reached. Accuracies and cross entropies are those of the test part.

    Attributes:
        f1: of telling wrong labels.
        auroc: likewise.
        accuracy: after training on (everything, what was kept, what is right, nothing) and the validation part.
        loss: the cross entropies of the same.
    """

    f1: float
    auroc: float
    accuracy: np.ndarray
    loss: np.ndarray

    def closed(self, name):
        """How much of the gap between everything (the baseline) and what is right (the oracle) was closed."""
        everything, kept, right, _ = getattr(self, name)
        return (kept - everything) / (right - everything)


def clean_labels(seed, num_outer_steps=80, num_folds=4, num_rounds=3):
    """Half of 800 training labels are wrong. A weight for each example, fitted to 400 clean ones, tells which.

    Softmax regression with 640 weights; the hyperparameters are 800 logits of weights (Franceschi et al. 2017). The
    clean examples both train and judge, as in cross-validation: for each quarter of the judges a model is trained on
    the weighted examples and all clean ones without that quarter. In later rounds what was kept in the last one, those
    with a weight above 0.9, judges as well. The penalty is five times that of the final training, so that wrong labels
    are not learned by heart.
    """
    train, valid, test = tables.digits(seed)
    wrong = np.arange(800) < 400
    shift = np.random.default_rng(seed + 100).integers(1, 10, 800)
    train = train[0], jnp.where(wrong, (train[1] + shift) % 10, train[1])
    everything = tuple(jnp.concatenate(pair) for pair in zip(train, valid, strict=True))
    fold = jnp.arange(1200) % num_folds

    def losses(w, data):
        X, y = data
        return optax.softmax_cross_entropy_with_integer_labels(X @ w, y)

    def inner_loss(models, h, judges):
        weights = jnp.concatenate([jax.nn.sigmoid(h), jnp.ones(400)])

        def one(w, number):
            present = 1 - judges * (fold == number)
            return jnp.sum(present * weights * losses(w, everything)) / 800 + hg.l2(w, jnp.log(5e-3))

        return jnp.sum(jax.vmap(one)(models, jnp.arange(num_folds)))

    def outer_loss(models, h, judges):
        each = jax.vmap(lambda w: losses(w, everything))(models)
        return jnp.sum(judges * each[fold, jnp.arange(1200)]) / jnp.sum(judges)

    fn = hg.hypergradient(inner_loss, outer_loss, method=hg.Implicit(hg.CG(rtol=1e-6)), inner_solver=hg.Newton())

    @jax.jit
    def search(judges):
        models, adam = jnp.zeros((num_folds, 64, 10)), optax.adam(0.3)
        return hg.optimize(fn, jnp.zeros(800), models, judges, judges, num_steps=num_outer_steps, optimizer=adam)

    @jax.jit
    def train_on(kept):
        """Test accuracy and cross entropy after training on the examples that are kept and the clean ones."""
        weights = jnp.concatenate([kept, jnp.ones(400)])
        mean = lambda w: jnp.sum(weights * losses(w, everything)) / jnp.sum(weights)  # noqa: E731
        loss = lambda w, h, data: mean(w) + hg.l2(w, jnp.log(1e-3))  # noqa: E731
        w = hg.Newton()(loss, jnp.zeros((64, 10)), None, None).params
        return jnp.mean(jnp.argmax(test[0] @ w, 1) == test[1]), jnp.mean(losses(w, test))

    logits, kept = np.zeros(800), np.zeros(800)
    for _ in range(num_rounds):
        logits = np.asarray(search(jnp.asarray(np.r_[kept, np.ones(400)], float)).hparams)
        kept = (1 / (1 + np.exp(-logits)) > 0.9).astype(float)

    reached = np.array([train_on(jnp.asarray(part, float)) for part in (np.ones(800), kept, ~wrong, np.zeros(800))])
    f1 = 2 * np.sum((kept == 0) & wrong) / (np.sum(kept == 0) + np.sum(wrong))
    return Cleaning(float(f1), float(roc_auc_score(wrong, -logits)), reached[:, 0], reached[:, 1])


@pytest.mark.slow
def test_weights_of_examples_find_wrong_labels():
    result = clean_labels(seed=0)
    assert result.f1 > 0.96 and result.auroc > 0.96
    assert result.closed("loss") > 0.95
    assert result.closed("accuracy") > 0.8


@pytest.mark.slow
def test_weights_of_examples_find_wrong_labels_in_the_mean():
    """Penalty, rounds and threshold were chosen on the seeds from 100 to 123.

    On the seeds from 200 to 229, which were looked at once and last, the mean F1 is 0.980, the mean AUROC 0.982, the
    accuracies are 91.27 % (everything), 95.41 % (kept), 95.88 % (right) and 94.73 % (nothing), and 90 % of the gap in
    accuracy is closed, 98 % of that in cross entropy. On the seeds from 0 to 11 it is 83 % and 98 %, and on 0, 1 and 2,
    as here, 90 % and 99 %. An image is 0.17 % of the accuracy, so means of three seeds scatter: of the ten groups of
    three that follow one another from 200 to 229 eight reach 85 %, and the least is 80 %; from 0 to 11 they are 90, 82,
    70 and 86 %. A single round without folds, with a penalty of 1e-3 and a threshold of 0.5, has an F1 of 0.949 and
    closes 80 % and 95 % on the seeds from 200 to 229 (two of ten groups reach 85 %).
    """
    results = [clean_labels(seed) for seed in range(3)]
    mean = Cleaning(*(np.mean(field, 0) for field in zip(*results, strict=True)))
    assert mean.f1 > 0.96 and mean.auroc > 0.96
    assert mean.closed("loss") > 0.95
    assert mean.closed("accuracy") >= 0.85
    assert mean.accuracy[1] > mean.accuracy[3]
