"""Recurrent classifiers that read a digit row by row: simple RNN, LSTM and GRU."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array, lax

from ._layers import dropout
from ._objective import Objective, Spec
from ._spaces import DROPOUT, training_space
from ._structure import Shapes
from ._tasks import classification
from ._train import make_objective
from .data.digits import NUM_CLASSES, load_digits

SPACE: Spec = {
    **training_space((16, 32, 64)),
    "width": {"type": "ordinal", "values": [32, 64, 128]},
    "layers": {"type": "ordinal", "values": [1, 2]},
    **DROPOUT,
}

State = tuple[Array, ...]


def simple_step(state: State, gates: Array, recurrent: Array) -> State:
    """``h' = tanh(W x + U h + b)`` (Elman, 1990); ``gates`` is ``W x + b``."""
    (h,) = state
    return (jnp.tanh(gates + h @ recurrent),)


def lstm_step(state: State, gates: Array, recurrent: Array) -> State:
    """Long short-term memory (Hochreiter and Schmidhuber, 1997) with forget gates (Gers et al., 2000).

    The forget gate's bias starts at 1 (Jozefowicz et al., 2015).
    """
    h, c = state
    i, f, g, o = jnp.split(gates + h @ recurrent, 4, axis=-1)
    c = jax.nn.sigmoid(f + 1.0) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


def gru_step(state: State, gates: Array, recurrent: Array) -> State:
    """Gated recurrent unit (Cho et al., 2014, arXiv:1406.1078), the reset gate after the product."""
    (h,) = state
    from_x, from_h = jnp.split(gates, 3, axis=-1), jnp.split(h @ recurrent, 3, axis=-1)
    r, z = (jax.nn.sigmoid(a + b) for a, b in zip(from_x[:2], from_h[:2], strict=True))
    n = jnp.tanh(from_x[2] + r * from_h[2])
    return ((1 - z) * n + z * h,)


CELLS = {"simple": (simple_step, 1, 1), "lstm": (lstm_step, 4, 2), "gru": (gru_step, 3, 1)}
"""The step, the size of its gates in widths, and the number of arrays of its state."""


class Recurrent(nn.Module):
    """One recurrent layer over a sequence.

    Attributes:
        cell: a name of `CELLS`.
        width: units.
        reverse: whether to read the sequence from its end.
    """

    cell: str
    width: int
    reverse: bool = False

    @nn.compact
    def __call__(self, x: Array, mask: Array | None = None) -> Array:
        """Maps ``x`` [n, t, c] to the hidden states [n, t, width]; steps masked out [n, t] keep the state."""
        step, num_gates, num_states = CELLS[self.cell]
        gates = nn.Dense(num_gates * self.width, name="input")(x)  # of all steps in one product
        shape = (self.width, num_gates * self.width)
        recurrent = self.param("recurrent", nn.initializers.orthogonal(), shape, jnp.float32)
        keep = jnp.ones(x.shape[:2], bool) if mask is None else mask

        def advance(state, now):
            gates, keep = now
            after = step(state, gates, recurrent)
            after = tuple(jnp.where(keep[:, None], new, old) for new, old in zip(after, state, strict=True))
            return after, after[0]

        start = (jnp.zeros((x.shape[0], self.width), x.dtype),) * num_states
        times = jnp.swapaxes(gates, 0, 1), keep.T
        _, hidden = lax.scan(advance, start, times, reverse=self.reverse)
        return jnp.swapaxes(hidden, 0, 1)


class RNN(nn.Module):
    """Layers of one cell over the rows of an image, and a linear head on the last hidden state.

    Attributes:
        cell: a name of `CELLS`.
        width: units of a layer.
        layers: layers.
        num_classes: outputs.
    """

    cell: str
    width: int
    layers: int
    num_classes: int = NUM_CLASSES

    @nn.compact
    def __call__(self, rows: Array, hparams: Mapping[str, Array], dropout_key: Array | None = None) -> Array:
        """Maps ``rows`` [n, t, c] to logits [n, num_classes]; dropout after every layer."""
        x = rows
        for layer in range(self.layers):
            x = Recurrent(self.cell, self.width, name=f"layer_{layer}")(x)
            x = dropout(None if dropout_key is None else jax.random.fold_in(dropout_key, layer), x, hparams["dropout"])
        return nn.Dense(self.num_classes, name="head")(x[:, -1])


def _digits(name: str, cell: str, words: str) -> Objective:
    def model(structure: dict[str, Any]) -> RNN:
        return RNN(cell, structure["width"], structure["layers"])

    return make_objective(
        name,
        f"{words} that reads scikit-learn's 8x8 digits row by row",
        SPACE,
        model,
        load_digits,
        classification,
        metric="validation_accuracy",
        num_steps=400,
        shapes=Shapes(structural=("width", "layers")),
    )


digits_rnn = _digits("digits_rnn", "simple", "Simple recurrent network")
digits_lstm = _digits("digits_lstm", "lstm", "LSTM")
digits_gru = _digits("digits_gru", "gru", "GRU")
