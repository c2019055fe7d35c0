"""Tune hyperparameters during a single training run.

The run carries Z, the derivative of parameters and optimizer state by the hyperparameters, from step to step:

    Z_{t+1} = decay dPhi/d(w, s) Z_t + dPhi/dh,    hypergradient_t = dF/dw Z_{t+1} + dF/dh

with Phi one step of the optimizer. decay = 0 forgets the past, which is hypergradient descent (Baydin et al. 2018,
arXiv:1703.04782); decay = 1 is real-time hyperparameter optimization (Franceschi et al. 2017, arXiv:1703.01785); MARTHE
trades off between them (Donini et al. 2020, arXiv:1910.08525).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from bojax._liveness import reaches
from bojax._types import Array
from bojax.hypergrad import _tree
from bojax.hypergrad._inert import check_differentiable, check_reach
from bojax.hypergrad._problem import Loss
from bojax.hypergrad._training import build

INERT_HINT = "Neither a step of the optimizer nor the outer loss depends on it."


class OnlineState(NamedTuple):
    """What the next step needs.

    Attributes:
        params: inner parameters.
        hparams: present hyperparameters.
        optimizer: state of the inner optimizer.
        outer_optimizer: state of the outer one.
        tangents: Z: floating leaves of (params, optimizer), each with a leading axis over scalar hyperparameters.
    """

    params: Any
    hparams: Any
    optimizer: Any
    outer_optimizer: Any
    tangents: Any


class OnlineInfo(NamedTuple):
    """Diagnostics of one step.

    Attributes:
        value: the outer loss after the step.
        grad: the hypergradient, a tree like hparams.
        skipped: whether the hypergradient was not finite, so that hparams was kept and Z reset.
    """

    value: Array
    grad: Any
    skipped: Array


class Online(NamedTuple):
    """A pair of pure functions.

    Attributes:
        init: `init(params, hparams) -> OnlineState`.
        step: `step(state, inner_data, outer_data) -> (OnlineState, OnlineInfo)`; scan it.
    """

    init: Callable[[Any, Any], OnlineState]
    step: Callable[[OnlineState, Any, Any], tuple[OnlineState, OnlineInfo]]


def online(
    inner_loss: Loss,
    outer_loss: Loss,
    optimizer: Callable[[Any], optax.GradientTransformation],
    outer_optimizer: optax.GradientTransformation,
    *,
    decay: float = 0.0,
) -> Online:
    """Tune hyperparameters during training, at the cost of one forward derivative per scalar hyperparameter and step.

    Args:
        inner_loss: `inner_loss(params, hparams, data)`, a scalar.
        outer_loss: `outer_loss(params, hparams, data)`, a scalar. The inner loss on the next batch gives hypergradient
            descent; a validation loss tunes for validation.
        optimizer: a function from hparams to the inner optimizer, such as `lambda h: optax.sgd(jnp.exp(h["log_lr"]))`.
            For Adam's family set `eps_root` as described at `Unrolled`; otherwise steps are skipped.
        outer_optimizer: updates hparams once per inner step.
        decay: in [0, 1], how much of the past is remembered. At 1 errors accumulate if training is unstable.

    Returns:
        The functions `init` and `step`.

    Raises:
        ValueError: `decay` is outside of [0, 1].
        NonDifferentiableHyperparameterError: by `init`: a leaf of hparams is not floating.
        InertHyperparameterError: by `step`: neither a step nor the outer loss depends on a leaf of hparams.

    Example:
        >>> import jax.numpy as jnp, optax
        >>> from bojax import hypergrad as hg
        >>> loss = lambda w, h, data: 0.5 * jnp.sum((w - 1.0) ** 2)
        >>> tuner = hg.online(loss, loss, lambda h: optax.sgd(jnp.exp(h)), optax.sgd(1.0))
        >>> state = tuner.init(jnp.zeros(1), jnp.log(0.1))
        >>> state, info = tuner.step(state, None, None)
        >>> bool(state.hparams > jnp.log(0.1))  # a larger rate makes more progress
        True
    """
    if not 0 <= decay <= 1:
        raise ValueError(f"`decay` must lie in [0, 1], got {decay}.")

    def init(params, hparams):
        params, hparams = jax.tree.map(jnp.asarray, params), check_differentiable(hparams)
        state = build(optimizer, hparams).init(params)
        floats, _ = _split((params, state))
        size = _tree.size(hparams)
        tangents = [jnp.zeros((size, *leaf.shape), leaf.dtype) for leaf in floats]
        return OnlineState(params, hparams, state, outer_optimizer.init(hparams), tangents)

    def step(state, inner_data, outer_data):
        run = _one_step(inner_loss, outer_loss, optimizer, inner_data, outer_data)
        value, new, tangents, grad = _differentiate(run, state, decay)
        good = _tree.all_finite(value, grad, tangents)
        finite = jax.tree.map(jnp.nan_to_num, grad)
        updates, outer_state = outer_optimizer.update(finite, state.outer_optimizer, state.hparams)
        hparams = _tree.where(good, optax.apply_updates(state.hparams, updates), state.hparams)
        outer_state = _tree.where(good, outer_state, state.outer_optimizer)
        tangents = [jnp.where(good, z, 0) for z in tangents]
        params, optimizer_state = new
        return OnlineState(params, hparams, optimizer_state, outer_state, tangents), OnlineInfo(value, grad, ~good)

    return Online(init, step)


def _one_step(inner_loss: Loss, outer_loss: Loss, optimizer: Any, inner_data: Any, outer_data: Any) -> Callable:
    """Phi: from (params, optimizer state) and hparams to the next pair and its outer loss."""

    def run(pair, hparams):
        params, state = pair
        g = jax.grad(inner_loss)(params, hparams, inner_data)
        updates, state = build(optimizer, hparams).update(g, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), outer_loss(params, hparams, outer_data)

    return run


def _differentiate(run: Callable, state: OnlineState, decay: float) -> tuple[Array, Any, list[Array], Any]:
    """One step of the run: the outer loss, the next pair, Z and the hypergradient."""
    floats, merge = _split((state.params, state.optimizer))
    flat, unravel = ravel_pytree(state.hparams)

    def advance(floats, hparams):
        new, value = run(merge(floats), hparams)
        return (_split(new)[0], value), new

    reached = reaches(lambda hparams: advance(floats, hparams)[0], state.hparams)
    check_reach(reached, state.hparams, INERT_HINT)

    def along(tangent, direction):
        fn = lambda floats, flat: advance(floats, unravel(flat))  # noqa: E731
        (_, value), slopes, new = jax.jvp(fn, (floats, flat), (tangent, direction), has_aux=True)
        return (value, new), slopes

    past = [decay * z for z in state.tangents]
    directions = jnp.eye(flat.size, dtype=flat.dtype)
    (value, new), (tangents, slopes) = jax.vmap(along, out_axes=(None, 0))(past, directions)
    return value, new, tangents, unravel(slopes.astype(flat.dtype))


def _split(tree: Any) -> tuple[list[Array], Callable[[list[Array]], Any]]:
    """The floating leaves of a tree, and a function that replaces them; counters and the like have no derivative."""
    leaves, treedef = jax.tree.flatten(tree)
    places = [i for i, leaf in enumerate(leaves) if jnp.issubdtype(jnp.result_type(leaf), jnp.floating)]

    def merge(floats):
        changed = dict(zip(places, floats, strict=True))
        return jax.tree.unflatten(treedef, [changed.get(i, leaf) for i, leaf in enumerate(leaves)])

    return [leaves[i] for i in places], merge
