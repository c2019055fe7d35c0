"""Ensembles around the mode: the right normal law, better predictions than the mode alone, safe on awkward data."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bojax import data, objectives, surrogates
from bojax.surrogates._map_ensemble import laplace_moves
from tests.helpers import observe, smooth


@pytest.mark.long
@pytest.mark.parametrize("x64_on", [False, True])
def test_moves_have_the_law_of_the_second_derivative(x64_on):
    """Of a quadratic the differences are exact, so the moves' covariance is the inverse of its matrix."""
    with jax.enable_x64(x64_on):
        rng = np.random.default_rng(0)
        A = rng.normal(size=(3, 3))
        A = jnp.asarray(A @ A.T + np.eye(3))
        mode = jnp.asarray(rng.normal(size=3))
        moves = jax.jit(lambda key: laplace_moves(key, lambda t: 0.5 * (t - mode) @ A @ (t - mode), mode, 4096))
        moves = np.asarray(moves(jax.random.key(0)))
        want = np.linalg.inv(np.asarray(A) + 0.1 * np.eye(3))
        std = np.sqrt(np.diag(want))
        assert moves.dtype == mode.dtype
        assert np.all(np.abs(moves.mean(axis=0)) < 0.02 * std)
        assert np.allclose(np.cov(moves.T) / np.outer(std, std), want / np.outer(std, std), atol=0.03)


@pytest.mark.long
@pytest.mark.parametrize(
    "loss", [lambda t: -(t[0] ** 2) + t[1] ** 2, lambda t: jnp.sum(jnp.log(t + 0.01))], ids=["saddle", "undefined"]
)
def test_moves_are_finite_where_the_loss_is_not_convex_or_not_finite(x64, loss):
    moves = laplace_moves(jax.random.key(0), loss, jnp.zeros(2), 16)
    assert np.all(np.abs(moves) <= 5.0) and np.all(np.abs(moves).max(axis=0) > 0.1)


def predictive_density(posterior, X, y):
    """Mean log density of noisy values under the mixture of the members' normal laws."""
    members = getattr(posterior, "members", None)
    members = jax.tree.map(lambda leaf: leaf[None], posterior) if members is None else members
    mean, var = jax.vmap(lambda member: member.mean_var(X))(members)
    var = var + jax.vmap(lambda member: member.observation_noise())(members)[:, None]
    logs = jax.scipy.stats.norm.logpdf(y[None], mean, jnp.sqrt(var))
    return jnp.mean(jax.nn.logsumexp(logs, axis=0) - jnp.log(logs.shape[0] * 1.0))


@pytest.mark.long
def test_predictions_are_better_than_those_of_the_mode(x64):
    """On sixteen sets of sixteen points of Hartmann-6: the mode alone is far too sure."""
    kinds = surrogates.gp(), surrogates.map_ensemble(num_members=8)
    n, d, objective = 16, 6, objectives.hartmann6()
    X = np.random.default_rng(0).random((16, n + 50, d))
    y = jax.jit(lambda X: -objective(objective.space.decode(X)))(jnp.asarray(X))

    def densities(kind):
        def one(drawn):
            key, X, y = drawn
            observations = observe_traced(X[:n], y[:n])
            params, _ = kind.fit(key, observations, kind.init(d, X.dtype))
            return predictive_density(kind.posterior(params, observations), X[n:], y[n:])

        keys = jax.random.split(jax.random.key(0), len(X))
        return np.asarray(jax.jit(lambda *drawn: jax.lax.map(one, drawn))(keys, jnp.asarray(X), y))

    gain = densities(kinds[1]) - densities(kinds[0])
    assert np.sum(gain > 0) >= 12 and gain.mean() > 0.3, gain


def observe_traced(X, y):
    return data.append(data.empty(X.shape[1], X.shape[0], X.dtype), X, y)


@pytest.mark.long
def test_the_first_member_is_the_mode_and_the_others_differ(x64):
    X = np.random.default_rng(1).random((10, 2))
    observations = observe(X, smooth(X), 16)
    plain, ensemble = surrogates.gp(), surrogates.map_ensemble(num_members=4)
    mode, info = plain.fit(jax.random.key(0), observations, plain.init(2, jnp.float64))
    params, ensemble_info = ensemble.fit(jax.random.key(0), observations, ensemble.init(2, jnp.float64))
    np.testing.assert_allclose(ensemble_info.loss, info.loss, rtol=1e-6)
    assert ensemble_info.num_evals == info.num_evals + 2 * 5
    rows = np.asarray(params.kernel.log_lengthscale)
    np.testing.assert_allclose(rows[0], mode.kernel.log_lengthscale, atol=1e-2)
    assert len(np.unique(rows, axis=0)) == 4
    posterior = ensemble.posterior(params, observations, 1)
    assert isinstance(posterior, surrogates.MixturePosterior) and posterior.num_members == 4
    same = surrogates.map_ensemble(num_members=4, spread=0.0).fit(jax.random.key(0), observations, params)[0]
    assert np.all(np.ptp(np.asarray(same.kernel.log_lengthscale), axis=0) == 0)


def test_hyperparameters_that_are_not_finite_do_not_stick(x64):
    X = np.random.default_rng(2).random((8, 2))
    ensemble = surrogates.map_ensemble(num_members=4)
    bad = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), ensemble.init(2, jnp.float64))
    params, info = ensemble.fit(jax.random.key(0), observe(X, smooth(X), 16), bad)
    assert info.ok and all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize("kwargs", [{"num_members": 0}, {"spread": -1.0}, {"spread": float("nan")}])
def test_bad_numbers_are_refused(kwargs):
    with pytest.raises(ValueError, match=next(iter(kwargs))):
        surrogates.map_ensemble(**kwargs)
