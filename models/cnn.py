"""`digits_cnn`: a small convolutional network on 8x8 digits; channels masked within a few sizes."""

from collections.abc import Mapping
from typing import Any

from flax import linen as nn
from jax import Array
from jax import numpy as jnp

from ._layers import MaskedConv3x3, MaskedDense, MaskedLayerNorm, activate, dropout, max_pool_2x2
from ._objective import Spec
from ._spaces import ACTIVATION, DROPOUT, training_space
from ._structure import Shapes
from ._tasks import classification
from ._train import make_objective
from .data.digits import NUM_CLASSES, load_digits

SPACE: Spec = {
    **training_space((8, 16, 32, 64)),
    "channels": {"type": "int", "low": 4, "high": 32, "log": True, "step": 1},
    "depth": {"type": "int", "low": 1, "high": 2, "log": False, "step": 1},
    **DROPOUT,
    **ACTIVATION,
}


class CNN(nn.Module):
    """Two stages of ``depth`` layers (3x3 convolution, norm, activation) and a 2x2 maximum each, and a linear head.

    The norm is over channels at each pixel. The head reads the last 2x2 grid, after dropout.

    Attributes:
        max_channels: channels held everywhere.
        max_depth: layers held in a stage; layers from number ``depth`` on pass their input through.
        num_classes: outputs.
    """

    max_channels: int = SPACE["channels"]["high"]
    max_depth: int = SPACE["depth"]["high"]
    num_classes: int = NUM_CLASSES

    @nn.compact
    def __call__(self, images: Array, hparams: Mapping[str, Array], dropout_key: Array | None = None) -> Array:
        """Maps ``images`` [n, 8, 8] to logits [n, num_classes]; drops features only if a key is given."""
        width = hparams["channels"]
        x = images[..., None]
        for stage in range(2):
            for layer in range(self.max_depth):
                name = f"stage_{stage}_layer_{layer}"
                fan_in = 1 if stage == layer == 0 else width
                y = MaskedConv3x3(self.max_channels, name=f"{name}_conv")(x, fan_in=fan_in, width=width)
                y = activate(MaskedLayerNorm(name=f"{name}_norm")(y, width=width), hparams["activation"])
                x = y if layer == 0 else jnp.where(layer < hparams["depth"], y, x)
            x = max_pool_2x2(x)
        x = dropout(dropout_key, x, hparams["dropout"])
        # A sum of linear maps of each cell of the grid: the kernel does not depend on the number of channels held.
        x = x.reshape(x.shape[0], 4, -1)
        cells = [MaskedDense(self.num_classes, gain=0.25, name=f"head_{i}") for i in range(4)]
        logits = [cell(x[:, i], fan_in=width, width=self.num_classes) for i, cell in enumerate(cells)]
        return jnp.sum(jnp.stack(logits), axis=0)


def _model(structure: dict[str, Any]) -> CNN:
    return CNN(structure["channels"])


digits_cnn = make_objective(
    "digits_cnn",
    "Convolutional network on scikit-learn's 8x8 digits",
    SPACE,
    _model,
    load_digits,
    classification,
    metric="validation_accuracy",
    num_steps=300,
    shapes=Shapes(sizes={"channels": (8, 16, 32)}),
)
