"""`Space` and its parameters as objects of the host: what they hold and what they refuse."""

import copy
import json
import math
import pickle
import re
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from bojax.space import Categorical, Float, Int, Ordinal, Space
from tests.space import strategies

SPACE = Space(
    {
        "learning_rate": Float(1e-5, 1e-1, log=True),
        "width": Int(16, 256, step=16),
        "activation": Categorical(["relu", "gelu", None, True]),
        "quality": Ordinal([1, 2, 4]),
    }
)
PARAMS = {"learning_rate": 1e-3, "width": 32, "activation": "relu", "quality": 2}


def raises(error, *parts):
    """Expects `error` with all of `parts` in its message."""
    return pytest.raises(error, match="".join(f"(?=.*{re.escape(str(part))})" for part in parts))


@settings(deadline=None, max_examples=100)
@given(strategies.spaces())
def test_spec_json_and_pickle_give_the_space_back(space):
    spec = space.to_spec()
    for other in (
        Space.from_spec(spec),
        Space.from_spec(json.loads(json.dumps(spec))),
        pickle.loads(pickle.dumps(space)),
        copy.deepcopy(space),
        Space(space),
        eval(repr(space)),
    ):
        assert other == space and hash(other) == hash(space)
        assert other.names == space.names and repr(other) == repr(space)


def test_spec_is_the_plain_data_of_the_design():
    spec = {
        "learning_rate": {"type": "float", "low": 1e-5, "high": 0.1, "log": True},
        "width": {"type": "int", "low": 16, "high": 256, "log": True, "step": 1},
        "activation": {"type": "categorical", "choices": ["relu", "tanh"]},
        "q": {"type": "ordinal", "values": [1, 2, 4]},
    }
    space = Space.from_spec(spec)
    assert space.to_spec() == spec
    assert list(space.to_spec()) == list(spec)
    assert space["q"] == Ordinal([1, 2, 4])
    assert Space.from_spec({"x": {"type": "int", "low": 0, "high": 3}})["x"] == Int(0, 3)


def test_attributes():
    assert SPACE.names == ("learning_rate", "width", "activation", "quality")
    assert SPACE.num_dims == len(SPACE) == 4
    assert SPACE.num_values == (0, 16, 4, 3)
    assert SPACE.is_categorical == (False, False, True, False)
    assert SPACE.cardinality is None
    assert Space(a=Int(0, 9, step=3), b=Ordinal(["x", "z"])).cardinality == 8
    assert Space(a=Int(-(2**30), 2**30 - 2), b=Int(0, 9), c=Int(0, 9), d=Int(0, 9)).cardinality == (2**31 - 1) * 1000
    assert list(SPACE) == list(SPACE.keys()) == list(SPACE.names)
    assert SPACE["width"] is SPACE.parameters[1]
    assert "width" in SPACE and "depth" not in SPACE
    assert Space(x=Float(0, 1)) == Space({"x": Float(0, 1)})


def test_equality_is_exact():
    a, b = Float(0, 1), Int(0, 1)
    assert Space(a=a, b=b) != Space(b=b, a=a)
    assert Space(a=a) != Space(b=a)
    assert Space(a=a) != {"a": a}
    assert Float(0, 1) == Float(0.0, np.float32(1)) and Float(0, 1) != Int(0, 1)
    assert Categorical([1, 2]) == Categorical((1, 2)) == Categorical(np.array([1, 2]))
    assert Categorical([1, 2]) != Categorical([True, 2]) != Categorical([1.0, 2])
    assert Categorical(["a"]) != Ordinal(["a"])
    assert len({Categorical([1]), Categorical([True]), Categorical([1.0]), Categorical((1,))}) == 3


def test_a_space_cannot_be_changed():
    with raises(AttributeError, "names", "Make a new one"):
        SPACE.names = ("x",)
    with raises(AttributeError, "names"):
        del SPACE.names
    with pytest.raises(AttributeError):
        SPACE["width"].low = 3


def test_numbers_are_stored_as_plain_python():
    f = Float(np.float32(0.5), np.int64(2), log=np.bool_(True))
    assert (type(f.low), type(f.high), type(f.log)) == (float, float, bool)
    i = Int(np.int32(1), jnp.array(9))
    assert (type(i.low), type(i.high)) == (int, int)
    assert type(Categorical([np.float32(0.5), np.str_("a"), np.int8(1)]).choices[0]) is float


@pytest.mark.parametrize(
    "make, error, parts",
    [
        (lambda: Float(1, 1), ValueError, ["`low`", "low=1.0", "high=1.0"]),
        (lambda: Float(3, 1), ValueError, ["`low`", "low=3.0", "high=1.0", "Swap"]),
        (lambda: Float(-math.inf, 1), ValueError, ["`low`", "-inf"]),
        (lambda: Float(0, math.nan), ValueError, ["`high`", "nan"]),
        (lambda: Float(0, 10**400), ValueError, ["`high`", "1000"]),
        (lambda: Float(-1e308, 1e308), ValueError, ["`high - low`", "1e+308"]),
        (lambda: Float(True, 3), TypeError, ["`low`", "True"]),
        (lambda: Float(0, np.bool_(True)), TypeError, ["`high`", "True"]),
        (lambda: Float("0", 1), TypeError, ["`low`", "'0'"]),
        (lambda: Float(0, None), TypeError, ["`high`", "None"]),
        (lambda: Float(0, 1, log=True), ValueError, ["`low`", "0.0", "log"]),
        (lambda: Float(-1.5, 1, log=True), ValueError, ["`low`", "-1.5", "log"]),
        (lambda: Float(1, 2, log="yes"), TypeError, ["`log`", "'yes'"]),
        (lambda: Float(1, 2, True), TypeError, ["positional"]),
        (lambda: Int(5, 5), ValueError, ["`low`", "low=5"]),
        (lambda: Int(False, 5), TypeError, ["`low`", "False"]),
        (lambda: Int(0, 5.5), TypeError, ["`high`", "5.5", "Float"]),
        (lambda: Int(0, 5.0), TypeError, ["`high`", "5.0"]),
        (lambda: Int(0, math.inf), ValueError, ["`high`", "inf"]),
        (lambda: Int(0, math.nan), ValueError, ["`high`", "nan"]),
        (lambda: Int(0, 5, log=True), ValueError, ["`low`", "0", "log"]),
        (lambda: Int(1, 5, log=1), TypeError, ["`log`", "1"]),
        (lambda: Int(0, 5, step=0), ValueError, ["`step`", "0"]),
        (lambda: Int(0, 5, step=-1), ValueError, ["`step`", "-1"]),
        (lambda: Int(0, 5, step=True), TypeError, ["`step`", "True"]),
        (lambda: Int(0, 5, step=2.5), TypeError, ["`step`", "2.5"]),
        (lambda: Float(0, 1, step=0), ValueError, ["`step`", "0.0", "positive"]),
        (lambda: Float(0, 1, step=-0.1), ValueError, ["`step`", "-0.1"]),
        (lambda: Float(0, 1, step=1.5), ValueError, ["`step`", "1.5", "high - low = 1.0"]),
        (lambda: Float(0, 1, step=1e-12), ValueError, ["`step`", "1e-12", "told apart"]),
        (lambda: Float(1e17, 2e17, step=1), ValueError, ["`step`", "told apart"]),
        (lambda: Float(0, 1, step=math.nan), ValueError, ["`step`", "nan"]),
        (lambda: Float(0, 1, step="0.1"), TypeError, ["`step`", "'0.1'"]),
        (lambda: Int(0, 10, step=4), ValueError, ["`high`", "high=10", "step=4", "valid `high` is 8"]),
        (lambda: Int(0, 11, step=4), ValueError, ["`high`", "high=11", "valid `high` is 12"]),
        (lambda: Int(0, 1, step=4), ValueError, ["`high`", "valid `high` is 4"]),
        (lambda: Int(0, 2**31), ValueError, ["`high`", 2**31, "int32"]),
        (lambda: Int(-(2**31) - 1, 0), ValueError, ["`low`", -(2**31) - 1, "int32"]),
        (lambda: Int(-(2**31), 2**31 - 1), ValueError, ["`high - low`", 2**32 - 1]),
        (lambda: Categorical([]), ValueError, ["`choices`", "empty"]),
        (lambda: Categorical("relu"), TypeError, ["`choices`", "'relu'"]),
        (lambda: Categorical({"relu", "tanh"}), TypeError, ["`choices`", "set"]),
        (lambda: Categorical(3), TypeError, ["`choices`", "3"]),
        (lambda: Categorical(["a", "b", "a"]), ValueError, ["`choices`", "'a'"]),
        (lambda: Categorical([1, True]), ValueError, ["`choices`", "1", "True"]),
        (lambda: Categorical([0, 2, False]), ValueError, ["`choices`", "False"]),
        (lambda: Ordinal([1, 2, 1.0]), ValueError, ["`values`", "1.0"]),
        (lambda: Categorical([math.nan, 1]), ValueError, ["`choices`", "nan"]),
        (lambda: Categorical([[1], [2]]), TypeError, ["`choices`", "[1]"]),
        (lambda: Categorical([max]), TypeError, ["`choices`", "max"]),
        (lambda: Ordinal([]), ValueError, ["`values`", "empty"]),
        (lambda: Ordinal([(1, 2)]), TypeError, ["`values`", "(1, 2)"]),
        (lambda: Space({}), ValueError, ["`parameters`", "empty"]),
        (lambda: Space(), ValueError, ["`parameters`", "empty"]),
        (lambda: Space([("x", Float(0, 1))]), TypeError, ["`parameters`", "list"]),
        (lambda: Space({"x": (0, 1)}), TypeError, ["`x`", "(0, 1)", "Float"]),
        (lambda: Space(x={"type": "float"}), TypeError, ["`x`", "from_spec"]),
        (lambda: Space(x=Float), TypeError, ["`x`", "Float"]),
        (lambda: Space({3: Float(0, 1)}), TypeError, ["3", "str"]),
        (lambda: Space({"": Float(0, 1)}), ValueError, ["name", "''"]),
        (lambda: Space({"x": Float(0, 1)}, y=Float(0, 1)), TypeError, ["not both", "y"]),
    ],
)
def test_mistakes_in_a_description(make, error, parts):
    with raises(error, *parts):
        make()


@pytest.mark.parametrize(
    "change, error, parts",
    [
        ({"learning_rate": 0.5}, ValueError, ["`learning_rate`", "0.5", "[1e-05, 0.1]"]),
        ({"learning_rate": math.nan}, ValueError, ["`learning_rate`", "nan"]),
        ({"learning_rate": math.inf}, ValueError, ["`learning_rate`", "inf"]),
        ({"learning_rate": 10**400}, ValueError, ["`learning_rate`", "1000"]),
        ({"learning_rate": "0.01"}, TypeError, ["`learning_rate`", "'0.01'"]),
        ({"learning_rate": True}, TypeError, ["`learning_rate`", "True"]),
        ({"learning_rate": np.array([0.01, 0.02])}, TypeError, ["`learning_rate`", "ndarray"]),
        ({"width": 8}, ValueError, ["`width`", "8", "[16, 256]"]),
        ({"width": 40}, ValueError, ["`width`", "40", "multiple of 16", "32 and 48"]),
        ({"width": 32.0}, TypeError, ["`width`", "32.0"]),
        ({"width": True}, TypeError, ["`width`", "True"]),
        ({"width": "32"}, TypeError, ["`width`", "'32'"]),
        ({"activation": "rleu"}, ValueError, ["`activation`", "'rleu'", "Did you mean 'relu'?"]),
        ({"activation": "RELU"}, ValueError, ["`activation`", "Did you mean 'relu'?"]),
        ({"activation": 1}, ValueError, ["`activation`", "1"]),
        ({"activation": ["relu"]}, ValueError, ["`activation`", "['relu']"]),
        ({"activation": np.array(["relu", "gelu"])}, ValueError, ["`activation`"]),
        ({"quality": 3}, ValueError, ["`quality`", "3", "[1, 2, 4]"]),
        ({"quality": True}, ValueError, ["`quality`", "True"]),
        ({"quality": "2"}, ValueError, ["`quality`", "'2'"]),
        ({"wdith": 32}, ValueError, ["`params`", "'wdith'"]),
    ],
)
def test_mistakes_in_params(change, error, parts):
    for call in (SPACE.from_params, lambda params: SPACE.to_arrays([PARAMS, params])):
        with raises(error, *parts):
            call(PARAMS | change)


def test_names_that_are_missing_or_misspelt():
    short = {name: value for name, value in PARAMS.items() if name != "width"}
    for call in (SPACE.from_params, SPACE.encode):
        with raises(ValueError, "`params`", "Missing: ['width']"):
            call(short)
        with raises(ValueError, "'wdith'", "Did you mean 'width'?"):
            call(short | {"wdith": 32})
        with raises(TypeError, "`params`", "list"):
            call([1, 2])
    with raises(KeyError, "wdith", "Did you mean 'width'?"):
        SPACE["wdith"]


def test_params_may_hold_numpy_and_jax_scalars():
    plain = SPACE.from_params(PARAMS)
    odd = {
        "learning_rate": np.float64(1e-3),
        "width": np.int64(32),
        "activation": np.str_("relu"),
        "quality": jnp.int32(2),
    }
    np.testing.assert_array_equal(SPACE.from_params(odd), plain)
    back = SPACE.to_params(jnp.asarray(plain))
    assert [type(value) for value in back.values()] == [float, int, str, int]
    assert SPACE.from_params(PARAMS | {"activation": True})[2] == 3.5 / 4
    arrays = SPACE.to_arrays([PARAMS, odd])
    assert arrays["activation"].tolist() == [0, 0] and arrays["width"].tolist() == [32, 32]
    assert SPACE.to_arrays([])["width"].shape == (0,)


@pytest.mark.parametrize(
    "call, error, parts",
    [
        (lambda: SPACE.to_params([0.5] * 3), ValueError, ["`x`", "(4,)", "(3,)"]),
        (lambda: SPACE.to_params(np.zeros((1, 4))), ValueError, ["`x`", "(1, 4)"]),
        (lambda: SPACE.to_params([0.5, math.nan, 0, 0]), ValueError, ["`x`", "finite", "nan"]),
        (lambda: SPACE.decode(jnp.zeros((2, 3))), ValueError, ["`X`", "4", "(2, 3)"]),
        (lambda: SPACE.round(jnp.float32(0.5)), ValueError, ["`X`", "()"]),
        (lambda: SPACE.positions(jnp.zeros(4, int)), TypeError, ["`X`", "int32"]),
        (lambda: SPACE.coordinates(jnp.zeros(4), jnp.zeros(4)), TypeError, ["`P`", "float32"]),
    ],
)
def test_mistakes_in_arrays(call, error, parts):
    with raises(error, *parts):
        call()


@pytest.mark.unchecked
@pytest.mark.parametrize(
    "spec, error, parts",
    [
        (
            {"x": {"type": "flaot", "low": 0, "high": 1}},
            ValueError,
            ["`x`", "'flaot'", "Did you mean 'float'?"],
        ),
        ({"x": {"type": None}}, ValueError, ["`x`", "None"]),
        ({"x": {"low": 0, "high": 1}}, ValueError, ["`x`", "'type'"]),
        (
            {"x": {"type": "float", "low": 0, "hihg": 1}},
            ValueError,
            ["`x`", "'hihg'", "Did you mean 'high'?"],
        ),
        ({"x": {"type": "float", "low": 0, "high": 1, "stop": 1}}, ValueError, ["`x`", "'stop'"]),
        ({"x": {"type": "categorical", "values": [1]}}, ValueError, ["`x`", "'values'", "choices"]),
        ({"x": {"type": "int", "low": 0}}, ValueError, ["`x`", "'high'"]),
        ({"x": {"type": "int", "low": 3, "high": 0}}, ValueError, ["`x`", "`low`", "low=3"]),
        ({"x": {"type": "float", "low": "0", "high": 1}}, TypeError, ["`x`", "`low`", "'0'"]),
        ({"x": ["float", 0, 1]}, TypeError, ["`x`", "list"]),
        ({}, ValueError, ["empty"]),
        ("x", TypeError, ["`spec`", "'x'"]),
    ],
)
def test_mistakes_in_a_spec(spec, error, parts):
    with raises(error, *parts):
        Space.from_spec(spec)


def test_the_docstrings_examples_are_true():
    import doctest

    from bojax.space import _parameters, _space

    for module in (_parameters, _space):
        assert doctest.testmod(module).failed == 0


def test_space_imports_nothing_heavy():
    code = (
        "import sys, bojax.space; "
        "print([m for m in ('scipy.stats', 'flax', 'optuna', 'gpjax', 'sklearn', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
