"""Bilevel optimization in a single loop of minibatch steps.

Inner parameters w, adjoint v and hyperparameters h move together, each along an unbiased estimate of its own direction:

    w along dL/dw,    v along (d^2 L / dw^2) v - dF/dw,    h along dF/dh - (d^2 L / dh dw) v

(SOBA: Dagreou, Ablin, Vaiter and Moreau 2022, arXiv:2201.13409; averaging the last direction is MA-SOBA: Chen, Xiao and
Balasubramanian 2023, arXiv:2306.12067). One forward derivative of (dL/dw, dL/dh) along v gives all terms of the inner
loss, so a step costs about four gradients.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from bojax._types import Array
from bojax.hypergrad import _tree
from bojax.hypergrad._inert import check_differentiable, check_reach
from bojax.hypergrad._problem import Case, Loss, Problem, loss_reach

INERT_HINT = "Neither the gradient of the inner loss nor the outer loss depends on it."


class SobaState(NamedTuple):
    """What the next step needs: the three variables, the states of their optimizers, and the average.

    Attributes:
        params: inner parameters w.
        adjoint: v.
        hparams: h.
        optimizers: the three states.
        average: the moving average of the direction of h.
    """

    params: Any
    adjoint: Any
    hparams: Any
    optimizers: tuple[Any, Any, Any]
    average: Any


class SobaInfo(NamedTuple):
    """Diagnostics of one step.

    Attributes:
        value: the outer loss on the batch.
        grad: the estimate of the hypergradient on the batch.
        inner_grad_norm: the norm of dL/dw on the batch.
        adjoint_residual: the norm of (d^2 L / dw^2) v - dF/dw on the batch.
    """

    value: Array
    grad: Any
    inner_grad_norm: Array
    adjoint_residual: Array


class Soba(NamedTuple):
    """A pair of pure functions.

    Attributes:
        init: `init(params, hparams) -> SobaState`.
        step: `step(state, inner_data, outer_data) -> (SobaState, SobaInfo)`; scan it over batches.
    """

    init: Callable[[Any, Any], SobaState]
    step: Callable[[SobaState, Any, Any], tuple[SobaState, SobaInfo]]


def soba(
    inner_loss: Loss,
    outer_loss: Loss,
    *,
    inner_optimizer: optax.GradientTransformation,
    outer_optimizer: optax.GradientTransformation,
    adjoint_optimizer: optax.GradientTransformation | None = None,
    averaging: float = 1.0,
) -> Soba:
    """Minimize an outer loss over hyperparameters with minibatches of both losses.

    Args:
        inner_loss: `inner_loss(params, hparams, data)`, a scalar; a mean over the batch.
        outer_loss: `outer_loss(params, hparams, data)`, a scalar; a mean over the batch.
        inner_optimizer: updates w; plain SGD in the paper, with a rate below 2 / the largest curvature.
        outer_optimizer: updates h; slower than the others, or v lags behind.
        adjoint_optimizer: updates v; by default the same as `inner_optimizer`.
        averaging: in (0, 1], weight of the newest direction of h in a moving average; 1 means no averaging.

    Returns:
        The functions `init` and `step`.

    Raises:
        ValueError: `averaging` is outside of (0, 1].
        NonDifferentiableHyperparameterError: by `init`: a leaf of hparams is not floating.
        InertHyperparameterError: by `step`: neither loss depends on a leaf of hparams.

    Example:
        >>> import jax.numpy as jnp, optax
        >>> from bojax import hypergrad as hg
        >>> inner = lambda w, h, data: 0.5 * jnp.sum((w - 1.0) ** 2 + jnp.exp(h) * w**2)
        >>> outer = lambda w, h, data: 0.5 * jnp.sum((w - 0.25) ** 2)
        >>> pair = hg.soba(inner, outer, inner_optimizer=optax.sgd(0.3), outer_optimizer=optax.sgd(0.5))
        >>> state = pair.init(jnp.zeros(1), jnp.zeros(()))
        >>> for _ in range(50):
        ...     state, info = pair.step(state, None, None)
        >>> bool(state.hparams > 0.0)  # toward log 3, where w = 1/4
        True
    """
    if not 0 < averaging <= 1:
        raise ValueError(f"`averaging` must lie in (0, 1], got {averaging}.")
    problem = Problem(inner_loss, lambda *args: (outer_loss(*args), None), None)
    movers = inner_optimizer, adjoint_optimizer or inner_optimizer, outer_optimizer

    def init(params, hparams):
        params, hparams = jax.tree.map(jnp.asarray, params), check_differentiable(hparams)
        adjoint = _tree.zeros_like(params)
        states = movers[0].init(params), movers[1].init(adjoint), movers[2].init(hparams)
        return SobaState(params, adjoint, hparams, states, _tree.zeros_like(hparams))

    def step(state, inner_data, outer_data):
        w, v, h = state.params, state.adjoint, state.hparams
        case = Case(h, lambda _: w, inner_data, outer_data, None, None)
        check_reach(loss_reach(problem, case), h, INERT_HINT)
        both = jax.grad(inner_loss, argnums=(0, 1))
        (g, _), (Hv, cross) = jax.jvp(lambda w: both(w, h, inner_data), (w,), (v,))
        value, (b, direct) = jax.value_and_grad(outer_loss, argnums=(0, 1))(w, h, outer_data)
        residual, grad = _tree.add(Hv, -1, b), _tree.add(direct, -1, cross)
        average = _tree.add(_tree.scaled(1 - averaging, state.average), averaging, grad)
        moved, states = [], []
        for mover, own, x, direction in zip(movers, state.optimizers, (w, v, h), (g, residual, average), strict=True):
            updates, own = mover.update(direction, own, x)
            moved.append(optax.apply_updates(x, updates))
            states.append(own)
        info = SobaInfo(value, grad, _tree.norm(g), _tree.norm(residual))
        return SobaState(moved[0], moved[1], moved[2], (states[0], states[1], states[2]), average), info

    return Soba(init, step)
