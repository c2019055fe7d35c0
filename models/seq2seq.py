"""Sequence to sequence with attention: dates in words to ISO dates, and sorting."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from ._layers import dropout
from ._objective import Objective, Spec
from ._spaces import DROPOUT, training_space
from ._structure import Shapes
from ._tasks import sequence
from ._train import make_objective
from .data.dates import PAD, SOURCE_VOCABULARY, TARGET_VOCABULARY, load_dates
from .data.sorting import load_sorting
from .data.splits import Dataset
from .rnn import Recurrent

SPACE: Spec = {
    **training_space((32, 64, 128)),
    "width": {"type": "ordinal", "values": [32, 64, 96]},
    "cell": {"type": "categorical", "choices": ["gru", "lstm"]},
    **DROPOUT,
}


class Seq2Seq(nn.Module):
    """A bidirectional recurrent encoder and a recurrent decoder that attends to it.

    The decoder's hidden states are compared with the encoder's by a bilinear form, and its output is a tanh layer on
    state and context (Luong, Pham and Manning, 2015, arXiv:1508.04025).

    Attributes:
        cell: a name of `rnn.CELLS`.
        width: units of the decoder, and of the encoder in each direction.
        source_vocabulary: tokens of the source; 0 is padding.
        target_vocabulary: tokens of the target.
    """

    cell: str
    width: int
    source_vocabulary: int
    target_vocabulary: int

    @nn.compact
    def __call__(
        self, inputs: Mapping[str, Array], hparams: Mapping[str, Array], dropout_key: Array | None = None
    ) -> Array:
        """Maps ``source`` [n, s] and ``previous`` [n, t], the target shifted right, to logits [n, t, vocabulary]."""
        keys = (None, None) if dropout_key is None else jax.random.split(dropout_key)
        source, rate = inputs["source"], hparams["dropout"]
        mask = source != PAD

        x = nn.Embed(self.source_vocabulary, self.width, name="source")(source)
        forward = Recurrent(self.cell, self.width, name="forward")(x, mask)
        backward = Recurrent(self.cell, self.width, reverse=True, name="backward")(x, mask)
        memory = dropout(keys[0], jnp.concatenate([forward, backward], axis=-1), rate)

        # Every token of the decoder gets the last states of the encoder.
        read = nn.Dense(self.width, name="bridge")(jnp.concatenate([forward[:, -1], backward[:, 0]], axis=-1))
        y = nn.Embed(self.target_vocabulary, self.width, name="target")(inputs["previous"])
        y = Recurrent(self.cell, self.width, name="decoder")(y + read[:, None])

        scores = jnp.einsum("ntc,nsc->nts", nn.Dense(2 * self.width, use_bias=False, name="bilinear")(y), memory)
        scores = jnp.where(jnp.broadcast_to(mask[:, None], scores.shape), scores, jnp.finfo(scores.dtype).min)
        context = jnp.einsum("nts,nsc->ntc", jax.nn.softmax(scores), memory)
        y = jnp.tanh(nn.Dense(self.width, name="combine")(jnp.concatenate([y, context], axis=-1)))
        return nn.Dense(self.target_vocabulary, name="head")(dropout(keys[1], y, rate))


def _recurrent(words: str, name: str, load: Callable[[], Dataset], vocabularies: tuple[int, int]) -> Objective:
    def model(structure: dict[str, Any]) -> Seq2Seq:
        return Seq2Seq(structure["cell"], structure["width"], *vocabularies)

    return make_objective(
        name,
        f"Recurrent sequence-to-sequence with attention{words}",
        SPACE,
        model,
        load,
        sequence,
        metric="validation_exact_match",
        num_steps=600,
        shapes=Shapes(structural=("width", "cell"), sizes={"batch_size": (32, 64, 128)}),
    )


dates_seq2seq = _recurrent(
    ", from dates in words to ISO dates", "dates_seq2seq", load_dates, (SOURCE_VOCABULARY, TARGET_VOCABULARY)
)
sorting_seq2seq = _recurrent(" that sorts 10 symbols of 16", "sorting_seq2seq", load_sorting, (17, 17))
