"""Kernels against GPJax and mpmath; derivatives at coincident points."""

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

from bojax import surrogates
from bojax.surrogates.parts._kernels import matern52_of_r2, rbf_of_r2, squared_distance


def points(n, d, seed=0):
    return jnp.asarray(np.random.default_rng(seed).random((n, d)))


def params_like(kernel, lengthscale):
    """The kernel's hyperparameters with these lengthscales, anything else at its initial value."""
    lengthscale = jnp.asarray(lengthscale)
    return kernel.init(len(lengthscale), lengthscale.dtype)._replace(log_lengthscale=jnp.log(lengthscale))


@pytest.mark.long
@pytest.mark.parametrize("name", ["matern52", "rbf"])
def test_matrices_equal_those_of_gpjax(x64, name):
    gpjax = pytest.importorskip("gpjax")
    theirs = {"matern52": gpjax.kernels.Matern52, "rbf": gpjax.kernels.RBF}[name]
    kernel = getattr(surrogates, name)()
    lengthscale = jnp.array([0.3, 1.7, 0.05])
    X, Z = points(9, 3), points(5, 3, seed=1)
    params = params_like(kernel, lengthscale)
    mine = kernel.matrix(params, X, Z) / kernel.diagonal(params, X[:1])[0]
    with jax.numpy_rank_promotion("allow"):
        want = theirs(lengthscale=lengthscale, variance=jnp.array(1.0)).cross_covariance(X, Z)
    np.testing.assert_allclose(mine, want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["matern52", "rbf"])
def test_diagonal_is_that_of_the_matrix(x64, name):
    kernel = getattr(surrogates, name)()
    X = points(6, 2)
    params = params_like(kernel, [0.2, 0.7])
    np.testing.assert_allclose(kernel.diagonal(params, X), jnp.diagonal(kernel.matrix(params, X, X)), atol=1e-13)


def mp_kernel(name, r2):
    if name == "rbf":
        return mp.exp(-r2 / 2)
    s = mp.sqrt(5 * r2)
    return (1 + s + s * s / 3) * mp.exp(-s)


@pytest.mark.parametrize(("name", "fn"), [("matern52", matern52_of_r2), ("rbf", rbf_of_r2)])
def test_derivatives_in_the_squared_distance(x64, name, fn):
    first, second = jax.grad(fn), jax.grad(jax.grad(fn))
    for r2 in (1e-12, 1e-6, 0.1, 1.0, 30.0):
        with mp.workdps(60):
            want = [mp.diff(lambda t: mp_kernel(name, t), mp.mpf(r2), k, h=mp.mpf(r2) / 1e12) for k in range(3)]
        got = [f(jnp.asarray(r2)) for f in (fn, first, second)]
        np.testing.assert_allclose(np.array(got, float), np.array(want, float), rtol=1e-7)


@pytest.mark.parametrize(("name", "fn"), [("matern52", matern52_of_r2), ("rbf", rbf_of_r2)])
def test_derivatives_at_zero_are_the_limits(x64, name, fn):
    """With s = sqrt(5 r^2): k' -> -5/6 and k'' -> 25/12 for Matern-5/2; -1/2 and 1/4 for the squared exponential."""
    with mp.workdps(60):
        limits = [
            float(mp.diff(lambda t: mp_kernel(name, t), mp.mpf(10) ** -24, k, h=mp.mpf(10) ** -30)) for k in (1, 2)
        ]
    exact = {"matern52": (-5 / 6, 25 / 12), "rbf": (-0.5, 0.25)}[name]
    np.testing.assert_allclose(limits, exact, rtol=1e-9)
    zero = jnp.zeros(())
    np.testing.assert_allclose([jax.grad(fn)(zero), jax.grad(jax.grad(fn))(zero)], exact, rtol=1e-14)


@pytest.mark.long
@pytest.mark.parametrize("name", ["matern52", "rbf"])
def test_derivatives_in_x_at_coincident_points(x64, name):
    """d^2 k(x, z) / dx^2 at x = z is 2 k'(0) / lengthscale^2, and the slope is 0."""
    kernel = getattr(surrogates, name)()
    lengthscale = jnp.array([0.5, 2.0])
    params = params_like(kernel, lengthscale)
    z = jnp.array([[0.3, 0.8]])
    amplitude = kernel.diagonal(params, z)[0]

    def k(x):
        return kernel.matrix(params, x[None], z)[0, 0] / amplitude

    np.testing.assert_allclose(jax.grad(k)(z[0]), 0.0, atol=1e-7)
    slope = {"matern52": -5 / 6, "rbf": -0.5}[name]
    np.testing.assert_allclose(jax.hessian(k)(z[0]), jnp.diag(2 * slope / lengthscale**2), rtol=1e-6, atol=1e-6)


def test_matern_has_no_nan_gradient_on_duplicate_rows(x64):
    kernel = surrogates.matern52()
    X = jnp.concatenate([points(4, 2), points(4, 2)])
    gradient = jax.grad(lambda X: kernel.matrix(params_like(kernel, [0.2, 0.2]), X, X).sum())(X)
    assert np.isfinite(gradient).all()


def test_categories_are_compared_by_equality(x64):
    kernel = surrogates.matern52(categorical_dims=(1,))
    params = params_like(kernel, [0.5, 0.7])
    x = jnp.array([[0.4, 1 / 6], [0.4, 3 / 6], [0.4, 5 / 6], [0.6, 1 / 6]])
    K = kernel.matrix(params, x, x) / kernel.diagonal(params, x[:1])[0]
    np.testing.assert_allclose(K[0, 1], K[0, 2], rtol=1e-14)
    np.testing.assert_allclose(K[0, 1], np.exp(-1 / 0.7), rtol=1e-12)
    plain = surrogates.matern52()
    alone = plain.matrix(params_like(plain, [0.5]), x[:1, :1], x[3:, :1])[0, 0]
    np.testing.assert_allclose(K[0, 3], alone, rtol=1e-12)
    np.testing.assert_allclose(jnp.diagonal(K), 1.0, rtol=1e-14)
    only = surrogates.rbf(categorical_dims=(0,))
    assert only.matrix(params_like(only, [0.7]), x[:, 1:], x[:, 1:]).shape == (4, 4)


@pytest.mark.parametrize("name", ["matern52", "rbf"])
def test_matrices_are_positive_definite_in_high_dimensions(x64, name):
    kernel = getattr(surrogates, name)()
    X = points(40, 50)
    K = np.asarray(kernel.matrix(kernel.init(50, X.dtype), X, X))
    assert np.linalg.eigvalsh(K).min() > -1e-10


def test_squared_distance(x64):
    X, Z = points(5, 3) - 0.5, points(4, 3, seed=1) - 0.5
    want = ((np.asarray(X)[:, None] - np.asarray(Z)[None]) ** 2).sum(-1)
    np.testing.assert_allclose(squared_distance(X, Z), want, atol=1e-14)
    assert (squared_distance(X, X) >= 0).all()
