"""Random features and drawn functions against the exact covariances."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bojax import surrogates
from bojax.testing import MockPosterior
from tests.helpers import observe, smooth

KERNELS = {
    "matern52": lambda: surrogates.matern52(),
    "rbf": lambda: surrogates.rbf(),
    "categorical": lambda: surrogates.matern52(categorical_dims=(1,)),
}


@pytest.mark.long
@pytest.mark.parametrize("name", KERNELS)
def test_products_of_features_are_the_kernel_on_average(name):
    with jax.enable_x64(True):
        kernel = KERNELS[name]()
        params = kernel.init(3, jnp.float64)
        params = params._replace(log_lengthscale=jnp.log(jnp.array([0.3, 0.8, 1.5])), log_outputscale=jnp.log(2.0))
        X = np.random.default_rng(0).random((6, 3))
        X[:, 1] = (np.arange(6) % 3 + 0.5) / 3  # three categories
        X = jnp.asarray(X)
        f = 100_000
        phi = kernel.features.apply(params, kernel.features.draw(jax.random.key(0), 3, f, jnp.float64), X)
        want = kernel.matrix(params, X, X)
        assert np.max(np.abs(phi @ phi.T - want)) < 5 * 2.0 * 2.0 / f**0.5
        gradient = jax.grad(
            lambda X: kernel.features.apply(params, kernel.features.draw(jax.random.key(0), 3, 8, X.dtype), X).sum()
        )(X)
        assert np.all(np.isfinite(gradient))


def draw(num_paths, num_features=2048, scale=1.0):
    X = np.random.default_rng(0).random((9, 2))
    observations = observe(X, scale * smooth(X) + 3.0, capacity=12, rows=np.arange(1, 10))
    surrogate = surrogates.gp(noise=surrogates.fixed_noise(1e-2))
    posterior = surrogate.posterior(surrogate.init(2, observations.X.dtype), observations, 2)
    return posterior, surrogates.sample_paths(jax.random.key(1), posterior, num_paths, num_features=num_features)


@pytest.mark.long
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_functions_have_the_law_of_the_posterior(scale):
    with jax.enable_x64(True):
        posterior, functions = draw(4000, scale=scale)
        X = jnp.concatenate([posterior.X[1:3], jnp.asarray(np.random.default_rng(1).random((4, 2)))])
        values = np.asarray(functions.at_all(X))
        mean, cov = (np.asarray(a) for a in posterior.joint(X))
        std = np.sqrt(np.diag(cov))
        assert np.all(np.abs(values.mean(axis=0) - mean) < 5 * std / 4000**0.5 + 0.05 * std)
        unit = std.max() ** 2
        assert np.max(np.abs(np.cov(values.T) - cov)) / unit < 0.15


@pytest.mark.long
def test_each_at_its_own_points_is_each_at_all_points():
    with jax.enable_x64(True):
        _, functions = draw(5, num_features=64)
        X = jnp.asarray(np.random.default_rng(2).random((5, 3, 2)))
        own = functions.at_own(X)
        for i in range(5):
            assert np.allclose(own[i], functions.at_all(X[i])[i], rtol=1e-10)
        jitted = jax.jit(lambda f, X: f.at_own(X))(functions, X)
        assert np.allclose(jitted, own, rtol=1e-10)
        gradient = jax.grad(lambda X: functions.at_own(X).sum())(X)
        step = 1e-6
        moved = functions.at_own(X.at[2, 1, 0].add(step)).sum() - functions.at_own(X.at[2, 1, 0].add(-step)).sum()
        assert np.isclose(gradient[2, 1, 0], moved / (2 * step), rtol=1e-5)


def test_what_cannot_be_drawn_is_said():
    posterior, _ = draw(1)
    with pytest.raises(TypeError, match="GPPosterior"):
        surrogates.sample_paths(jax.random.key(0), MockPosterior(lambda X: X[:, 0]), 1)
    with pytest.raises(ValueError, match="num_features"):
        surrogates.sample_paths(jax.random.key(0), posterior, 1, num_features=0)
    bare = surrogates.gp(surrogates.matern52()._replace(features=None))
    observations = observe(np.zeros((2, 2)), np.arange(2.0))
    with pytest.raises(ValueError, match="random features"):
        surrogates.sample_paths(jax.random.key(0), bare.posterior(bare.init(2, jnp.float32), observations), 1)
