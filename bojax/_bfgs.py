"""A quasi-Newton minimizer for many starts at once, in a box.

Every lane (one start) has its own inverse Hessian, step length and line search. Each iteration evaluates all lanes
once, in one batched call. Each lane then accepts its point and updates, or backtracks, independently of the others. A
vmapped line search would instead run every lane as long as the slowest one, and both branches of every condition: with
16 starts that is 10 to 40 times slower for the same optimum.

Per lane: BFGS on the inverse Hessian H; steps p = -H g without the coordinates at an active bound, projected onto the
box; Armijo's condition with quadratic interpolation. H is reset if p is not a descent direction or a line search fails.
(Nocedal and Wright 2006, "Numerical optimization", chapters 3, 6 and 16.7.)
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from bojax._types import Array, Bool, Float, Int

ARMIJO = 1e-4
MAX_BACKTRACKS = 12
FIRST_STEP = 0.1
"""Length of the first step. The unit cube and log hyperparameters both have a scale of one."""

ValueAndGrad = Callable[[Float[Array, "r d"], Bool[Array, "r"]], tuple[Float[Array, "r"], Float[Array, "r d"]]]


class BfgsResult(NamedTuple):
    """The result of `minimize_lanes`.

    Attributes:
        x: [r, d] best point of each lane.
        f: [r] its value; infinite if the start was not finite.
        g: [r, d] its gradient.
        converged: [r] which lanes met a tolerance.
        num_evals: number of batched evaluations.
    """

    x: Float[Array, "r d"]
    f: Float[Array, "r"]
    g: Float[Array, "r d"]
    converged: Bool[Array, "r"]
    num_evals: Int[Array, ""]


class _Lanes(NamedTuple):
    x: Float[Array, "r d"]
    f: Float[Array, "r"]
    g: Float[Array, "r d"]
    H: Float[Array, "r d d"]
    p: Float[Array, "r d"]
    t: Float[Array, "r"]
    backtracks: Int[Array, "r"]
    fresh: Bool[Array, "r"]  # H is a multiple of the identity
    slow: Int[Array, "r"]  # accepted steps in a row that gained less than ftol
    done: Bool[Array, "r"]
    converged: Bool[Array, "r"]
    num_evals: Int[Array, ""]


def minimize_lanes(
    value_and_grad: ValueAndGrad,
    x0: Float[Array, "r d"],
    lower: Float[Array, "*#r d"],
    upper: Float[Array, "*#r d"],
    *,
    max_evals: int | Int[Array, ""] = 100,
    gtol: float = 1e-5,
    ftol: float = 1e-9,
    expected_gain: float | Float[Array, ""] = 0.0,
) -> BfgsResult:
    """Minimize a function from r starts in the box [lower, upper], all in one compiled loop.

    Each lane runs BFGS with projection onto the box. Lanes are independent; every iteration evaluates all of them in
    one batched call.

    Args:
        value_and_grad: function `(X [r, d], active [r]) -> (values [r], gradients [r, d])`, row by row. A row that is
            not finite is a rejected step. Rows that are not active need not be evaluated.
        x0: [r, d] starts; they are projected onto the box. A start that is not finite is not evaluated.
        lower: [d] or [r, d] lower bounds. A coordinate with lower == upper stays fixed.
        upper: [d] or [r, d] upper bounds.
        max_evals: largest number of batched evaluations, >= 1, 100 by default; may be traced.
        gtol: a lane ends when no gradient of a free coordinate is larger in magnitude, 1e-5 by default.
        ftol: a lane ends when two consecutive accepted steps gain less than `ftol * max(1, |f|)`, 1e-9 by default.
        expected_gain: a lane ends when its quadratic model, once it has a curvature, expects a further gain below this,
            g^T H g / 2 in units of f. It may end early in a curved valley. The default, 0, switches this off; may be
            traced.

    Returns:
        A `BfgsResult` with the best point of each lane.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> def value_and_grad(X, active):
        ...     return jnp.sum((X - 0.5) ** 2, axis=1), 2.0 * (X - 0.5)
        >>> starts = jnp.array([[0.0, 0.0], [1.0, 1.0]])
        >>> lower, upper = jnp.zeros(2), jnp.array([1.0, 0.25])
        >>> result = jax.jit(lambda x0: minimize_lanes(value_and_grad, x0, lower, upper))(starts)
        >>> result.x.round(3).tolist()
        [[0.5, 0.25], [0.5, 0.25]]

    Source: Nocedal and Wright (2006), "Numerical optimization", chapters 3, 6 and 16.7.
    """
    num_lanes, num_dims = x0.shape
    dtype = x0.dtype
    lower = jnp.broadcast_to(jnp.asarray(lower, dtype), x0.shape)
    upper = jnp.broadcast_to(jnp.asarray(upper, dtype), x0.shape)
    eye = jnp.broadcast_to(jnp.eye(num_dims, dtype=dtype), (num_lanes, num_dims, num_dims))
    start = _Lanes(
        x=jnp.clip(x0, lower, upper),
        f=jnp.full(num_lanes, jnp.inf, dtype),
        g=jnp.zeros_like(x0),
        H=eye,
        p=jnp.zeros_like(x0),
        t=jnp.ones(num_lanes, dtype),
        backtracks=jnp.zeros(num_lanes, jnp.int32),
        fresh=jnp.ones(num_lanes, bool),
        slow=jnp.zeros(num_lanes, jnp.int32),
        done=~jnp.all(jnp.isfinite(x0), axis=-1),
        converged=jnp.zeros(num_lanes, bool),
        num_evals=jnp.int32(0),
    )

    def running(lanes):
        return (lanes.num_evals < max_evals) & ~jnp.all(lanes.done)

    def step(lanes):
        # The one evaluation in the program text; the first round evaluates the starts themselves (p = 0).
        x_new = jnp.clip(lanes.x + lanes.t[:, None] * lanes.p, lower, upper)
        f_new, g_new = value_and_grad(x_new, ~lanes.done)
        return _advance(lanes, x_new, f_new, g_new, (lower, upper), (gtol, ftol, expected_gain))

    lanes = jax.lax.while_loop(running, step, start)
    return BfgsResult(lanes.x, lanes.f, lanes.g, lanes.converged, lanes.num_evals)


def each_lane(value_and_grad: Callable) -> ValueAndGrad:
    """The batched form of an expensive function of one point, for `minimize_lanes`.

    On CPU the lanes are evaluated one after another, and lanes that have ended are skipped. On an accelerator all are
    evaluated in one batch.

    Args:
        value_and_grad: maps a point [d] to its value and gradient.
    """

    def skip(x):
        return jnp.full(x.shape[:-1], jnp.nan, x.dtype), jnp.zeros_like(x)

    def one_after_another(X, active):
        return jax.lax.map(lambda lane: jax.lax.cond(lane[1], value_and_grad, skip, lane[0]), (X, active))

    def together(X, active):
        del active
        return jax.vmap(value_and_grad)(X)

    def evaluate(X, active):
        return jax.lax.platform_dependent(X, active, cpu=one_after_another, default=together)

    return evaluate


def _advance(lanes, x_new, f_new, g_new, box, tolerances) -> _Lanes:
    """One decision of every lane: accept, update and choose a new direction, or backtrack."""
    (lower, upper), (gtol, ftol, expected_gain) = box, tolerances
    first = lanes.num_evals == 0
    finite = jnp.isfinite(f_new) & jnp.all(jnp.isfinite(g_new), axis=-1)
    moved = x_new - lanes.x
    slope = jnp.sum(lanes.g * moved, axis=-1)
    accepted = finite & (first | (f_new <= lanes.f + ARMIJO * slope)) & ~lanes.done

    H, fresh = _update_inverse_hessian(lanes, moved, g_new - lanes.g, accepted & ~first)
    x = _pick(accepted, x_new, lanes.x)
    f = jnp.where(accepted, f_new, lanes.f)
    g = _pick(accepted, g_new, lanes.g)

    pinned = ((x <= lower) & (g > 0)) | ((x >= upper) & (g < 0)) | (lower >= upper)
    free_g = jnp.where(pinned, 0.0, g)
    p_new = -jnp.where(pinned, 0.0, jnp.sum(H * free_g[:, None, :], axis=-1))
    g_norm = jnp.sqrt(jnp.sum(free_g**2, axis=-1))
    uphill = jnp.sum(p_new * free_g, axis=-1) > -1e-10 * g_norm * jnp.sqrt(jnp.sum(p_new**2, axis=-1))

    failed = ~accepted & (lanes.backtracks + 1 >= MAX_BACKTRACKS)
    reset = (accepted & (uphill | first)) | failed
    H = jnp.where(reset[:, None, None], jnp.eye(x.shape[-1], dtype=x.dtype), H)
    p = _pick(reset, -free_g, _pick(accepted, p_new, lanes.p))
    first_step = jnp.minimum(1.0, FIRST_STEP / jnp.maximum(g_norm, 1e-12))
    t = jnp.where(reset, first_step, jnp.where(accepted, 1.0, lanes.t * _shrink(f_new - lanes.f, slope, finite)))

    gain = lanes.f - f
    slow = jnp.where(
        accepted,
        jnp.where(~first & (gain <= ftol * jnp.maximum(jnp.abs(f), 1.0)), lanes.slow + 1, 0),
        lanes.slow,
    )
    flat = jnp.max(jnp.abs(free_g), axis=-1) < gtol
    little_left = ~fresh & ~reset & (-0.5 * jnp.sum(p_new * free_g, axis=-1) < expected_gain)
    stuck = failed & lanes.fresh  # steepest descent finds nothing lower: the limit of the precision
    converged = (accepted & (flat | little_left | (slow >= 2))) | stuck
    return _Lanes(
        x=x,
        f=f,
        g=g,
        H=H,
        p=p,
        t=t.astype(x.dtype),
        backtracks=jnp.where(accepted | reset, 0, lanes.backtracks + 1).astype(jnp.int32),
        fresh=reset | fresh,
        slow=slow.astype(jnp.int32),
        done=lanes.done | converged | (first & ~finite),
        converged=lanes.converged | (converged & ~lanes.done),
        num_evals=lanes.num_evals + jnp.int32(1),
    )


def _update_inverse_hessian(lanes, s, y, allowed):
    """BFGS update of H where the curvature along the step is positive."""
    eps = jnp.finfo(s.dtype).eps
    sy = jnp.sum(s * y, axis=-1)
    yy = jnp.sum(y * y, axis=-1)
    good = allowed & (sy > eps * yy) & (sy > 0)
    rho = jnp.where(good, 1.0 / jnp.where(good, sy, 1.0), 0.0)
    scale = jnp.where(good & lanes.fresh, sy / jnp.where(yy > 0, yy, 1.0), 1.0)
    H = lanes.H * scale[:, None, None]  # a fresh H is a multiple of the identity: give it the curvature's size
    Hy = jnp.sum(H * y[:, None, :], axis=-1)
    yHy = jnp.sum(y * Hy, axis=-1)
    H = (
        H
        + ((1.0 + rho * yHy) * rho)[:, None, None] * s[:, :, None] * s[:, None, :]
        - rho[:, None, None] * (s[:, :, None] * Hy[:, None, :] + Hy[:, :, None] * s[:, None, :])
    )
    return H, lanes.fresh & ~good


def _shrink(rise, slope, finite):
    """Factor for the next, shorter step: the minimum of the interpolating parabola, within [0.1, 0.5]."""
    curvature = 2.0 * (rise - slope)
    usable = finite & (curvature > 0)
    return jnp.clip(jnp.where(usable, -slope / jnp.where(usable, curvature, 1.0), 0.5), 0.1, 0.5)


def _pick(lanes, a, b):
    return jnp.where(lanes[:, None], a, b)
