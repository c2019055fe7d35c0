"""The training runs: pure, batched, robust, and good enough to be worth tuning."""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import models
from bojax.space import Space
from models._train import WORST_LOSS, batch_indices, make_train

NUM_STEPS = 40
METRICS = {"train_loss", "validation_loss", "validation_accuracy", "test_loss", "test_accuracy"}
FACTORIES = {"digits_mlp": models.make_digits_mlp, "digits_cnn": models.make_digits_cnn}

# Four configurations that differ in everything; the second diverges.
BATCH = {
    "learning_rate": [3e-3, 1e3, 0.1, 1e-3],
    "weight_decay": [1e-4, 1e-3, 1e-5, 1e-2],
    "dropout": [0.1, 0.3, 0.0, 0.5],
    "activation": [0, 1, 2, 3],
    "optimizer": [2, 1, 0, 3],
    "batch_size": [3, 2, 3, 0],
}
SIZES = {
    "digits_mlp": {"width": [256, 16, 64, 100], "depth": [2, 1, 3, 4]},
    "digits_cnn": {"channels": [32, 4, 16, 24], "depth": [2, 0, 1, 2]},
}
DIVERGING = 1


class Case:
    """One objective, shortened, with its batch and the batch's metrics: compiled once for the whole file."""

    def __init__(self, name):
        self.objective = FACTORIES[name](num_steps=NUM_STEPS)
        entries = BATCH | SIZES[name]
        self.hparams = {
            k: np.asarray(entries[k], np.float32 if v["type"] == "float" else np.int32)
            for k, v in self.objective.space.items()
        }
        self.keys = jax.random.split(jax.random.key(0), 4)
        self.batched = jax.jit(jax.vmap(self.objective.train))
        self.alone = jax.jit(self.objective.train)
        self.metrics = self.run(self.hparams)

    def run(self, hparams):
        return {k: np.asarray(v) for k, v in self.batched(self.keys, hparams).items()}


@pytest.fixture(scope="module", params=list(FACTORIES))
def case(request):
    return Case(request.param)


def _assert_close(got, expected):
    assert set(got) == set(expected) == METRICS
    for name in METRICS:
        # Rounding grows along a training run; an accuracy may differ by one example in 359.
        np.testing.assert_allclose(got[name], expected[name], rtol=5e-3, atol=3e-3, err_msg=name)


def test_metrics_are_finite_float32(case):
    assert set(case.metrics) == METRICS
    for value in case.metrics.values():
        assert value.shape == (4,) and value.dtype == np.float32 and np.all(np.isfinite(value))
    assert case.objective.metric in METRICS


def test_alone_equals_in_a_batch(case):
    for i in (0, 3):
        alone = case.alone(case.keys[i], {k: v[i] for k, v in case.hparams.items()})
        _assert_close(alone, {k: v[i] for k, v in case.metrics.items()})


def test_divergence_is_finite_and_isolated(case):
    bad = {k: v[DIVERGING] for k, v in case.metrics.items()}
    assert bad["train_loss"] > 10 and bad["train_loss"] <= WORST_LOSS and bad["validation_accuracy"] < 0.5
    tame = dict(case.hparams, learning_rate=np.asarray([3e-3, 1e-3, 0.1, 1e-3], np.float32))
    others = [i for i in range(4) if i != DIVERGING]
    metrics = case.run(tame)
    for name in METRICS:  # same program, so bit for bit
        np.testing.assert_array_equal(metrics[name][others], case.metrics[name][others])
    assert metrics["train_loss"][DIVERGING] < 10


def test_not_a_number_gives_the_worst_score(case):
    rates = np.asarray([3e-3, np.nan, 0.1, 1e-3], np.float32)
    metrics = case.run(dict(case.hparams, learning_rate=rates))
    for name in METRICS:
        assert metrics[name][DIVERGING] == (0 if name.endswith("accuracy") else np.float32(WORST_LOSS))


def test_deterministic_in_the_key(case):
    again = case.run(case.hparams)
    for name in METRICS:
        np.testing.assert_array_equal(again[name], case.metrics[name])
    other = case.batched(case.keys[::-1], case.hparams)
    assert np.all(np.asarray(other["train_loss"])[[0, 2, 3]] != case.metrics["train_loss"][[0, 2, 3]])


def test_decent_configuration_learns(case):
    assert case.metrics["validation_accuracy"][0] > 0.9 and case.metrics["test_accuracy"][0] > 0.9


@pytest.mark.parametrize("case", ["digits_mlp"], indirect=True)  # shared code; the next test looks at both programs
def test_x64_changes_nothing(case):
    with jax.enable_x64(True):
        hparams = {k: v.astype(np.float64 if v.dtype == np.float32 else np.int64) for k, v in case.hparams.items()}
        metrics = jax.jit(jax.vmap(case.objective.train))(case.keys, hparams)
        assert all(value.dtype == jnp.float32 for value in metrics.values())
        keep = np.array([0, 2, 3])
        _assert_close(
            {k: np.asarray(v)[keep] for k, v in metrics.items()},
            {k: v[keep] for k, v in case.metrics.items()},
        )


def test_no_float64_inside_the_program_under_x64(case):
    with jax.enable_x64(True):
        hparams = {k: jnp.asarray(v[0]) for k, v in case.hparams.items()}
        jaxpr = str(jax.make_jaxpr(case.objective.train)(case.keys[0], hparams))
    assert "f64[" not in jaxpr.replace("f64[]", "")  # Python scalars are weak f64 constants before they are used


def test_space_is_plain_and_positions_valid(case):
    space = case.objective.space
    assert json.loads(json.dumps(space)) == space and list(json.loads(json.dumps(space))) == list(space)
    for entry in space.values():
        if entry["type"] in ("float", "int"):
            assert entry["low"] < entry["high"] and isinstance(entry["log"], bool)
            assert entry["low"] > 0 or not entry["log"]
        else:
            values = entry["choices" if entry["type"] == "categorical" else "values"]
            assert len(set(values)) == len(values) > 1
    # The batch of this file visits every position of every categorical, and every one trained.
    for name, entry in space.items():
        if entry["type"] == "categorical":
            assert set(case.hparams[name].tolist()) == set(range(len(entry["choices"])))


def test_space_is_read_by_bojax(case):
    """What `Space.decode` gives is what `train` takes; traced only, not run."""
    space = Space.from_spec(case.objective.space)
    assert space.to_spec() == case.objective.space
    hparams = space.decode(space.sample(jax.random.key(0), 4))
    metrics = jax.eval_shape(jax.vmap(case.objective.train), case.keys, hparams)
    assert {name: (value.shape, value.dtype) for name, value in metrics.items()} == {
        name: ((4,), np.float32) for name in METRICS
    }


def test_wrong_names_are_refused(case):
    hparams = {k: v[0] for k, v in case.hparams.items()}
    with pytest.raises(ValueError, match="learning_rate"):
        case.objective.train(case.keys[0], {k: v for k, v in hparams.items() if k != "learning_rate"})
    with pytest.raises(ValueError, match="momentum"):
        case.objective.train(case.keys[0], hparams | {"momentum": 0.9})


def test_num_steps_is_checked():
    for make in FACTORIES.values():
        assert make(num_steps=7).num_steps == 7
        with pytest.raises(ValueError, match="`num_steps` must be at least 1, got 0"):
            make(num_steps=0)
    assert callable(make_train)


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_batches_are_whole_epochs(batch_size):
    """Whatever the batch size, the live examples, read in order, are shuffled epochs end to end."""
    rows = np.asarray(batch_indices(jax.random.key(0), 10, jnp.int32(batch_size), 8, num_steps=13))
    assert rows.shape == (13, 8) and rows.dtype == np.int32
    stream = rows[:, :batch_size].reshape(-1)
    epochs = [stream[i : i + 10] for i in range(0, len(stream) - 9, 10)]
    assert all(sorted(epoch.tolist()) == list(range(10)) for epoch in epochs)
    assert len(epochs) < 2 or any(not np.array_equal(epochs[0], epoch) for epoch in epochs[1:])


def test_catalogue():
    assert list(models.OBJECTIVES) == ["digits_mlp", "digits_cnn"]
    listing = models.objectives()
    assert listing == models.OBJECTIVES and listing is not models.OBJECTIVES
    for name, objective in listing.items():
        assert objective.name == name and "\n" not in objective.description and objective.direction == "maximize"
        assert hash(objective) == hash(objective)


def test_import_reads_no_data():
    code = """if True:
        import sys, models
        from models._data import load_digits
        print(load_digits.cache_info().misses, "sklearn" in sys.modules)"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert result.stdout.split() == ["0", "False"]
