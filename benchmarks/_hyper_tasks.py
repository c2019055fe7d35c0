"""Training problems with hyperparameters for `benchmarks.hypergrad`, as NumPy data and as losses for JAX.

The inner loss is a cross entropy plus 0.5 sum_i exp(log_l2_i) ||w_i||^2, the outer loss the cross entropy on other
data; the hyperparameters are log_l2. `benchmarks._hyper_peers` states the same losses for torch.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax


class Task(NamedTuple):
    """A pair of losses at a point.

    Attributes:
        name: "logistic" (one weight vector [d], labels 0 and 1) or "network" (pairs of matrices and biases, labels of
            ten classes).
        params0: inner parameters to start from.
        log_l2: [h] the hyperparameters: one for each weight, or one for each layer.
        train: inputs [n, d] and labels [n] of the inner loss.
        valid: the same of the outer loss.
        learning_rate: of the inner gradient descent.
        momentum: of the inner gradient descent.
        grad: [h] the hypergradient where the inner problem is solved, if it is known.
    """

    name: str
    params0: Any
    log_l2: np.ndarray
    train: tuple[np.ndarray, np.ndarray]
    valid: tuple[np.ndarray, np.ndarray]
    learning_rate: float
    momentum: float = 0.0
    grad: np.ndarray | None = None

    def losses(self) -> tuple[Any, Any]:
        """The inner and the outer loss for JAX."""
        return LOSSES[self.name]

    def arrays(self, dtype: Any) -> tuple[Any, Any, Any, Any]:
        """Hyperparameters, start, inner and outer data for JAX; all floats in `dtype`."""

        def array(a):
            return jnp.asarray(a, dtype if np.issubdtype(np.asarray(a).dtype, np.floating) else jnp.int32)

        return jax.tree.map(array, (self.log_l2, self.params0, self.train, self.valid))


def logistic_loss(w, data):
    """Cross entropy of the logits X w."""
    X, y = data
    return jnp.mean(optax.sigmoid_binary_cross_entropy(X @ w, y))


def network_loss(params, data):
    """Cross entropy of a network with tanh units."""
    x, y = data
    for W, b in params[:-1]:
        x = jnp.tanh(x @ W + b[None])
    W, b = params[-1]
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(x @ W + b[None], y))


def _with_l2(loss):
    def inner_loss(params, log_l2, data):
        groups, layers = ([log_l2], [params]) if isinstance(params, jax.Array) else (list(log_l2), params)
        pairs = [(h, w) for h, layer in zip(groups, layers, strict=True) for w in jax.tree.leaves(layer)]
        return loss(params, data) + 0.5 * sum(jnp.sum(jnp.exp(h) * w**2) for h, w in pairs)

    return inner_loss, lambda params, log_l2, data: loss(params, data)


LOSSES = {"logistic": _with_l2(logistic_loss), "network": _with_l2(network_loss)}


@functools.cache
def cancer() -> Task:
    """Logistic regression on breast cancer with an L2 weight for each of 30 features, started where it is solved.

    The hypergradient comes from Newton's method and a direct solve in NumPy. The learning rate is one over the largest
    curvature at the solution.
    """
    from sklearn.datasets import load_breast_cancer
    from sklearn.model_selection import train_test_split
    from sklearn.preprocessing import StandardScaler

    X, y = load_breast_cancer(return_X_y=True)
    X, V, y, z = train_test_split(X, y.astype(float), test_size=0.5, random_state=0, stratify=y)
    scaler = StandardScaler().fit(X)
    X, V = scaler.transform(X), scaler.transform(V)
    h = np.full(X.shape[1], -4.0)
    w, H = _solve(X, y, h)
    v = np.linalg.solve(H, V.T @ (_sigmoid(V @ w) - z) / len(z))
    largest = float(np.linalg.eigvalsh(H)[-1])
    return Task("logistic", w, h, (X, y), (V, z), 1 / largest, grad=-np.exp(h) * w * v)


def differences(task: Task, step: float = 0.4, levels: int = 6) -> np.ndarray:
    """The hypergradient [h] of a solved logistic task by central differences, extrapolated (Richardson)."""

    def value(h):
        w, _ = _solve(*task.train, h)
        V, z = task.valid
        return np.mean(np.logaddexp(0, -(2 * z - 1) * (V @ w)))

    def slope(e):
        steps = step / 2.0 ** np.arange(levels)
        table = [(value(task.log_l2 + t * e) - value(task.log_l2 - t * e)) / (2 * t) for t in steps]
        for k in range(1, levels):
            table = [(4**k * b - a) / (4**k - 1) for a, b in zip(table, table[1:], strict=False)]
        return table[0]

    return np.array([slope(e) for e in np.eye(len(task.log_l2))])


def _solve(X, y, h):
    """The weights by Newton's method, and the curvature there."""
    w = np.zeros(X.shape[1])
    for _ in range(30):
        p = _sigmoid(X @ w)
        H = (X.T * (p * (1 - p))) @ X / len(y) + np.diag(np.exp(h))
        w = w - np.linalg.solve(H, X.T @ (p - y) / len(y) + np.exp(h) * w)
    return w, H


def _sigmoid(a):
    return 1 / (1 + np.exp(-a))


@functools.cache
def synthetic(n: int = 500, d: int = 20) -> Task:
    """Logistic regression on random data, an L2 weight for each of 20 features, gradient descent from zero."""
    rng = np.random.default_rng(1)
    X = rng.normal(size=(2 * n, d))
    y = (X @ rng.normal(size=d) + rng.normal(size=2 * n) > 0).astype(float)
    return Task("logistic", np.zeros(d), np.full(d, -1.0), (X[:n], y[:n]), (X[n:], y[n:]), 0.1)


@functools.cache
def digits(num_hidden: int = 128, batch_size: int = 256) -> Task:
    """A network 64-128-128-10 (26,122 parameters) on digits, an L2 weight for each layer, momentum 0.9."""
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))[: 2 * batch_size]
    X, y = X[order] / 16.0, y[order]
    rng = np.random.default_rng(0)
    sizes = ((64, num_hidden), (num_hidden, num_hidden), (num_hidden, 10))
    params = [(rng.normal(size=size) / np.sqrt(size[0]), np.zeros(size[1])) for size in sizes]
    train, valid = (X[:batch_size], y[:batch_size]), (X[batch_size:], y[batch_size:])
    return Task("network", params, np.full(3, -7.0), train, valid, 0.1, 0.9)


def relative_error(grad: Any, reference: Any) -> float:
    """||grad - reference|| / ||reference||, computed in float64."""
    grad, reference = np.asarray(grad, np.float64), np.asarray(reference, np.float64)
    return float(np.linalg.norm(grad - reference) / np.linalg.norm(reference))
