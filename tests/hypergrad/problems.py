"""Inner and outer problems whose hypergradients are known."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bojax import hypergrad as hg
from bojax.hypergrad import Newton


class Known(NamedTuple):
    """A pair of losses with a case of it and, if known, the hypergradient there."""

    inner_loss: object
    outer_loss: object
    hparams: object
    params0: object
    inner_data: object
    outer_data: object
    grad: object = None


def relative_error(grad, reference):
    """||grad - reference|| / ||reference|| over all leaves."""
    flat = [
        np.concatenate([np.ravel(np.asarray(a, np.float64)) for a in jax.tree.leaves(t)]) for t in (grad, reference)
    ]
    return float(np.linalg.norm(flat[0] - flat[1]) / np.linalg.norm(flat[1]))


def regression_data(n=60, d=6, seed=0, dtype=float):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(2 * n, d)) * np.linspace(0.5, 2.0, d)
    y = X @ rng.normal(size=d) + rng.normal(size=2 * n)
    X, y = (jnp.asarray(a, dtype) for a in (X, y))
    return (X[:n], y[:n]), (X[n:], y[n:])


def squares(w, data):
    X, y = data
    return 0.5 * jnp.mean((X @ w - y) ** 2)


def ridge(dtype=float):
    """Ridge regression with an L2 weight for each feature, differentiated in NumPy through the closed-form solution."""
    train, valid = regression_data(dtype=dtype)
    d = train[0].shape[1]
    h = jnp.linspace(-3.0, 1.0, d, dtype=dtype)

    def inner_loss(w, h, data):
        return squares(w, data) + 0.5 * jnp.sum(jnp.exp(h["log_l2"]) * w**2)

    def outer_loss(w, h, data):
        return squares(w, data)

    (X, y), (V, z) = (tuple(np.asarray(a, np.float64) for a in part) for part in (train, valid))
    weights = np.exp(np.asarray(h, np.float64))
    H = X.T @ X / len(y) + np.diag(weights)
    w = np.linalg.solve(H, X.T @ y / len(y))
    v = np.linalg.solve(H, V.T @ (V @ w - z) / len(z))
    grad = {"log_l2": -weights * w * v}
    return Known(inner_loss, outer_loss, {"log_l2": h}, jnp.zeros(d, dtype), train, valid, grad)


def logistic_loss(w, data):
    X, y = data
    return jnp.mean(jnp.logaddexp(0, -(2 * y - 1) * (X @ w["slope"] + w["bias"])))


def logistic(dtype=float, n=80, d=8):
    """Logistic regression with an L2 weight for each feature; the reference is central differences of a solved problem.

    Every value of the outer loss comes from Newton's method in NumPy run to the rounding error, and four levels of
    Richardson extrapolation leave about 1e-11 of the differences.
    """
    rng = np.random.default_rng(3)
    X = rng.normal(size=(2 * n, d)) * np.linspace(0.5, 2.0, d)
    y = (rng.uniform(size=2 * n) < 1 / (1 + np.exp(-X @ rng.normal(size=d)))).astype(float)
    h = np.linspace(-4.0, -1.0, d)

    def solve(h):
        A = np.c_[X[:n], np.ones(n)]
        D = np.diag(np.r_[np.exp(h), 1e-3])
        w = np.zeros(d + 1)
        for _ in range(40):
            p = 1 / (1 + np.exp(-A @ w))
            g = A.T @ (p - y[:n]) / n + D @ w
            w = w - np.linalg.solve((A.T * (p * (1 - p))) @ A / n + D, g)
        return w

    def value(h):
        s = (2 * y[n:] - 1) * (np.c_[X[n:], np.ones(n)] @ solve(h))
        return np.mean(np.logaddexp(0, -s))

    def inner_loss(w, h, data):
        return logistic_loss(w, data) + 0.5 * jnp.sum(jnp.exp(h) * w["slope"] ** 2) + 0.5e-3 * w["bias"] ** 2

    def outer_loss(w, h, data):
        return logistic_loss(w, data)

    grad = np.array([richardson(lambda t, e=e: value(h + t * e)) for e in np.eye(d)])
    train, valid = ((jnp.asarray(X[s], dtype), jnp.asarray(y[s], dtype)) for s in (slice(0, n), slice(n, None)))
    params0 = {"slope": jnp.zeros(d, dtype), "bias": jnp.zeros((), dtype)}
    return Known(inner_loss, outer_loss, jnp.asarray(h, dtype), params0, train, valid, grad)


def richardson(fn, step=0.4, levels=6):
    """The derivative of fn at 0 by central differences, extrapolated."""
    table = [(fn(t) - fn(-t)) / (2 * t) for t in step / 2.0 ** np.arange(levels)]
    for k in range(1, levels):
        table = [(4**k * b - a) / (4**k - 1) for a, b in zip(table, table[1:], strict=False)]
    return table[0]


def mlp(dtype=jnp.float32, width=16, n=32, d=8, seed=0):
    """A small network with an L2 weight for each layer and a learning rate."""
    rng = np.random.default_rng(seed)
    X, y = jnp.asarray(rng.normal(size=(2 * n, d)), dtype), jnp.asarray(rng.normal(size=2 * n), dtype)
    shapes = {"a": (d, width), "b": (width, width), "c": (width, 1)}
    params = {k: jnp.asarray(rng.normal(size=s) / np.sqrt(s[0]), dtype) for k, s in shapes.items()}

    def fit(w, data):
        X, y = data
        return 0.5 * jnp.mean((jnp.tanh(jnp.tanh(X @ w["a"]) @ w["b"]) @ w["c"] - y[:, None]) ** 2)

    def inner_loss(w, h, data):
        penalty = sum(jnp.exp(h["log_l2"][i]) * jnp.sum(w[k] ** 2) for i, k in enumerate(w))
        return fit(w, data) + 0.5 * penalty

    hparams = {"log_l2": jnp.full(3, -4.0, dtype), "log_lr": jnp.asarray(-2.5, dtype)}
    return Known(inner_loss, lambda w, h, data: fit(w, data), hparams, params, (X[:n], y[:n]), (X[n:], y[n:]))


@functools.cache
def at_solution(name):
    """A problem in float64 that starts where its inner loss is least, for solvers that only stay there."""
    with jax.enable_x64(True):
        known = {"ridge": ridge, "logistic": logistic}[name]()
        end = jax.jit(lambda w, h, data: Newton()(known.inner_loss, w, h, data))
        return known._replace(params0=end(known.params0, known.hparams, known.inner_data).params)


def stay(inner_loss, params0, hparams, data, key):
    """The inner solver that does nothing."""
    return params0


def call(fn, known, hparams=None, **kwargs):
    hparams = known.hparams if hparams is None else hparams
    return jax.jit(fn)(hparams, known.params0, known.inner_data, known.outer_data, **kwargs)


def hypergradient(known, method, **kwargs):
    return hg.hypergradient(known.inner_loss, known.outer_loss, method=method, **kwargs)


def sgd_of(h):
    return optax.sgd(jnp.exp(h["log_lr"]), momentum=0.9)


def float64_mlp(**kwargs):
    return mlp(dtype=jnp.float64, **kwargs)


def temp_bytes(known, method, **kwargs):
    fn = hypergradient(known, method, **kwargs)
    args = known.hparams, known.params0, known.inner_data, known.outer_data
    return jax.jit(fn).lower(*args).compile().memory_analysis().temp_size_in_bytes
