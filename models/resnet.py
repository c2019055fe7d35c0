"""`digits_resnet`: a residual convolutional network on 8x8 digits."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from ._layers import activate, dropout, patches_3x3
from ._objective import Spec
from ._spaces import ACTIVATION, DROPOUT, training_space
from ._structure import Shapes
from ._tasks import classification
from ._train import make_objective
from .data.digits import NUM_CLASSES, load_digits

SPACE: Spec = {
    **training_space((16, 32, 64)),
    "channels": {"type": "ordinal", "values": [8, 16, 32]},
    "blocks": {"type": "ordinal", "values": [1, 2]},
    **DROPOUT,
    **ACTIVATION,
}


class Conv3x3(nn.Module):
    """A 3x3 convolution with zeros outside, as a product of patches (see `patches_3x3`).

    Attributes:
        features: output channels.
        stride: distance between outputs in pixels.
    """

    features: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps [n, h, w, c] to [n, h / stride, w / stride, features]."""
        patches = patches_3x3(x)[:, :: self.stride, :: self.stride]
        return nn.Dense(self.features, use_bias=False, kernel_init=nn.initializers.he_normal())(patches)


class Block(nn.Module):
    """Pre-activation block ``shortcut(x) + conv(act(norm(conv(act(norm(x))))))`` (He et al., 2016, arXiv:1603.05027).

    Attributes:
        features: output channels.
        stride: stride of the first convolution and the shortcut.
    """

    features: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: Array, activation: Array) -> Array:
        """Maps [n, h, w, c] to [n, h / stride, w / stride, features]."""
        y = activate(nn.LayerNorm()(x), activation)
        shortcut = x
        if x.shape[-1] != self.features:
            shortcut = nn.Dense(self.features, use_bias=False)(y[:, :: self.stride, :: self.stride])
        y = Conv3x3(self.features, self.stride)(y)
        return shortcut + Conv3x3(self.features)(activate(nn.LayerNorm()(y), activation))


class ResNet(nn.Module):
    """A stem, two stages of blocks, the second at half the resolution and twice the channels, and a linear head.

    Normalization is over channels at each pixel (LayerNorm), so no example depends on its batch.

    Attributes:
        channels: channels of the first stage.
        blocks: residual blocks per stage.
        num_classes: outputs.
    """

    channels: int
    blocks: int
    num_classes: int = NUM_CLASSES

    @nn.compact
    def __call__(self, images: Array, hparams: Mapping[str, Array], dropout_key: Array | None = None) -> Array:
        """Maps ``images`` [n, 8, 8] to logits [n, num_classes]."""
        x = Conv3x3(self.channels, name="stem")(images[..., None])
        for stage in range(2):
            for block in range(self.blocks):
                stride = 2 if stage == 1 and block == 0 else 1
                x = Block(self.channels << stage, stride, name=f"stage_{stage}_block_{block}")(x, hparams["activation"])
        x = activate(nn.LayerNorm()(x), hparams["activation"])
        x = dropout(dropout_key, jnp.mean(x, axis=(1, 2)), hparams["dropout"])
        return nn.Dense(self.num_classes, name="head")(x)


def _model(structure: dict[str, Any]) -> ResNet:
    return ResNet(structure["channels"], structure["blocks"])


digits_resnet = make_objective(
    "digits_resnet",
    "Residual network on scikit-learn's 8x8 digits",
    SPACE,
    _model,
    load_digits,
    classification,
    metric="validation_accuracy",
    num_steps=300,
    shapes=Shapes(structural=("channels", "blocks")),
)
