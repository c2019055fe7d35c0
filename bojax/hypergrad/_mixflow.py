"""A gradient whose own derivative is one forward pass over it.

Reverse differentiation through a training step differentiates the inner gradient, itself a reverse pass, in reverse: it
stores everything the inner backward pass computed. The Hessian is symmetric and mixed derivatives commute, so the
products that the outer backward pass needs,

    c^T d^2 L / dw^2   and   c^T d^2 L / dw dh,

are the forward derivative of (dL/dw, dL/dh) along c, which stores nothing (MixFlow-MG: Kemaev et al. 2025,
arXiv:2505.00793). The backward pass needs the gradient itself only where the optimizer does, and storing it is cheaper
than recomputing it.
"""

from typing import Any

import jax
from jax.ad_checkpoint import checkpoint_name

from bojax.hypergrad._closure import open_closure
from bojax.hypergrad._problem import Loss
from bojax.hypergrad._scan import KEPT


def mixflow_grad(loss: Loss) -> Any:
    """The function `(params, hparams, data) -> dL/dparams` with that derivative, for reverse mode only and only once.

    `data` has no derivative. Differentiated values must be passed through `params` and `hparams`, not through the
    closure of `loss`. Operations without a forward derivative (a `custom_vjp`) are not supported; use
    `backprop="plain"` for them.

    Args:
        loss: `loss(params, hparams, data)`, a scalar.

    Returns:
        `gradient(params, hparams, data)`, a tree like params.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from bojax import hypergrad as hg
        >>> gradient = hg.mixflow_grad(lambda w, h, data: h * w**3)
        >>> float(gradient(2.0, 1.0, None)), float(jax.grad(gradient)(2.0, 1.0, None))
        (12.0, 12.0)
    """

    def gradient(params, hparams, data):
        apply, consts = open_closure(loss, params, hparams, data)
        explicit = _explicit_gradient(lambda w, h, rest: apply(rest[1], w, h, rest[0]))
        return checkpoint_name(explicit(params, hparams, (data, consts)), KEPT)

    return gradient


def _explicit_gradient(loss: Loss) -> Any:
    """`mixflow_grad` of a loss without traced closures."""

    @jax.custom_vjp
    def gradient(params, hparams, data):
        return jax.grad(loss)(params, hparams, data)

    def forward(params, hparams, data):
        return gradient(params, hparams, data), (params, hparams, data)

    def backward(residuals, cotangent):
        params, hparams, data = residuals
        both = jax.grad(loss, argnums=(0, 1))
        _, (by_params, by_hparams) = jax.jvp(lambda w: both(w, hparams, data), (params,), (cotangent,))
        return by_params, by_hparams, None

    gradient.defvjp(forward, backward)
    return gradient
