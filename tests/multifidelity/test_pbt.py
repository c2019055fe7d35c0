"""Population-based training: exploit and explore alone, and whole runs against the same steps written out."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_runs import DIVERGES_AT, SPACE, asymptote
from toy_runs import toy as new_toy

from bojax import Float, Int, Space
from bojax.multifidelity import from_functions, pbt
from bojax.multifidelity._pbt import Contest, Explore, exploit, explored, run_pbt

toy = functools.cache(new_toy)  # so that its programs are compiled once
SIZE, ROUNDS, INTERVAL = 10, 6, 4
DIVERGING = 0.7


def run(objective=None, **options):
    length = {"num_rounds": ROUNDS, "num_steps": ROUNDS * INTERVAL}
    defaults = {"population": SIZE, **length, "explore": Explore(step=0.1, resample=0.0)}
    return pbt(objective or toy(), **(defaults | options))


# Exploit.


jitted_exploit = jax.jit(exploit, static_argnums=2)


@pytest.mark.long
@settings(deadline=None)
@given(st.sampled_from([(2, 1), (5, 2), (8, 1), (8, 4)]), st.integers(0, 99), st.data())
def test_the_worst_take_over_from_the_best_and_others_stay(sizes, seed, data):
    n, num_replaced = sizes
    some = st.sampled_from([-np.inf, -1.0, 0.0, 0.5, 2.0])
    values = np.array(data.draw(st.lists(some, min_size=n, max_size=n)), np.float32)
    parents = np.asarray(jitted_exploit(jax.random.key(seed), jnp.asarray(values), num_replaced))
    replaced = np.flatnonzero(parents != np.arange(n))
    assert len(replaced) == num_replaced
    kept = np.setdiff1d(np.arange(n), replaced)
    assert values[replaced].max() <= values[kept].min()
    ranked = np.sort(values)[::-1]
    assert (values[parents[replaced]] >= ranked[num_replaced - 1]).all()
    assert len(set(parents[replaced].tolist())) <= num_replaced
    assert not np.isin(parents[replaced], replaced).any()


@pytest.mark.long
def test_each_of_the_best_is_chosen_as_often_as_the_others():
    values = jnp.array([3.0, 0.0, 5.0, 1.0, 4.0, 2.0, 6.0, -1.0])
    parents = jax.vmap(lambda key: exploit(key, values, 3))(jax.random.split(jax.random.key(0), 2000))
    parents = np.asarray(parents)
    assert (parents[:, [0, 2, 4, 5, 6]] == [0, 2, 4, 5, 6]).all()
    for worst in (1, 3, 7):
        numbers, counts = np.unique(parents[:, worst], return_counts=True)
        assert numbers.tolist() == [2, 4, 6]
        assert abs(counts / 2000 - 1 / 3).max() < 0.05
    assert abs(np.corrcoef(parents[:, 1], parents[:, 7])[0, 1]) < 0.08


# Explore.


def points(n=400, d=3, seed=0):
    return jnp.asarray(np.random.default_rng(seed).random((n, d)), jnp.float32)


def test_the_step_is_exact_and_cut_at_the_cube():
    X, tuned = points(), jnp.array([True, False, True])
    moved = np.asarray(explored(jax.random.key(0), X, tuned, 0.25, 0.0))
    X = np.asarray(X)
    assert (moved[:, 1] == X[:, 1]).all() and ((moved >= 0) & (moved <= 1)).all()
    up, down = np.clip(X + np.float32(0.25), 0, 1), np.clip(X - np.float32(0.25), 0, 1)
    for column in (0, 2):
        is_up, is_down = moved[:, column] == up[:, column], moved[:, column] == down[:, column]
        assert (is_up ^ is_down).all()
        assert abs(is_up.mean() - 0.5) < 0.1
    assert abs(np.corrcoef(moved[:, 0] > X[:, 0], moved[:, 2] > X[:, 2])[0, 1]) < 0.2


def test_no_step_and_no_draw_is_no_change():
    X = points()
    np.testing.assert_array_equal(explored(jax.random.key(0), X, jnp.ones(3, bool), 0.0, 0.0), X)
    np.testing.assert_array_equal(explored(jax.random.key(0), X, jnp.zeros(3, bool), 1.0, 1.0), X)


def test_drawn_anew_is_uniform_and_independent_of_the_past():
    X, tuned = points(2000), jnp.array([True, True, False])
    anew = np.asarray(explored(jax.random.key(0), X, tuned, 0.1, 1.0))
    assert (anew[:, 2] == np.asarray(X)[:, 2]).all()
    for column in (0, 1):
        quantiles = np.quantile(anew[:, column], np.linspace(0, 1, 11))
        np.testing.assert_allclose(quantiles, np.linspace(0, 1, 11), atol=0.04)
        assert abs(np.corrcoef(anew[:, column], X[:, column])[0, 1]) < 0.08


@pytest.mark.parametrize("resample", [0.25, 0.6])
def test_the_share_that_is_drawn_anew(resample):
    X = jnp.full((3000, 2), 0.5)
    anew = np.asarray(explored(jax.random.key(1), X, jnp.ones(2, bool), 0.1, resample))
    moved = (anew == np.float32(0.5) + np.float32(0.1)) | (anew == np.float32(0.5) - np.float32(0.1))
    np.testing.assert_allclose(1.0 - moved.mean(axis=0), resample, atol=0.04)


# Whole runs.


def toy_steps(scores, counts, hparams, num_steps, diverging=np.inf):
    """`toy` in NumPy: scores and counts [n] after so many further steps."""
    for _ in range(num_steps):
        scores = scores + hparams["rate"] * (asymptote(hparams["x"]) - scores)
        counts = counts + 1
        scores = np.where((hparams["x"] >= diverging) & (counts >= DIVERGES_AT), np.nan, scores)
    return scores, counts


def decoded(X, space=SPACE):
    return {name: np.asarray(column, float) for name, column in space.decode(jnp.asarray(X)).items()}


def check_states(result, diverging=np.inf, sign=1.0):
    """The values are those of states that follow the parents."""
    scores, counts = np.zeros(result.X.shape[1]), np.zeros(result.X.shape[1])
    for X, values, parents in zip(result.X, result.values, result.parents, strict=True):
        scores, counts = toy_steps(scores, counts, decoded(X), INTERVAL, diverging)
        np.testing.assert_allclose(sign * values, scores, rtol=1e-4, atol=1e-5)
        scores, counts = scores[parents], counts[parents]


def check_parents(result, num_replaced, sign=1.0):
    for values, parents in zip(result.values, result.parents, strict=True):
        values = np.where(np.isfinite(values), sign * values, -np.inf)
        replaced = np.flatnonzero(parents != np.arange(len(parents)))
        kept = np.setdiff1d(np.arange(len(parents)), replaced)
        assert len(replaced) == num_replaced and values[replaced].max() <= values[kept].min()
        assert (values[parents[replaced]] >= np.sort(values)[-num_replaced]).all()


def check_moves(result, tuned, step):
    """Those that stay keep their hyperparameters, the others are a step from their parents in the tuned columns."""
    for before, after, parents in zip(result.X[:-1], result.X[1:], result.parents[:-1], strict=True):
        stay = parents == np.arange(len(parents))
        assert (after[stay] == before[stay]).all()
        source, moved = before[parents][~stay], after[~stay]
        assert (moved[:, ~tuned] == source[:, ~tuned]).all()
        up, down = (np.clip(source + sign * step, 0, 1)[:, tuned] for sign in (1, -1))
        moved = moved[:, tuned]
        assert (np.isclose(moved, up, atol=1e-6) | np.isclose(moved, down, atol=1e-6)).all()


@pytest.mark.long
@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_a_run_is_the_same_steps_written_out(direction):
    sign = 1.0 if direction == "maximize" else -1.0
    result = run(toy(direction), share=0.5)
    assert result.X.shape == (ROUNDS, SIZE, 2) and result.values.shape == result.parents.shape == (ROUNDS, SIZE)
    assert ((result.X >= 0) & (result.X <= 1)).all()
    assert result.total_steps == ROUNDS * SIZE * INTERVAL
    check_states(result, sign=sign)
    check_parents(result, 5, sign)
    check_moves(result, np.array([True, True]), 0.1)


def test_the_state_is_inherited_and_not_trained_anew():
    result = run(share=0.5)
    ages = [values.max() for values in result.values]
    assert (np.diff(ages) > 0).all()
    fresh, _ = toy_steps(np.zeros(SIZE), np.zeros(SIZE), decoded(result.X[-1]), INTERVAL)
    assert (result.values[-1] > fresh).all()


def test_the_best_and_its_schedule():
    for objective, sign in ((toy(), 1.0), (toy("minimize"), -1.0)):
        result = run(objective, share=0.5, seed=1)
        best = int(np.argmax(sign * result.values[-1]))
        assert result.best_value == result.values[-1, best] == result.best_metrics["score"]
        assert result.best_params == SPACE.to_params(result.X[-1, best])
        assert result.best_metrics["count"] == ROUNDS * INTERVAL
        assert {name: column.shape for name, column in result.schedule.items()} == {"x": (ROUNDS,), "rate": (ROUNDS,)}
        assert {name: column[-1] for name, column in result.schedule.items()} == result.best_params
        score, count = np.zeros(()), np.zeros(())
        for turn in range(ROUNDS):
            score, count = toy_steps(score, count, {n: c[turn] for n, c in result.schedule.items()}, INTERVAL)
        np.testing.assert_allclose(sign * result.best_value, score, rtol=1e-4)
        assert len(set(result.schedule["rate"])) > 1  # or a constant would have passed


def test_only_what_is_named_is_tuned():
    result = run(tune=["rate"], fixed={"x": 0.8}, share=0.5)
    assert (result.X[..., 0] == np.float32(0.8)).all() and list(result.schedule) == ["rate"]
    assert len(np.unique(result.X[0, :, 1])) == SIZE
    check_states(result)
    check_moves(result, np.array([False, True]), 0.1)
    middle = run(tune=["x"], share=0.5)
    assert (middle.X[..., 1] == 0.5).all()
    assert middle.best_params["rate"] == pytest.approx(np.sqrt(0.05 * 0.5), rel=1e-5)


@pytest.mark.long
def test_by_default_the_floats_are_tuned():
    space = Space(x=Float(0.0, 1.0), rate=Float(0.05, 0.5, log=True), layers=Int(1, 3))
    result = run(toy(space=space), num_rounds=2, num_steps=2)
    assert list(result.schedule) == ["x", "rate"] and (result.X[..., 2] == result.X[0, 0, 2]).all()
    assert result.best_params["layers"] == 2


@pytest.mark.long
def test_failed_members_are_replaced():
    result = run(toy(diverging=DIVERGING), share=0.5, explore=Explore(step=0.0, resample=0.0), seed=1)
    failed = ~np.isfinite(result.values)
    assert 0 < failed[0].sum() <= SIZE // 2 and not failed[1:].any()
    assert (result.parents[0][failed[0]] != np.flatnonzero(failed[0])).all()
    assert not failed[0][result.parents[0]].any()
    check_states(result, diverging=DIVERGING)
    assert np.isfinite(result.best_value) and result.best_params["x"] < DIVERGING


def test_a_run_in_which_all_fail():
    result = run(toy(diverging=DIVERGING), tune=["rate"], fixed={"x": 0.9}, share=0.5)
    assert not np.isfinite(result.values).any() and not np.isfinite(result.best_value)
    assert set(result.best_params) == {"x", "rate"} and (result.X[..., 0] == np.float32(0.9)).all()


def test_it_improves_on_members_that_are_left_alone():
    tuned = [run(share=0.5, seed=seed).values[-1].mean() for seed in range(5)]
    alone = []
    for seed in range(5):
        X = run(share=0.5, seed=seed).X[0]
        alone.append(toy_steps(np.zeros(SIZE), np.zeros(SIZE), decoded(X), ROUNDS * INTERVAL)[0].mean())
    assert np.mean(tuned) > np.mean(alone) + 0.05, (tuned, alone)


@pytest.mark.long
def test_the_seed_decides_everything_and_another_compiles_nothing():
    trace = []
    objective = new_toy(noise=1.0, trace=trace)
    first = run(objective, explore=Explore(resample=0.5))
    traced = list(trace)
    assert traced.count("init") >= 1
    again, other = run(objective, explore=Explore(resample=0.5)), run(objective, explore=Explore(resample=0.5), seed=1)
    run(objective, explore=Explore(resample=0.2, step=0.3), num_steps=ROUNDS, fixed={"x": 0.1})
    assert trace == traced
    for a, b in zip(first[:3], again[:3], strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.isin(other.X[0], first.X[0]).any() and not np.isin(other.values, first.values).any()


@pytest.mark.long
def test_many_runs_are_one_vmapped_program():
    objective = toy(noise=1.0)
    one = functools.partial(
        run_pbt,
        middle=jnp.full(2, 0.5),
        tuned=jnp.array([True, False]),
        interval=2,
        explore=Explore(step=0.1, resample=0.2),
        program=objective.functions,
        contest=Contest(SPACE, metric="score", sign=1.0, population=6, num_rounds=3, num_replaced=2),
    )
    keys = jax.random.split(jax.random.key(0), 3)
    together = jax.jit(jax.vmap(one))(keys)
    single = jax.jit(one)
    for i, key in enumerate(keys):
        alone = single(key)
        np.testing.assert_array_equal(together.parents[i], alone.parents)
        np.testing.assert_allclose(together.X[i], alone.X, rtol=1e-6)
        np.testing.assert_allclose(together.metrics["score"][i], alone.metrics["score"], rtol=1e-4, atol=1e-5)
    assert len(np.unique(together.X[:, 0, :, 0])) == 18


@pytest.mark.parametrize(
    "arguments, name",
    [
        ({"population": 1}, "population"),
        ({"num_rounds": 0}, "num_rounds"),
        ({"share": 0.0}, "share"),
        ({"share": 0.6}, "share"),
        ({"explore": Explore(step=-0.1)}, "step"),
        ({"explore": Explore(step=1.1)}, "step"),
        ({"explore": Explore(resample=-0.1)}, "resample"),
        ({"explore": Explore(resample=float("nan"))}, "resample"),
        ({"tune": []}, "tune"),
    ],
)
def test_bad_arguments_are_named(arguments, name):
    with pytest.raises(ValueError, match=f"`{name}`"):
        run(**arguments)


def test_unknown_names_and_values_outside_the_space():
    for arguments in ({"tune": ["speed"]}, {"fixed": {"speed": 1.0}}):
        with pytest.raises(KeyError, match=r"'speed'.*\['x', 'rate'\]"):
            run(**arguments)
    with pytest.raises(ValueError, match="rate"):
        run(tune=["x"], fixed={"rate": 2.0})


@pytest.mark.long
def test_a_space_without_floats_needs_names():
    counts = from_functions(
        {"n": {"type": "int", "low": 1, "high": 9, "log": False, "step": 1}},
        init=lambda key, hparams: jnp.float32(0.0),
        advance=lambda state, hparams, num_steps: state + num_steps * hparams["n"],
        evaluate=lambda state, hparams: {"sum": state},
        metric="sum",
        num_steps=4,
    )
    with pytest.raises(ValueError, match="`tune`"):
        run(counts)
    result = run(counts, tune=["n"], num_steps=ROUNDS)
    assert result.best_value == result.schedule["n"].sum()
