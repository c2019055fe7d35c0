"""Logistic regression with a penalty for each group of features: a differentiable objective.

The parameters w minimize, with a penalty a_j = a_g(j) for each feature,

    L(w, a) = mean cross entropy of the train part + 0.5 sum_j a_j w_j^2,

a convex problem that a few Newton steps solve. At the solution dL/dw = 0 for every a, so the derivatives of a metric F
with respect to the penalties are given by the implicit function theorem,

    dF/da = -(d^2 L / da dw) v,    (d^2 L / dw^2) v = dF/dw    (Bengio, 2000),

at the cost of one more linear system.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from ._objective import Hparams, Program, Spec
from ._tasks import classification
from ._train import evaluate_parts, from_programs, to_arrays
from .data.tables import load_cancer

GROUPS = {
    "size": ("radius", "perimeter", "area"),
    "texture": ("texture",),
    "smoothness": ("smoothness",),
    "concavity": ("compactness", "concavity", "concave points"),
    "symmetry": ("symmetry",),
    "fractal": ("fractal dimension",),
}
"""The ten measured quantities of a cell nucleus, by topic. Each quantity has three columns in the table: its mean,
standard error and worst value over the nuclei of an image."""

QUANTITIES = (
    "radius",
    "texture",
    "perimeter",
    "area",
    "smoothness",
    "compactness",
    "concavity",
    "concave points",
    "symmetry",
    "fractal dimension",
)
"""In the order of the columns: all means, then all errors, then all worst values."""

SPACE: Spec = {f"l2_{group}": {"type": "float", "low": 1e-4, "high": 10.0, "log": True} for group in GROUPS}
INTERCEPT_L2 = 1e-6  # keeps the curvature along the intercept above zero
STEP_SIZES = np.float32(0.5) ** np.array([*range(8), np.inf], np.float32)  # of a Newton step; the last is none
ROUNDING = 1e-6  # of a loss in float32: the largest of the step sizes with losses this close is used


def solve(H: Array, b: Array) -> Array:
    """H^-1 b for a positive definite H [n, n], by elimination without pivots.

    Under `vmap` a factorization becomes a batched LAPACK call, which can hang on CPU with jaxlib 0.10.
    """

    def eliminate(i, M):
        row = M[i] / M[i, i]
        return (M - M[:, i, None] * row[None]).at[i].set(row)

    return lax.fori_loop(0, H.shape[0], eliminate, jnp.concatenate([H, b[:, None]], axis=1))[:, -1]


def _init(key: Array, hparams: Hparams) -> Array:
    """The weights of the features and the intercept, zero: the problem is convex and needs no randomness."""
    del key, hparams
    return jnp.zeros(3 * len(QUANTITIES) + 1, jnp.float32)


def _advance(w: Array, hparams: Hparams, num_steps: Any) -> Array:
    h = to_arrays(SPACE, hparams)

    def step(_, w):
        direction = solve(_curvature(w, h), _gradient(w, h))
        tried = w[None] - STEP_SIZES[:, None] * direction[None]
        losses = jax.vmap(lambda w: _loss(w, h))(tried)
        least = jnp.min(jnp.where(jnp.isfinite(losses), losses, jnp.inf))
        return tried[jnp.argmax(losses <= (1 + ROUNDING) * least)]

    return lax.fori_loop(0, num_steps, step, w)


def _evaluate(w: Array, hparams: Hparams) -> dict[str, Array]:
    del hparams

    def predict(inputs):
        margin = inputs @ w[:-1] + w[-1]
        return jnp.stack([jnp.zeros_like(margin), margin], axis=-1)

    return evaluate_parts(predict, load_cancer(), classification)


def _loss(w: Array, h: Hparams) -> Array:
    X, y = _train_part()
    margin = _product(X, w)
    return jnp.mean(jnp.logaddexp(0.0, margin) - y * margin) + 0.5 * jnp.sum(_penalties(h) * w**2)


def _gradient(w: Array, h: Hparams) -> Array:
    X, y = _train_part()
    return _product(X.T, (jax.nn.sigmoid(_product(X, w)) - y) / len(y)) + _penalties(h) * w


def _curvature(w: Array, h: Hparams) -> Array:
    X, y = _train_part()
    margin = _product(X, w)
    weights = jax.nn.sigmoid(margin) * jax.nn.sigmoid(-margin) / len(y)
    return _product(X.T * weights[None], X) + jnp.diag(_penalties(h))


def _penalties(h: Hparams) -> Array:
    """[31] the penalty of each weight, and that of the intercept."""
    groups = [next(group for group, members in GROUPS.items() if quantity in members) for quantity in QUANTITIES]
    return jnp.stack([*(jnp.asarray(h[f"l2_{group}"]) for group in 3 * groups), jnp.float32(INTERCEPT_L2)])


def _product(a: Any, b: Any) -> Array:
    """a @ b in full float32 precision, which accelerators reduce by default."""
    return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)


def _train_part() -> tuple[Array, Array]:
    """Features [n, 31], the last of which is 1, and labels [n], 0 or 1."""
    inputs, labels = load_cancer().train
    X = np.concatenate([inputs, np.ones_like(inputs[:, :1])], axis=1)
    return jnp.asarray(X), jnp.asarray(labels, jnp.float32)


def _value_and_grad(key: Array, hparams: Hparams, num_steps: int) -> tuple[dict[str, Array], dict[str, Array]]:
    """The derivatives at the minimum, which 15 steps reach to rounding everywhere in the space."""
    h = to_arrays(SPACE, hparams)
    w = _advance(_init(key, h), h, num_steps)

    def tuned(w):
        metrics = _evaluate(w, h)
        return metrics["validation_loss"], metrics

    by_params, metrics = jax.grad(tuned, has_aux=True)(w)
    adjoint = solve(_curvature(w, h), by_params)
    _, pull = jax.vjp(lambda h: _gradient(w, h), h)
    return metrics, jax.tree.map(jnp.negative, pull(adjoint)[0])


_PROGRAM = Program(_init, _advance, _evaluate)
cancer_logistic = from_programs(
    "cancer_logistic",
    "Logistic regression on scikit-learn's breast cancer table, differentiable",
    SPACE,
    lambda num_steps: lambda structure: _PROGRAM,
    metric="validation_loss",
    direction="minimize",
    num_steps=15,
    value_and_grad=_value_and_grad,
)
