"""Parameters that exist only under some values of others."""

import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bojax
from bojax.space import Categorical, Float, Int, Lattice, Ordinal, Space
from tests.space.test_space import raises

TREE = Space(
    {
        "momentum": Float(0.0, 0.9, when={"optimizer": "sgd"}),  # a child may stand before its parent
        "optimizer": Categorical(["adam", "sgd", "none"]),
        "nesterov": Categorical([True, False], when={"optimizer": "sgd"}),
        "degree": Int(1, 4, when={"nesterov": True}),  # a parent that is conditional itself
        "warmup": Ordinal([1, 5, 9], when={"optimizer": ["adam", "sgd"], "level": [2, 3]}),  # several names and values
        "level": Int(1, 3),
    }
)
FINITE = Space(
    {
        "kind": Categorical(["a", "b", "c"]),
        "p": Int(1, 6, when={"kind": "a"}),
        "q": Int(1, 5, when={"kind": ["b", "a"]}),
        "flag": Categorical([True, False], when={"q": [4, 5]}),
    }
)


def expected(params):
    """The names that exist, from the rules of `TREE` in words."""
    names = {"optimizer", "level"}
    if params["optimizer"] == "sgd":
        names |= {"momentum", "nesterov"}
        names |= {"degree"} if params["nesterov"] is True else set()
    if params["optimizer"] != "none" and params["level"] in (2, 3):
        names |= {"warmup"}
    return names


def points(space, n=200, seed=0):
    return np.random.default_rng(seed).random((n, space.num_dims))


def test_params_hold_exactly_what_exists():
    for x in points(TREE):
        params = TREE.to_params(x)
        assert set(params) == expected(params)
        assert set(TREE.active_names(params)) == set(params) and TREE.is_complete(params)
        back = TREE.to_params(TREE.from_params(params))
        assert back == pytest.approx(params)


def test_arrays_agree_with_dicts_and_are_finite():
    X = jnp.asarray(points(TREE), jnp.float32)
    rounded = jax.jit(TREE.round)(X)
    exists = np.asarray(TREE.active(X))
    decoded = {name: np.asarray(column) for name, column in TREE.decode(X).items()}
    assert np.all(np.asarray(rounded)[~exists] == 0.5) and np.isfinite(rounded).all()
    lowest = {"momentum": 0.0, "nesterov": 0, "degree": 1, "warmup": 0}
    for i, x in enumerate(np.asarray(X, float)):
        params = TREE.to_params(x)
        assert [name in params for name in TREE.names] == exists[i].tolist()
        np.testing.assert_allclose(rounded[i], TREE.from_params(params), atol=1e-6)
        for name, value in lowest.items():
            assert name in params or decoded[name][i] == value
    np.testing.assert_allclose(TREE.encode(TREE.decode(rounded)), rounded, atol=1e-6)
    np.testing.assert_array_equal(TREE.round(rounded), rounded)


def test_lattice_of_any_width_pins_the_same_columns():
    X = points(TREE)
    exact, padded = Lattice.of(TREE), Lattice.padded(TREE)
    wide = np.pad(X, ((0, 0), (0, padded.num_dims - TREE.num_dims)))
    np.testing.assert_array_equal(padded.snap(wide)[:, : TREE.num_dims], exact.snap(X))
    np.testing.assert_array_equal(padded.active(wide)[:, : TREE.num_dims], exact.active(X))
    np.testing.assert_allclose(exact.snap(X), TREE.round(jnp.asarray(X)), atol=1e-6)
    stacked = Lattice.stack([TREE, Space(x=Float(0.0, 1.0), n=Int(1, 4), c=Categorical(["a", "b"]))])
    many = jax.vmap(lambda lattice, X: lattice.snap(X), in_axes=(0, None))(stacked, jnp.asarray(wide))
    np.testing.assert_allclose(many[0, :, : TREE.num_dims], exact.snap(X), atol=1e-6)


def test_every_point_of_a_finite_tree_counts_once():
    def brute():
        for kind, p, q, flag in itertools.product("abc", range(1, 7), range(1, 6), (True, False)):
            params = {"kind": kind}
            params |= {"p": p} if kind == "a" else {}
            params |= {"q": q} if kind in "ab" else {}
            params |= {"flag": flag} if kind in "ab" and q >= 4 else {}
            yield tuple(params.items())

    every = set(brute())
    assert FINITE.cardinality == len(every)
    assert {tuple(FINITE.to_params(x).items()) for x in points(FINITE, 5000)} == every
    P = FINITE.all_positions()
    assert len(P) == len(every) == len({tuple(row) for row in P.tolist()})
    assert FINITE.num_points({"kind": "b"}) == 3 + 2 * 2
    assert FINITE.num_points({"kind": "c"}) == 1
    assert FINITE.num_points({"kind": "a", "q": 5}) == 6 * 2
    assert TREE.num_points({"optimizer": "adam"}) == 1 + 2 * 3
    assert TREE.num_points({"optimizer": "sgd"}) is None


@pytest.mark.parametrize("space", [FINITE, Space(a=Int(1, 2), b=Int(1, 900, when={"a": 2}), c=Int(1, 2000))])
def test_spec_and_repr_keep_the_conditions(space):
    assert Space.from_spec(json.loads(json.dumps(space.to_spec()))) == space
    assert eval(repr(space)) == space
    assert space != Space({name: type(space[name])(*_arguments(space[name])) for name in space})


def _arguments(parameter):
    return (parameter.low, parameter.high) if isinstance(parameter, Int) else (parameter.choices,)


def test_mistakes_in_conditions_are_named():
    x = Float(0.0, 1.0, when={"a": 1})
    with raises(ValueError, "circle", "'x' -> 'y' -> 'x'"):
        Space(x=Int(1, 3, when={"y": 1}), y=Int(1, 3, when={"x": 1}))
    with raises(ValueError, "circle", "'x' -> 'x'"):
        Space(x=Int(1, 3, when={"x": 1}))
    with raises(ValueError, "`when` of `x`", "'optimiser'", "Did you mean 'optimizer'?"):
        Space(optimizer=Categorical(["a"]), x=Float(0.0, 1.0, when={"optimiser": "a"}))
    with raises(ValueError, "`when` of `x`", "one of ['adam', 'sgd']", "'sdg'", "Did you mean 'sgd'?"):
        Space(optimizer=Categorical(["adam", "sgd"]), x=Float(0.0, 1.0, when={"optimizer": "sdg"}))
    with raises(ValueError, "`when` of `x`", "discrete", "Float without `step`"):
        Space(a=Float(0.0, 2.0), x=x)
    with raises(ValueError, "`x` can never exist", "`a`"):
        Space(a=Int(1, 3), b=Int(1, 2, when={"a": 2}), x=Int(1, 2, when={"b": 1, "a": 1}))
    with raises(ValueError, "at most 4096 values", "`a`"):
        Space(a=Int(1, 5000), x=x)
    with raises(TypeError, "`when`", "'optimizer'"):
        Float(0.0, 1.0, when="optimizer")
    with raises(ValueError, "at least one value"):
        Float(0.0, 1.0, when={"a": []})
    with raises(ValueError, "once", "[1, 1]"):
        Float(0.0, 1.0, when={"a": [1, 1]})


def test_params_that_miss_or_have_too_much_are_named():
    space = Space(optimizer=Categorical(["adam", "sgd"]), momentum=Float(0.0, 0.9, when={"optimizer": "sgd"}))
    with raises(ValueError, "Missing: 'momentum'"):
        space.from_params({"optimizer": "sgd"})
    with raises(ValueError, "`momentum` must be left out", "{'optimizer': ['sgd']}"):
        space.from_params({"optimizer": "adam", "momentum": 0.1})
    with raises(ValueError, "Missing: 'momentum'"):
        space.to_arrays([{"optimizer": "sgd"}])
    columns = space.to_arrays([{"optimizer": "sgd", "momentum": 0.5}, {"optimizer": "adam"}])
    assert columns["momentum"].tolist() == [0.5, 0.0] and columns["optimizer"].tolist() == [1, 0]


def objective(params):
    """Raises KeyError where a parameter is missing that must exist, and fails where one is there that must not."""
    assert set(params) == expected(params)
    momentum = (params["momentum"] - 0.5) ** 2 if params["optimizer"] == "sgd" else 0.3
    return momentum + params["level"]


@pytest.mark.parametrize("make", [bojax.random_search, pytest.param(bojax.bayesopt, marks=pytest.mark.long)])
def test_study_asks_stores_and_resumes_branches(tmp_path, make):
    storage = f"sqlite:///{tmp_path}/study.db"
    study = bojax.Study(TREE, seed=1, storage=storage, algorithm=lambda space, q: make(space, q=q))
    assert study.enqueue({"optimizer": "none", "level": 3})
    assert study.enqueue({"optimizer": "sgd", "momentum": 0.25})
    study.optimize(objective, num_trials=9, batch_size=2, progress=False)
    assert study.trials[0].params == {"optimizer": "none", "level": 3}
    assert study.trials[1].params["momentum"] == 0.25
    again = bojax.Study(storage=storage, algorithm=lambda space, q: make(space, q=q))
    assert again.space == TREE
    assert [trial.params for trial in again.trials] == [trial.params for trial in study.trials]
    for trial in again.ask(2, fixed={"optimizer": "sgd", "nesterov": True}):
        assert {"momentum", "degree"} <= set(trial.params)
        again.tell(trial, objective(trial.params))
    assert "momentum" not in again.optuna.trials[0].params
    frame = again.to_dataframe()
    assert np.isnan(frame["params_momentum"][0]) and frame["params_momentum"][1] == 0.25
    with raises(ValueError, "`momentum` only together with", "{'optimizer': ['sgd']}"):
        study.enqueue({"momentum": 0.25})
    with raises(ValueError, "`momentum`"):
        study.ask(fixed={"optimizer": "adam", "momentum": 0.5})


def test_finite_tree_is_visited_whole_and_no_point_twice():
    study = bojax.Study(FINITE, seed=0, algorithm=lambda space, q: bojax.random_search(space, q=q))
    with pytest.warns(bojax.BojaxWarning, match="told or pending|exhausted|no point"):
        study.optimize(lambda params: len(params), num_trials=len(FINITE.all_positions()) + 5, progress=False)
    assert len({tuple(trial.params.items()) for trial in study.trials}) == len(study.trials) == FINITE.cardinality


def test_carried_trials_get_the_conditions_of_the_new_space():
    flat = bojax.Study(Space(optimizer=Categorical(["adam", "sgd"]), level=Int(1, 3)), seed=0)
    flat.add({"optimizer": "adam", "level": 1}, 1.0)
    flat.add({"optimizer": "sgd", "level": 2}, 2.0)
    tree = {
        "optimizer": Categorical(["adam", "sgd"]),
        "level": Int(1, 3),
        "momentum": Float(0.0, 0.9, when={"optimizer": "sgd"}),
    }
    with raises(bojax.StudyError, "'momentum'"):
        flat.carry(tree)
    carried = flat.carry(tree, {"momentum": 0.1})
    assert [trial.params for trial in carried.trials] == [
        {"optimizer": "adam", "level": 1},
        {"optimizer": "sgd", "level": 2, "momentum": 0.1},
    ]


def test_slices_of_a_tree_show_what_exists_at_the_best_trial():
    pytest.importorskip("matplotlib")
    from bojax.study import plot_slices

    study = bojax.Study(TREE, seed=0, algorithm=lambda space, q: bojax.random_search(space, q=q))
    study.optimize(objective, num_trials=12, progress=False)
    assert {axes.get_xlabel() for axes in plot_slices(study)} == set(study.best_params)
