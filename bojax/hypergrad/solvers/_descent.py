"""An optax optimizer as inner solver."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from bojax.hypergrad import _tree
from bojax.hypergrad._problem import InnerResult
from bojax.hypergrad._training import Batch, Optimizer, build, check_training, pick


@dataclasses.dataclass(frozen=True)
class Descent:
    """At most `num_steps` steps of an optimizer.

    Attributes:
        optimizer: an optax optimizer, including `optax.lbfgs()` (but not under `vmap`, where its line search is slow),
            or a function of hparams that returns one.
        num_steps: maximum number of steps.
        tol: stop when the norm of the gradient of a step is below this.
        batch: `batch(key, step, data)`, the part of the inner data that a step sees; by default all.

    Example:
        >>> import jax.numpy as jnp, optax
        >>> from bojax import hypergrad as hg
        >>> inner = lambda w, h, data: 0.5 * jnp.sum((w - 1.0) ** 2 + jnp.exp(h) * w**2)
        >>> outer = lambda w, h, data: 0.5 * jnp.sum((w - 0.25) ** 2)
        >>> fn = hg.hypergradient(inner, outer, method=hg.Implicit(), inner_solver=hg.Descent(optax.sgd(0.4), 50))
        >>> round(float(fn(0.0, jnp.zeros(1)).grad), 4)
        -0.0625
    """

    optimizer: Optimizer
    num_steps: int
    tol: float = 0.0
    batch: Batch | None = None

    def __post_init__(self):
        check_training(self.optimizer, self.num_steps)

    def __call__(self, inner_loss: Any, params0: Any, hparams: Any, data: Any, key: Any = None) -> InnerResult:
        """Minimize the inner loss from params0."""
        optimizer = build(self.optimizer, hparams)

        def advance(carry):
            w, state, step, _ = carry
            part = pick(self.batch, key, step, data)
            fn = lambda w: inner_loss(w, hparams, part)  # noqa: E731
            value, g = jax.value_and_grad(fn)(w)
            updates, state = optimizer.update(g, state, w, value=value, grad=g, value_fn=fn)
            return optax.apply_updates(w, updates), state, step + 1, _tree.norm(g)

        def unfinished(carry):
            return (carry[2] < self.num_steps) & (carry[3] > self.tol)

        params0 = jax.tree.map(jnp.asarray, params0)
        start = (params0, optimizer.init(params0), jnp.int32(0), jnp.full((), jnp.inf, _tree.dtype(params0)))
        params, _, num_steps, _ = jax.lax.while_loop(unfinished, advance, start)
        return InnerResult(params, num_steps)
