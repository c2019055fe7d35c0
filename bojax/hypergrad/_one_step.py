"""The hypergradient of a single step of gradient descent."""

import dataclasses

import jax.numpy as jnp

from bojax.hypergrad import _tree
from bojax.hypergrad._implicit import INERT_HINT
from bojax.hypergrad._inert import check_reach
from bojax.hypergrad._problem import (
    Case,
    Problem,
    cross_term,
    float_info,
    inner_gradient,
    loss_reach,
    outer_gradients,
    solve_inner,
)
from bojax.hypergrad._result import Hypergrad, HypergradInfo, HypergradStatus


@dataclasses.dataclass(frozen=True)
class OneStep:
    """T1-T2 (Luketina et al. 2016, arXiv:1511.06727): the inverse curvature is replaced by `scale` times the identity.

    The cheapest estimate, at three gradients, but biased: mainly its direction is useful. For online tuning and very
    large models.

    Attributes:
        scale: length of that step, as a learning rate; one over the curvature, if known.

    Example:
        >>> import jax.numpy as jnp
        >>> from bojax import hypergrad as hg
        >>> inner = lambda w, h, data: 0.5 * jnp.sum((w - 1.0) ** 2 + jnp.exp(h) * w**2)
        >>> outer = lambda w, h, data: 0.5 * jnp.sum((w - 0.25) ** 2)
        >>> fn = hg.hypergradient(inner, outer, method=hg.OneStep(scale=0.5))
        >>> round(float(fn(0.0, jnp.zeros(1)).grad), 4)
        -0.0625
    """

    scale: float = 1.0

    def check(self, problem: Problem, case: Case) -> None:
        """Raise for hyperparameters that neither the inner gradient nor the outer loss depends on."""
        check_reach(loss_reach(problem, case), case.hparams, INERT_HINT)

    def __call__(self, problem: Problem, case: Case) -> Hypergrad:
        """The estimate at the result of the inner solver."""
        params, inner_steps = solve_inner(problem, case)
        value, b, direct, aux = outer_gradients(problem, params, case)
        v = _tree.scaled(self.scale, b)
        grad = _tree.add(direct, -1, cross_term(problem, case, params, v))
        kind, _ = float_info(params)
        g = inner_gradient(problem, case)(params, case.hparams)
        finite = _tree.all_finite(value, grad, params, g)
        info = HypergradInfo(
            status=jnp.where(finite, jnp.int32(HypergradStatus.OK), jnp.int32(HypergradStatus.NONFINITE)),
            inner_grad_norm=_tree.norm(g).astype(kind),
            inner_steps=jnp.asarray(inner_steps, jnp.int32),
            adjoint_residual=jnp.zeros((), kind),
            adjoint_steps=jnp.int32(0),
            error_estimate=jnp.full((), jnp.inf, kind),
        )
        return Hypergrad(value, grad, params, v, info, aux)
