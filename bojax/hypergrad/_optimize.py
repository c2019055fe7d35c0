"""The outer loop: hyperparameters by gradient descent on the outer loss."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from bojax._types import Array, Bool, Float, Int
from bojax.hypergrad import _tree
from bojax.hypergrad._compiled import call_compiled
from bojax.hypergrad._hypergradient import HypergradFn
from bojax.hypergrad._inert import check_differentiable
from bojax.hypergrad._result import Hypergrad


class Plateau(NamedTuple):
    """Stop when the best value has not improved for a while.

    Attributes:
        patience: number of steps without improvement.
        min_delta: smallest decrease that counts as an improvement, in units of the outer loss.
    """

    patience: int = 20
    min_delta: float = 0.0


class ColdStart(NamedTuple):
    """A fixed start of every inner problem, independent of earlier solutions.

    Attributes:
        params: the inner parameters.
    """

    params: Any


class OptimizeHistory(NamedTuple):
    """One row per outer step; rows that were not reached hold NaN, and -1 for the status.

    Attributes:
        value: [t] the outer loss before the step.
        grad_norm: [t] norm of the hypergradient, without components that point out of the box.
        status: [t] int32, its `HypergradStatus`.
        num_bound: [t] int32, number of scalar hyperparameters at a bound with the gradient pointing outward.
        hparams: the hyperparameters, each leaf [t, ...].
    """

    value: Float[Array, "*b t"]
    grad_norm: Float[Array, "*b t"]
    status: Int[Array, "*b t"]
    num_bound: Int[Array, "*b t"]
    hparams: Any


class OptimizeResult(NamedTuple):
    """Where the outer loop ended.

    Attributes:
        hparams: the best hyperparameters, by the outer loss.
        value: their outer loss. It was minimized, so it is optimistic: report a loss on held-out data.
        params: the inner parameters there. With warm starts they depend on the whole path and thereby on the outer
            data: if the inner problem has many solutions or is not fully solved, they fit those data better than the
            hyperparameters alone would imply (Vicol et al. 2022, arXiv:2212.14032). Retrain from scratch for a number
            to report.
        history: every step.
        num_steps: int32, number of steps made.
        converged: whether the plateau was reached.
    """

    hparams: Any
    value: Float[Array, "*b"]
    params: Any
    history: OptimizeHistory
    num_steps: Int[Array, "*b"]
    converged: Bool[Array, "*b"]


class _State(NamedTuple):
    hparams: Any
    optimizer: Any
    params: Any
    adjoint: Any
    best: tuple[Any, Array, Any]
    waited: Array
    broken: Array
    step: Array
    history: OptimizeHistory


def optimize(
    fn: HypergradFn,
    hparams: Any,
    inner_params0: Any,
    inner_data: Any = None,
    outer_data: Any = None,
    key: Any = None,
    *,
    num_steps: int = 100,
    optimizer: optax.GradientTransformation | None = None,
    bounds: tuple[Any, Any] | None = None,
    stop: Plateau | None = None,
) -> OptimizeResult:
    """Minimize the outer loss over the hyperparameters. Pure: jit it, vmap it over starts.

    Returns the best hyperparameters seen. A step whose value or hypergradient is not finite ends the loop.

    Args:
        fn: the result of `hypergradient`.
        hparams: where to start, inside the bounds if given.
        inner_params0: start of the first inner problem. Each later one, and its adjoint, starts where the last one
            ended, which is faster but makes the result depend on the path (Vicol et al. 2022, arXiv:2212.14032).
            `ColdStart(params)`, or a function of hparams, restarts each of them, which hyperparameters of the training
            run itself require.
        inner_data: as for `fn`.
        outer_data: as for `fn`.
        key: the same in every step, so that values can be compared.
        num_steps: maximum number of outer steps.
        optimizer: an optax optimizer; Adam with rate 0.05 by default. For learning rates and schedules clip before it,
            as described at `Unrolled`.
        bounds: (lower, upper), each a scalar or a tree like hparams; pass (0, 1) if `fn` was made with a `space`.
            After each step hparams is projected; at a bound the outward part of the gradient is dropped.
        stop: criterion for stopping early; by default all steps are made.

    Returns:
        The best hyperparameters and every step's value.

    Raises:
        ValueError: `num_steps` is below 1.

    Example:
        >>> import jax.numpy as jnp
        >>> from bojax import hypergrad as hg
        >>> inner = lambda w, h, data: 0.5 * jnp.sum((w - 1.0) ** 2 + jnp.exp(h) * w**2)
        >>> outer = lambda w, h, data: 0.5 * jnp.sum((w - 0.25) ** 2)
        >>> fn = hg.hypergradient(inner, outer)
        >>> result = hg.optimize(fn, 0.0, jnp.zeros(1), num_steps=200)
        >>> round(float(result.hparams), 1)  # log 3, where w = 1/4
        1.1
    """
    if num_steps < 1:
        raise ValueError(f"`num_steps` must be at least 1, got {num_steps}.")
    optimizer = optax.adam(0.05) if optimizer is None else optimizer
    hparams = check_differentiable(hparams)
    box = None if bounds is None else tuple(_like(bound, hparams) for bound in bounds)
    start, first = (inner_params0, None) if callable(inner_params0) else (None, inner_params0)
    body = functools.partial(_loop, fn, start, num_steps, optimizer, stop)
    return call_compiled(body, hparams, first, (inner_data, outer_data, key), box)


def _loop(fn, start_of, num_steps, optimizer, stop, hparams, inner_params0, data, box) -> OptimizeResult:
    """The traced outer loop; `start_of` maps hyperparameters to inner parameters, or is None."""
    warm_start = start_of is None and not isinstance(inner_params0, ColdStart)
    inner_params0 = inner_params0.params if isinstance(inner_params0, ColdStart) else start_of or inner_params0

    def advance(s: _State) -> _State:
        start = s.params if warm_start else inner_params0
        adjoint = s.adjoint if warm_start else None
        result = fn(s.hparams, start, *data, adjoint0=adjoint)
        return _move(s, result, optimizer, box, stop)

    def unfinished(s: _State) -> Array:
        early = s.waited >= stop.patience if stop else jnp.bool_(False)
        return (s.step < num_steps) & ~early & ~s.broken

    start = _start(fn, hparams, inner_params0, data, optimizer, num_steps)
    end = jax.lax.while_loop(unfinished, advance, start)
    converged = end.waited >= stop.patience if stop else jnp.bool_(False)
    return OptimizeResult(*end.best, end.history, end.step, converged & ~end.broken)


def _start(fn, hparams, inner_params0, data, optimizer, num_steps: int) -> _State:
    params0 = jax.tree.map(jnp.asarray, inner_params0(hparams) if callable(inner_params0) else inner_params0)
    form = jax.eval_shape(lambda: fn(hparams, inner_params0, *data))
    params = jax.tree.map(lambda a, like: a.astype(like.dtype), params0, form.params)
    adjoint = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), form.adjoint)
    nan = jnp.full(num_steps, jnp.nan, form.value.dtype)
    history = OptimizeHistory(
        value=nan,
        grad_norm=nan,
        status=jnp.full(num_steps, -1, jnp.int32),
        num_bound=jnp.zeros(num_steps, jnp.int32),
        hparams=jax.tree.map(lambda h: jnp.full((num_steps, *h.shape), jnp.nan, h.dtype), hparams),
    )
    best = hparams, jnp.full((), jnp.inf, form.value.dtype), params
    zero, no = jnp.int32(0), jnp.bool_(False)
    return _State(hparams, optimizer.init(hparams), params, adjoint, best, zero, no, zero, history)


def _move(s: _State, result: Hypergrad, optimizer: Any, box: Any, stop: Plateau | None) -> _State:
    """Record a hypergradient and step along it."""
    good = _tree.all_finite(result.value, result.grad)
    grad, num_bound = _inward(jax.tree.map(jnp.nan_to_num, result.grad), s.hparams, box)
    updates, optimizer_state = optimizer.update(grad, s.optimizer, s.hparams)
    moved: Any = optax.apply_updates(s.hparams, updates)
    if box is not None:
        moved = jax.tree.map(jnp.clip, moved, *box)
    record = OptimizeHistory(result.value, _tree.norm(grad), result.info.status, num_bound, s.hparams)
    history = jax.tree.map(lambda rows, row: rows.at[s.step].set(row.astype(rows.dtype)), s.history, record)
    gained = good & (result.value < s.best[1] - (stop.min_delta if stop else 0.0))
    better = good & (result.value < s.best[1])
    best = _tree.where(better, (s.hparams, result.value, result.params), s.best)
    waited = jnp.where(gained, 0, s.waited + 1)
    params = _tree.where(good, result.params, s.params)
    adjoint = None if s.adjoint is None else _tree.where(good, result.adjoint, s.adjoint)
    return _State(moved, optimizer_state, params, adjoint, best, waited, ~good, s.step + 1, history)


def _like(bound: Any, hparams: Any) -> Any:
    """A bound as a tree of arrays like hparams."""
    if jax.tree.structure(bound) == jax.tree.structure(hparams):
        return jax.tree.map(lambda b, h: jnp.broadcast_to(jnp.asarray(b, h.dtype), h.shape), bound, hparams)
    return jax.tree.map(lambda h: jnp.full(h.shape, bound, h.dtype), hparams)


def _inward(grad: Any, hparams: Any, box: tuple[Any, ...] | None) -> tuple[Any, Array]:
    """The gradient without the entries whose descent leaves the box, and the number of those."""
    if box is None:
        return grad, jnp.int32(0)
    lower, upper = box
    out = jax.tree.map(lambda g, h, a, b: ((h <= a) & (g > 0)) | ((h >= b) & (g < 0)), grad, hparams, lower, upper)
    kept = jax.tree.map(lambda g, o: jnp.where(o, 0, g), grad, out)
    counts = jnp.stack([jnp.sum(o) for o in jax.tree.leaves(out)])
    return kept, jnp.sum(counts).astype(jnp.int32)
