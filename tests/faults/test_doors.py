"""Coercion at every door: scalars and arrays of NumPy and JAX are accepted, and wrong things refused, alike."""

import decimal
import enum
import fractions
import math
import pprint

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from sqlalchemy import event
from sqlalchemy.exc import DataError

import bojax
from bojax._errors import BojaxWarning
from bojax._plain import plain_json
from tests.faults.storages import KINDS, PARAMS, SPACE, asked, learns_from_all, make, url_of


class Level(enum.IntEnum):
    HIGH = 3


ACCEPTED = {
    "float32": (np.float32(0.5), 0.5),
    "float16": (np.float16(0.5), 0.5),
    "bfloat16": (ml_dtypes.bfloat16(0.5), 0.5),
    "longdouble": (np.longdouble(0.5), 0.5),
    "int64": (np.int64(3), 3),
    "uint8": (np.uint8(3), 3),
    "bool": (np.bool_(True), True),
    "str": (np.str_("a"), "a"),
    "enum": (Level.HIGH, 3),
    "jax": (jnp.float32(0.5), 0.5),
    "jax int": (jnp.int32(3), 3),
    "jax bool": (jnp.asarray(True), True),
    "jax bfloat16": (jnp.bfloat16(0.5), 0.5),
    "0-d": (np.array(0.5), 0.5),
    "array": (np.arange(3), [0, 1, 2]),
    "array of texts": (np.array(["a", "b"]), ["a", "b"]),
    "array of objects": (np.array([1, None, "a"], object), [1, None, "a"]),
    "jax array": (jnp.ones((2, 2)), [[1.0, 1.0], [1.0, 1.0]]),
    "bfloat16 array": (jnp.ones((2, 1), jnp.bfloat16), [[1.0], [1.0]]),
    "empty array": (np.zeros((0, 2)), []),
    "tuple": ((1, np.float32(0.5)), [1, 0.5]),
    "range": (range(3), [0, 1, 2]),
    "dict": ({"a": {1: jnp.int32(2), None: (True,)}}, {"a": {"1": 2, "null": [True]}}),
    "decimal": (decimal.Decimal("0.5"), 0.5),
    "fraction": (fractions.Fraction(1, 2), 0.5),
    "None": (None, None),
    "infinity": (np.float32(math.inf), math.inf),
}
CIRCLE: list = []
CIRCLE.append(CIRCLE)
REFUSED = {
    "object": object(),
    "function": len,
    "complex": 1j,
    "complex array": np.zeros(2, complex),
    "bytes": b"a",
    "set": {1, 2},
    "date": np.datetime64("2020-01-01"),
    "random key": jax.random.key(0),
    "circle": CIRCLE,
    "names": {(1, 2): 3},
    "names twice": {1: 2, "1": 3},
    "masked": np.ma.masked,
    "integer of 5000 digits": 10**5000,
    "inside": {"a": [1, {"b": object()}]},
}


def same(a, b):
    """Equal, and of equal types all the way down; names in any order."""
    return pprint.pformat(a) == pprint.pformat(b)


@pytest.mark.parametrize("kind", KINDS)
def test_attributes_are_the_same_plain_values_in_every_storage(kind, tmp_path):
    study = make(url_of(kind, tmp_path))
    given = {name: value for name, (value, _) in ACCEPTED.items()}
    expected = {name: value for name, (_, value) in ACCEPTED.items()}
    told = study.tell(asked(study), 1.0, user_attrs=given)
    assert same(told.user_attrs, expected)
    assert same(study.trials[0].user_attrs, expected)
    if kind != "memory":
        assert same(bojax.Study(storage=url_of(kind, tmp_path)).trials[0].user_attrs, expected)


def test_the_owner_of_an_attribute_may_change_it_afterwards():
    study, curve = make(), [1.0]
    study.tell(asked(study), 1.0, user_attrs={"curve": curve})
    curve.append(2.0)
    assert study.trials[0].user_attrs == {"curve": [1.0]}


@pytest.mark.unchecked
@pytest.mark.parametrize("kind", KINDS)
def test_wrong_attributes_are_refused_alike_and_record_nothing(kind, tmp_path):
    study = make(url_of(kind, tmp_path))
    trial = asked(study)
    for name, value in REFUSED.items():
        with pytest.raises(TypeError, match=rf"`user_attrs\['{name}'\]` must fit into JSON"):
            study.tell(trial, 1.0, user_attrs={"good": 1, name: value})
    for name in (3, None, ("a",)):
        with pytest.raises(TypeError, match="a name in `user_attrs` must be a text"):
            study.tell(trial, 1.0, user_attrs={name: 1})
    for name in ("a" * 513, "\ud800", "bojax:stale", "bojax:cost", "bojax:worker"):
        with pytest.raises(ValueError, match="a name in `user_attrs` must"):
            study.tell(trial, 1.0, user_attrs={name: 1})
    with pytest.raises(TypeError, match="`user_attrs` must map names to values"):
        study.tell(trial, 1.0, user_attrs=[("a", 1)])
    assert [(t.state, t.user_attrs) for t in study.trials] == [("running", {})]
    study.tell(trial, 1.0, user_attrs={np.str_("a" * 512): 1})


def test_attributes_nested_too_deeply_are_refused():
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(TypeError, match="nested too deeply"):
        plain_json(deep)


@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_attribute_of_an_objective_never_loses_its_value(kind, tmp_path):
    study = make(url_of(kind, tmp_path))
    for _ in range(2):
        study.enqueue(PARAMS)

    def objective(params):
        return jnp.bfloat16(0.5), {"bad": object(), 3: 1, "bojax:stale": True, "good": jnp.float32(1.5)}

    with pytest.warns(BojaxWarning) as caught:
        study.optimize(objective, num_trials=2, progress=False)
    texts = [str(warning.message) for warning in caught]
    for name in ("'bad'", "3", "'bojax:stale'"):
        about = [text for text in texts if f"the attribute {name} of trial" in text]
        assert len(about) == 1 and " of trial 0 is left out, its value is recorded: " in about[0]
    assert [(t.state, t.value, t.user_attrs) for t in study.trials] == [("complete", 0.5, {"good": 1.5})] * 2


def test_an_attribute_that_the_database_refuses_never_loses_the_value(tmp_path):
    study = make(url_of("sqlite", tmp_path))
    trial = asked(study)

    def refuse(connection, cursor, statement, parameters, context, executemany):
        if "trial_user_attributes" in statement and statement.startswith("INSERT") and "long" in str(parameters):
            raise DataError(statement, parameters, Exception("Data too long for column 'value_json'"))

    event.listen(study.optuna._storage._backend.engine, "before_cursor_execute", refuse)
    with pytest.warns(BojaxWarning, match="'long' of trial 0 is left out, its value is recorded"):
        told = study.tell(trial, 1.5, user_attrs={"long": "a", "short": "b"}, noise_var=2.0)
    assert (told.value, told.user_attrs["short"], "long" in told.user_attrs) == (1.5, "b", False)


NUMBERS = {name: ACCEPTED[name][0] for name in ("float32", "float16", "bfloat16", "longdouble", "jax", "jax bfloat16")}
NUMBERS |= {name: ACCEPTED[name][0] for name in ("0-d", "decimal", "fraction")}
NO_NUMBERS = {
    "text": "0.5",
    "bool": True,
    "NumPy's bool": np.bool_(True),
    "JAX's bool": jnp.asarray(True),
    "complex": 1j,
    "array": np.ones(1),
    "JAX array": jnp.ones((1, 1)),
    "list": [0.5],
    "random key": jax.random.key(0),
    "masked": np.ma.masked,
    "date": np.datetime64("2020-01-01"),
}


@pytest.mark.unchecked
@pytest.mark.parametrize("kind", KINDS)
def test_numbers_are_accepted_and_refused_alike_by_value_noise_var_cost_and_grad(kind, tmp_path):
    study = make(url_of(kind, tmp_path), algorithm=learns_from_all)
    for number in NUMBERS.values():
        told = study.tell(asked(study), number, noise_var=number, cost=number, grad={np.str_("x"): number})
        assert same(told.value, 0.5)
        assert same(told.user_attrs, {"bojax:noise_var": 0.5, "bojax:cost": 0.5, "bojax:grad": {"x": 0.5}})
    trial = asked(study)
    for number in NO_NUMBERS.values():
        for door in ("value", "noise_var", "cost", "grad"):
            arguments = {"value": 1.0} | {door: {"x": number} if door == "grad" else number}
            with pytest.raises(TypeError, match=rf"`{door}(\['x'\])?` must be"):
                study.tell(trial, **arguments)
    with pytest.raises(TypeError, match="`grad` must map names"):
        study.tell(trial, 1.0, grad=[0.5])
    assert study.trials[-1].state == "running" and study.trials[-1].user_attrs == {}


@pytest.mark.parametrize("kind", KINDS)
def test_enqueued_parameters_of_numpy_and_jax_become_plain_values(kind, tmp_path):
    study = make(url_of(kind, tmp_path))
    odd = [
        {
            "x": np.float32(0.0625),
            "n": np.int64(2),
            "act": np.str_("relu"),
            "on": np.bool_(True),
            "quality": np.int8(4),
        },
        {"x": jnp.bfloat16(0.0625), "n": jnp.int32(2), "act": "relu", "on": jnp.asarray(True), "quality": np.array(4)},
        {"x": fractions.Fraction(1, 16), "n": Level.HIGH - 1, "act": "relu", "on": True, "quality": jnp.asarray(4)},
    ]
    for params in odd:
        study.enqueue(params)
    expected = {"x": 0.0625, "n": 2, "act": "relu", "on": True, "quality": 4}
    assert all(same(trial.params, expected) for trial in study.ask(3))
    assert all(same(trial.params, expected) for trial in study.trials)
    study.add(odd[0], jnp.bfloat16(0.5), user_attrs={"a": np.ones(1)})
    study.enqueue(odd[1], user_attrs={"a": np.ones(1)})
    held = study.ask()[0]
    assert same(study.ask(fixed=odd[0])[0].params, expected) and same(held.params, expected)
    assert same([trial.user_attrs.get("a") for trial in study.trials], [None] * 3 + [[1.0], [1.0], None])
    with pytest.raises(TypeError, match="must fit into JSON"):
        study.enqueue(PARAMS, user_attrs={"a": object()})
    wrong = [{"x": jnp.ones(1)}, {"n": np.float64(2.5)}, {"on": 1}, {"quality": np.int64(3)}, {"x": "0.05"}]
    for change in wrong:
        with pytest.raises((TypeError, ValueError), match=f"`{next(iter(change))}` must be"):
            study.enqueue(PARAMS | change)
    assert len(study.trials) == 6


def test_a_bound_that_was_rounded_to_float32_is_still_the_bound():
    assert float(np.float32(0.1)) > 0.1
    study = make()
    for high in (np.float32(0.1), jnp.float32(0.1), jnp.bfloat16(0.1)):
        assert asked(study, x=high).params["x"] == 0.1
    with pytest.raises(ValueError, match="`x` must be in"):
        study.enqueue(PARAMS | {"x": float(np.float32(0.1))})
    assert SPACE.from_params(PARAMS | {"x": np.float32(0.1)})[0] == 1.0
    assert bojax.Categorical([0.2, 0.1]).position(jnp.float32(0.1), name="rate") == 1
    with pytest.raises(ValueError, match="`rate` must be one of"):
        bojax.Categorical([0.2, 0.1]).position(float(np.float32(0.1)), name="rate")


def test_a_space_takes_numbers_and_lists_of_any_kind():
    odd = {
        "x": bojax.Float(decimal.Decimal("0.5"), jnp.bfloat16(1.5)),
        "n": bojax.Int(np.uint8(1), jnp.int32(8)),
        "act": bojax.Categorical(np.array(["relu", "tanh"])),
        "quality": bojax.Ordinal(jnp.asarray([1, 2, 4])),
    }
    plain = {
        "x": bojax.Float(0.5, 1.5),
        "n": bojax.Int(1, 8),
        "act": bojax.Categorical(["relu", "tanh"]),
        "quality": bojax.Ordinal([1, 2, 4]),
    }
    assert same(bojax.Space(odd).to_spec(), bojax.Space(plain).to_spec())


VECTORIZED = {
    "bfloat16": jnp.asarray([0.5, 1.5], jnp.bfloat16),
    "float16": np.asarray([0.5, 1.5], np.float16),
    "list of JAX scalars": [jnp.float32(0.5), jnp.bfloat16(1.5)],
    "tuple of all kinds": (fractions.Fraction(1, 2), np.float16(1.5)),
    "objects": np.asarray([0.5, 1.5]),
}


@pytest.mark.parametrize("returned", VECTORIZED.values(), ids=VECTORIZED)
def test_vectorized_objectives_may_return_any_numbers(returned):
    study = make()
    study.enqueue(PARAMS), study.enqueue(PARAMS)
    study.optimize(lambda arrays: returned, num_trials=2, batch_size=2, vectorized=True, progress=False)
    assert same([trial.value for trial in study.trials], [0.5, 1.5])


NOT_VECTORIZED = [
    jnp.ones((2, 1)),
    [0.5, "1.5"],
    [0.5, True],
    [[0.5], [1.5]],
    [0.5],
    {0.5, 1.5},
    (np.ones(2), {"a": 1}),
]
NOT_VECTORIZED += [[np.ones(2), np.ones(3), 1.0]]


@pytest.mark.parametrize("returned", NOT_VECTORIZED)
def test_vectorized_objectives_that_return_no_numbers_are_named(returned):
    study = make()
    study.enqueue(PARAMS), study.enqueue(PARAMS)
    with pytest.raises(TypeError, match="must return an array of 2 numbers"):
        study.optimize(lambda arrays: returned, num_trials=2, batch_size=2, vectorized=True, progress=False)


def test_counts_and_seeds_may_come_from_numpy_and_jax():
    study = make(seed=jnp.uint32(7))
    assert same(study.seed, 7)
    study.enqueue(PARAMS), study.enqueue(PARAMS)
    assert len(study.ask(jnp.int32(2))) == 2
    study.enqueue(PARAMS)
    study.optimize(lambda params: 1.0, num_trials=jnp.int32(1), batch_size=np.int8(1), progress=False)
    assert len(study.trials) == 3
    assert study.tell(jnp.int32(0), 1.0).number == 0 and study.correct(np.int16(0), 2.0).value == 2.0
    study.enqueue(PARAMS)
    study.optimize(lambda params: 1.0, num_trials=1, timeout=decimal.Decimal(60), progress=np.bool_(False))
    with pytest.raises(TypeError, match="`seed` must be an integer"):
        make(seed=jnp.float32(7))


@pytest.mark.parametrize("kind", KINDS)
def test_data_frames_have_columns_of_numbers_and_times(kind, tmp_path):
    pandas = pytest.importorskip("pandas")
    study = make(url_of(kind, tmp_path))
    told = {"n": 1, "loss": jnp.float32(0.5), "text": "a", "list": np.ones(2)}
    study.tell(asked(study), 1, user_attrs=told)
    study.tell(asked(study, act=None, n=3), 2, user_attrs=told | {"loss": None, "epoch": 3})
    study.tell(asked(study, act=3), state="fail")
    asked(study)
    frame = study.to_dataframe()
    numbers = ["number", "value", "params_x", "params_n", "params_quality", "user_attrs_loss", "user_attrs_epoch"]
    assert all(pandas.api.types.is_numeric_dtype(frame[name]) for name in numbers)
    assert frame["params_n"].dtype == np.int64 and frame["value"].dtype == frame["params_x"].dtype == np.float64
    assert frame["value"].mean() == 1.5 and frame["user_attrs_epoch"].max() == 3.0
    assert frame["user_attrs_loss"].isna().tolist() == [False, True, True, True]
    assert frame["params_act"].tolist() == ["relu", None, 3, "relu"]
    assert frame["user_attrs_list"][0] == [1.0, 1.0]
    assert frame["state"].tolist() == ["complete", "complete", "fail", "running"]
    assert pandas.api.types.is_datetime64_any_dtype(frame["datetime_start"])
    assert pandas.api.types.is_datetime64_any_dtype(frame["datetime_complete"])
    assert pandas.api.types.is_timedelta64_dtype(frame["duration"])
    assert frame["duration"].isna().tolist() == [False, False, False, True]
    first = study.trials[0]
    assert first.duration == first.datetime_complete - first.datetime_start == frame["duration"][0].to_pytimedelta()
    assert 0.0 <= first.duration.total_seconds() < 60.0
    empty = make().to_dataframe()
    assert len(empty) == 0 and empty["value"].dtype == np.float64
