"""The result of a hypergradient call, and its status codes."""

import enum
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.experimental import io_callback

from bojax._errors import HypergradientError
from bojax._types import Array


class HypergradStatus(enum.IntEnum):
    """How far a hypergradient can be trusted: the codes of `HypergradInfo.status` (int32); larger is worse."""

    OK = 0
    """Both problems were solved to their tolerances."""
    INNER_NOT_CONVERGED = 1
    """The gradient of the inner loss is not small at `params`; the implicit function theorem requires zero."""
    ADJOINT_NOT_CONVERGED = 2
    """The residual of the linear system is above its tolerance."""
    SINGULAR_CURVATURE = 3
    """The curvature of the inner loss is singular to working precision."""
    NEGATIVE_CURVATURE = 4
    """The inner loss has negative curvature in some direction: `params` is not a minimum."""
    NONFINITE = 5
    """A loss, a gradient or the hypergradient is infinite or NaN."""
    SINGULAR_STEP = 6
    """The outer loss of a training run is finite but its hypergradient is not, because a step of the optimizer has no
    finite derivative where an entry of the gradient is exactly zero."""


REMEDIES = {
    HypergradStatus.OK: "no complaint",
    HypergradStatus.INNER_NOT_CONVERGED: "the inner problem is not solved. Give the inner solver more steps, or "
    "`Implicit` polish=1, or use `Unrolled`, which needs no solved inner problem",
    HypergradStatus.ADJOINT_NOT_CONVERGED: "the linear system is not solved. Give the solver more steps or a "
    "preconditioner, or ask for less by `adjoint_tol`",
    HypergradStatus.SINGULAR_CURVATURE: "the curvature of the inner loss is singular. Regularise the inner loss, or "
    "set `damping`",
    HypergradStatus.NEGATIVE_CURVATURE: "the inner loss has negative curvature where the inner solver ended. Use "
    "`GaussNewton` curvature, set `damping`, or use `Unrolled`",
    HypergradStatus.NONFINITE: "a loss, a gradient or the hypergradient is not finite. Look for logarithms and roots "
    "of zero in the losses, and for a learning rate at which training diverges",
    HypergradStatus.SINGULAR_STEP: "the outer loss is finite and its hypergradient is not. A step of this optimizer "
    "has no finite derivative where an entry of the inner gradient is exactly zero, as in Adam's family, which takes "
    "the square root of the squared gradient. Set eps_root=1e-12 in the optimizer",
}


class HypergradInfo(NamedTuple):
    """Diagnostics of one hypergradient.

    Attributes:
        status: int32, a `HypergradStatus`.
        inner_grad_norm: the norm of the gradient of the inner loss at `Hypergrad.params`.
        inner_steps: int32, steps of the inner solver; -1 if unknown.
        adjoint_residual: ||C v - b|| / ||b|| of the linear system, recomputed from the adjoint v; 0 for methods without
            a linear system.
        adjoint_steps: int32, steps of the linear solver; -1 if unknown.
        error_estimate: first-order estimate, not a bound, of the relative error of the part of the hypergradient that
            goes through the inner problem, from both residuals and the smallest curvature seen. 0 if the method is
            exact for the function it differentiates, infinite if nothing is known.
    """

    status: Array
    inner_grad_norm: Array
    inner_steps: Array
    adjoint_residual: Array
    adjoint_steps: Array
    error_estimate: Array


class Hypergrad(NamedTuple):
    """A value of the outer loss and its gradient.

    Attributes:
        value: the outer loss at `params`.
        grad: d value / d hparams, a tree like hparams.
        params: the inner parameters after the inner problem was solved.
        adjoint: v = C^-1 d outer_loss / d params with the curvature C; the start of the next solve. None for methods
            without one.
        info: diagnostics.
        aux: auxiliary output of `outer_loss`; None without `has_aux`.
    """

    value: Array
    grad: Any
    params: Any
    adjoint: Any
    info: HypergradInfo
    aux: Any = None


def raise_for_status(result: Hypergrad) -> None:
    """Raise if the status of a hypergradient, or of any in a batch, is not ok. On the host only.

    Args:
        result: the result of a function made by `hypergradient`, or a batch of results.

    Raises:
        HypergradientError: with the worst status, its figures and a remedy.
        TypeError: called on traced values, inside compiled code.

    Example:
        >>> import jax.numpy as jnp
        >>> from bojax import hypergrad as hg
        >>> inner = lambda w, h, data: 0.5 * jnp.sum((w - 1.0) ** 2 + jnp.exp(h) * w**2)
        >>> outer = lambda w, h, data: 0.5 * jnp.sum((w - 0.25) ** 2)
        >>> result = hg.hypergradient(inner, outer)(0.0, jnp.zeros(1))
        >>> hg.raise_for_status(result)
        >>> result.info.status.item() == hg.HypergradStatus.OK
        True
    """
    if isinstance(result.info.status, Tracer):
        raise TypeError("`result` must hold concrete arrays, got traced ones. Call raise_for_status outside of jit.")
    _raise_for(result.info)


def throwing(result: Hypergrad) -> Hypergrad:
    """The same result; calls `raise_for_status` once its arrays are computed, also in compiled code."""
    seen = jax.lax.stop_gradient(result.info)  # host calls have no derivative
    if not isinstance(seen.status, Tracer):
        _raise_for(seen)
        return result

    def look(info):
        _raise_for(info)
        return np.int32(0)

    zero = io_callback(look, jax.ShapeDtypeStruct((), jnp.int32), seen)
    return result._replace(info=result.info._replace(status=result.info.status + zero))


def _raise_for(info: HypergradInfo) -> None:
    codes = np.asarray(info.status)
    worst = HypergradStatus(int(codes.max(initial=0)))
    if worst is HypergradStatus.OK:
        return
    where = tuple(np.argwhere(codes == worst)[0])
    residual, norm = (float(np.asarray(a)[where]) for a in (info.adjoint_residual, info.inner_grad_norm))
    share = f" ({int((codes == worst).sum())} of {codes.size})" if codes.size > 1 else ""
    raise HypergradientError(
        f"hypergradient status {worst.name.lower()}{share}: {REMEDIES[worst]}. "
        f"Norm of the inner gradient {norm:.3g}, relative residual of the adjoint {residual:.3g}."
    )


def worst_status(*flags: tuple[Any, HypergradStatus]) -> Array:
    """The largest status whose flag is set, int32."""
    codes = [jnp.where(flag, jnp.int32(status), jnp.int32(HypergradStatus.OK)) for flag, status in flags]
    return jnp.max(jnp.stack(codes))
