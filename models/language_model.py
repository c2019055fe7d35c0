"""Decoder-only transformers (Radford et al., 2018): characters of text, and modular addition."""

from collections.abc import Mapping
from typing import Any

from flax import linen as nn
from jax import Array

from ._attention import Embedding, Layer, causal, split_or_none
from ._objective import Spec
from ._spaces import ACTIVATION, DROPOUT, training_space
from ._structure import Shapes
from ._tasks import classification, language
from ._train import make_objective
from .data.modular import load_modular
from .data.text import VOCABULARY, load_text

MODULUS = 31
TEXT_SPACE: Spec = {
    **training_space((16, 32, 64)),
    "width": {"type": "ordinal", "values": [64, 96, 128]},
    "heads": {"type": "ordinal", "values": [2, 4]},
    "layers": {"type": "ordinal", "values": [1, 2]},
    **DROPOUT,
    **ACTIVATION,
}
MODULAR_SPACE: Spec = {
    **training_space((64, 128, 256)),
    "weight_decay": {"type": "float", "low": 1e-3, "high": 3.0, "log": True},
    "width": {"type": "ordinal", "values": [64, 128]},
    "heads": {"type": "ordinal", "values": [2, 4]},
    "layers": {"type": "ordinal", "values": [1, 2]},
    **DROPOUT,
    **ACTIVATION,
}
STRUCTURAL = ("width", "heads", "layers")


class LanguageModel(nn.Module):
    """Predicts every next token from the earlier ones.

    Attributes:
        width: features of a token.
        heads: heads of the attention.
        layers: transformer layers.
        vocabulary: tokens in.
        num_outputs: tokens out.
        last_only: whether to return only the prediction after the last token.
    """

    width: int
    heads: int
    layers: int
    vocabulary: int
    num_outputs: int
    last_only: bool = False

    @nn.compact
    def __call__(self, tokens: Array, hparams: Mapping[str, Array], dropout_key: Array | None = None) -> Array:
        """Maps ``tokens`` [n, t] to logits [n, t, num_outputs], or [n, num_outputs] of the last."""
        x, before = Embedding(self.vocabulary, self.width)(tokens), causal(tokens.shape[1])
        for i, key in enumerate(split_or_none(dropout_key, self.layers)):
            layer = Layer(self.width, self.heads, name=f"layer_{i}")
            x = layer(x, before, hparams["activation"], key, hparams["dropout"])
        x = nn.LayerNorm()(x[:, -1] if self.last_only else x)
        return nn.Dense(self.num_outputs, name="head")(x)


def _sizes(structure: dict[str, Any]) -> tuple[int, int, int]:
    return structure["width"], structure["heads"], structure["layers"]


text_lm = make_objective(
    "text_lm",
    "Character-level language model of Python's own help texts",
    TEXT_SPACE,
    lambda structure: LanguageModel(*_sizes(structure), len(VOCABULARY), len(VOCABULARY)),
    load_text,
    language,
    metric="validation_bits_per_character",
    direction="minimize",
    num_steps=1000,
    shapes=Shapes(STRUCTURAL, {"batch_size": (16, 32, 64)}),
)
modular_transformer = make_objective(
    "modular_transformer",
    f"Transformer that learns addition modulo {MODULUS} from a part of the table",
    MODULAR_SPACE,
    lambda structure: LanguageModel(*_sizes(structure), MODULUS + 1, MODULUS, last_only=True),
    load_modular,
    classification,
    metric="validation_accuracy",
    num_steps=1500,
    shapes=Shapes(STRUCTURAL, {"batch_size": (64, 128, 256)}),
)
