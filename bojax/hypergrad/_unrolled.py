"""Reverse-mode differentiation through a training run.

The hypergradient after T steps, exact for any T, including hyperparameters of the optimizer, schedules and the starting
point (Maclaurin, Duvenaud and Adams 2015, arXiv:1502.03492; Franceschi et al. 2017, arXiv:1703.01785).
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from bojax._liveness import reaches
from bojax.hypergrad import _tree
from bojax.hypergrad._inert import check_reach
from bojax.hypergrad._mixflow import mixflow_grad
from bojax.hypergrad._problem import Case, Problem, float_info, inner_gradient
from bojax.hypergrad._result import Hypergrad, HypergradInfo, HypergradStatus, worst_status
from bojax.hypergrad._scan import Checkpoint, check_checkpoint, repeat
from bojax.hypergrad._training import Batch, Optimizer, build, check_training, pick, singular_at_zero

INERT_HINT = "Nothing in the training run or in the outer loss depends on it."


@dataclasses.dataclass(frozen=True)
class Unrolled:
    """Differentiate T steps of an optimizer backward.

    Near rates at which training becomes unstable, hypergradients of schedules grow by orders of magnitude from one
    outer step to the next. Clip them before an outer Adam, whose moments would keep such a step for long:
    `optax.chain(optax.clip_by_global_norm(0.1), optax.adam(0.05))`.

    With an optimizer of Adam's family set `eps_root` (1e-12 is enough). By default it takes the square root of zero
    where an entry of a gradient is exactly zero (a dead pixel, a dead unit), whose derivative is not finite. The status
    is then `singular_step`. This is tested by differentiating a step of the optimizer at such a gradient, so it is
    reported for exactly the optimizers with this fault.

    Attributes:
        optimizer: an optax optimizer, or a function of hparams that returns one: learning rates, momentum and schedules
            may be hyperparameters.
        num_steps: T.
        backprop: "mixflow" differentiates inner gradients forward, which takes less memory and time (see
            `mixflow_grad` for its limits); "plain" leaves it to JAX.
        checkpoint: "step" stores parameters and optimizer state of each step, and in mixed mode its gradient if needed;
            "sqrt" stores those of about 2 sqrt(T) steps, or 3 T^(1/3) for T above 256, at the cost of one or two more
            training runs; None stores everything. The result is the same.
        truncate: differentiate only this many last steps (Shaban et al. 2019, arXiv:1810.10667), a cheaper estimate.
        batch: `batch(key, step, data)`, the part of the inner data that a step sees; by default all.

    Example:
        >>> import jax.numpy as jnp, optax
        >>> from bojax import hypergrad as hg
        >>> inner = lambda w, h, data: 0.5 * jnp.sum((w - 1.0) ** 2 + jnp.exp(h) * w**2)
        >>> outer = lambda w, h, data: 0.5 * jnp.sum((w - 0.25) ** 2)
        >>> fn = hg.hypergradient(inner, outer, method=hg.Unrolled(optax.sgd(0.4), 30))
        >>> round(float(fn(0.0, jnp.zeros(1)).grad), 4)
        -0.0625
    """

    optimizer: Optimizer
    num_steps: int
    backprop: Literal["mixflow", "plain"] = "mixflow"
    checkpoint: Checkpoint = "step"
    truncate: int | None = None
    batch: Batch | None = None

    def __post_init__(self):
        check_training(self.optimizer, self.num_steps)
        if self.backprop not in ("mixflow", "plain"):
            raise ValueError(f"`backprop` must be 'mixflow' or 'plain', got {self.backprop!r}.")
        check_checkpoint(self.checkpoint)
        if self.truncate is not None and self.truncate < 1:
            raise ValueError(f"`truncate` must be at least 1 or None, got {self.truncate}.")

    def check(self, problem: Problem, case: Case) -> None:
        """Raise for hyperparameters that neither the training run nor the outer loss depends on."""
        short = dataclasses.replace(self, num_steps=min(2, self.num_steps), truncate=None)
        outcome = short._outcome(problem, case, jax.grad(problem.inner_loss))
        check_reach(reaches(lambda h: outcome(h)[0], case.hparams), case.hparams, INERT_HINT)

    def __call__(self, problem: Problem, case: Case) -> Hypergrad:
        """The hypergradient of the outer loss after T steps."""
        gradient = mixflow_grad(problem.inner_loss) if self.backprop == "mixflow" else jax.grad(problem.inner_loss)
        outcome = self._outcome(problem, case, gradient)
        (value, (params, aux)), grad = jax.value_and_grad(outcome, has_aux=True)(case.hparams)
        truncated = self.truncate is not None and self.truncate < self.num_steps
        info = training_info(problem, case, value, grad, params, self, exact=not truncated)
        return Hypergrad(value, grad, params, None, info, aux)

    def _outcome(self, problem: Problem, case: Case, gradient: Any) -> Callable[[Any], Any]:
        cut = 0 if self.truncate is None else max(0, self.num_steps - self.truncate)
        return training_outcome(problem, case, gradient, self, cut)


def training_outcome(problem: Problem, case: Case, gradient: Any, method: Any, cut: int = 0) -> Callable[[Any], Any]:
    """The outer loss after training as a function of hparams; the first `cut` steps are not differentiated.

    Args:
        problem: the losses.
        case: data, start and key.
        gradient: `gradient(params, hparams, data)` of the inner loss.
        method: has optimizer, num_steps, batch, checkpoint.
        cut: number of first steps treated as constants.

    Returns:
        A function of hparams that returns the outer loss, and (params, aux).
    """

    def run(hparams, carry, start, stop, checkpoint):
        def step(carry, t):
            params, state = carry
            g = gradient(params, hparams, pick(method.batch, case.key, t, case.inner_data))
            updates, state = build(method.optimizer, hparams).update(g, state, params)
            return optax.apply_updates(params, updates), state

        return repeat(step, carry, start, stop, checkpoint)

    def outcome(hparams):
        fixed = jax.lax.stop_gradient(hparams) if cut else hparams
        params = jax.tree.map(jnp.asarray, case.start(fixed))
        carry = params, build(method.optimizer, fixed).init(params)
        if cut:
            carry = jax.lax.stop_gradient(run(fixed, carry, 0, cut, None))
        params, _ = run(hparams, carry, cut, method.num_steps, method.checkpoint)
        value, aux = problem.outer_loss(params, hparams, case.outer_data)
        return value, (params, aux)

    return outcome


def training_info(problem: Problem, case: Case, value, grad, params, method: Any, *, exact: bool) -> HypergradInfo:
    """Diagnostics of a differentiated training run by `method`, which solves no linear system."""
    kind, _ = float_info(params)
    g = inner_gradient(problem, case)(params, case.hparams)
    trained, slopes = _tree.all_finite(value, params), _tree.all_finite(grad)
    singular = singular_at_zero(method.optimizer, case.hparams, params)
    status = worst_status(
        (~(trained & slopes), HypergradStatus.NONFINITE),
        (trained & ~slopes & singular, HypergradStatus.SINGULAR_STEP),
    )
    error = jnp.asarray(0.0 if exact else jnp.inf, kind)
    steps = jnp.int32(method.num_steps)
    return HypergradInfo(status, _tree.norm(g).astype(kind), steps, jnp.zeros((), kind), jnp.int32(0), error)
