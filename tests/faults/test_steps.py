"""Numbers on a grid: `Float(step=)` and `Int(log=True, step=)`."""

import json
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optuna
import pytest

import bojax
from bojax import BojaxWarning, Categorical, Float, Int, Space

GRID = Space(
    tenth=Float(0.0, 1.0, step=0.1),
    offset=Float(-0.35, 0.4, step=0.05),
    rate=Float(0.001, 0.101, log=True, step=0.01),
    width=Int(16, 512, log=True, step=16),
    odd=Int(1, 99, log=True, step=2),
)


def at_random(space, q):
    return bojax.random_search(space, q=q)


def all_values(parameter):
    return [parameter.value(i) for i in range(parameter.num_values)]


def test_the_values_are_the_decimal_numbers_one_writes_down():
    assert all_values(GRID["tenth"]) == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    assert all_values(GRID["offset"])[:4] == [-0.35, -0.3, -0.25, -0.2]
    assert all_values(GRID["width"]) == list(range(16, 513, 16))
    assert all_values(GRID["odd"])[-2:] == [97, 99]


@pytest.mark.long
def test_every_value_goes_through_the_cube_and_comes_back_as_itself():
    base, X = {name: GRID[name].value(0) for name in GRID}, []
    for name, parameter in GRID.items():
        for value in all_values(parameter):
            X.append(GRID.from_params(base | {name: value}))
            assert GRID.to_params(X[-1])[name] == value
    with jax.enable_x64(True):
        np.testing.assert_array_equal(np.asarray(GRID.round(jnp.asarray(X))), X)


@pytest.mark.long
@pytest.mark.parametrize("x64", [False, True])
def test_compiled_decode_gives_the_same_numbers_as_the_host(x64):
    with jax.enable_x64(x64):
        X = GRID.sample(jax.random.key(0), 64)
        decoded = jax.jit(GRID.decode)(X)
        for row, x in enumerate(np.asarray(X, float)):
            params = GRID.to_params(x)
            for name in GRID:
                value, parameter = np.asarray(decoded[name])[row], GRID[name]
                if x64 or params[name] not in (parameter.low, parameter.high):
                    assert value == np.asarray(params[name], value.dtype)
                else:  # the bounds hold in every precision, so the ends may be the next number inside
                    assert parameter.low <= value <= parameter.high
                    assert abs(value - params[name]) <= 2 * np.spacing(np.float32(abs(params[name])))
        back = GRID.encode(decoded)
        np.testing.assert_array_equal(np.asarray(GRID.positions(back)), np.asarray(GRID.positions(X)))


@pytest.mark.long
def test_steps_beyond_the_table_of_values_are_exact_on_the_host_and_right_in_compiled_code():
    space = Space(x=Float(-1.0, 9.0, step=0.001), y=Float(0.001, 20.0, log=True, step=0.001))
    assert space.num_values == (10001, 20000)
    with jax.enable_x64(True):
        X = space.sample(jax.random.key(0), 200)
        decoded = {name: np.asarray(column) for name, column in space.decode(X).items()}
        for row, x in enumerate(np.asarray(X)):
            params = space.to_params(x)
            for name in space:
                assert params[name] == round(params[name], 3)
                assert abs(decoded[name][row] - params[name]) < 1e-12
    assert space.to_params([1.0, 1.0]) == {"x": 9.0, "y": 20.0} and space.to_params([0.0, 0.0])["x"] == -1.0


@pytest.mark.long
def test_a_log_scale_gives_small_values_wide_cells_and_keeps_those_without_step_where_they_were():
    X = np.linspace(0.0, 1.0, 2001)[:, None]
    odd = Space(odd=GRID["odd"])
    values = np.asarray(odd.decode(jnp.asarray(X))["odd"])
    counts = np.array([np.sum(values == value) for value in all_values(GRID["odd"])])
    assert (np.diff(counts) <= 1).all() and counts[0] > 10 * counts[-1] > 0
    plain = Space(width=Int(16, 512, log=True))
    assert plain.from_params({"width": 16})[0] == pytest.approx(np.log(16 / 15.5) / np.log(512.5 / 15.5), abs=1e-12)
    lows = np.asarray(Space(w=Int(1, 9, log=True, step=4)).decode(jnp.array([[0.0], [1.0]]))["w"])
    assert lows.tolist() == [1, 9]


def test_a_step_that_misses_high_ends_at_the_last_value_and_says_so():
    with pytest.warns(BojaxWarning, match=r"step of 0.3 from 0.0 does not meet high=1.0: the last value is 0.9"):
        parameter = Float(0.0, 1.0, step=0.3)
    assert parameter == Float(0.0, 0.9, step=0.3) and all_values(parameter) == [0.0, 0.3, 0.6, 0.9]
    with pytest.raises(ValueError, match="valid `high` is 8"):
        Int(2, 9, log=True, step=3)


def test_a_step_that_was_computed_meets_high():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for parts in (3, 7, 9, 11):
            parameter = Float(0.0, 1.1, step=1.1 / parts)
            assert parameter.num_values == parts + 1 and parameter.value(parts) == 1.1
            bojax.Study(Space(x=parameter)).enqueue({"x": 1.1})


def test_values_off_the_grid_are_refused_and_rounding_errors_are_not():
    assert GRID["tenth"].check(0.1 + 0.2, name="tenth") == 0.3
    with pytest.raises(ValueError, match=r"`tenth` must be 0.0 plus a multiple of 0.1, got 0.35.*0.3 and 0.4"):
        GRID["tenth"].check(0.35, name="tenth")
    with pytest.raises(ValueError, match=r"`tenth` must be in \[0.0, 1.0\], got 1.1"):
        GRID["tenth"].check(1.1, name="tenth")
    with pytest.raises(ValueError, match="`odd` must be 1 plus a multiple of 2, got 4"):
        GRID["odd"].position(4, name="odd")


def test_the_specification_is_json_and_that_of_a_plain_float_is_as_before():
    assert Space.from_spec(json.loads(json.dumps(GRID.to_spec()))) == GRID
    assert Space(x=Float(0, 1)).to_spec() == {"x": {"type": "float", "low": 0.0, "high": 1.0, "log": False}}
    assert Float(0, 1, step=0.5) != Float(0, 1) and repr(Float(0, 1)) == "Float(low=0.0, high=1.0, log=False)"


def test_a_space_of_grids_is_finite_and_ends():
    space = Space(x=Float(0.0, 0.5, step=0.25), c=Categorical(["a", "b"]))
    assert space.cardinality == 6
    with pytest.warns(BojaxWarning):
        result = bojax.minimize(lambda p: p["x"], space, num_trials=20, algorithm=at_random, progress=False)
    assert sorted((t.params["x"], t.params["c"]) for t in result.study.trials) == [
        (x, c) for x in (0.0, 0.25, 0.5) for c in ("a", "b")
    ]


@pytest.mark.long
@pytest.mark.parametrize("scheme", ["sqlite:///{}.db", "journal:///{}.log"])
def test_a_stored_study_of_grids_goes_on_and_optuna_reads_its_values(tmp_path, scheme):
    url, seen = scheme.format(tmp_path / "study"), []

    def objective(params):
        seen.append(params)
        return abs(params["tenth"] - 0.3)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            study = bojax.Study(GRID, storage=url, name="s", seed=0, algorithm=at_random)
            study.optimize(objective, num_trials=4, progress=False)
        loaded = optuna.load_study(study_name="s", storage=study.optuna._storage)
    assert [t.params for t in loaded.trials] == seen and len(seen) == 8
    for params in seen:
        assert all(params[name] in all_values(GRID[name]) for name in GRID)
    again = bojax.Study(storage=url, name="s", algorithm=at_random)
    assert again.space == GRID
    again.enqueue({name: GRID[name].high for name in GRID})
    assert again.ask(1)[0].params == {name: GRID[name].high for name in GRID}


def test_nothing_is_differentiated_by_a_parameter_with_steps():
    study = bojax.Study(Space(x=Float(0.0, 1.0), y=Float(0.0, 1.0, step=0.5)), algorithm=at_random)
    trial = study.ask(1)[0]
    with pytest.raises(ValueError, match="'y', which is discrete"):
        study.tell(trial, 1.0, grad={"x": 0.1, "y": 0.2})
