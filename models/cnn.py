"""`digits_cnn`: a small residual convolutional network on 8x8 digits, its size and optimizer all traced."""

from collections.abc import Mapping

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from ._data import NUM_CLASSES, load_digits
from ._layers import (
    ACTIVATIONS,
    MaskedConv3x3,
    MaskedDense,
    MaskedLayerNorm,
    activate,
    dropout,
    max_pool_2x2,
)
from ._objective import Objective, Spec
from ._optimizers import OPTIMIZERS
from ._train import make_train

SPACE: Spec = {
    "learning_rate": {"type": "float", "low": 1e-5, "high": 1.0, "log": True},
    "weight_decay": {"type": "float", "low": 1e-6, "high": 1e-1, "log": True},
    "channels": {"type": "int", "low": 4, "high": 32, "log": True, "step": 1},
    "depth": {"type": "int", "low": 0, "high": 2, "log": False, "step": 1},
    "dropout": {"type": "float", "low": 0.0, "high": 0.6, "log": False},
    "activation": {"type": "categorical", "choices": list(ACTIVATIONS)},
    "optimizer": {"type": "categorical", "choices": list(OPTIMIZERS)},
    "batch_size": {"type": "ordinal", "values": [8, 16, 32, 64]},
}


class CNN(nn.Module):
    """A 3x3 stem, two stages of ``depth`` residual blocks and a 2x2 maximum each, and a linear head.

    A block is ``x + conv(activation(norm(x)))`` (He et al., 2016, arXiv:1603.05027), the norm over channels
    at each pixel. The head reads the last 2x2 grid, after dropout.

    Attributes:
        max_channels: channels held everywhere.
        max_depth: blocks held in a stage; block number ``depth`` and those above pass their input on.
        num_classes: outputs.
    """

    max_channels: int = SPACE["channels"]["high"]
    max_depth: int = SPACE["depth"]["high"]
    num_classes: int = NUM_CLASSES

    @nn.compact
    def __call__(self, images: Array, hparams: Mapping[str, Array], dropout_key: Array | None = None) -> Array:
        """Maps ``images`` [n, 8, 8] to logits [n, num_classes]; drops features only if a key is given."""
        width = hparams["channels"]
        x = MaskedConv3x3(self.max_channels, gain=1.0, name="stem")(images[..., None], fan_in=1, width=width)
        for stage in range(2):
            for block in range(self.max_depth):
                name = f"stage_{stage}_block_{block}"
                y = activate(MaskedLayerNorm(name=f"{name}_norm")(x, width=width), hparams["activation"])
                y = MaskedConv3x3(self.max_channels, name=f"{name}_conv")(y, fan_in=width, width=width)
                x = jnp.where(block < hparams["depth"], x + y, x)
            x = max_pool_2x2(x)
        x = activate(MaskedLayerNorm(name="norm")(x, width=width), hparams["activation"])
        x = x.reshape(x.shape[0], -1)
        if dropout_key is not None:
            x = dropout(dropout_key, x, hparams["dropout"])
        return MaskedDense(self.num_classes, gain=1.0, name="head")(x, fan_in=4 * width, width=self.num_classes)


def make_digits_cnn(num_steps: int = 300) -> Objective:
    """The objective `digits_cnn` with another number of gradient steps.

    Args:
        num_steps: gradient steps in one run, at least 1.
    """
    return Objective(
        name="digits_cnn",
        description="Small residual convolutional network on scikit-learn's 8x8 digits (8 hyperparameters)",
        space=SPACE,
        train=make_train(CNN(), SPACE, load_digits, num_steps),
        metric="validation_accuracy",
        direction="maximize",
        num_steps=num_steps,
    )


digits_cnn = make_digits_cnn()
