"""Forward-mode differentiation through a training run: constant memory at any length, for few hyperparameters."""

import dataclasses

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from bojax.hypergrad._problem import Case, Problem
from bojax.hypergrad._result import Hypergrad
from bojax.hypergrad._training import Batch, Optimizer, check_training
from bojax.hypergrad._unrolled import Unrolled, training_info, training_outcome


@dataclasses.dataclass(frozen=True)
class Forward:
    """Differentiate T steps of an optimizer forward (Franceschi et al. 2017, arXiv:1703.01785).

    Takes about one more training run for each scalar hyperparameter, and the memory of `chunk` more parameter vectors,
    whatever T. The same number as `Unrolled` gives, and the same advice about `eps_root`.

    Attributes:
        optimizer: from optax, or a function of hparams that makes one.
        num_steps: T.
        chunk: how many scalar hyperparameters are differentiated side by side; None for all.
        batch: `batch(key, step, data)`, the part of the inner data that a step sees; by default all.
    """

    optimizer: Optimizer
    num_steps: int
    chunk: int | None = None
    batch: Batch | None = None

    checkpoint = None

    def __post_init__(self):
        check_training(self.optimizer, self.num_steps)
        if self.chunk is not None and self.chunk < 1:
            raise ValueError(f"`chunk` must be at least 1 or None, got {self.chunk}.")

    def check(self, problem: Problem, case: Case) -> None:
        """Raise for hyperparameters that neither the training run nor the outer loss depends on."""
        Unrolled(self.optimizer, self.num_steps, batch=self.batch).check(problem, case)

    def __call__(self, problem: Problem, case: Case) -> Hypergrad:
        """The hypergradient of the outer loss after T steps."""
        outcome = training_outcome(problem, case, jax.grad(problem.inner_loss), self)
        flat, unravel = ravel_pytree(case.hparams)

        def along(direction):
            primal, tangent, extra = jax.jvp(lambda h: outcome(unravel(h)), (flat,), (direction,), has_aux=True)
            return (primal, extra), tangent

        side_by_side = jax.vmap(along, out_axes=(None, 0))
        chunk = min(self.chunk or flat.size, flat.size)
        num_chunks = -(-flat.size // chunk)
        directions = jnp.eye(num_chunks * chunk, flat.size, dtype=flat.dtype)
        if num_chunks == 1:
            (value, (params, aux)), slopes = side_by_side(directions)
        else:
            out, slopes = jax.lax.map(side_by_side, directions.reshape(num_chunks, chunk, flat.size))
            value, (params, aux) = jax.tree.map(lambda a: a[0], out)
        grad = unravel(slopes.reshape(-1)[: flat.size].astype(flat.dtype))
        info = training_info(problem, case, value, grad, params, self.num_steps, exact=True)
        return Hypergrad(value, grad, params, None, info, aux)
