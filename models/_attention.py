"""Attention and the transformer's layers (Vaswani et al., 2017, arXiv:1706.03762), normalized first."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array

from ._layers import activate, dropout


class Attention(nn.Module):
    """Multi-head attention.

    Attributes:
        width: features in and out, a multiple of the heads.
        heads: heads of ``width / heads`` features each.
    """

    width: int
    heads: int

    @nn.compact
    def __call__(self, x: Array, memory: Array, mask: Array | None = None) -> Array:
        """Attends from every row of ``x`` [n, t, width] to the rows of ``memory`` [n, s, width] that ``mask`` allows.

        Args:
            x: the rows that attend.
            memory: the rows that are attended to.
            mask: bool, broadcastable to [n, t, s]; every row must allow at least one.
        """

        def project(name: str, y: Array) -> Array:
            y = nn.Dense(self.width, use_bias=False, name=name)(y)
            return y.reshape(*y.shape[:2], self.heads, self.width // self.heads)

        query, key, value = project("query", x), project("key", memory), project("value", memory)
        scores = jnp.einsum("nthc,nshc->nhts", query, key) / np.float32(np.sqrt(self.width // self.heads))
        if mask is not None:
            scores = jnp.where(jnp.broadcast_to(mask[:, None], scores.shape), scores, jnp.finfo(scores.dtype).min)
        mixed = jnp.einsum("nhts,nshc->nthc", jax.nn.softmax(scores), value)
        return nn.Dense(self.width, use_bias=False, name="out")(mixed.reshape(x.shape))


class Layer(nn.Module):
    """Self-attention, attention to a memory if there is one, and a perceptron; each added to its input.

    Attributes:
        width: features.
        heads: heads of the attention.
        expansion: hidden units of the perceptron over ``width``.
    """

    width: int
    heads: int
    expansion: int = 4

    @nn.compact
    def __call__(
        self,
        x: Array,
        mask: Array | None,
        activation: Array,
        dropout_key: Array | None,
        rate: Array,
        memory: Array | None = None,
        memory_mask: Array | None = None,
    ) -> Array:
        """Maps [n, t, width] to [n, t, width]."""
        keys = split_or_none(dropout_key, 3)
        y = nn.LayerNorm()(x)
        x = x + dropout(keys[0], Attention(self.width, self.heads, name="self")(y, y, mask), rate)
        if memory is not None:
            y = nn.LayerNorm()(x)
            x = x + dropout(keys[1], Attention(self.width, self.heads, name="cross")(y, memory, memory_mask), rate)
        y = nn.Dense(self.expansion * self.width, name="up")(nn.LayerNorm()(x))
        y = nn.Dense(self.width, name="down")(activate(y, activation))
        return x + dropout(keys[2], y, rate)


class Embedding(nn.Module):
    """Tokens plus learned positions.

    Attributes:
        vocabulary: number of tokens.
        width: features.
    """

    vocabulary: int
    width: int

    @nn.compact
    def __call__(self, tokens: Array) -> Array:
        """Maps tokens [n, t] to [n, t, width]."""
        init = nn.initializers.normal(0.02 * np.sqrt(self.width))
        positions = self.param("positions", init, (tokens.shape[1], self.width), jnp.float32)
        return nn.Embed(self.vocabulary, self.width, embedding_init=init, name="tokens")(tokens) + positions[None]


def causal(length: int) -> Array:
    """[1, length, length] mask: every position sees itself and earlier ones."""
    return jnp.asarray(np.tril(np.ones((1, length, length), bool)))


def split_or_none(key: Array | None, num: int) -> list[Array | None]:
    """``num`` keys, or ``num`` times None."""
    return [None] * num if key is None else list(jax.random.split(key, num))
