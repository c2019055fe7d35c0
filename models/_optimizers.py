"""One optimizer whose family is a traced number.

All families are cases of one recursion on two shared moments, so each run of a vmapped batch with different optimizers
costs one optimizer, not five::

    m <- a1 m + c1 g        v <- a2 v + (1 - a2) g^2
    d  = m_hat / (sqrt(v_hat + e_in) + e_out)        p <- p - lr (d + decay p)

========  ====================================  ==========================  ================
family    first moment                          denominator                 weight decay
========  ====================================  ==========================  ================
sgd       m <- 0.9 m + g (momentum)             1                           added to g
adam      m <- 0.9 m + 0.1 g, bias corrected    sqrt(v_hat) + 1e-8          added to g
adamw     m <- 0.9 m + 0.1 g, bias corrected    sqrt(v_hat) + 1e-8          apart (decoupled)
rmsprop   m = g                                 sqrt(v + 1e-8)              added to g
lion      m <- 0.99 m + 0.01 g, read first      see below                   apart (decoupled)
========  ====================================  ==========================  ================

with a2 = 0.999 in adam and adamw and 0.9 in rmsprop; lion's direction d is the sign of 0.9 m + 0.1 g, m before its
update. Every family equals optax's own, step by step:
``optax.sgd(lr, momentum=0.9)``, ``optax.adam``, ``optax.adamw``, ``optax.rmsprop`` and ``optax.lion`` with their
defaults, those but adamw and lion behind ``optax.add_decayed_weights``. Decay acts on matrices and kernels (two axes
or more), not on biases and scales.

Training can be differentiated by learning rate, decay and anything else that affects the gradients: e_in is 1e-30 where
the table shows none, because the square root has no derivative at 0, the second moment of a weight without gradients.
It is far below e_out, so no step changes. Lion's derivatives hold its signs fixed and miss the jumps where one flips;
Adam's first direction, g / (|g| + 1e-8), is almost a sign too.

References: Polyak (1964); Tieleman and Hinton (2012); Kingma and Ba (2015, arXiv:1412.6980); Loshchilov and
Hutter (2019, arXiv:1711.05101); Chen et al. (2023, arXiv:2302.06675).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

OPTIMIZERS = ("sgd", "adam", "adamw", "rmsprop", "lion")

_FIRST_DECAY = (0.9, 0.9, 0.9, 0.0, 0.99)  # a1
_FIRST_GAIN = (1.0, 0.1, 0.1, 1.0, 0.01)  # c1
_SECOND_DECAY = (0.999, 0.999, 0.999, 0.9, 0.999)  # a2; sgd and lion keep v and do not read it
_EPSILON = 1e-8
_EPSILON_ROOT = 1e-30  # a normal number in float32, whose root is 1e-7 of _EPSILON


class SelectableState(NamedTuple):
    """State of `selectable`: steps done, first and second moment (trees like the parameters)."""

    count: Array
    mu: Any
    nu: Any


def selectable(
    family: Array, learning_rate: Callable[[Array], Array], weight_decay: Array
) -> optax.GradientTransformation:
    """The optimizer at position ``family`` of `OPTIMIZERS`; all arguments may be traced.

    Args:
        family: int32 scalar.
        learning_rate: schedule, from the number of steps done (int32) to a float32 scalar.
        weight_decay: float32 scalar, at least 0.

    Returns:
        A gradient transformation. Its ``update`` needs ``params``.
    """
    is_sgd, is_adam, is_adamw, is_rmsprop, is_lion = (family == i for i in range(len(OPTIMIZERS)))
    corrects = is_adam | is_adamw
    a1, c1, a2 = (_take(table, family) for table in (_FIRST_DECAY, _FIRST_GAIN, _SECOND_DECAY))
    epsilon_in = jnp.where(is_rmsprop, jnp.float32(_EPSILON), jnp.float32(_EPSILON_ROOT))
    epsilon_out = jnp.where(corrects, jnp.float32(_EPSILON), jnp.float32(0))
    coupled = jnp.where(is_adamw | is_lion, jnp.zeros_like(weight_decay), weight_decay)
    decoupled = weight_decay - coupled

    def init(params):
        zeros = jax.tree.map(jnp.zeros_like, params)
        return SelectableState(count=jnp.zeros((), jnp.int32), mu=zeros, nu=zeros)

    def update(updates, state, params=None):
        if params is None:
            raise ValueError("`params` must be given: weight decay reads the parameters.")
        steps = (state.count + 1).astype(jnp.float32)
        correction1 = jnp.where(corrects, 1 - a1**steps, jnp.float32(1))
        correction2 = jnp.where(corrects, 1 - a2**steps, jnp.float32(1))
        rate = learning_rate(state.count)

        def decayed(g, p):
            return g + coupled * p if p.ndim > 1 else g

        def step(m, v, p, g, m_before):
            denominator = jnp.where(is_sgd, 1.0, jnp.sqrt(v / correction2 + epsilon_in) + epsilon_out)
            direction = jnp.where(is_lion, jnp.sign(0.9 * m_before + 0.1 * g), m / correction1 / denominator)
            return -rate * (direction + decoupled * p if p.ndim > 1 else direction)

        grads = jax.tree.map(decayed, updates, params)
        mu = jax.tree.map(lambda g, m: a1 * m + c1 * g, grads, state.mu)
        nu = jax.tree.map(lambda g, v: a2 * v + (1 - a2) * jnp.square(g), grads, state.nu)
        return jax.tree.map(step, mu, nu, params, grads, state.mu), SelectableState(state.count + 1, mu, nu)

    return optax.GradientTransformation(init, update)


def _take(table: tuple[float, ...], position: Array) -> Array:
    return jnp.asarray(table, jnp.float32)[position]
