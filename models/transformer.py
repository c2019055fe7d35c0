"""Encoder-decoder transformer (Vaswani et al., 2017, arXiv:1706.03762): dates in words to ISO dates."""

from collections.abc import Mapping
from typing import Any

from flax import linen as nn
from jax import Array

from ._attention import Embedding, Layer, causal, split_or_none
from ._objective import Spec
from ._spaces import ACTIVATION, DROPOUT, training_space
from ._structure import Shapes
from ._tasks import sequence
from ._train import make_objective
from .data.dates import PAD, SOURCE_VOCABULARY, TARGET_VOCABULARY, load_dates

SPACE: Spec = {
    **training_space((32, 64, 128)),
    "width": {"type": "ordinal", "values": [32, 64]},
    "heads": {"type": "ordinal", "values": [2, 4]},
    "layers": {"type": "ordinal", "values": [1, 2]},
    **DROPOUT,
    **ACTIVATION,
}


class Transformer(nn.Module):
    """An encoder that reads the whole source, and a decoder that sees the source and the target so far.

    Attributes:
        width: features of a token.
        heads: heads of each attention.
        layers: layers of the encoder and of the decoder.
        source_vocabulary: tokens of the source; 0 is padding.
        target_vocabulary: tokens of the target.
    """

    width: int
    heads: int
    layers: int
    source_vocabulary: int
    target_vocabulary: int

    @nn.compact
    def __call__(
        self, inputs: Mapping[str, Array], hparams: Mapping[str, Array], dropout_key: Array | None = None
    ) -> Array:
        """Maps ``source`` [n, s] and ``previous`` [n, t], the target shifted right, to logits [n, t, vocabulary]."""
        source, previous = inputs["source"], inputs["previous"]
        activation, rate = hparams["activation"], hparams["dropout"]
        keys = split_or_none(dropout_key, 2 * self.layers)
        seen = (source != PAD)[:, None]

        memory = Embedding(self.source_vocabulary, self.width, name="source")(source)
        for i in range(self.layers):
            memory = Layer(self.width, self.heads, name=f"encoder_{i}")(memory, seen, activation, keys[i], rate)
        memory = nn.LayerNorm(name="encoder_norm")(memory)

        y, before = Embedding(self.target_vocabulary, self.width, name="target")(previous), causal(previous.shape[1])
        for i in range(self.layers):
            layer = Layer(self.width, self.heads, name=f"decoder_{i}")
            y = layer(y, before, activation, keys[self.layers + i], rate, memory, seen)
        return nn.Dense(self.target_vocabulary, name="head")(nn.LayerNorm(name="decoder_norm")(y))


def _model(structure: dict[str, Any]) -> Transformer:
    sizes = structure["width"], structure["heads"], structure["layers"]
    return Transformer(*sizes, SOURCE_VOCABULARY, TARGET_VOCABULARY)


dates_transformer = make_objective(
    "dates_transformer",
    "Encoder-decoder transformer from dates in words to ISO dates",
    SPACE,
    _model,
    load_dates,
    sequence,
    metric="validation_exact_match",
    num_steps=800,
    shapes=Shapes(structural=("width", "heads", "layers"), sizes={"batch_size": (32, 64, 128)}),
)
