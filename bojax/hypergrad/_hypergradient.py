"""`hypergradient`: from two losses and a method to a function that returns a value and its hypergradient."""

import functools
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from bojax.hypergrad._compiled import call_compiled
from bojax.hypergrad._forward import Forward
from bojax.hypergrad._implicit import Implicit
from bojax.hypergrad._inert import check_differentiable
from bojax.hypergrad._one_step import OneStep
from bojax.hypergrad._problem import Case, InnerSolver, Loss, Method, Problem
from bojax.hypergrad._result import Hypergrad, throwing
from bojax.hypergrad._transform import from_unit
from bojax.hypergrad._unrolled import Unrolled
from bojax.hypergrad.solvers import Newton
from bojax.space import Space


@runtime_checkable
class HypergradFn(Protocol):
    """What `hypergradient` returns."""

    def __call__(
        self,
        hparams: Any,
        inner_params0: Any,
        inner_data: Any = None,
        outer_data: Any = None,
        key: Any = None,
        *,
        adjoint0: Any = None,
    ) -> Hypergrad: ...


def hypergradient(
    inner_loss: Loss,
    outer_loss: Loss,
    *,
    method: Method | None = None,
    inner_solver: InnerSolver | None = None,
    space: Space | None = None,
    has_aux: bool = False,
    throw: bool = False,
) -> HypergradFn:
    """The value and gradient of an outer loss after an inner problem is solved.

    The inner problem finds the parameters that minimize `inner_loss` (or trains them for a number of steps). The outer
    loss at those parameters is a function of the hyperparameters, and this is its gradient.

    The returned function is pure: jit it, vmap it, scan it. Called outside of these, it is compiled once per set of
    array shapes. Calls with the same key see the same randomness, so values can be compared. `grad` is the derivative
    of `value`; differentiating either again by hparams requires `Forward` or `Unrolled(backprop="plain")` and is an
    error otherwise.

    Args:
        inner_loss: `inner_loss(params, hparams, data)`, a scalar; any pytrees.
        outer_loss: `outer_loss(params, hparams, data)`, a scalar; it may use hparams directly.
        method: `Implicit(...)` (the default), `Unrolled(...)`, `Forward(...)` or `OneStep(...)`.
        inner_solver: for `Implicit` and `OneStep`: `Newton()` (the default), `Descent(optimizer, num_steps)`, or any
            function `(inner_loss, params0, hparams, data, key) -> params`. `Unrolled` and `Forward` have their own.
        space: if given, hparams is a point [d] of its unit cube; the losses see the dict of native values, and the
            gradient is taken in the cube. All parameters must be `Float`.
        has_aux: whether `outer_loss` returns a pair, whose second entry becomes `Hypergrad.aux`.
        throw: raise if the status is not ok, also inside compiled code, at the cost of a host call per evaluation.
            Compiled code raises a `jax.errors.JaxRuntimeError` with the text of the `HypergradientError`. Without
            `throw`, check `info.status` or call `raise_for_status`.

    Returns:
        `fn(hparams, inner_params0, inner_data=None, outer_data=None, key=None, *, adjoint0=None) -> Hypergrad`.
        `inner_params0` may be a function of hparams (of native values), which `Unrolled` and `Forward` differentiate.
        `adjoint0` is where the linear solver of `Implicit` starts, for example the adjoint of an earlier call.

    Raises:
        ValueError: `inner_solver` is given to a method that has its own.
        NonDifferentiableHyperparameterError: by the returned function: a leaf of hparams is not floating.
        InertHyperparameterError: by the returned function: the differentiated functions do not depend on a leaf of
            hparams, or only through operations without a derivative, such as rounding.
        TypeError: the result of a method other than `Forward` and plain `Unrolled` is differentiated by hparams.
        HypergradientError: by the returned function, with `throw`: the status is not ok.

    Example:
        >>> import jax.numpy as jnp
        >>> def inner_loss(w, h, data):
        ...     return jnp.sum((w - data) ** 2) + jnp.exp(h["log_l2"]) * jnp.sum(w**2)
        >>> def outer_loss(w, h, data):
        ...     return jnp.sum((w - data) ** 2)
        >>> fn = hypergradient(inner_loss, outer_loss)
        >>> result = fn({"log_l2": 0.0}, jnp.zeros(2), jnp.array([1.0, 2.0]), jnp.array([0.5, 0.5]))
        >>> round(float(result.value), 4), round(float(result.grad["log_l2"]), 4)
        (0.25, -0.5)
    """
    method = Implicit() if method is None else method
    own = isinstance(method, (Unrolled, Forward))
    if own and inner_solver is not None:
        raise ValueError(f"`inner_solver` must be None for {type(method).__name__}, which trains by its own optimizer.")
    once = isinstance(method, (Implicit, OneStep)) or (isinstance(method, Unrolled) and method.backprop == "mixflow")
    with_aux = outer_loss if has_aux else (lambda *args: (outer_loss(*args), None))
    solver = None if own else (inner_solver or Newton())
    problem = Problem(inner_loss, with_aux, solver)

    def evaluate(start, hparams, inner_params0, inner_data, outer_data, key, adjoint0):
        start = start or (lambda _: inner_params0)
        hparams = _last(hparams) if once else hparams
        pull = None
        if space is not None:
            hparams, pull = jax.vjp(functools.partial(from_unit, space), hparams)
        case = Case(hparams, lambda h: _floating(start(h)), inner_data, outer_data, key, adjoint0)
        method.check(problem, case)
        result = method(problem, case)
        return result if pull is None else result._replace(grad=pull(result.grad)[0])

    def fn(hparams, inner_params0, inner_data=None, outer_data=None, key=None, *, adjoint0=None):
        hparams = check_differentiable(hparams)
        start, inner_params0 = (inner_params0, None) if callable(inner_params0) else (None, _floating(inner_params0))
        body = functools.partial(evaluate, start)
        result = call_compiled(body, hparams, inner_params0, inner_data, outer_data, key, adjoint0)
        return throwing(result) if throw else result

    return fn


@jax.custom_jvp
def _last(hparams: Any) -> Any:
    """The same hyperparameters, protected from differentiation from outside."""
    return hparams


@_last.defjvp
def _(primals, tangents):
    raise TypeError(
        "The result of a hypergradient must not be differentiated by `hparams` again with this method, whose loops "
        "have no further derivative. `grad` is the derivative of `value`. For second derivatives use `Forward` or "
        '`Unrolled(backprop="plain")`, or `root` for the solution itself.'
    )


def _floating(params: Any) -> Any:
    """The inner parameters as arrays.

    Raises:
        TypeError: a leaf is not floating, or there is none.
    """
    leaves = jax.tree_util.tree_leaves_with_path(params)
    if not leaves:
        raise TypeError("`inner_params0` must have at least one leaf, got none.")
    for path, leaf in leaves:
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            name = f"inner_params0{jax.tree_util.keystr(path)}"
            raise TypeError(f"`{name}` must be floating, got {jnp.result_type(leaf)}. Pass other state in the data.")
    return jax.tree.map(jnp.asarray, params)
