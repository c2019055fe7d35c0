"""Multilayer perceptrons on images and tables; width masked within a few sizes, depth by skipping layers."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from ._layers import MaskedDense, activate, dropout
from ._objective import Spec
from ._spaces import ACTIVATION, DROPOUT, training_space
from ._structure import Shapes
from ._tasks import classification, regression
from ._train import make_objective
from .data.digits import NUM_CLASSES, load_digits
from .data.tables import CANCER_CLASSES, WINE_CLASSES, load_cancer, load_diabetes, load_wine

ARCHITECTURE: Spec = {
    "width": {"type": "int", "low": 16, "high": 256, "log": True, "step": 1},
    "depth": {"type": "int", "low": 1, "high": 4, "log": False, "step": 1},
    **DROPOUT,
    **ACTIVATION,
}
SPACE: Spec = {**training_space(), **ARCHITECTURE}
REGRESSION_SPACE: Spec = {**training_space(classes=False), **ARCHITECTURE}
SHAPES = Shapes(sizes={"width": (64, 128, 256)})


class MLP(nn.Module):
    """``depth`` hidden layers of ``width`` units, each with activation and dropout, then a linear head.

    Attributes:
        max_width: units held in a hidden layer.
        max_depth: hidden layers held; layers from number ``depth`` on pass their input through.
        num_outputs: outputs.
    """

    max_width: int = ARCHITECTURE["width"]["high"]
    max_depth: int = ARCHITECTURE["depth"]["high"]
    num_outputs: int = NUM_CLASSES

    @nn.compact
    def __call__(self, inputs: Array, hparams: Mapping[str, Array], dropout_key: Array | None = None) -> Array:
        """Maps ``inputs`` [n, ...] to outputs [n, num_outputs]; drops units only if a key is given."""
        width = hparams["width"]
        x = inputs.reshape(inputs.shape[0], -1)
        for layer in range(self.max_depth):
            fan_in = x.shape[-1] if layer == 0 else width
            y = MaskedDense(self.max_width, name=f"hidden_{layer}")(x, fan_in=fan_in, width=width)
            y = activate(y, hparams["activation"])
            if dropout_key is not None:
                y = dropout(jax.random.fold_in(dropout_key, layer), y, hparams["dropout"])
            x = y if layer == 0 else jnp.where(layer < hparams["depth"], y, x)
        head = MaskedDense(self.num_outputs, gain=1.0, name="head")
        return head(x, fan_in=width, width=self.num_outputs)


def _model(num_outputs: int):
    def model(structure: dict[str, Any]) -> MLP:
        return MLP(structure["width"], num_outputs=num_outputs)

    return model


digits_mlp = make_objective(
    "digits_mlp",
    "Multilayer perceptron on scikit-learn's 8x8 digits",
    SPACE,
    _model(NUM_CLASSES),
    load_digits,
    classification,
    metric="validation_accuracy",
    num_steps=300,
    shapes=SHAPES,
)
cancer_mlp = make_objective(
    "cancer_mlp",
    "Multilayer perceptron on scikit-learn's breast cancer table (2 classes)",
    SPACE,
    _model(CANCER_CLASSES),
    load_cancer,
    classification,
    metric="validation_accuracy",
    num_steps=200,
    shapes=SHAPES,
)
wine_mlp = make_objective(
    "wine_mlp",
    "Multilayer perceptron on scikit-learn's wine table (3 classes, 178 rows)",
    SPACE,
    _model(WINE_CLASSES),
    load_wine,
    classification,
    metric="validation_loss",
    direction="minimize",
    num_steps=200,
    shapes=SHAPES,
)
diabetes_mlp = make_objective(
    "diabetes_mlp",
    "Multilayer perceptron on scikit-learn's diabetes table (regression, squared error)",
    REGRESSION_SPACE,
    _model(1),
    load_diabetes,
    regression,
    metric="validation_loss",
    direction="minimize",
    num_steps=200,
    shapes=SHAPES,
)
