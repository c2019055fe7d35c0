"""How a batch of points is chosen: three pure functions around whatever an acquisition draws.

    state = acquisition.begin(key, posterior, context, q)
    X     = argmax acquisition.value(state, .)            # one point after another
    state = acquisition.add(state, X)

`begin` draws what stays fixed while the batch is chosen (samples, maxima, optima) and takes pending points into
account; `value` is the gain of one more point; `add` chooses it. The same functions serve any surrogate that keeps the
`Posterior` protocol, and everything is one compiled program whatever q is.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from bojax._types import Array, Bool, Float
from bojax.acquisition._analytic import AcquisitionFn, is_in_logs


class Context(NamedTuple):
    """What an acquisition may use beside the posterior.

    Attributes:
        best_f: the incumbent: the largest posterior mean at an observed point.
        X: [n, d] observed points.
        mask: [n] which of them are real.
        pending_X: [p, d] points being evaluated.
        pending_mask: [p] which of them are real.
        noise_var: about the noise variance of one evaluation as far as it was told, standardised; 0 where nothing was.
    """

    best_f: Float[Array, ""]
    X: Float[Array, "n d"]
    mask: Bool[Array, "n"]
    pending_X: Float[Array, "p d"]
    pending_mask: Bool[Array, "p"]
    noise_var: Float[Array, ""] | float = 0.0


class BatchAcquisition(NamedTuple):
    """The utility of points beside those chosen and pending.

    Attributes:
        begin: `begin(key, posterior, context, q) -> state`; the posterior is standardised and has p + q spare rows.
        value: `value(state, X [k, d]) -> [k]`, the utility of adding each of k points; larger is better.
        add: `add(state, x [d]) -> state`, x is chosen.
        joint: `joint(state, X [b, q, d]) -> [b]`, the utility of adding q points at once; None where there is none.
        in_logs: whether `value` is the logarithm of a positive utility, to which logarithms of weights can be added.
        num_samples: about how many numbers `value` holds for each row of X, beside the covariances with the n
            observations: what a byte budget reckons with.
    """

    begin: Callable[..., Any]
    value: Callable[..., Float[Array, "k"]]
    add: Callable[..., Any]
    joint: Callable[..., Float[Array, "b"]] | None = None
    in_logs: bool = True
    num_samples: int = 1


class BelieverState(NamedTuple):
    """Posterior and incumbent after the chosen and pending points, each imagined at its mean."""

    posterior: Any
    best_f: Float[Array, ""]


def kriging_believer(acquisition: AcquisitionFn, *, in_logs: bool | None = None) -> BatchAcquisition:
    """Batches of an acquisition of single points: chosen and pending points count as observed at their mean.

    The incumbent rises with them: a point that is expected to beat it would otherwise be chosen again and again.

    Args:
        acquisition: `(posterior, X [k, d], best_f) -> [k]`.
        in_logs: whether its values are logarithms of a positive utility; by default, whether it is marked so
            (`bojax.acquisition.in_logs`), as `log_ei` and `log_pi` are.

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

    return BatchAcquisition(begin, value, add, in_logs=is_in_logs(acquisition) if in_logs is None else in_logs)


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
