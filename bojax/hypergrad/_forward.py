"""Forward-mode differentiation through a training run: constant memory at any length, for few hyperparameters."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from bojax.hypergrad._problem import Case, Problem
from bojax.hypergrad._result import Hypergrad
from bojax.hypergrad._training import Batch, Optimizer, check_training
from bojax.hypergrad._unrolled import Unrolled, training_info, training_outcome


@dataclasses.dataclass(frozen=True)
class Forward:
    """Differentiate T steps of an optimizer forward (Franceschi et al. 2017, arXiv:1703.01785).

    Takes about one extra training run per scalar hyperparameter, and the memory of `chunk` extra parameter vectors for
    any T. The result, and the advice about `eps_root`, is that of `Unrolled`.

    With `sharing`, neighbors in a schedule share one derivative (Micaelli and Storkey 2021, arXiv:2007.07869): a whole
    group is moved at once, and each member gets the group's mean derivative. Time and memory scale with the number of
    groups, and the noise of single steps is averaged. It is the hypergradient of the tied hyperparameters: under an
    outer optimizer that treats entries alike (SGD, Adam), groups that start equal stay equal.

    Attributes:
        optimizer: an optax optimizer, or a function of hparams that returns one.
        num_steps: T.
        chunk: number of derivatives computed side by side; None for all.
        batch: `batch(key, step, data)`, the part of the inner data that a step sees; by default all.
        sharing: number of neighbors along the first axis of a leaf of hparams that form a group, the last of which may
            be smaller; an int for all leaves or a tree prefix of hparams, such as `{"log_rates": 10, "log_l2": 1}`.
            Other axes are not shared, and a scalar is its own group. If a group has several members, `error_estimate`
            is infinite.

    Example:
        >>> import jax.numpy as jnp, optax
        >>> from bojax import hypergrad as hg
        >>> inner = lambda w, h, data: 0.5 * jnp.sum((w - 1.0) ** 2 + jnp.exp(h) * w**2)
        >>> outer = lambda w, h, data: 0.5 * jnp.sum((w - 0.25) ** 2)
        >>> fn = hg.hypergradient(inner, outer, method=hg.Forward(optax.sgd(0.4), 30))
        >>> round(float(fn(0.0, jnp.zeros(1)).grad), 4)
        -0.0625
    """

    optimizer: Optimizer
    num_steps: int
    chunk: int | None = None
    batch: Batch | None = None
    sharing: Any = 1

    checkpoint = None

    def __post_init__(self):
        check_training(self.optimizer, self.num_steps)
        if self.chunk is not None and self.chunk < 1:
            raise ValueError(f"`chunk` must be at least 1 or None, got {self.chunk}.")
        sizes = jax.tree.leaves(self.sharing)
        if not sizes or not all(isinstance(size, int) and size >= 1 for size in sizes):
            raise ValueError(f"`sharing` must be an int of at least 1 or a tree of such, got {self.sharing!r}.")

    def check(self, problem: Problem, case: Case) -> None:
        """Raise for hyperparameters that neither the training run nor the outer loss depends on."""
        Unrolled(self.optimizer, self.num_steps, batch=self.batch).check(problem, case)

    def __call__(self, problem: Problem, case: Case) -> Hypergrad:
        """The hypergradient of the outer loss after T steps."""
        outcome = training_outcome(problem, case, jax.grad(problem.inner_loss), self)
        flat, unravel = ravel_pytree(case.hparams)
        groups = _groups(self.sharing, case.hparams)
        sizes = np.bincount(groups)

        def along(direction):
            primal, tangent, extra = jax.jvp(lambda h: outcome(unravel(h)), (flat,), (direction,), has_aux=True)
            return (primal, extra), tangent

        side_by_side = jax.vmap(along, out_axes=(None, 0))
        chunk = min(self.chunk or len(sizes), len(sizes))
        num_chunks = -(-len(sizes) // chunk)
        directions = jnp.asarray(np.arange(num_chunks * chunk)[:, None] == groups, flat.dtype)
        if num_chunks == 1:
            (value, (params, aux)), slopes = side_by_side(directions)
        else:
            out, slopes = jax.lax.map(side_by_side, directions.reshape(num_chunks, chunk, flat.size))
            value, (params, aux) = jax.tree.map(lambda a: a[0], out)
        means = slopes.reshape(-1)[: len(sizes)] / jnp.asarray(sizes, slopes.dtype)
        grad = unravel(means[groups].astype(flat.dtype))
        exact = bool(sizes.max() == 1)
        info = training_info(problem, case, value, grad, params, self, exact=exact)
        return Hypergrad(value, grad, params, None, info, aux)


def _groups(sharing: Any, hparams: Any) -> np.ndarray:
    """The group index of each scalar hyperparameter, in the order of `ravel_pytree`.

    Raises:
        ValueError: `sharing` is not a tree prefix of hparams.
    """
    try:
        by_leaf = jax.tree.leaves(jax.tree.broadcast(sharing, hparams))
    except ValueError as error:
        raise ValueError(f"`sharing` must be an int or a tree prefix of hparams, got {sharing!r}.") from error
    parts, count = [], 0
    for size, leaf in zip(by_leaf, jax.tree.leaves(hparams), strict=True):
        rows = leaf.shape[0] if leaf.ndim else 1
        width = leaf.size // rows if rows else 0
        part = np.arange(rows)[:, None] // size * width + np.arange(width)
        parts.append(count + part.reshape(-1))
        count += -(-rows // size) * width
    return np.concatenate(parts)
