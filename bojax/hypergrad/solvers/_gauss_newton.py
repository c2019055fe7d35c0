"""The Gauss-Newton matrix as a replacement for the Hessian: positive semidefinite at any parameters."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

from bojax.hypergrad import _tree
from bojax.hypergrad._problem import MatVec


@dataclasses.dataclass(frozen=True)
class GaussNewton:
    """C = J^T (d^2 loss / d outputs^2) J, plus the Hessian of `rest` (Schraudolph 2002).

    The inner loss is loss(predict(params, hparams, data), data) + rest(params, hparams, data); JAX cannot find that
    split by itself. The curvature omits the second derivative of `predict`, which can make the Hessian indefinite.
    Equal to the Hessian for a linear model.

    Attributes:
        predict: `predict(params, hparams, data)`, the outputs.
        loss: `loss(outputs, hparams, data)`, a scalar, convex in the outputs.
        rest: `rest(params, hparams, data)`, a scalar, convex in the parameters, such as an L2 penalty, or None.

    Example:
        >>> import jax.numpy as jnp
        >>> from bojax import hypergrad as hg
        >>> square = lambda outputs, h, data: 0.5 * jnp.sum(outputs**2)
        >>> penalty = lambda w, h, data: 0.5 * jnp.exp(h) * jnp.sum(w**2)
        >>> curvature = hg.GaussNewton(lambda w, h, data: w - 1.0, square, penalty)
        >>> curvature.matvec(jnp.zeros(1), 0.0, None)(jnp.ones(1)).tolist()
        [2.0]
    """

    predict: Callable[[Any, Any, Any], Any]
    loss: Callable[[Any, Any, Any], Any]
    rest: Callable[[Any, Any, Any], Any] | None = None

    def matvec(self, params: Any, hparams: Any, data: Any) -> MatVec:
        """The products with C at these parameters."""
        outputs, push = jax.linearize(lambda w: self.predict(w, hparams, data), params)
        pull = jax.linear_transpose(push, params)
        _, curve = jax.linearize(jax.grad(lambda out: self.loss(out, hparams, data)), outputs)
        rest = self.rest
        if rest is None:
            return lambda v: pull(curve(push(v)))[0]
        _, curve_rest = jax.linearize(jax.grad(lambda w: rest(w, hparams, data)), params)
        return lambda v: _tree.add(pull(curve(push(v)))[0], 1, curve_rest(v))
