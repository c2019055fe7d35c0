"""Factorizations of covariance matrices that neither hang nor slow down under vmap.

Batched LAPACK calls of jaxlib 0.10 on CPU split their batch over the thread pool they run on and wait for it. Two of
them at once can deadlock on a small machine, so nothing else in the package calls a batched LAPACK routine. Here the
primitive calls are inside `custom_vmap`: on CPU a batch becomes a loop of single calls (as fast, since the matrices are
small), on an accelerator it stays one batched call. `custom_vmap` has no reverse rule, so `factor` has its own, written
with products of the cached inverse factor instead of differentiating the factorization. `stable_factor` uses the same
rule; `inverse` has no derivative.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap

from bojax._types import Array, Bool, Float


def matmul(a: Array, b: Array) -> Array:
    """a @ b in the full precision of its dtype: accelerators round float32 factors by default, and variances cancel."""
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def one_by_one_on_cpu(fn: Callable[..., Any]) -> Callable[..., Any]:
    """The function, of which a batch on CPU becomes a loop of single calls: for routines of LAPACK within libraries.

    Args:
        fn: a function of trees of arrays.

    Returns:
        The same function; it has no derivative in reverse mode.
    """
    wrapped = custom_vmap(fn)

    @wrapped.def_vmap
    def _(axis_size, in_batched, *args):
        args = jax.tree.map(
            lambda leaf, is_batched: leaf if is_batched else jnp.broadcast_to(leaf, (axis_size, *leaf.shape)),
            args,
            tuple(in_batched),
        )
        looped = lambda *args: jax.lax.map(lambda one: wrapped(*one), args)  # noqa: E731
        out = jax.lax.platform_dependent(*args, cpu=looped, default=jax.vmap(fn))
        return out, jax.tree.map(lambda _: True, out)

    return wrapped


@custom_vmap
def _factor(K):
    L = jax.lax.linalg.cholesky(K, symmetrize_input=False)
    eye = jnp.eye(K.shape[-1], dtype=K.dtype)
    return L, jax.lax.linalg.triangular_solve(L, eye, left_side=True, lower=True)


@_factor.def_vmap
def _factor_batch(axis_size, in_batched, K):
    del axis_size, in_batched

    def batched(K):
        L = jax.lax.linalg.cholesky(K, symmetrize_input=False)
        eye = jnp.broadcast_to(jnp.eye(K.shape[-1], dtype=K.dtype), K.shape)
        return L, jax.lax.linalg.triangular_solve(L, eye, left_side=True, lower=True)

    out = jax.lax.platform_dependent(K, cpu=lambda K: jax.lax.map(_factor, K), default=batched)
    return out, (True, True)


@jax.custom_vjp
def factor(K: Float[Array, "n n"]) -> tuple[Float[Array, "n n"], Float[Array, "n n"]]:
    """The lower Cholesky factor L of a positive definite K, and L^-1; NaN if K is not positive definite."""
    return _factor(K)


def _factor_fwd(K):
    L, L_inv = _factor(K)
    return (L, L_inv), (L, L_inv)


def _factor_bwd(residuals, cotangents):
    # dL = L Phi(L^-1 dK L^-T) with Phi the lower triangle with halved diagonal (Murray 2016, arXiv:1602.07527);
    # d(L^-1) = -L^-1 dL L^-1 turns a cotangent of the inverse into one of L.
    L, L_inv = residuals
    L_bar, L_inv_bar = cotangents
    L_bar = L_bar - matmul(L_inv.T, matmul(L_inv_bar, L_inv.T))
    P = jnp.tril(matmul(L.T, jnp.tril(L_bar)))
    P = P - 0.5 * jnp.diag(jnp.diagonal(P))
    S = matmul(L_inv.T, matmul(P, L_inv))
    return (0.5 * (S + S.T),)


factor.defvjp(_factor_fwd, _factor_bwd)


@custom_vmap
def inverse(K: Float[Array, "n n"]) -> tuple[Float[Array, "n n"], Float[Array, "n n"], Float[Array, "n n"]]:
    """L, L^-1 and K^-1 of a positive definite K, without a derivative; NaN if K is not positive definite.

    K^-1 comes from a second triangular solve, which at n = 128 takes half the time of the product L^-T L^-1 on CPU.
    """
    L, L_inv = _factor(K)
    return L, L_inv, jax.lax.linalg.triangular_solve(L, L_inv, left_side=True, lower=True, transpose_a=True)


@inverse.def_vmap
def _inverse_batch(axis_size, in_batched, K):
    del axis_size, in_batched

    def batched(K):
        L, L_inv = jax.vmap(_factor)(K)
        return L, L_inv, matmul(jnp.swapaxes(L_inv, -1, -2), L_inv)

    out = jax.lax.platform_dependent(K, cpu=lambda K: jax.lax.map(inverse, K), default=batched)
    return out, (True, True, True)


def cholesky(K: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """The lower Cholesky factor alone."""
    return factor(K)[0]


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _stable_factor(K, first_jitter, max_tries):
    eye = jnp.eye(K.shape[-1], dtype=K.dtype)

    def attempt(i):
        jitter = jnp.where(i == 0, 0.0, first_jitter * 10.0 ** (i.astype(K.dtype) - 1.0))
        return _factor(K + jitter.astype(K.dtype) * eye)

    def failed(carry):
        i, _, L_inv = carry
        return (i <= max_tries) & ~jnp.all(jnp.isfinite(L_inv))

    def again(carry):
        i, _, _ = carry
        return (i + 1, *attempt(i))

    # The loop makes the first attempt too, so that the factorization is traced once.
    start = (jnp.int32(0), jnp.full_like(K, jnp.nan), jnp.full_like(K, jnp.nan))
    _, L, L_inv = jax.lax.while_loop(failed, again, start)
    return L, L_inv


def _stable_factor_fwd(K, first_jitter, max_tries):
    out = _stable_factor(K, first_jitter, max_tries)
    return out, out


def _stable_factor_bwd(first_jitter, max_tries, residuals, cotangents):
    del first_jitter, max_tries
    return _factor_bwd(residuals, cotangents)


_stable_factor.defvjp(_stable_factor_fwd, _stable_factor_bwd)


def stable_factor(
    K: Float[Array, "n n"], *, first_jitter: float, max_tries: int = 6
) -> tuple[Float[Array, "n n"], Float[Array, "n n"], Bool[Array, ""]]:
    """Factor K, with jitter added to its diagonal if necessary.

    The reverse derivative is that of the final factorization, with the jitter as a constant.

    Args:
        K: [n, n] covariance matrix with a diagonal of order one.
        first_jitter: the first jitter, tried if K alone fails; each further try multiplies it by ten.
        max_tries: number of jitters that are tried.

    Returns:
        L, L^-1, and whether they are finite.
    """
    out: tuple = _stable_factor(K, first_jitter, max_tries)
    L, L_inv = out
    return L, L_inv, jnp.all(jnp.isfinite(L_inv))


def first_jitter(dtype) -> float:
    """The first jitter of a matrix that cannot be factored, relative to unit variance."""
    return 1e-10 if jnp.finfo(dtype).bits >= 64 else 1e-6


def factor_scaled(
    cov: Float[Array, "n n"], mask: Bool[Array, "n"] | None = None
) -> tuple[Float[Array, "n n"], Float[Array, "n n"]]:
    """L and L^-1 of a covariance matrix in any units, with jitter added to its diagonal if necessary.

    The matrix is divided by its largest variance first, which is a constant in derivatives.

    Args:
        cov: [n, n] covariance matrix.
        mask: [n] which rows count; the others become rows of the identity. All by default.
    """
    variances = jnp.diagonal(cov) if mask is None else jnp.where(mask, jnp.diagonal(cov), 0.0)
    scale = jnp.maximum(jnp.max(jax.lax.stop_gradient(variances)), jnp.finfo(cov.dtype).tiny)
    K, root = cov / scale, jnp.sqrt(scale)
    if mask is not None:
        both = mask[:, None] & mask[None, :]
        K = jnp.where(both, K, 0.0) + jnp.diag(jnp.where(mask, 0.0, 1.0).astype(cov.dtype))
        root = jnp.where(mask, root, 1.0)
    L, L_inv, _ = stable_factor(K, first_jitter=first_jitter(cov.dtype), max_tries=8)
    root = jnp.broadcast_to(root, cov.shape[:1])
    return L * root[:, None], L_inv / root[None, :]
