"""A masked network of width w and depth k is a plain Flax network of width w and depth k."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from models._layers import (
    ACTIVATIONS,
    MaskedConv3x3,
    MaskedDense,
    MaskedLayerNorm,
    activate,
    dropout,
    mask_features,
    max_pool_2x2,
    patches_3x3,
)
from models._optimizers import OPTIMIZERS, selectable
from models._schedules import SCHEDULES, schedule
from models.cnn import CNN
from models.mlp import MLP

MAX_WIDTH = 12
TOL = dict(rtol=1e-5, atol=1e-5)
FLAX_ACTIVATIONS = {"relu": nn.relu, "gelu": nn.gelu, "silu": nn.silu, "tanh": nn.tanh}


class PlainMLP(nn.Module):
    width: int
    depth: int
    activation: str

    @nn.compact
    def __call__(self, images):
        x = images.reshape(images.shape[0], -1)
        for layer in range(self.depth):
            x = FLAX_ACTIVATIONS[self.activation](nn.Dense(self.width, name=f"hidden_{layer}")(x))
        return nn.Dense(10, name="head")(x)


class PlainCNN(nn.Module):
    width: int
    depth: int
    activation: str

    @nn.compact
    def __call__(self, images):
        x = images[..., None]
        for stage in range(2):
            for layer in range(self.depth):
                name = f"stage_{stage}_layer_{layer}"
                x = nn.Conv(self.width, (3, 3), name=f"{name}_conv")(x)
                x = nn.LayerNorm(use_fast_variance=False, name=f"{name}_norm")(x)
                x = FLAX_ACTIVATIONS[self.activation](x)
            x = nn.max_pool(x, (2, 2), strides=(2, 2))
        cells = x.reshape(x.shape[0], 4, self.width)
        return sum(nn.Dense(10, name=f"head_{i}")(cells[:, i]) for i in range(4))


def _cut(params, like):
    """The live part of a masked network's parameters, in the shapes of the plain network ``like``."""
    return {
        layer: {kind: params[layer][kind][tuple(slice(n) for n in leaf.shape)] for kind, leaf in leaves.items()}
        for layer, leaves in like.items()
    }


def _pair(kind, width, depth, activation):
    """Logit functions of a masked network and of the plain one, with parameters of the masked one."""
    images = jax.random.normal(jax.random.key(7), (6, 8, 8))
    if kind == "mlp":
        module, plain, size = MLP(MAX_WIDTH, 4), PlainMLP(width, depth, activation), "width"
    else:
        module, plain, size = CNN(MAX_WIDTH, 2), PlainCNN(width, depth, activation), "channels"
    h = {size: jnp.int32(width), "depth": jnp.int32(depth), "dropout": jnp.float32(0)}
    h["activation"] = jnp.int32(list(ACTIVATIONS).index(activation))
    shapes = jax.eval_shape(module.init, jax.random.key(0), images, h)["params"]
    rng = np.random.default_rng(0)  # biases and scales too are not what they begin as
    params = jax.tree.map(lambda p: jnp.asarray(0.3 * rng.standard_normal(p.shape), jnp.float32), shapes)
    like = jax.eval_shape(plain.init, jax.random.key(0), images)["params"]

    def masked_apply(p):
        return module.apply({"params": p}, images, h)

    def plain_apply(p):
        return plain.apply({"params": p}, images)

    return params, like, masked_apply, plain_apply


NETWORKS = [
    ("mlp", 5, 1, "relu"),
    ("mlp", 1, 3, "tanh"),
    ("mlp", 7, 2, "gelu"),
    ("mlp", MAX_WIDTH, 4, "silu"),
    ("cnn", 5, 1, "relu"),
    ("cnn", 7, 2, "silu"),
]


@pytest.mark.long
@pytest.mark.parametrize(("kind", "width", "depth", "activation"), NETWORKS)
def test_masked_network_is_the_plain_one(kind, width, depth, activation):
    """Values and gradients agree, and dead weights get no gradient at all."""
    params, like, masked_apply, plain_apply = _pair(kind, width, depth, activation)
    labels = jnp.arange(6) % 10

    def loss(apply):
        def loss_and_logits(p):
            logits = apply(p)
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), logits

        return jax.jit(jax.grad(loss_and_logits, has_aux=True))

    live = _cut(params, like)
    grads, logits = loss(masked_apply)(params)
    live_grads = _cut(grads, like)
    expected_grads, expected_logits = loss(plain_apply)(live)
    np.testing.assert_allclose(logits, expected_logits, **TOL)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **TOL), live_grads, expected_grads)
    total, total_live = (sum(np.abs(leaf).sum() for leaf in jax.tree.leaves(t)) for t in (grads, live_grads))
    np.testing.assert_allclose(total, total_live, rtol=1e-6)


@pytest.mark.long
def test_training_stays_on_the_plain_network():
    """Weight decay and both moments leave the live part alone too."""
    width = 7
    params, like, masked_apply, plain_apply = _pair("mlp", width, 2, "gelu")
    labels = jnp.arange(6) % 10
    kind, decay = jnp.int32(SCHEDULES.index("cosine")), jnp.float32(0.1)
    rate = schedule(kind, jnp.float32(0.01), jnp.float32(0.1), 20)

    def trained(p, apply, optimizer):
        def loss(p):
            return optax.softmax_cross_entropy_with_integer_labels(apply(p), labels).mean()

        def step(carry, _):
            p, state = carry
            updates, state = optimizer.update(jax.grad(loss)(p), state, p)
            return (optax.apply_updates(p, updates), state), None

        return jax.lax.scan(step, (p, optimizer.init(p)), length=20)[0][0]

    ours = selectable(jnp.int32(OPTIMIZERS.index("adamw")), rate, decay)
    theirs = optax.adamw(rate, weight_decay=0.1, mask=lambda p: jax.tree.map(lambda a: a.ndim > 1, p))
    before = _cut(params, like)
    after, expected = (
        _cut(trained(params, masked_apply, ours), like),
        trained(before, plain_apply, theirs),
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), after, expected)
    assert np.abs(np.asarray(after["head"]["kernel"] - before["head"]["kernel"])).max() > 0.05


@pytest.mark.long
@pytest.mark.parametrize(("layer", "shape", "window"), [(MaskedDense, (2, 64), 1), (MaskedConv3x3, (2, 4, 4, 64), 9)])
@pytest.mark.parametrize(("fan_in", "gain"), [(4, 2.0), (64, 2.0), (16, 1.0)])
def test_initial_scale_follows_live_fan_in(layer, shape, window, fan_in, gain):
    x = mask_features(jnp.ones(shape), fan_in)
    module = layer(64, gain=gain)
    kernel = np.asarray(module.init(jax.random.key(1), x, fan_in=jnp.int32(fan_in), width=64)["params"]["kernel"])
    expected, num_draws = gain / (window * fan_in), kernel.size
    # The variance of a sample variance of normals is 2 sigma^4 / n; five standard errors.
    assert abs(kernel.var() - expected) < 5 * expected * np.sqrt(2 / num_draws)
    assert np.all(np.asarray(module.init(jax.random.key(1), x, fan_in=1, width=64)["params"]["bias"]) == 0)


@pytest.mark.long
@pytest.mark.parametrize(("layer", "shape"), [(MaskedDense, (2, 16)), (MaskedConv3x3, (2, 4, 4, 16))])
def test_initial_weights_do_not_depend_on_the_size_of_the_array(layer, shape):
    def kernel(held, features):
        x = jnp.ones((*shape[:-1], held))
        return layer(features).init(jax.random.key(1), x, fan_in=jnp.int32(3), width=5)["params"]["kernel"]

    np.testing.assert_array_equal(kernel(16, 32)[..., :3, :5], kernel(3, 5))


@pytest.mark.long
@pytest.mark.parametrize("width", [1, 3, 8])
def test_dead_features_are_exactly_zero(width):
    x = jax.random.normal(jax.random.key(0), (2, 4, 4, 8))
    for module in (MaskedDense(8), MaskedConv3x3(8)):
        init = jax.jit(module.init_with_output)
        y, _ = init(jax.random.key(0), x, fan_in=8, width=jnp.int32(width))
        assert np.all(np.asarray(y[..., width:]) == 0) and np.all(np.asarray(y[..., :width]) != 0)
    x = mask_features(x, width)
    y, _ = MaskedLayerNorm().init_with_output(jax.random.key(0), x, width=jnp.int32(width))
    assert np.all(np.asarray(y[..., width:]) == 0)


def test_patches_are_a_convolution():
    x = jax.random.normal(jax.random.key(0), (3, 8, 6, 5))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 5, 4))
    expected = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    np.testing.assert_allclose(patches_3x3(x) @ kernel.reshape(45, 4), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(max_pool_2x2(x), nn.max_pool(x, (2, 2), strides=(2, 2)))


@pytest.mark.long
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradient_of_the_pool_under_jit(activation):
    """It goes to the largest of each cell, though a compiler may compute the maximum and its arguments apart."""
    x, weights = (jax.random.normal(jax.random.key(i), (6, 8, 8, 5)) for i in (0, 1))
    scale = jnp.ones(5)

    def gradient(pool):
        def loss(scale):
            y = MaskedLayerNorm().apply({"params": {"scale": scale, "bias": scale}}, x, width=jnp.int32(5))
            return jnp.sum(weights[:, ::2, ::2] * pool(FLAX_ACTIVATIONS[activation](y)))

        return jax.jit(jax.grad(loss))(scale)

    expected = gradient(lambda y: nn.max_pool(y, (2, 2), strides=(2, 2)))
    np.testing.assert_allclose(gradient(max_pool_2x2), expected, rtol=1e-4, atol=1e-4)


def test_activations_by_position():
    x = jnp.linspace(-3, 3, 13)
    for position, name in enumerate(ACTIVATIONS):
        np.testing.assert_allclose(activate(x, jnp.int32(position)), FLAX_ACTIVATIONS[name](x), rtol=1e-6)


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.9])
def test_dropout(rate):
    x = jnp.ones((200, 100))
    y = np.asarray(jax.jit(dropout)(jax.random.key(0), x, jnp.float32(rate)))
    np.testing.assert_allclose(y[y != 0], 1 / (1 - rate), rtol=1e-5)
    assert abs((y == 0).mean() - rate) <= 5 * np.sqrt(rate * (1 - rate) / y.size)
    # Examples are not given the same mask.
    assert rate == 0 or not np.array_equal(y[0], y[1])


def test_no_dropout_without_a_key():
    x = jnp.ones((3, 4))
    assert dropout(None, x, jnp.float32(0.5)) is x


@pytest.mark.long
@pytest.mark.parametrize(("held", "live"), [((6, 40), (4, 30)), ((6, 2, 2, 32), (4, 2, 2, 8)), ((6, 5, 8), (4, 5, 8))])
def test_dropout_does_not_depend_on_the_size_of_the_array(held, live):
    """Neither on the rows of a batch nor on the features held."""
    larger, own = (dropout(jax.random.key(0), jnp.ones(shape), jnp.float32(0.5)) for shape in (held, live))
    np.testing.assert_array_equal(larger[tuple(slice(n) for n in live)], own)
