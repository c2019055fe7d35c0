"""The two losses, the inputs of a call, and the interfaces of inner solvers, methods and linear solvers.

Notation: inner parameters w, hyperparameters h, inner loss L(w, h), outer loss F(w, h). The inner problem is
w*(h) = argmin_w L(w, h), or the result of a fixed number of training steps; the hypergradient is d F(w*(h), h) / dh.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from bojax._liveness import Reach, reaches
from bojax._types import Array
from bojax.hypergrad import _tree
from bojax.hypergrad._result import Hypergrad

Loss = Callable[[Any, Any, Any], Any]
"""`loss(params, hparams, data)`, a scalar."""
MatVec = Callable[[Any], Any]
"""A linear map between trees like the inner parameters."""


@runtime_checkable
class InnerSolver(Protocol):
    """A way to solve the inner problem."""

    def __call__(self, inner_loss: Loss, params0: Any, hparams: Any, data: Any, key: Any, /) -> Any:
        """Inner parameters near the minimum of the inner loss.

        Args:
            inner_loss: `inner_loss(params, hparams, data)`, a scalar.
            params0: where to start, a tree of floating arrays.
            hparams: hyperparameters, a tree of floating arrays.
            data: the data of the inner loss.
            key: randomness, or None.

        Returns:
            A tree like `params0`, bare or in an `InnerResult`.
        """
        ...


class Problem(NamedTuple):
    """The static half of a hypergradient.

    Attributes:
        inner_loss: `inner_loss(params, hparams, data)`, a scalar.
        outer_loss: `outer_loss(params, hparams, data)`, a scalar and an auxiliary output, which is not differentiated.
        inner_solver: `inner_solver(inner_loss, params0, hparams, data, key)`; None for methods with their own.
    """

    inner_loss: Loss
    outer_loss: Callable[[Any, Any, Any], tuple[Array, Any]]
    inner_solver: InnerSolver | None


class Case(NamedTuple):
    """The inputs of one call.

    Attributes:
        hparams: floating arrays.
        start: `start(hparams)`, the inner parameters to start from.
        inner_data: the data of the inner loss.
        outer_data: the data of the outer loss.
        key: randomness of the inner solver, or None.
        adjoint: where the linear solver starts, or None for zero.
    """

    hparams: Any
    start: Callable[[Any], Any]
    inner_data: Any
    outer_data: Any
    key: Any
    adjoint: Any


class InnerResult(NamedTuple):
    """What an inner solver may return instead of the bare parameters.

    Attributes:
        params: the final parameters.
        num_steps: int32, number of steps.
    """

    params: Any
    num_steps: Array


class Solution(NamedTuple):
    """What a linear solver returns.

    Attributes:
        x: the solution.
        num_steps: int32, applications of the matrix; -1 if unknown.
        min_curvature: the smallest x^T C x / x^T x the solver saw; infinite if it does not track it.
        max_curvature: the largest; 0 if it does not track it.
    """

    x: Any
    num_steps: Array
    min_curvature: Array
    max_curvature: Array


@runtime_checkable
class LinearSolver(Protocol):
    """A way to solve linear systems with a symmetric matrix given by its products."""

    def __call__(self, matvec: MatVec, b: Any, x0: Any, precondition: MatVec | None) -> Solution:
        """The solution of C x = b.

        Args:
            matvec: x -> C x.
            b: the right-hand side, a tree like the inner parameters.
            x0: where to start, a tree like b; None for zero.
            precondition: an approximate inverse of C as a map between such trees, or None.

        Returns:
            A tree like b, and diagnostics.
        """
        ...


@runtime_checkable
class Method(Protocol):
    """A way to compute hypergradients: a frozen object of settings."""

    def check(self, problem: Problem, case: Case) -> None:
        """Raise an `InertHyperparameterError` for hyperparameters that this method cannot differentiate."""
        ...

    def __call__(self, problem: Problem, case: Case) -> Hypergrad:
        """The outer loss and its derivative by the hyperparameters.

        Args:
            problem: the losses and the inner solver.
            case: hyperparameters, start, data and randomness.

        Returns:
            The value [], a gradient like `case.hparams`, and diagnostics.
        """
        ...


def inner_gradient(problem: Problem, case: Case) -> Callable[[Any, Any], Any]:
    """dL/dw as a function of w and h, on the inner data of the case."""
    return lambda params, hparams: jax.grad(problem.inner_loss)(params, hparams, case.inner_data)


def outer_gradients(problem: Problem, params: Any, case: Case) -> tuple[Array, Any, Any, Any]:
    """The outer loss, dF/dw, dF/dh and the auxiliary output at fixed w."""
    both = jax.value_and_grad(problem.outer_loss, argnums=(0, 1), has_aux=True)
    (value, aux), (by_params, by_hparams) = both(params, case.hparams, case.outer_data)
    return value, by_params, by_hparams, aux


def solve_inner(problem: Problem, case: Case) -> InnerResult:
    """The inner parameters at the hyperparameters of the case."""
    assert problem.inner_solver is not None  # `hypergradient` ensures it
    start = case.start(case.hparams)
    result = problem.inner_solver(problem.inner_loss, start, case.hparams, case.inner_data, case.key)
    return result if isinstance(result, InnerResult) else InnerResult(result, jnp.int32(-1))


def cross_term(problem: Problem, case: Case, params: Any, adjoint: Any) -> Any:
    """(d^2 L / dh dw) v: how <dL/dw, v> changes with h, by one forward derivative of dL/dh along v."""
    by_hparams = jax.grad(problem.inner_loss, argnums=1)
    return jax.jvp(lambda w: by_hparams(w, case.hparams, case.inner_data), (params,), (adjoint,))[1]


def loss_reach(problem: Problem, case: Case) -> list[Reach]:
    """How dL/dw or the outer loss depends on each leaf of hparams, whichever has a derivative."""
    params = case.start(case.hparams)
    inner = reaches(lambda h: inner_gradient(problem, case)(params, h), case.hparams)
    outer = reaches(lambda h: problem.outer_loss(params, h, case.outer_data)[0], case.hparams)
    return [max(a, b) for a, b in zip(inner, outer, strict=True)]


def float_info(params: Any) -> tuple[Any, float]:
    """The dtype of the inner parameters and its machine epsilon."""
    kind = _tree.dtype(params)
    return kind, float(jnp.finfo(kind).eps)
