"""The training run: the loop it is, cut, batched, in larger arrays, diverging."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

import models
from models import make_objective
from models._spaces import training_space
from models._tasks import WORST_LOSS, classification, regression
from models._train import batch_indices, default_rungs
from models.data.splits import Dataset, Split
from tests.models.zoo import assert_close, fixed, middle, rows, run_alone, to_numpy

KEY = jax.random.key(0)
NUM_STEPS = 12

# Configurations that differ in everything, in batches of four.
TRAINING = {
    "learning_rate": np.array([3e-3, 1e-2, 0.03, 1e-3], np.float32),
    "schedule": np.array([0, 1, 2, 3], np.int32),
    "warmup": np.array([0.0, 0.1, 0.2, 0.3], np.float32),
    "optimizer": np.array([2, 1, 0, 3], np.int32),
    "weight_decay": np.array([1e-4, 1e-3, 1e-5, 1e-2], np.float32),
    "clip_norm": np.array([0.5, 10.0, 100.0, 1.0], np.float32),
    "init_scale": np.array([1.0, 0.5, 1.5, 1.0], np.float32),
    "label_smoothing": np.array([0.0, 0.1, 0.2, 0.0], np.float32),
    "dropout": np.array([0.1, 0.3, 0.0, 0.5], np.float32),
    "activation": np.array([0, 1, 2, 3], np.int32),
    "batch_size": np.array([3, 2, 1, 0], np.int32),
}
SHAPES = {
    "digits_mlp": {"width": np.array([256, 16, 64, 100], np.int32), "depth": np.array([2, 1, 3, 4], np.int32)},
    "digits_cnn": {"channels": np.array([32, 4, 16, 24], np.int32), "depth": np.array([2, 1, 1, 2], np.int32)},
}
SIZE = {"digits_mlp": "width", "digits_cnn": "channels"}
BAD = 1


class Batch:
    """An objective, shortened, and four configurations of it in one program that is compiled once."""

    def __init__(self, name):
        self.name = name
        self.objective = models.OBJECTIVES[name].with_num_steps(NUM_STEPS)
        entries = TRAINING | SHAPES[name]
        self.hparams = {name: entries[name] for name in self.objective.space}
        self.keys = jax.random.split(KEY, 4)
        self.compiled = jax.jit(jax.vmap(self.objective.train, in_axes=(0, 0, None)))
        self.metrics = self.run(self.hparams)

    def run(self, hparams, num_steps=NUM_STEPS):
        return to_numpy(self.compiled(self.keys, hparams, num_steps))


@pytest.fixture(scope="module", params=list(SHAPES))
def batch(request):
    return Batch(request.param)


def _lane(metrics, i):
    return {name: value[i] for name, value in metrics.items()}


@pytest.mark.long
@pytest.mark.parametrize("i", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_alone_equals_in_a_batch(batch, i):
    """In the arrays of its own size alone, in those of the largest in the batch."""
    alone = run_alone(batch.objective, batch.keys[i], rows(batch.hparams, 4)[i])
    assert_close(alone, _lane(batch.metrics, i))


@pytest.mark.long
@pytest.mark.parametrize("rate", [1e3, np.inf, np.nan])
def test_divergence_is_finite_and_isolated(batch, rate):
    rates = batch.hparams["learning_rate"].copy()
    rates[BAD] = rate
    metrics = batch.run(batch.hparams | {"learning_rate": rates})
    others = [0, 2, 3]
    for name, value in metrics.items():  # same program, so bit for bit
        np.testing.assert_array_equal(value[others], batch.metrics[name][others])
        assert np.isfinite(value[BAD])
        if not np.isfinite(rate):
            assert value[BAD] == (0 if name.endswith("accuracy") else np.float32(WORST_LOSS))
    assert metrics["validation_loss"][BAD] > 10 and metrics["validation_accuracy"][BAD] < 0.5


def test_no_width_is_finite_and_isolated(batch):
    widths = batch.hparams[SIZE[batch.name]].copy()
    widths[BAD] = 0
    metrics = batch.run(batch.hparams | {SIZE[batch.name]: widths})
    for name, value in metrics.items():
        np.testing.assert_array_equal(value[[0, 2, 3]], batch.metrics[name][[0, 2, 3]])
        assert value[BAD] == (0 if name.endswith("accuracy") else np.float32(WORST_LOSS))


def test_deterministic_in_the_key(batch):
    again = batch.run(batch.hparams)
    other = to_numpy(batch.compiled(batch.keys[::-1], batch.hparams, NUM_STEPS))
    for name, value in batch.metrics.items():
        np.testing.assert_array_equal(again[name], value)
        assert np.all(other[name] != value) or name.endswith("accuracy")


@pytest.mark.long
def test_the_curve_is_the_run_cut_at_its_rungs(batch):
    rungs = (3, 7, NUM_STEPS)
    curves = to_numpy(jax.jit(jax.vmap(lambda k, h: batch.objective.curve(k, h, rungs)))(batch.keys, batch.hparams))
    assert_close({name: value[:, -1] for name, value in curves.items()}, batch.metrics)
    for i, rung in enumerate(rungs):
        assert_close({name: value[:, i] for name, value in curves.items()}, batch.run(batch.hparams, rung))
    assert all(value.shape == (4, 3) and value.dtype == np.float32 for value in curves.values())


@pytest.mark.long
@pytest.mark.parametrize("batch", ["digits_mlp"], indirect=True)  # shared code; the catalogue's test looks at all
def test_x64_changes_nothing(batch):
    with jax.enable_x64(True):
        hparams = {k: v.astype(np.float64 if v.dtype == np.float32 else np.int64) for k, v in batch.hparams.items()}
        metrics = to_numpy(jax.jit(jax.vmap(batch.objective.train))(batch.keys, hparams))
    assert all(value.dtype == np.float32 for value in metrics.values())
    assert_close(metrics, batch.metrics)


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "given", "size", "own", "larger"),
    [
        ("digits_mlp", {"width": 40, "depth": 3, "dropout": 0.3}, "width", 64, 256),
        pytest.param(
            *("digits_cnn", {"channels": 6, "depth": 2, "dropout": 0.3}, "channels", 8, 32), marks=pytest.mark.slow
        ),
    ],
)
def test_arrays_of_a_larger_size_change_nothing(name, given, size, own, larger):
    objective = models.OBJECTIVES[name].with_num_steps(NUM_STEPS)
    hparams = middle(objective, optimizer=1, learning_rate=0.01, **given)
    structure = dict(objective.structure(hparams))
    assert structure[size] == own

    def run(held):
        init, advance, evaluate = objective.program(tuple((structure | {size: held}).items()))
        return to_numpy(jax.jit(lambda key, h: evaluate(advance(init(key, h), h, NUM_STEPS), h))(KEY, hparams))

    assert_close(run(own), run(larger), rtol=1e-3)


@pytest.mark.long
@pytest.mark.parametrize("name", ["digits_gru", pytest.param("modular_transformer", marks=pytest.mark.slow)])
def test_alone_equals_in_a_batch_of_one_structure(name):
    objective = models.OBJECTIVES[name].with_num_steps(5)
    hparams = middle(objective)
    entries = {k: v[:3] for k, v in TRAINING.items() if k in objective.space} | {
        "batch_size": np.array([0, 1, 2], np.int32)
    }
    keys = jax.random.split(KEY, 3)
    traced = {k: np.broadcast_to(v, 3) for k, v in (hparams | entries).items() if k not in objective.structural}
    metrics = to_numpy(jax.jit(jax.vmap(fixed(objective, hparams)))(keys, traced))
    alone = run_alone(objective, keys[1], rows(hparams | entries, 3)[1])
    assert_close(alone, _lane(metrics, 1))


def _same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def _plain(state):
    """The state on the host, its keys as their bits."""
    bits = [jax.random.key_data(key) for key in (state.batch_key, state.dropout_key)]
    return jax.tree.map(np.asarray, state._replace(batch_key=bits[0], dropout_key=bits[1]))


@pytest.mark.long
def test_steps_do_not_depend_on_how_they_are_cut():
    """Nor on whether the state was put away in between."""
    objective = models.digits_mlp.with_num_steps(NUM_STEPS)
    hparams = middle(objective, optimizer=2)
    program = objective.program(objective.structure(hparams))
    advance = jax.jit(program.advance)
    start = jax.jit(program.init)(KEY, hparams)
    three, seven = (advance(start, hparams, num) for num in (3, 7))
    _same(_plain(advance(three, hparams, 4)), _plain(seven))
    assert int(seven.optimizer.count) == 7

    stored = _plain(three)
    keys = [jax.random.wrap_key_data(bits) for bits in (stored.batch_key, stored.dropout_key)]
    resumed = stored._replace(batch_key=keys[0], dropout_key=keys[1])
    _same(_plain(advance(resumed, hparams, 4)), _plain(seven))
    _same(_plain(advance(three, hparams, 0)), stored)
    assert np.any(np.asarray(three.params["head"]["kernel"]) != np.asarray(seven.params["head"]["kernel"]))


def test_initial_scale_multiplies_kernels():
    objective = models.digits_mlp.with_num_steps(2)
    half, whole = (
        objective.program((("width", 64),)).init(KEY, middle(objective, init_scale=scale)).params for scale in (0.5, 1)
    )
    for layer in whole:
        assert np.any(np.asarray(whole[layer]["kernel"]) != 0)
        np.testing.assert_allclose(half[layer]["kernel"], 0.5 * whole[layer]["kernel"], rtol=1e-6)


class Linear(nn.Module):
    """The least a model can be."""

    @nn.compact
    def __call__(self, inputs, hparams, dropout_key=None):
        return nn.Dense(3, name="head")(inputs)


def _table(seed=0, sizes=(40, 20, 30)):
    rng = np.random.default_rng(seed)

    def part(n):
        return Split(rng.standard_normal((n, 4)).astype(np.float32), rng.integers(0, 3, n, np.int32))

    return Dataset(*map(part, sizes))


def _linear(load, num_steps=NUM_STEPS, task=classification):
    space = training_space((4, 16))
    return make_objective("linear", "A line", space, lambda _: Linear(), load, task, metric="m", num_steps=num_steps)


@pytest.mark.long
def test_run_equals_its_loop_written_with_optax():
    """Smoothed loss of the live examples, clipping, weight decay, the schedule, over more than one epoch."""
    data, objective = _table(), _linear(_table)
    given = {"schedule": 1, "optimizer": 1, "clip_norm": 0.3, "weight_decay": 0.05, "label_smoothing": 0.2}
    hparams = middle(objective, learning_rate=0.05, warmup=0.0, init_scale=1.0, batch_size=0, **given)
    init, advance, evaluate = objective.program(())
    start = init(KEY, hparams)
    state = jax.jit(advance)(start, hparams, NUM_STEPS)

    optimizer = optax.chain(
        optax.clip_by_global_norm(0.3),
        optax.add_decayed_weights(0.05, mask=lambda p: jax.tree.map(lambda a: a.ndim > 1, p)),
        optax.adam(optax.linear_schedule(0.05, 0.0, NUM_STEPS)),
    )
    order = batch_indices(start.batch_key, 40, jnp.int32(4), 16, NUM_STEPS)[:, :4]
    params, moments = start.params, optimizer.init(start.params)

    def loss(params, rows):
        logits = data.train.inputs[rows] @ params["head"]["kernel"] + params["head"]["bias"][None]
        labels = optax.smooth_labels(jax.nn.one_hot(data.train.targets[rows], 3), 0.2)
        return optax.softmax_cross_entropy(logits, labels).mean()

    for step in range(NUM_STEPS):
        updates, moments = optimizer.update(jax.grad(loss)(params, np.asarray(order[step])), moments, params)
        params = optax.apply_updates(params, updates)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), state.params, params)
    assert np.abs(np.asarray(params["head"]["kernel"] - start.params["head"]["kernel"])).max() > 0.1

    for part, split in zip(data._fields, data, strict=True):
        logits = split.inputs @ np.asarray(state.params["head"]["kernel"]) + np.asarray(state.params["head"]["bias"])
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, split.targets)
        metrics = evaluate(state, hparams)
        np.testing.assert_allclose(metrics[f"{part}_loss"], losses.mean(), rtol=1e-5)
        np.testing.assert_allclose(metrics[f"{part}_accuracy"], np.mean(logits.argmax(1) == split.targets), rtol=1e-5)


@pytest.mark.long
@pytest.mark.parametrize("part", ["validation", "test"])
def test_training_sees_the_train_part_only(part):
    """Other numbers in one part change the metrics of that part, and no others."""
    changed = _table()._replace(**{part: getattr(_table(1), part)})
    metrics, others = (run_alone(o, KEY, middle(o)) for o in (_linear(_table), _linear(lambda: changed)))
    for name in metrics:
        assert (metrics[name] != others[name]) == name.startswith(part)


@pytest.mark.long
@pytest.mark.parametrize("sizes", [(40, 20, 30), (300, 128, 1), (1500, 1, 200)])
def test_parts_are_measured_whatever_their_sizes(sizes):
    """The first 1024 examples of each, and no padding."""
    data, objective = _table(sizes=sizes), _linear(lambda: _table(sizes=sizes))
    hparams = middle(objective)
    init, _, evaluate = objective.program(())
    state = init(KEY, hparams)
    metrics = evaluate(state, hparams)
    for part, split in zip(data._fields, data, strict=True):
        logits = split.inputs[:1024] @ np.asarray(state.params["head"]["kernel"])
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, split.targets[:1024])
        np.testing.assert_allclose(metrics[f"{part}_loss"], losses.mean(), rtol=1e-5)


@pytest.mark.long
def test_losses_are_bounded():
    """Finite outputs of any size never report more than a diverged run."""
    huge = _table()._replace(validation=Split(np.full((3, 4), 1e37, np.float32), np.arange(3, dtype=np.int32)))
    for task in (classification, regression):
        objective = _linear(lambda: huge, task=task)
        metrics = run_alone(objective, KEY, middle(objective))
        assert metrics["validation_loss"] == np.float32(WORST_LOSS) and metrics["train_loss"] < 100


@pytest.mark.long
def test_decent_configuration_learns():
    objective = models.digits_mlp.with_num_steps(60)
    given = {"learning_rate": 3e-3, "optimizer": 2, "batch_size": 3, "width": 64, "depth": 2, "init_scale": 1.0}
    metrics = run_alone(objective, KEY, middle(objective, dropout=0.0, weight_decay=1e-4, **given))
    assert metrics["validation_accuracy"] > 0.9 and metrics["test_accuracy"] > 0.9


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_batches_are_whole_epochs(batch_size):
    """Whatever the batch size, the live examples, read in order, are shuffled epochs end to end."""
    rows = np.asarray(batch_indices(KEY, 10, jnp.int32(batch_size), 8, num_steps=13))
    assert rows.shape == (13, 8) and rows.dtype == np.int32
    stream = rows[:, :batch_size].reshape(-1)
    epochs = [stream[i : i + 10] for i in range(0, len(stream) - 9, 10)]
    assert all(sorted(epoch.tolist()) == list(range(10)) for epoch in epochs)
    assert len(epochs) < 2 or any(not np.array_equal(epochs[0], epoch) for epoch in epochs[1:])
    own = batch_indices(KEY, 10, jnp.int32(batch_size), batch_size, num_steps=13)
    np.testing.assert_array_equal(rows[:, :batch_size], own)


@pytest.mark.parametrize("num_steps", [1, 9, 29, 30, 300, 1000])
def test_rungs_are_thirds(num_steps):
    rungs = default_rungs(num_steps)
    assert rungs[-1] == num_steps and (rungs[0] >= 10 or len(rungs) == 1) and rungs[0] < 30
    assert all(3 * low - 3 < high <= 3 * low for low, high in zip(rungs, rungs[1:], strict=False))
    assert _linear(_table, num_steps).rungs == rungs
