"""The posterior: masks, appended points, leave-one-out, samples, units."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bojax import surrogates
from bojax.surrogates import _gp as gp_module
from tests.helpers import observe, smooth

D, N, CAPACITY = 2, 8, 12


@pytest.fixture(scope="module")
def model():
    return gp_module.gp_model()


@pytest.fixture(scope="module")
def params(model):
    with jax.enable_x64(True):
        start = gp_module.initial_params(model, D, jnp.float64)
        moved = start.kernel._replace(log_lengthscale=jnp.log(jnp.array([0.4, 0.9])))
        return start._replace(kernel=moved, mean=jnp.asarray(0.2), log_noise_var=jnp.log(jnp.asarray(0.01)))


@pytest.fixture(scope="module")
def condition(model):
    return jax.jit(lambda params, data, spare=0: gp_module.condition(model, params, data, spare), static_argnums=2)


def data_of(seed=0, n=N):
    rng = np.random.default_rng(seed)
    X = rng.random((n, D))
    return X, 3.0 + 2.0 * smooth(X)


def queries():
    return jnp.asarray(np.random.default_rng(50).random((5, D)))


def by_hand(model, params, X, y, Z):
    """Mean and covariance at Z, in the units of y, with NumPy."""
    loc, scale = y.mean(), y.std(ddof=1)
    matrix = lambda A, B: np.asarray(model.kernel.matrix(params.kernel, jnp.asarray(A), jnp.asarray(B)))  # noqa: E731
    K = matrix(X, X) + np.exp(float(params.log_noise_var)) * np.eye(len(X))
    m = float(params.mean)
    mean = m + matrix(Z, X) @ np.linalg.solve(K, (y - loc) / scale - m)
    cov = matrix(Z, Z) - matrix(Z, X) @ np.linalg.solve(K, matrix(X, Z))
    return loc + scale * mean, scale**2 * cov


@pytest.mark.long
def test_mean_and_covariance_match_numpy(x64, model, params, condition):
    X, y = data_of()
    posterior = condition(params, observe(X, y))
    mean, cov = by_hand(model, params, X, y, np.asarray(queries()))
    np.testing.assert_allclose(posterior.mean(queries()), mean, rtol=1e-10)
    np.testing.assert_allclose(posterior.var(queries()), np.diag(cov), rtol=1e-8)
    for got, want in zip(posterior.joint(queries()), (mean, cov), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-8, atol=1e-10)
    assert posterior.ok


@pytest.mark.long
@pytest.mark.parametrize("seed", range(5))
def test_masked_is_unmasked(x64, condition, params, seed):
    X, y = data_of(seed)
    rows = np.sort(np.random.default_rng(seed).choice(CAPACITY, N, replace=False))
    plain, masked = condition(params, observe(X, y)), condition(params, observe(X, y, CAPACITY, rows))
    Z = queries()
    for a, b in zip((*plain.mean_var(Z), *plain.joint(Z)), (*masked.mean_var(Z), *masked.joint(Z)), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-10, atol=1e-10)
    one, other = surrogates.leave_one_out(plain), surrogates.leave_one_out(masked)
    np.testing.assert_allclose(other.mean[rows], one.mean, rtol=1e-10)
    np.testing.assert_allclose(other.std[rows], one.std, rtol=1e-10)
    for field in ("rmse", "log_density", "coverage"):
        np.testing.assert_allclose(getattr(other, field), getattr(one, field), rtol=1e-10, atol=1e-12)


@pytest.mark.long
def test_append_is_conditioning_on_one_more_row(x64, model, condition, params):
    X, y = data_of()
    posterior = condition(params, observe(X, y, CAPACITY), 2)
    Z, new_X, new_y = queries(), np.array([[0.2, 0.7], [0.21, 0.69]]), np.array([4.0, 1.0])
    for i in range(2):
        posterior = jax.jit(lambda p, x, y: p.append(x, y))(posterior, jnp.asarray(new_X[i]), jnp.asarray(new_y[i]))
    # The units stay those of the first N values, so the reference standardises with them.
    loc, scale = y.mean(), y.std(ddof=1)
    all_X, all_y = np.concatenate([X, new_X]), (np.concatenate([y, new_y]) - loc) / scale
    matrix = lambda A, B: np.asarray(model.kernel.matrix(params.kernel, jnp.asarray(A), jnp.asarray(B)))  # noqa: E731
    K = matrix(all_X, all_X) + np.exp(float(params.log_noise_var)) * np.eye(N + 2)
    m = float(params.mean)
    mean = loc + scale * (m + matrix(Z, all_X) @ np.linalg.solve(K, all_y - m))
    cov = scale**2 * (matrix(Z, Z) - matrix(Z, all_X) @ np.linalg.solve(K, matrix(all_X, Z)))
    np.testing.assert_allclose(posterior.mean(Z), mean, rtol=1e-9)
    np.testing.assert_allclose(posterior.joint(Z)[1], cov, rtol=1e-7, atol=1e-9)


@pytest.mark.long
def test_append_on_a_full_posterior_changes_nothing(x64, condition, params):
    X, y = data_of()
    posterior = condition(params, observe(X, y))
    more = posterior.append(jnp.array([0.2, 0.7]), jnp.asarray(9.0))
    np.testing.assert_allclose(more.mean(queries()), posterior.mean(queries()), rtol=1e-12)
    np.testing.assert_allclose(more.var(queries()), posterior.var(queries()), rtol=1e-10)


@pytest.mark.long
def test_append_of_an_observed_point_stays_finite(x64, condition, params):
    X, y = data_of()
    sharp = params._replace(log_noise_var=jnp.log(jnp.asarray(1e-6)))
    posterior = condition(sharp, observe(X, y), 3)
    for _ in range(3):
        posterior = posterior.append(jnp.asarray(X[0]), jnp.asarray(y[0]))
    mean, var = posterior.mean_var(queries())
    assert np.isfinite(mean).all() and (var > 0).all()


def test_leave_one_out_is_leaving_one_out(x64, model, condition, params):
    X, y = data_of()
    result = surrogates.leave_one_out(condition(params, observe(X, y)))
    loc, scale = y.mean(), y.std(ddof=1)
    noise, m = np.exp(float(params.log_noise_var)), float(params.mean)
    matrix = lambda A, B: np.asarray(model.kernel.matrix(params.kernel, jnp.asarray(A), jnp.asarray(B)))  # noqa: E731
    means, stds = [], []
    for i in range(N):
        keep = np.arange(N) != i
        K = matrix(X[keep], X[keep]) + noise * np.eye(N - 1)
        k = matrix(X[i : i + 1], X[keep])[0]
        means.append(loc + scale * (m + k @ np.linalg.solve(K, (y[keep] - loc) / scale - m)))
        prior = matrix(X[i : i + 1], X[i : i + 1])[0, 0]
        stds.append(scale * np.sqrt(prior + noise - k @ np.linalg.solve(K, k)))
    np.testing.assert_allclose(result.mean, means, rtol=1e-8)
    np.testing.assert_allclose(result.std, stds, rtol=1e-8)
    error, std = y - np.array(means), np.array(stds)
    np.testing.assert_allclose(result.rmse, np.sqrt((error**2).mean()) / scale, rtol=1e-7)
    density = -0.5 * (error / std) ** 2 - np.log(std) - 0.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(result.log_density, density.mean(), rtol=1e-8)
    np.testing.assert_allclose(result.coverage, (np.abs(error) <= 1.96 * std).mean())


def test_samples_have_the_mean_and_covariance_of_joint(x64, condition, params):
    X, y = data_of()
    posterior = condition(params, observe(X, y))
    count = 20_000
    samples = np.asarray(posterior.sample(jax.random.key(0), queries(), count))
    mean, cov = (np.asarray(a) for a in posterior.joint(queries()))
    var = np.diag(cov)
    assert (np.abs(samples.mean(0) - mean) < 5 * np.sqrt(var / count)).all()
    # Var of a sample covariance of normals: (c_ij^2 + c_ii c_jj) / s.
    error = np.sqrt((cov**2 + np.outer(var, var)) / count)
    assert (np.abs(np.cov(samples.T) - cov) < 5 * error).all()


@pytest.mark.parametrize(("a", "b"), [(1e30, 0.0), (1e-30, 5e-30), (-2.0, 1e4)])
def test_beliefs_follow_the_units_of_y(x64, condition, params, a, b):
    """y -> a y + b maps the mean alike and the variance by a^2; a < 0 mirrors residuals, so the mean function is 0."""
    X, y = data_of()
    centred = params._replace(mean=jnp.zeros(()))
    one, other = condition(centred, observe(X, y)), condition(centred, observe(X, a * y + b))
    mean, var = one.mean_var(queries())
    other_mean, other_var = other.mean_var(queries())
    np.testing.assert_allclose(other_mean, a * mean + b, rtol=1e-7)
    np.testing.assert_allclose(other_var, a**2 * var, rtol=1e-7)


def test_standardized_is_the_belief_in_units_of_the_spread(x64, condition, params):
    X, y = data_of()
    posterior = condition(params, observe(X, y))
    standard = posterior.standardized()
    mean = (posterior.mean(queries()) - y.mean()) / y.std(ddof=1)
    np.testing.assert_allclose(standard.mean(queries()), mean, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(standard.var(queries()), posterior.var(queries()) / y.var(ddof=1), rtol=1e-10)


def test_without_data_the_belief_is_the_prior(x64, model, condition, params):
    data = observe(*data_of())
    nothing = data._replace(mask=jnp.zeros_like(data.mask))
    mean, var = condition(params, nothing).mean_var(queries())
    np.testing.assert_allclose(mean, params.mean, rtol=1e-12)
    np.testing.assert_allclose(var, model.kernel.diagonal(params.kernel, queries()), rtol=1e-12)


@pytest.mark.long
def test_many_equal_points_stay_finite_in_both_dtypes():
    for wide in (False, True):
        with jax.enable_x64(wide):
            surrogate = surrogates.gp(noise=surrogates.fixed_noise(0.0))
            data = observe(np.full((N, D), 0.3), np.zeros(N) + 1e-3 * np.arange(N))
            posterior = surrogate.posterior(surrogate.init(D, data.X.dtype), data)
            mean, var = posterior.mean_var(jnp.asarray([[0.3, 0.3], [0.9, 0.1]]))
            assert posterior.ok
            assert np.isfinite(mean).all() and (var > 0).all()
