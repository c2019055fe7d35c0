"""How a batch of points is chosen: three pure functions around whatever an acquisition draws.

    state = acquisition.begin(key, posterior, context, q)
    X     = argmax acquisition.value(state, .)            # one point after another
    state = acquisition.add(state, X)

`begin` draws what stays fixed while the batch is chosen (samples, maxima, optima) and takes pending points into
account. `value` is the gain of one more point. `add` puts a point into the batch. The functions work with any posterior
that implements the `Posterior` protocol, and the whole choice is one compiled program for every q.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from bojax._types import Array, Bool, Float
from bojax.acquisition._analytic import AcquisitionFn, is_in_logs
from bojax.acquisition._contracts import AddFn, BeginFn, JointFn, ValueFn


class Context(NamedTuple):
    """What an acquisition may use beside the posterior.

    Attributes:
        best_f: the incumbent: the largest posterior mean at an observed point.
        X: [n, d] observed points.
        mask: [n] which of them are real.
        pending_X: [p, d] points being evaluated.
        pending_mask: [p] which of them are real.
        noise_var: approximate noise variance of one evaluation, as reported, standardized; 0 if none was reported.
    """

    best_f: Float[Array, ""]
    X: Float[Array, "n d"]
    mask: Bool[Array, "n"]
    pending_X: Float[Array, "p d"]
    pending_mask: Bool[Array, "p"]
    noise_var: Float[Array, ""] | float = 0.0


class BatchAcquisition(NamedTuple):
    """The utility of points in addition to those chosen and pending.

    Attributes:
        begin: `begin(key, posterior, context, q) -> state`; the posterior is standardized and has p + q spare rows.
        value: `value(state, X [k, d]) -> [k]`, the utility of adding each of k points; larger is better.
        add: `add(state, x [d]) -> state`, the state after x was chosen.
        joint: `joint(state, X [b, q, d]) -> [b]`, the utility of adding q points at once; None if not available.
        in_logs: True if `value` is the logarithm of a positive utility. Logarithms of weights can then be added to it.
        noisy: True if it is made for noisy objectives. Points may then be evaluated again, a finite space is never
            exhausted, and the default surrogate expects noise.
        padded: True if it looks at points through the posterior only, so that columns may be padded. Studies of many
            spaces then share a program.
    """

    begin: BeginFn
    value: ValueFn
    add: AddFn
    joint: JointFn | None = None
    in_logs: bool = True
    noisy: bool = False
    padded: bool = False


class BelieverState(NamedTuple):
    """Posterior and incumbent after the chosen and pending points, each imagined at its mean."""

    posterior: Any
    best_f: Float[Array, ""]


def kriging_believer(
    acquisition: AcquisitionFn, *, in_logs: bool | None = None, noisy: bool = False
) -> BatchAcquisition:
    """Make a batch acquisition from a function of single points.

    Points are chosen one after another. Chosen and pending points count as observed at their posterior mean, and the
    incumbent is raised to that mean. Without raising it, a point whose mean exceeds the incumbent would be chosen
    repeatedly.

    Args:
        acquisition: function `(posterior, X [k, d], best_f) -> [k]`, such as `log_ei`.
        in_logs: True if its values are logarithms of a positive utility. By default, True for functions marked with
            `bojax.acquisition.in_logs`, such as `log_ei` and `log_pi`.
        noisy: True if the objective is noisy, so that points may be evaluated again.

    Returns:
        A `BatchAcquisition` without `joint`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from bojax.acquisition import Context, log_ei
        >>> from bojax.testing import MockPosterior
        >>> acquisition = kriging_believer(log_ei)
        >>> posterior = MockPosterior(lambda X: X[:, 0])  # mean x_0, variance 1
        >>> X, none = jnp.array([[0.0], [0.5]]), jnp.zeros((0, 1))
        >>> context = Context(jnp.array(0.5), X, jnp.ones(2, bool), none, jnp.zeros(0, bool))
        >>> state = acquisition.begin(jax.random.key(0), posterior, context, 2)
        >>> [round(value, 2) for value in acquisition.value(state, X).tolist()]
        [-1.62, -0.92]

    Source: the kriging believer of Ginsbourger, Le Riche, Carraro (2010).
    """

    def begin(key, posterior, context, q):
        del key, q
        state = BelieverState(posterior, context.best_f)
        return _for_pending(add, state, context)

    def value(state, X):
        return acquisition(state.posterior, X, state.best_f)

    def add(state, x):
        mean = state.posterior.mean(x[None])[0]
        return BelieverState(state.posterior.append(x, mean), jnp.maximum(state.best_f, mean))

    in_logs = is_in_logs(acquisition) if in_logs is None else in_logs
    return BatchAcquisition(begin, value, add, in_logs=in_logs, noisy=noisy)


def imagine_pending(posterior: Any, context: Context) -> Any:
    """The posterior after every pending point was observed at its mean."""
    return _for_pending(lambda p, x: p.append(x, p.mean(x[None])[0]), posterior, context)


def _for_pending(add, state, context):
    """`add` applied to the state for every pending point."""
    if context.pending_X.shape[0] == 0:
        return state

    def step(state, item):
        x, real = item
        return jax.tree.map(lambda new, old: jnp.where(real, new, old), add(state, x), state), None

    return jax.lax.scan(step, state, (context.pending_X, context.pending_mask))[0]
