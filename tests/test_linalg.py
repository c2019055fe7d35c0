"""Factorisations: values and derivatives against NumPy and finite differences; batched as looped."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bojax import _linalg
from tests.helpers import tol

N = 7


def spd(seed, *batch):
    """Well-conditioned positive definite matrices."""
    A = np.random.default_rng(seed).normal(size=(*batch, N, N))
    return A @ np.swapaxes(A, -1, -2) + N * np.eye(N)


@pytest.fixture(scope="module")
def weights():
    rng = np.random.default_rng(5)
    return rng.normal(size=(N, N)), rng.normal(size=(N, N))


def scalar_of(weights, factor):
    """A function of both outputs that sees every entry."""
    A, B = weights

    def value(K):
        L, L_inv = factor(K)
        return (jnp.asarray(A, K.dtype) * L).sum() + (jnp.asarray(B, K.dtype) * jnp.sin(L_inv)).sum()

    return value


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_factor_matches_numpy(dtype):
    with jax.enable_x64(dtype == np.float64):
        K = jnp.asarray(spd(0), dtype)
        L, L_inv = jax.jit(_linalg.factor)(K)
        assert L.dtype == L_inv.dtype == dtype
        want = np.linalg.cholesky(np.asarray(K, np.float64))
        np.testing.assert_allclose(L, want, rtol=tol(dtype), atol=tol(dtype))
        np.testing.assert_allclose(L_inv, np.linalg.inv(want), rtol=tol(dtype), atol=tol(dtype))
        np.testing.assert_array_equal(L, jnp.tril(L))
        np.testing.assert_array_equal(L_inv, jnp.tril(L_inv))
        np.testing.assert_array_equal(_linalg.cholesky(K), L)


def stable(K):
    return _linalg.stable_factor(K, first_jitter=1e-10)[:2]


def test_gradient_of_factor_matches_finite_differences(x64, weights):
    K = spd(1)

    def reference(K):
        L = np.linalg.cholesky(K)
        return (weights[0] * L).sum() + (weights[1] * np.sin(np.linalg.inv(L))).sum()

    gradient = np.asarray(jax.jit(jax.grad(scalar_of(weights, _linalg.factor)))(jnp.asarray(K)))
    for i in range(N):
        for j in range(i + 1):
            step = np.zeros((N, N))
            step[i, j] = step[j, i] = 1e-5
            want = (reference(K + step) - reference(K - step)) / 2e-5
            got = (gradient * step).sum() / 1e-5
            assert abs(got - want) < 1e-6 * (1 + abs(want)), (i, j)


def test_gradient_matches_that_of_jax(x64, weights):
    K = jnp.asarray(spd(2))

    def plain(K):
        L = jnp.linalg.cholesky(K)
        return L, jax.scipy.linalg.solve_triangular(L, jnp.eye(N), lower=True)

    def symmetric(fn):
        return jax.grad(lambda K: scalar_of(weights, fn)(0.5 * (K + K.T)))(K)

    np.testing.assert_allclose(symmetric(_linalg.factor), symmetric(plain), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shape", [(4,), (3, 2)])
def test_batched_is_looped(x64, weights, shape):
    K = jnp.asarray(spd(3, *shape))
    gradient = jax.value_and_grad(scalar_of(weights, _linalg.factor))
    both, single = lambda K: (_linalg.factor(K), gradient(K), stable(K)), jax.jit(gradient)
    batched = both
    for _ in shape:
        batched = jax.vmap(batched)
    factors, (values, gradients), stable_factors = jax.jit(batched)(K)
    for index in np.ndindex(*shape):
        L = np.linalg.cholesky(np.asarray(K[index]))
        np.testing.assert_allclose(factors[0][index], L, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(stable_factors[1][index], np.linalg.inv(L), rtol=1e-9, atol=1e-11)
        value, grad = single(K[index])
        np.testing.assert_allclose(values[index], value, rtol=1e-10)
        np.testing.assert_allclose(gradients[index], grad, rtol=1e-8, atol=1e-11)


def test_an_indefinite_matrix_gives_nan(x64):
    L, _ = _linalg.factor(-jnp.eye(N))
    assert np.isnan(np.diagonal(L)).any()


def test_stable_factor_adds_only_what_it_takes(x64):
    factor = jax.jit(lambda K: _linalg.stable_factor(K, first_jitter=1e-10))
    good = jnp.asarray(spd(4))
    L, L_inv, ok = factor(good)
    assert ok
    np.testing.assert_array_equal(L, _linalg.factor(good)[0])

    singular = jnp.ones((N, N))
    L, L_inv, ok = factor(singular)
    assert ok and np.isfinite(L_inv).all()
    assert np.abs(L @ L.T - singular).max() <= 1e-6

    off = jnp.ones((N, N)) - 1e-7 * jnp.eye(N)  # a negative eigenvalue of -1e-7: a jitter of 1e-6 mends it
    L, _, ok = factor(off)
    assert ok
    assert 1e-8 < np.abs(L @ L.T - off).max() < 2e-6

    _, _, ok = factor(-jnp.eye(N))
    assert not ok
    _, _, ok = factor(jnp.full((N, N), jnp.nan))
    assert not ok


def test_stable_factor_of_a_batch_with_good_and_bad_matrices(x64):
    K = jnp.stack([jnp.asarray(spd(6)), jnp.ones((N, N)), -jnp.eye(N)])
    L, _, ok = jax.jit(jax.vmap(lambda K: _linalg.stable_factor(K, first_jitter=1e-10)))(K)
    assert ok.tolist() == [True, True, False]
    np.testing.assert_allclose(L[0], np.linalg.cholesky(np.asarray(K[0])), rtol=1e-12, atol=1e-13)


def test_no_batched_lapack_call_on_cpu(x64):
    """The compiled program of a batch holds LAPACK calls of single matrices only (a batched one can hang)."""
    if jax.default_backend() != "cpu":
        pytest.skip("accelerators factor in batches")
    K = jnp.asarray(spd(7, 5))
    grad = jax.vmap(jax.grad(lambda K: _linalg.factor(K)[1].sum()))
    text = jax.jit(lambda K: (grad(K), jax.vmap(stable)(K))).lower(K).compile().as_text()
    calls = [line for line in text.splitlines() if "custom-call" in line and "lapack" in line]
    assert calls
    assert not [line for line in calls if f"[5,{N},{N}]" in line]


def test_stable_factor_has_a_reverse_derivative_where_jitter_is_needed():
    with jax.enable_x64(True):
        A = jnp.asarray(np.random.default_rng(0).normal(size=(4, 6)))
        C = jnp.asarray(np.random.default_rng(1).normal(size=(6, 6)))

        def value(A, jitter):
            K = A.T @ A  # of rank 4
            L, L_inv, ok = _linalg.stable_factor(K + jitter * jnp.eye(6), first_jitter=1e-3)
            return jnp.sum(C * L) + 1e-3 * jnp.sum(jnp.sin(L_inv))

        got = jax.jit(jax.vmap(jax.grad(value), (0, None)))(jnp.stack([A, 2.0 * A]), 0.0)[0]
        want = jax.grad(value)(A, 1e-3)
        assert np.allclose(got, want, rtol=1e-8)
        step = 1e-6 * jnp.asarray(np.random.default_rng(2).normal(size=A.shape))
        slope = (value(A + step, 0.0) - value(A - step, 0.0)) / 2
        assert np.isclose(jnp.sum(want * step), slope, rtol=1e-4)
