"""The marginal likelihood: against plain NumPy and GPJax, and unchanged by masks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from bojax.surrogates import _gp as gp_module
from bojax.surrogates._marginal_likelihood import log_marginal_likelihood, masked_covariance
from tests.helpers import observe, smooth

D, N, CAPACITY = 3, 9, 16


def data_of(seed):
    rng = np.random.default_rng(seed)
    X = rng.random((N, D))
    return X, smooth(X) + 0.1 * rng.normal(size=N)


def random_rows(seed):
    return np.sort(np.random.default_rng(100 + seed).choice(CAPACITY, N, replace=False))


@pytest.fixture(scope="module")
def model():
    return gp_module.gp_model()


@pytest.fixture(scope="module")
def params(model):
    """Hyperparameters away from any special value."""
    with jax.enable_x64(True):
        start = gp_module.initial_params(model, D, jnp.float64)
        leaves, structure = jax.tree.flatten(start)
        rng = np.random.default_rng(9)
        moved = [leaf + jnp.asarray(0.3 * rng.normal(size=leaf.shape)) for leaf in leaves]
        return jax.tree.unflatten(structure, moved)._replace(log_noise_var=jnp.asarray(np.log(0.02)))


@pytest.fixture(scope="module")
def value_and_grad(model):
    return jax.jit(jax.value_and_grad(lambda params, data: gp_module.log_posterior(model, params, data)))


@pytest.mark.long
@pytest.mark.parametrize("seed", range(5))
def test_masked_is_unmasked(x64, value_and_grad, params, seed):
    X, y = data_of(seed)
    want = value_and_grad(params, observe(X, y))
    got = value_and_grad(params, observe(X, y, CAPACITY, random_rows(seed)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10), got, want)


def test_a_failed_observation_changes_nothing(x64, value_and_grad, params):
    X, y = data_of(0)
    data = observe(X, y, CAPACITY, random_rows(0))
    hole = int(np.setdiff1d(np.arange(CAPACITY), random_rows(0))[0])
    failed = data._replace(y=data.y.at[hole].set(jnp.nan))
    jax.tree.map(np.testing.assert_array_equal, value_and_grad(params, failed), value_and_grad(params, data))


def test_value_and_gradient_match_scipy(x64):
    rng = np.random.default_rng(3)
    A = rng.normal(size=(N, N))
    K, residual = A @ A.T + np.eye(N), rng.normal(size=N)
    mask = jnp.ones(N, bool)

    def reference(K, residual):
        return scipy.stats.multivariate_normal(np.zeros(N), K).logpdf(residual)

    fn = jax.value_and_grad(log_marginal_likelihood, (0, 1))
    value, (dK, dr) = jax.jit(fn)(jnp.asarray(K), jnp.asarray(residual), mask)
    np.testing.assert_allclose(value, reference(K, residual), rtol=1e-12)
    np.testing.assert_allclose(dr, -np.linalg.solve(K, residual), rtol=1e-9)
    for _ in range(5):
        direction = rng.normal(size=(N, N))
        direction = direction + direction.T
        step = 1e-5 * direction
        want = (reference(K + step, residual) - reference(K - step, residual)) / 2e-5
        np.testing.assert_allclose((dK * direction).sum(), want, rtol=1e-6)


@pytest.mark.long
def test_the_whole_log_posterior_matches_numpy(x64, model, value_and_grad, params):
    """Kernel, mean, noise, standardisation and priors put together by hand."""
    X, y = data_of(4)
    standard = (y - y.mean()) / y.std(ddof=1)
    K = np.asarray(model.kernel.matrix(params.kernel, jnp.asarray(X), jnp.asarray(X)))
    K = K + np.exp(float(params.log_noise_var)) * np.eye(N)
    likelihood = scipy.stats.multivariate_normal(np.full(N, float(params.mean)), K).logpdf(standard)
    parts = (model.kernel, params.kernel), (model.mean, params.mean), (model.noise, params.log_noise_var)
    prior = sum(float(part.log_prior(value)) for part, value in parts)
    value, gradient = value_and_grad(params, observe(X, y))
    np.testing.assert_allclose(value, likelihood + prior, rtol=1e-11)

    flat, unravel = jax.flatten_util.ravel_pytree(params)
    flat_gradient = jax.flatten_util.ravel_pytree(gradient)[0]
    for i in range(flat.size):
        high, low = (value_and_grad(unravel(flat.at[i].add(h)), observe(X, y))[0] for h in (1e-5, -1e-5))
        np.testing.assert_allclose(flat_gradient[i], (high - low) / 2e-5, rtol=1e-5, atol=1e-6)


@pytest.mark.long
def test_likelihood_and_gradient_match_gpjax(x64):
    gpx = pytest.importorskip("gpjax")
    from bojax.surrogates import matern52

    X, y = data_of(5)
    kernel, noise_var = matern52(), 0.05
    init = kernel.init(D, jnp.float64)

    def mine(log_lengthscale):
        K = kernel.matrix(init._replace(log_lengthscale=log_lengthscale), jnp.asarray(X), jnp.asarray(X))
        mask = jnp.ones(N, bool)
        return log_marginal_likelihood(masked_covariance(K, jnp.asarray(noise_var), mask), jnp.asarray(y), mask)

    amplitude = kernel.diagonal(init, jnp.asarray(X[:1]))[0]

    def theirs(log_lengthscale):
        prior = gpx.gps.Prior(
            mean_function=gpx.mean_functions.Zero(),
            kernel=gpx.kernels.Matern52(lengthscale=jnp.exp(log_lengthscale), variance=amplitude),
            jitter=0.0,
        )
        likelihood = gpx.likelihoods.Gaussian(obs_stddev=jnp.asarray(np.sqrt(noise_var)))
        data = gpx.Dataset(X=jnp.asarray(X), y=jnp.asarray(y)[:, None])
        return gpx.objectives.conjugate_mll(prior * likelihood, data)

    at = jnp.log(jnp.array([0.3, 0.8, 2.0]))
    value, gradient = jax.value_and_grad(mine)(at)
    with jax.numpy_rank_promotion("allow"):
        want, want_gradient = jax.value_and_grad(theirs)(at)
    np.testing.assert_allclose(value, want, rtol=1e-9)
    np.testing.assert_allclose(gradient, want_gradient, rtol=1e-7)


def test_nan_where_the_matrix_is_not_positive_definite(x64):
    value = log_marginal_likelihood(-jnp.eye(3), jnp.ones(3), jnp.ones(3, bool))
    assert np.isnan(value)
