"""`digits_mlp`: a multilayer perceptron on 8x8 digits, its width, depth and optimizer all traced."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from ._data import NUM_CLASSES, load_digits
from ._layers import ACTIVATIONS, MaskedDense, activate, dropout
from ._objective import Objective, Spec
from ._optimizers import OPTIMIZERS
from ._train import make_train

SPACE: Spec = {
    "learning_rate": {"type": "float", "low": 1e-5, "high": 1.0, "log": True},
    "weight_decay": {"type": "float", "low": 1e-6, "high": 1e-1, "log": True},
    "width": {"type": "int", "low": 16, "high": 256, "log": True, "step": 1},
    "depth": {"type": "int", "low": 1, "high": 4, "log": False, "step": 1},
    "dropout": {"type": "float", "low": 0.0, "high": 0.6, "log": False},
    "activation": {"type": "categorical", "choices": list(ACTIVATIONS)},
    "optimizer": {"type": "categorical", "choices": list(OPTIMIZERS)},
    "batch_size": {"type": "ordinal", "values": [16, 32, 64, 128]},
}


class MLP(nn.Module):
    """``depth`` hidden layers of ``width`` units, each with activation and dropout, then a linear head.

    Attributes:
        max_width: units held in a hidden layer.
        max_depth: hidden layers held; layer number ``depth`` and those above pass their input on.
        num_classes: outputs.
    """

    max_width: int = SPACE["width"]["high"]
    max_depth: int = SPACE["depth"]["high"]
    num_classes: int = NUM_CLASSES

    @nn.compact
    def __call__(self, images: Array, hparams: Mapping[str, Array], dropout_key: Array | None = None) -> Array:
        """Maps ``images`` [n, 8, 8] to logits [n, num_classes]; drops units only if a key is given."""
        width = hparams["width"]
        x = images.reshape(images.shape[0], -1)
        for layer in range(self.max_depth):
            fan_in = x.shape[-1] if layer == 0 else width
            y = MaskedDense(self.max_width, name=f"hidden_{layer}")(x, fan_in=fan_in, width=width)
            y = activate(y, hparams["activation"])
            if dropout_key is not None:
                y = dropout(jax.random.fold_in(dropout_key, layer), y, hparams["dropout"])
            x = y if layer == 0 else jnp.where(layer < hparams["depth"], y, x)
        head = MaskedDense(self.num_classes, gain=1.0, name="head")
        return head(x, fan_in=width, width=self.num_classes)


def make_digits_mlp(num_steps: int = 300) -> Objective:
    """The objective `digits_mlp` with another number of gradient steps.

    Args:
        num_steps: gradient steps in one run, at least 1.
    """
    return Objective(
        name="digits_mlp",
        description="Multilayer perceptron on scikit-learn's 8x8 digits (8 hyperparameters)",
        space=SPACE,
        train=make_train(MLP(), SPACE, load_digits, num_steps),
        metric="validation_accuracy",
        direction="maximize",
        num_steps=num_steps,
    )


digits_mlp = make_digits_mlp()
