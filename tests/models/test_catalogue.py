"""Every objective of the zoo: what it declares, and that it trains."""

import itertools
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import models
from bojax.space import Space
from models import Shapes
from models._structure import dispatch
from models._train import default_rungs
from tests.models.zoo import assert_close, fixed, middle, run_alone, to_numpy

KEY = jax.random.key(0)
NAMES = (
    "digits_mlp",
    "digits_cnn",
    "digits_resnet",
    "digits_vit",
    "digits_rnn",
    "digits_lstm",
    "digits_gru",
    "dates_seq2seq",
    "dates_transformer",
    "sorting_seq2seq",
    "text_lm",
    "modular_transformer",
    "cancer_mlp",
    "wine_mlp",
    "diabetes_mlp",
    "cancer_logistic",
)
# What is structural and which sizes there are; everything else is traced.
TRANSFORMER = ("width", "heads", "layers")
STRUCTURAL = {
    "digits_resnet": ("channels", "blocks"),
    **dict.fromkeys(("digits_rnn", "digits_lstm", "digits_gru"), ("width", "layers")),
    **dict.fromkeys(("dates_seq2seq", "sorting_seq2seq"), ("width", "cell")),
    **dict.fromkeys(("digits_vit", "dates_transformer", "text_lm", "modular_transformer"), TRANSFORMER),
}
SIZES = {
    **dict.fromkeys(("digits_mlp", "cancer_mlp", "wine_mlp", "diabetes_mlp"), ("width",)),
    "digits_cnn": ("channels",),
    **dict.fromkeys(
        ("dates_seq2seq", "dates_transformer", "sorting_seq2seq", "text_lm", "modular_transformer"), ("batch_size",)
    ),
}
MEASURES = {
    **dict.fromkeys(NAMES, frozenset(("loss", "accuracy"))),
    **dict.fromkeys(
        ("dates_seq2seq", "dates_transformer", "sorting_seq2seq"), frozenset(("loss", "accuracy", "exact_match"))
    ),
    "text_lm": {"loss", "bits_per_character"},
    "diabetes_mlp": {"loss"},
}
SHORT = {name: models.OBJECTIVES[name].with_num_steps(2) for name in NAMES}
# Other tests train the networks of these.
SLOW = ("dates_seq2seq", "digits_gru", "modular_transformer", "cancer_mlp", "wine_mlp")
every_objective = pytest.mark.parametrize("name", NAMES)


def metric_names(name):
    return {f"{part}_{measure}" for part in ("train", "validation", "test") for measure in MEASURES[name]}


def test_catalogue():
    assert tuple(models.OBJECTIVES) == NAMES
    listing = models.objectives()
    assert listing == models.OBJECTIVES and listing is not models.OBJECTIVES
    assert len(set(listing.values())) == len(NAMES)
    for name, objective in listing.items():
        assert getattr(models, name) is objective and objective.name == name


@every_objective
def test_declarations(name):
    objective = models.OBJECTIVES[name]
    assert objective.description and "\n" not in objective.description and len(objective.description) < 100
    assert objective.rungs == default_rungs(objective.num_steps) and objective.rungs[-1] == objective.num_steps
    part, measure = objective.metric.split("_", 1)
    assert part == "validation" and measure in MEASURES[name]  # the test part is never tuned on
    lower_is_better = measure in ("loss", "bits_per_character")
    assert objective.direction == ("minimize" if lower_is_better else "maximize")


@every_objective
def test_space_is_plain(name):
    space = models.OBJECTIVES[name].space
    assert json.loads(json.dumps(space)) == space and list(json.loads(json.dumps(space))) == list(space)
    for entry in space.values():
        if entry["type"] in ("float", "int"):
            assert entry["low"] < entry["high"] and isinstance(entry["log"], bool)
            assert entry["low"] > 0 or not entry["log"]
        else:
            values = entry["choices" if entry["type"] == "categorical" else "values"]
            assert len(set(values)) == len(values) > 1
    assert ("label_smoothing" in space) == (name not in ("diabetes_mlp", "cancer_logistic"))


@every_objective
def test_kinds(name):
    objective = models.OBJECTIVES[name]
    for hyperparameter in objective.space:
        structural = hyperparameter in STRUCTURAL.get(name, ())
        size = hyperparameter in SIZES.get(name, ())
        assert objective.kind(hyperparameter) == ("structural" if structural else "size" if size else "traced")
    with pytest.raises(KeyError, match="momentum"):
        objective.kind("momentum")


@pytest.mark.long
@every_objective
def test_structures_of_bojax_configurations(name):
    """What `Space.decode` gives is what `structure` takes, and all structures there are turn up."""
    objective = models.OBJECTIVES[name]
    space = Space.from_spec(objective.space)
    assert space.to_spec() == objective.space
    batch = to_numpy(space.decode(space.sample(KEY, 300)))
    configurations = [{k: v[i] for k, v in batch.items()} for i in range(300)]
    values = [
        objective.space[n]["choices" if objective.space[n]["type"] == "categorical" else "values"]
        for n in objective.structural
    ]
    sizes = dict(objective.sizes or {})
    possible = [
        tuple(zip((*objective.structural, *sizes), combination, strict=True))
        for combination in itertools.product(*values, *sizes.values())
    ]
    assert {objective.structure(h) for h in configurations} == set(possible)
    for h, (size, buckets) in itertools.product(configurations, sizes.items()):
        entry, position = objective.space[size], int(h[size])
        value = entry["values"][position] if entry["type"] == "ordinal" else position
        held = dict(objective.structure(h))[size]
        assert value <= held and all(value > bucket for bucket in buckets if bucket < held)
    program = objective.program(objective.structure(configurations[0]))
    assert program is objective.program(objective.structure(configurations[0]))


@pytest.mark.long
@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in NAMES])
def test_a_short_run(name):
    objective = SHORT[name]
    assert objective.num_steps == 2 and objective.rungs == (2,)
    hparams = middle(objective)
    metrics = to_numpy(jax.jit(fixed(objective, hparams))(KEY, hparams))
    assert set(metrics) == metric_names(name) and objective.metric in metrics
    for value in metrics.values():
        assert value.shape == () and value.dtype == np.float32 and np.isfinite(value)
    assert all(0 <= metrics[n] <= 1 for n in metrics if n.endswith(("accuracy", "exact_match")))
    assert all(0 < metrics[n] < 100 for n in metrics if n.endswith(("loss", "character")))
    if MEASURES[name] == {"loss", "bits_per_character"}:
        np.testing.assert_allclose(metrics["test_bits_per_character"], metrics["test_loss"] / np.log(2), rtol=1e-4)


@every_objective
def test_no_float64_in_the_program(name):
    """The same program under x64, and float32 metrics; traced only, not run."""
    objective = SHORT[name]
    with jax.enable_x64(True):
        hparams = middle(objective)
        traced, shapes = jax.make_jaxpr(fixed(objective, hparams), return_shape=True)(KEY, hparams)
    assert "f64[" not in str(traced).replace("f64[]", "")  # Python scalars are weak f64 constants before they are used
    assert {n: (s.shape, s.dtype) for n, s in shapes.items()} == {n: ((), np.float32) for n in metric_names(name)}


@every_objective
def test_arguments_are_checked(name):
    objective, hparams = SHORT[name], middle(SHORT[name])
    for call in (objective.train, objective.curve):
        first = next(iter(hparams))
        with pytest.raises(ValueError, match=first):
            call(KEY, {k: v for k, v in hparams.items() if k != first})
        with pytest.raises(ValueError, match="momentum"):
            call(KEY, hparams | {"momentum": 0.9})
    with pytest.raises(ValueError, match="`num_steps` must be at least 1, got 0"):
        models.OBJECTIVES[name].with_num_steps(0)


@pytest.mark.long
def test_structural_hyperparameters_may_be_traced():
    """All widths are then part of one program, and one gives what it gives by itself."""
    objective = models.digits_rnn.with_num_steps(3)
    hparams = middle(objective)
    layers = hparams.pop("layers")
    train = jax.jit(lambda key, h: objective.train(key, {**h, "layers": layers}))
    widths, scores = (0, 2), []
    for width in widths:
        traced = to_numpy(train(KEY, {**hparams, "width": width}))
        assert_close(traced, run_alone(objective, KEY, {**hparams, "width": width, "layers": layers}), rtol=1e-4)
        scores.append(float(traced["train_loss"]))
    assert len(set(scores)) == len(widths)
    assert train._cache_size() == 1


def test_traced_structures_are_in_the_order_of_their_values():
    """With two structural hyperparameters traced, every combination calls the program of its own."""
    objective = models.digits_vit
    calls = []

    def run(structure):
        calls.append(structure)
        return jnp.int32(len(calls) - 1)

    @jax.jit
    def chosen(h):
        return dispatch(objective.space, Shapes(objective.structural), {**middle(objective), **h}, run)

    for width, layers in itertools.product(range(2), range(2)):
        index = int(chosen({"width": width, "layers": layers}))
        assert calls[index] == (("width", (32, 64)[width]), ("heads", 2), ("layers", (1, 2)[layers]))
    assert len(calls) == 4


def test_import_reads_no_data_and_no_bojax():
    code = """if True:
        import sys, models
        from models.data import dates, digits, modular, sorting, tables, text
        loaders = [dates.load_dates, digits.load_digits, modular.load_modular, sorting.load_sorting]
        loaders += [tables.load_cancer, tables.load_diabetes, text.load_text]
        print(sum(load.cache_info().misses for load in loaders), "sklearn" in sys.modules, "bojax" in sys.modules)"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert result.stdout.split() == ["0", "False", "False"]
