"""`digits_vit`: a small vision transformer on 8x8 digits (Dosovitskiy et al., 2021, arXiv:2010.11929)."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from ._attention import Layer, split_or_none
from ._objective import Spec
from ._spaces import ACTIVATION, DROPOUT, training_space
from ._structure import Shapes
from ._tasks import classification
from ._train import make_objective
from .data.digits import NUM_CLASSES, load_digits

SPACE: Spec = {
    **training_space((16, 32, 64)),
    "width": {"type": "ordinal", "values": [32, 64]},
    "heads": {"type": "ordinal", "values": [2, 4]},
    "layers": {"type": "ordinal", "values": [1, 2]},
    **DROPOUT,
    **ACTIVATION,
}
PATCH = 2


class ViT(nn.Module):
    """Patches of 2x2 pixels as 16 tokens with learned positions, transformer layers, and a head on their mean.

    Attributes:
        width: features of a token.
        heads: heads of the attention.
        layers: transformer layers.
        num_classes: outputs.
    """

    width: int
    heads: int
    layers: int
    num_classes: int = NUM_CLASSES

    @nn.compact
    def __call__(self, images: Array, hparams: Mapping[str, Array], dropout_key: Array | None = None) -> Array:
        """Maps ``images`` [n, 8, 8] to logits [n, num_classes]."""
        n, height, width = images.shape
        x = images.reshape(n, height // PATCH, PATCH, width // PATCH, PATCH)
        x = jnp.swapaxes(x, 2, 3).reshape(n, -1, PATCH * PATCH)
        x = nn.Dense(self.width, name="patches")(x)
        init = nn.initializers.normal(0.02)
        x = x + self.param("positions", init, (x.shape[1], self.width), jnp.float32)[None]
        for layer, key in enumerate(split_or_none(dropout_key, self.layers)):
            block = Layer(self.width, self.heads, name=f"layer_{layer}")
            x = block(x, None, hparams["activation"], key, hparams["dropout"])
        return nn.Dense(self.num_classes, name="head")(jnp.mean(nn.LayerNorm()(x), axis=1))


def _model(structure: dict[str, Any]) -> ViT:
    return ViT(structure["width"], structure["heads"], structure["layers"])


digits_vit = make_objective(
    "digits_vit",
    "Vision transformer on scikit-learn's 8x8 digits",
    SPACE,
    _model,
    load_digits,
    classification,
    metric="validation_accuracy",
    num_steps=400,
    shapes=Shapes(structural=("width", "heads", "layers")),
)
