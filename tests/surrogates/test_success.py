import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from bojax import data, surrogates
from bojax.surrogates import Inputs, fit_success
from bojax.surrogates import _success as success_module
from bojax.surrogates.parts._kernels import matern52

FIT = jax.jit(fit_success, static_argnames="inputs")
SCORE = jax.jit(lambda model, X: model.log_probability(X))


def told(X, succeeded, capacity=None, dtype=np.float64):
    """Observations of rows, of which the failed ones have no value."""
    y = np.where(succeeded, 1.0, np.nan)
    return data.from_numpy(np.asarray(X), y, len(y) if capacity is None else capacity, dtype)


def half_fails(n, d, seed=0):
    X = np.random.default_rng(seed).random((n, d))
    return X, X[:, 0] < 0.6


def covariance(model, X, Z):
    return np.asarray(matern52().matrix(model.kernel_params, jnp.asarray(X), jnp.asarray(Z)))


def exact(model, X, succeeded, Z, num_draws=400_000):
    """Success probability at Z and log evidence, from draws of the prior weighted by the likelihood of the outcomes."""
    both = np.concatenate([X, Z])
    L = np.linalg.cholesky(covariance(model, both, both) + 1e-9 * np.eye(len(both)))
    draws = float(model.mean) + np.random.default_rng(0).normal(size=(num_draws, len(both))) @ L.T
    weights = np.exp(norm.logcdf(np.where(succeeded, 1.0, -1.0) * draws[:, : len(X)]).sum(axis=1))
    p = (weights[:, None] * norm.cdf(draws[:, len(X) :])).sum(axis=0) / weights.sum()
    assert weights.sum() ** 2 / (weights**2).sum() > 2000, "too few draws count"
    return p, np.log(weights.mean())


@pytest.mark.parametrize(
    ("X", "succeeded"),
    [
        ([0.05, 0.2, 0.35, 0.6, 0.7, 0.95], [1, 1, 1, 1, 0, 0]),
        ([0.05, 0.2, 0.35, 0.6, 0.7, 0.95], [1, 0, 1, 1, 0, 1]),
        ([0.3, 0.4, 0.5, 0.50001], [1, 0, 0, 0]),
    ],
    ids=["boundary", "by chance", "twice"],
)
def test_is_near_the_exact_posterior(x64, X, succeeded):
    X, ok = np.array(X)[:, None], np.array(succeeded, bool)
    model = FIT(told(X, ok))
    Z = np.array([[0.1], [0.4], [0.65], [0.8], [1.0]])
    p, log_evidence = exact(model, X, ok, Z)
    # The draws are good to 0.01; beliefs at told points are skewed and replaced by normal ones, hence the rest.
    np.testing.assert_allclose(np.exp(SCORE(model, jnp.asarray(Z))), p, atol=0.05)
    np.testing.assert_allclose(model.log_evidence, log_evidence, atol=0.15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_without_a_failure_the_probability_is_exactly_one(dtype):
    with jax.enable_x64(dtype is np.float64):
        X = np.random.default_rng(0).random((6, 2))
        model = FIT(told(X, np.ones(6, bool), capacity=8, dtype=dtype))
        value, slope = jax.value_and_grad(lambda X: model.log_probability(X).sum())(jnp.asarray(X, dtype))
        assert value == 0.0 and value.dtype == dtype and (slope == 0.0).all()
        empty = FIT(data.empty(2, 8, dtype))
        assert (SCORE(empty, jnp.asarray(X, dtype)) == 0.0).all()


def test_rows_that_do_not_count_change_nothing(x64):
    X, ok = half_fails(10, 2)
    Z = jnp.asarray(np.random.default_rng(1).random((7, 2)))
    plain = SCORE(FIT(told(X, ok)), Z)
    padded = told(X, ok, capacity=16)
    np.testing.assert_allclose(SCORE(FIT(padded), Z), plain, atol=1e-10)
    nowhere = told(np.append(X, [[np.nan, 0.5]], axis=0), np.append(ok, False), capacity=16)
    np.testing.assert_allclose(SCORE(FIT(nowhere), Z), plain, atol=1e-10)


def test_finds_the_dimension_that_fails_and_trusts_unknown_regions(x64):
    X, ok = half_fails(40, 6)
    model = FIT(told(X, ok, capacity=64))
    stretched = np.asarray(model.kernel_params.log_lengthscale)
    assert stretched[0] == stretched.min() and np.mean(stretched > stretched[0]) >= 0.5, stretched
    Z, good = half_fails(400, 6, seed=9)
    log_p = np.asarray(SCORE(model, jnp.asarray(Z)))
    loss = -np.where(good, log_p, np.log1p(-np.exp(log_p))).mean()
    share = ok.mean()
    assert loss < 0.5 * -np.where(good, np.log(share), np.log1p(-share)).mean()

    corner = FIT(told(np.array([[0.02], [0.06], [0.1]]), np.array([True, True, False])))
    far = np.exp(np.asarray(SCORE(corner, jnp.array([[1.0]]))))
    assert far > 0.5  # two thirds succeeded, 0.9 is expected beforehand


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_stays_finite_where_almost_everything_fails(dtype):
    with jax.enable_x64(dtype is np.float64):
        rng = np.random.default_rng(0)
        X = rng.random((64, 2))
        X[32:] = X[31] + 1e-6 * rng.random((33 - 1, 2))  # nearly the same point again and again
        for ok in (np.arange(64) == 0, X[:, 0] < 0.5):
            model = FIT(told(X, ok, dtype=dtype))
            Z = jnp.asarray(np.concatenate([X, [[0.0, 1.0], [40.0, -40.0]]]), dtype)
            value, slope = jax.value_and_grad(lambda Z: jnp.sum(SCORE(model, Z)))(Z)  # noqa: B023
            assert jnp.isfinite(value) and jnp.isfinite(slope).all()
            assert (SCORE(model, Z) <= 0.0).all() and value.dtype == dtype


def test_categories_are_compared_by_equality(x64):
    centres = (np.arange(3) + 0.5) / 3
    X = np.stack([np.random.default_rng(0).random(30), centres[np.arange(30) % 3]], axis=1)
    model = FIT(told(X, np.arange(30) % 3 != 1), inputs=Inputs((0, 3), (False, True)))
    low, middle, high = np.exp(np.asarray(SCORE(model, jnp.asarray(np.stack([np.full(3, 0.5), centres], axis=1)))))
    assert middle < 0.2 and low > 0.8 and high > 0.8


def test_a_batch_of_models_equals_one_after_another(x64):
    Z = jnp.asarray(np.random.default_rng(5).random((4, 2)))
    cases = [told(*half_fails(12, 2, seed), capacity=16) for seed in range(3)]
    cases[1] = told(half_fails(12, 2)[0], np.ones(12, bool), capacity=16)  # nothing failed
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *cases)
    batch = jax.jit(jax.vmap(lambda o: fit_success(o).log_probability(Z)))(stacked)
    for row, case in zip(batch, cases, strict=True):
        np.testing.assert_allclose(row, SCORE(FIT(case), Z), atol=1e-8)
    assert (batch[1] == 0.0).all()


def test_is_public():
    assert surrogates.SuccessModel.__doc__ and surrogates.fit_success is fit_success


def test_thousands_of_rows_are_reduced_to_the_latest_of_both_kinds():
    rng = np.random.default_rng(0)
    sign = np.where(rng.random(2000) < 0.2, -1.0, 1.0) * (np.arange(2000) < 1500)
    rows = np.asarray(success_module._latest(jnp.asarray(sign)))
    kept = sign[rows]
    assert len(set(rows)) == success_module.MAX_ROWS and (kept != 0.0).all()
    failed, half = np.flatnonzero(sign < 0), success_module.MAX_ROWS // 2
    np.testing.assert_array_equal(np.sort(rows[kept < 0]), failed[-half:])
    few = np.where(np.arange(2000) < 10, -1.0, np.where(np.arange(2000) < 100, 1.0, 0.0))
    rows = np.asarray(success_module._latest(jnp.asarray(few)))
    assert set(range(100)) <= set(rows), "all are kept where there is room"
