"""Layers whose size is a traced number: width by masking features, depth by skipping layers.

Array shapes are static under `jit` and `vmap`, so a batch of networks of different widths is held in arrays
of the largest width. Features 0 .. width-1 are *live*, the others *dead*, and every layer here keeps one
invariant: dead features are exactly 0. The live part of a layer then computes what a layer of that width
computes, in the forward and in the backward pass (dead weights get a gradient of exactly 0), and it is
initialized as that layer would be, since the scale follows the live fan-in. Flax's own layers read their
size, and `linen.Dropout` its rate, as Python numbers.

Linen and not NNX: a linen module is a static description with pure `init` and `apply`, which suits a training run
inside `scan` and `vmap`. An NNX module is a mutable object that would be split and merged at every transformation.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array, lax

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": jax.nn.relu,
    "gelu": jax.nn.gelu,  # the tanh form
    "silu": jax.nn.silu,
    "tanh": jnp.tanh,
}


def activate(x: Array, position: Array) -> Array:
    """Applies the activation at ``position`` (int32 scalar) of `ACTIVATIONS`, elementwise."""
    return lax.select_n(position, *(activation(x) for activation in ACTIVATIONS.values()))


def mask_features(x: Array, width: Array | int) -> Array:
    """Sets features ``width``, ``width + 1``, ... of the last axis to 0."""
    live = jnp.arange(x.shape[-1], dtype=jnp.int32) < width
    return jnp.where(jnp.broadcast_to(live, x.shape), x, jnp.zeros_like(x))


def dropout(key: Array | None, x: Array, rate: Array) -> Array:
    """Inverted dropout with a traced ``rate`` in [0, 1) (Srivastava et al., 2014); none without a key.

    Each example has its own key, so the dropped units depend neither on the array size of the batch nor on that of the
    layer (bits are drawn along features, the last axis, first). The bits are 16 wide: the rate is rounded to a multiple
    of 1/65536.
    """
    if key is None:
        return x
    keys = jax.random.split(key, x.shape[0])
    shape = (x.shape[-1], *x.shape[1:-1])
    bits = jnp.moveaxis(jax.vmap(lambda k: jax.random.bits(k, shape, jnp.uint16))(keys), 1, -1)
    keep = bits >= jnp.asarray(rate * 65536, jnp.uint16)
    return jnp.where(keep, x / (1 - rate), jnp.zeros_like(x))


def patches_3x3(x: Array) -> Array:
    """The 3x3 neighborhood of every pixel, zeros outside: [n, h, w, c] -> [n, h, w, 9 c].

    A convolution by patches is a matrix product, and under `vmap` a batched one. On CPU the training run of
    `digits_cnn` is about twenty times faster than with `lax.conv`, even without `vmap` (jax 0.10.2).
    """
    _, height, width, _ = x.shape
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifts = [padded[:, i : i + height, j : j + width, :] for i in range(3) for j in range(3)]
    return jnp.concatenate(shifts, axis=-1)


def max_pool_2x2(x: Array) -> Array:
    """Maximum over 2x2 cells: [n, h, w, c] -> [n, h/2, w/2, c].

    It avoids `jnp.max`, whose gradient selects the entries that equal the maximum: a compiled program may round the two
    sides differently and find none. On CPU (jax 0.10) gradients before the pool were wrong by up to 170 %.
    """
    n, height, width, channels = x.shape
    cells = x.reshape(n, height // 2, 2, width // 2, 2, channels)
    rows = jnp.maximum(cells[:, :, 0], cells[:, :, 1])
    return jnp.maximum(rows[:, :, :, 0], rows[:, :, :, 1])


class MaskedDense(nn.Module):
    """A dense layer with a traced number of live outputs.

    Attributes:
        features: outputs held, at least the largest width.
        gain: variance of the kernel times the fan-in: 2 before a rectifier (He et al., 2015), otherwise 1.
    """

    features: int
    gain: float = 2.0

    @nn.compact
    def __call__(self, x: Array, *, fan_in: Array | int, width: Array | int) -> Array:
        """Maps ``x`` [..., c], ``fan_in`` features live, to [..., features], ``width`` of them live."""
        kernel = self.param("kernel", _scaled_normal(self.gain, fan_in), (x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
        return mask_features(_affine(x, kernel, bias), width)


class MaskedConv3x3(nn.Module):
    """A 3x3 convolution, stride 1, zeros outside, with a traced number of live channels.

    Attributes:
        features: output channels held, at least the largest width.
        gain: as in `MaskedDense`.
    """

    features: int
    gain: float = 2.0

    @nn.compact
    def __call__(self, x: Array, *, fan_in: Array | int, width: Array | int) -> Array:
        """Maps ``x`` [n, h, w, c], ``fan_in`` channels live, to [n, h, w, features], ``width`` live."""
        channels = x.shape[-1]
        kernel = self.param("kernel", _scaled_normal(self.gain, 9 * fan_in), (3, 3, channels, self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
        y = _affine(patches_3x3(x), kernel.reshape(9 * channels, self.features), bias)
        return mask_features(y, width)


class MaskedLayerNorm(nn.Module):
    """Layer normalization over the live features of the last axis (Ba, Kiros and Hinton, 2016).

    Attributes:
        epsilon: added to the variance, as in `flax.linen.LayerNorm`.
    """

    epsilon: float = 1e-6

    @nn.compact
    def __call__(self, x: Array, *, width: Array) -> Array:
        """Normalizes ``x`` [..., c], of which ``width`` features are live."""
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],), jnp.float32)
        count = width.astype(x.dtype)
        centered = mask_features(x - jnp.sum(x, axis=-1, keepdims=True) / count, width)
        variance = jnp.sum(jnp.square(centered), axis=-1, keepdims=True) / count
        y = centered * lax.rsqrt(variance + self.epsilon)
        y = y * jnp.broadcast_to(scale, y.shape) + jnp.broadcast_to(bias, y.shape)
        return mask_features(y, width)


def _affine(x: Array, kernel: Array, bias: Array) -> Array:
    y = x @ kernel
    return y + jnp.broadcast_to(bias, y.shape)


_DRAWN = 256  # columns drawn for any smaller kernel, so that initial values do not depend on the array size


def _scaled_normal(gain: float, fan_in: Array | int) -> Callable[[Array, Sequence[int]], Array]:
    """Initializer N(0, gain / fan_in) whose ``fan_in`` may be traced; smaller shapes have the same first entries."""

    def init(key: Array, shape: Sequence[int]) -> Array:
        *window, rows, columns = shape
        scale = jnp.sqrt(gain / jnp.asarray(fan_in, jnp.float32))
        drawn = jax.random.normal(key, (rows, *window, max(columns, _DRAWN)), jnp.float32)
        return scale * jnp.moveaxis(drawn[..., :columns], 0, -2)

    return init
