"""The parts of recurrent networks and transformers against Flax's own, and what they must not see."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from models._attention import Attention, Embedding, Layer, causal, split_or_none
from models.data.dates import PAD, SOURCE_VOCABULARY, TARGET_VOCABULARY
from models.language_model import LanguageModel
from models.resnet import Conv3x3, ResNet
from models.rnn import CELLS, RNN, Recurrent
from models.seq2seq import Seq2Seq
from models.transformer import Transformer
from models.vit import ViT

TOL = {"rtol": 1e-5, "atol": 2e-6}
WIDTH, INPUTS = 5, 3
HPARAMS = {"activation": jnp.int32(1), "dropout": jnp.float32(0.3)}
LENGTHS = np.array([7, 4, 1, 6])


def _random_like(params, seed=0):
    """Parameters of which none is what it begins as."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda p: jnp.asarray(0.4 * rng.standard_normal(p.shape), jnp.float32), params)


def _init(module, *args):
    return _random_like(jax.eval_shape(module.init, jax.random.key(0), *args)["params"])


def _apply(module, params, *args):
    return jax.jit(module.apply)({"params": params}, *args)


def _flax_cell(cell, params):
    """Flax's cell and its parameters, with the weights of ours."""
    kernels = np.split(params["input"]["kernel"], CELLS[cell][1], axis=1)
    biases = np.split(params["input"]["bias"], CELLS[cell][1])
    recurrent = np.split(params["recurrent"], CELLS[cell][1], axis=1)
    if cell == "simple":
        weights = {"i": {"kernel": kernels[0], "bias": biases[0]}, "h": {"kernel": recurrent[0]}}
        return nn.SimpleCell(WIDTH), weights
    if cell == "lstm":
        forget = (0, 1, 0, 0)  # our step adds 1 to the forget gate
        from_x = {f"i{g}": {"kernel": k} for g, k in zip("ifgo", kernels, strict=True)}
        from_h = {
            f"h{g}": {"kernel": k, "bias": b + one}
            for g, k, b, one in zip("ifgo", recurrent, biases, forget, strict=True)
        }
        return nn.LSTMCell(WIDTH), from_x | from_h
    from_x = {f"i{g}": {"kernel": k, "bias": b} for g, k, b in zip("rzn", kernels, biases, strict=True)}
    from_h = {f"h{g}": {"kernel": k} for g, k in zip("rzn", recurrent, strict=True)}
    from_h["hn"]["bias"] = np.zeros(WIDTH, np.float32)
    return nn.GRUCell(WIDTH), from_x | from_h


@pytest.mark.long
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_recurrent_layer_equals_flax(cell, reverse):
    """Over sequences of several lengths, in both directions."""
    x = jax.random.normal(jax.random.key(1), (4, 7, INPUTS))
    mask = np.arange(7) < LENGTHS[:, None]
    module = Recurrent(cell, WIDTH, reverse)
    params = _init(module, x)
    theirs, weights = _flax_cell(cell, params)
    layer = nn.RNN(theirs, reverse=reverse, keep_order=True)
    shapes = jax.eval_shape(layer.init, jax.random.key(0), x)["params"]
    assert jax.tree.map(jnp.shape, {"cell": weights}) == jax.tree.map(jnp.shape, shapes)
    got = np.asarray(_apply(module, params, x, mask))
    expected = np.asarray(layer.apply({"params": {"cell": weights}}, x, seq_lengths=jnp.asarray(LENGTHS)))
    np.testing.assert_allclose(got[mask], expected[mask], **TOL)
    if reverse:
        assert np.all(got[~mask] == 0)
    else:
        np.testing.assert_array_equal(got[:, -1], got[np.arange(4), LENGTHS - 1])
    whole = layer.apply({"params": {"cell": weights}}, x)
    np.testing.assert_allclose(_apply(module, params, x), whole, **TOL)


def test_forget_gates_begin_open():
    """Nothing else is read or written: the cell decays by the logistic function of 1."""
    step, _, _ = CELLS["lstm"]
    h, c = step((jnp.zeros((1, 1)), jnp.ones((1, 1))), jnp.zeros((1, 4)), jnp.zeros((1, 4)))
    np.testing.assert_allclose(c, nn.sigmoid(1.0), rtol=1e-6)
    np.testing.assert_allclose(h, 0.5 * np.tanh(np.asarray(c)), rtol=1e-6)


def _masks():
    rng = np.random.default_rng(0)
    free = rng.random((2, 6, 4)) < 0.5
    free[..., 0] = True  # every row must allow something
    return {"none": None, "free": jnp.asarray(free), "of-the-memory": jnp.asarray(free[:, :1])}


@pytest.mark.long
@pytest.mark.parametrize("mask", list(_masks()))
def test_attention_equals_flax(mask):
    mask = _masks()[mask]
    x, memory = (jax.random.normal(jax.random.key(i), (2, n, 8)) for i, n in enumerate((6, 4)))
    module = Attention(8, 2)
    params = _init(module, x, memory)
    heads = {name: {"kernel": params[name]["kernel"].reshape(8, 2, 4)} for name in ("query", "key", "value")}
    weights = heads | {"out": {"kernel": params["out"]["kernel"].reshape(2, 4, 8)}}
    theirs = nn.MultiHeadDotProductAttention(2, use_bias=False)
    expected = theirs.apply({"params": weights}, x, memory, mask=None if mask is None else mask[:, None])
    got = _apply(module, params, x, memory, mask)
    np.testing.assert_allclose(got, expected, **TOL)
    assert np.abs(np.asarray(got)).max() > 0.1


def test_layer_adds_each_part_to_its_input():
    """With nothing coming out of its parts, a layer is the identity."""
    x = jax.random.normal(jax.random.key(0), (2, 6, 8))
    layer = Layer(8, 2)
    arguments = (x, causal(6), HPARAMS["activation"], None, HPARAMS["dropout"], x[:, :4], None)
    params = _init(layer, *arguments)
    silent = {**params, "down": jax.tree.map(jnp.zeros_like, params["down"])}
    for name in ("self", "cross"):
        silent[name] = {**params[name], "out": jax.tree.map(jnp.zeros_like, params[name]["out"])}
    np.testing.assert_array_equal(_apply(layer, silent, *arguments), x)
    assert not np.allclose(_apply(layer, params, *arguments), x, atol=0.1)


def test_embedding_adds_positions():
    module, tokens = Embedding(7, 4), jnp.array([[3, 3, 1]])
    params = _init(module, tokens)
    expected = params["tokens"]["embedding"][np.array([3, 3, 1])] + params["positions"]
    np.testing.assert_allclose(_apply(module, params, tokens)[0], expected, **TOL)


def test_keys_are_split_or_none():
    assert split_or_none(None, 3) == [None] * 3
    keys = split_or_none(jax.random.key(0), 3)
    assert len({jax.random.key_data(key).tobytes() for key in map(jax.random.clone, keys)}) == 3


def _changes(apply, tokens, position):
    """Which positions of the outputs change with the token at ``position``."""
    other = tokens.at[:, position].add(1)
    return np.asarray(jnp.any(apply(tokens) != apply(other), axis=(0, 2)))


@pytest.mark.long
@pytest.mark.parametrize("position", [0, 3, 5])
def test_language_model_does_not_see_ahead(position):
    module, tokens = LanguageModel(8, 2, 2, 11, 9), jax.random.randint(jax.random.key(0), (2, 6), 0, 10)
    params = _init(module, tokens, HPARAMS)
    changed = _changes(lambda t: _apply(module, params, t, HPARAMS), tokens, position)
    assert not changed[:position].any() and changed[position:].all()


@pytest.mark.long
def test_the_last_prediction_alone():
    tokens = jax.random.randint(jax.random.key(0), (2, 6), 0, 11)
    params = _init(LanguageModel(8, 2, 1, 11, 9), tokens, HPARAMS)
    every, last = (
        LanguageModel(8, 2, 1, 11, 9, only).apply({"params": params}, tokens, HPARAMS) for only in (False, True)
    )
    assert last.shape == (2, 9)
    np.testing.assert_allclose(last, every[:, -1], **TOL)


TRANSLATORS = {
    "transformer": Transformer(8, 2, 2, SOURCE_VOCABULARY, TARGET_VOCABULARY),
    "seq2seq-gru": Seq2Seq("gru", 6, SOURCE_VOCABULARY, TARGET_VOCABULARY),
    "seq2seq-lstm": Seq2Seq("lstm", 6, SOURCE_VOCABULARY, TARGET_VOCABULARY),
}


def _sentences():
    source = jax.random.randint(jax.random.key(1), (4, 7), 1, SOURCE_VOCABULARY)
    source = jnp.where(np.arange(7) < LENGTHS[:, None], source, PAD)
    return {"source": source, "previous": jax.random.randint(jax.random.key(2), (4, 5), 0, TARGET_VOCABULARY - 1)}


@pytest.mark.long
@pytest.mark.parametrize("name", TRANSLATORS)
def test_padding_of_the_source_is_not_read(name):
    """A sentence gives the same outputs cut to its own length, and padded to the longest."""
    module, inputs = TRANSLATORS[name], _sentences()
    params = _init(module, inputs, HPARAMS)
    outputs = _apply(module, params, inputs, HPARAMS)
    assert outputs.shape == (4, 5, TARGET_VOCABULARY)
    for i in (1, 2):
        length = LENGTHS[i]
        short = {"source": inputs["source"][i : i + 1, :length], "previous": inputs["previous"][i : i + 1]}
        positions = {"positions": params["source"]["positions"][:length]} if name == "transformer" else {}
        cut = {**params, "source": {**params["source"], **positions}}
        alone = _apply(module, cut, short, HPARAMS)
        np.testing.assert_allclose(outputs[i : i + 1], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.long
@pytest.mark.parametrize("name", TRANSLATORS)
def test_all_of_the_source_is_read(name):
    module, inputs = TRANSLATORS[name], _sentences()
    params = _init(module, inputs, HPARAMS)
    outputs = np.asarray(_apply(module, params, inputs, HPARAMS))
    for position in range(7):
        source = inputs["source"].at[:, position].set(1 + inputs["source"][:, position] % (SOURCE_VOCABULARY - 1))
        changed = np.asarray(_apply(module, params, {**inputs, "source": source}, HPARAMS)) != outputs
        assert changed[LENGTHS > position].any(axis=-1).all()


@pytest.mark.long
@pytest.mark.parametrize("name", TRANSLATORS)
def test_decoders_do_not_see_ahead(name):
    module, inputs = TRANSLATORS[name], _sentences()
    params = _init(module, inputs, HPARAMS)

    def apply(previous):
        return _apply(module, params, {**inputs, "previous": previous}, HPARAMS)

    for position in (0, 2, 4):
        changed = _changes(apply, inputs["previous"], position)
        assert not changed[:position].any() and changed[position:].all()


@pytest.mark.parametrize("stride", [1, 2])
def test_convolution_equals_lax(stride):
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    module = Conv3x3(4, stride)
    params = _init(module, x)
    kernel = params["Dense_0"]["kernel"].reshape(3, 3, 3, 4)
    layout = ("NHWC", "HWIO", "NHWC")
    expected = jax.lax.conv_general_dilated(x, kernel, (stride, stride), ((1, 1), (1, 1)), dimension_numbers=layout)
    np.testing.assert_allclose(_apply(module, params, x), expected, rtol=1e-4, atol=1e-5)


NETWORKS = {
    "resnet": (ResNet(4, 1), (6, 8, 8)),
    "vit": (ViT(8, 2, 1), (6, 8, 8)),
    "rnn": (RNN("simple", 6, 2), (6, 8, 8)),
    "lstm": (RNN("lstm", 6, 2), (6, 8, 8)),
    "gru": (RNN("gru", 6, 2), (6, 8, 8)),
}


@pytest.mark.long
@pytest.mark.parametrize("name", NETWORKS)
def test_examples_do_not_depend_on_their_batch(name):
    module, shape = NETWORKS[name]
    x = jax.random.normal(jax.random.key(3), shape)
    params = _init(module, x, HPARAMS)
    outputs = _apply(module, params, x, HPARAMS)
    assert outputs.shape == (6, 10)
    np.testing.assert_allclose(_apply(module, params, x[2:4], HPARAMS), outputs[2:4], rtol=1e-4, atol=1e-5)
    # Every pixel is read.
    gradient = jax.grad(lambda x: jnp.sum(jnp.square(_apply(module, params, x, HPARAMS))))(x)
    assert np.all(np.asarray(gradient) != 0)


@pytest.mark.long
@pytest.mark.parametrize("name", [*NETWORKS, *TRANSLATORS])
def test_dropout_is_in_training_only(name):
    module, x = (TRANSLATORS[name], _sentences()) if name in TRANSLATORS else (NETWORKS[name][0], jnp.ones((6, 8, 8)))
    params = _init(module, x, HPARAMS)
    keys = [None, None, jax.random.key(0), jax.random.key(0), jax.random.key(1)]
    outputs = [np.asarray(_apply(module, params, x, HPARAMS, key)) for key in keys]
    np.testing.assert_array_equal(outputs[0], outputs[1])
    np.testing.assert_array_equal(outputs[2], outputs[3])
    assert not np.allclose(outputs[0], outputs[2]) and not np.allclose(outputs[2], outputs[4])
    off = {**HPARAMS, "dropout": jnp.float32(0)}
    np.testing.assert_allclose(_apply(module, params, x, off, keys[-1]), outputs[0], rtol=1e-4, atol=1e-5)
