"""Successive halving, Hyperband and BOHB: who trains how long, who survives, and where configurations come from."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy_runs import SPACE, TwoStructures, score
from toy_runs import toy as new_toy

from bojax import Float, Int, Space, random_search
from bojax.loop import Algorithm
from bojax.multifidelity import (
    bohb,
    halving,
    hyperband,
    hyperband_brackets,
    model_sampler,
    num_steps_of,
    random_sampler,
    successive_halving,
)
from bojax.multifidelity._history import Recorder
from tests.helpers import small_bayesopt

LINE = Space(x=Float(0.0, 1.0))
cached_toy = functools.cache(new_toy)
RUNS = {"successive_halving": successive_halving, "hyperband": hyperband, "bohb": bohb}


def toy(direction="maximize", num_steps=27, **options):
    """`toy_runs.toy`, its programs compiled once for all tests."""
    return cached_toy(direction, **options)._replace(num_steps=num_steps)


def line_toy(space=LINE):
    """A run whose value is -(x - 0.3)**2 however long it is."""
    init, advance, evaluate = (
        lambda key, hparams: jnp.float32(0.0),
        lambda state, hparams, num_steps: state,
        lambda state, hparams: {"score": -((hparams["x"] - 0.3) ** 2)},
    )
    template = toy(space=space)
    return template._replace(functions=template.functions._replace(init=init, advance=advance, evaluate=evaluate))


@functools.cache
def near_best(space, q):
    """An algorithm that asks for points around the best one told."""
    cold = random_search(space, q=q)

    def ask(key, state):
        seen = state.observations
        best = seen.X[jnp.argmax(jnp.where(seen.mask, seen.y, -jnp.inf))]
        X, state, info = cold.ask(key, state)
        return jnp.clip(best[None] + 1e-3 * (X - 0.5), 0.0, 1.0), state, info

    return Algorithm(cold.init, ask, cold.tell, space, q)


@functools.cache
def cached_bayesopt(space, q):
    return small_bayesopt(space, q=q)


@functools.cache
def at_random(space, q):
    return random_search(space, q=q)


def never(space, q):
    raise AssertionError("no model is wanted here")


def brackets_of(history):
    """The evaluations by bracket and rung: (members [k], values [k], steps). A bracket begins with new members."""
    new = np.zeros(len(history.members), bool)
    new[np.unique(history.members, return_index=True)[1]] = True
    brackets = []
    for row, (steps, value) in enumerate(zip(history.steps.tolist(), history.values.tolist(), strict=True)):
        first = new[row] and not (row > 0 and new[row - 1] and steps == history.steps[row - 1])
        if first:
            brackets.append([])
        if first or steps != history.steps[row - 1]:
            brackets[-1].append(([], [], steps))
        brackets[-1][-1][0].append(int(history.members[row]))
        brackets[-1][-1][1].append(value)
    return [[(np.array(m), np.array(v), steps) for m, v, steps in bracket] for bracket in brackets]


def sizes(brackets):
    return tuple(tuple((len(members), steps) for members, _, steps in bracket) for bracket in brackets)


def check_survivors(brackets, sign=1.0):
    """Whoever goes on is as good as anybody who does not."""
    for bracket in brackets:
        for (members, values, _), (survivors, _, _) in zip(bracket, bracket[1:], strict=False):
            values = sign * values
            dropped = ~np.isin(members, survivors)
            assert np.isin(survivors, members).all() and dropped.any()
            assert values[~dropped].min() >= values[dropped].max()


def hparams_of(history, space=SPACE):
    return {name: np.asarray(column) for name, column in space.decode(jnp.asarray(history.X)).items()}


@pytest.fixture(scope="module")
def noisy():
    return successive_halving(toy(noise=1.0, num_steps=9), num_members=9, seed=3, num_workers=1)


def check_hyperband(history, max_steps):
    """Brackets, members, survivors, steps and values are those of hyperband on `toy`, which is resumed exactly."""
    brackets, expected = brackets_of(history), hyperband_brackets(max_steps, 1, 3)
    assert sizes(brackets) == expected
    first = 0
    for bracket in brackets:
        members = bracket[0][0].tolist()
        assert members == list(range(first, first + len(members)))
        first += len(members)
    assert history.num_members == len(history.X) == first
    assert history.total_steps == sum(num_steps_of(bracket) for bracket in expected)
    check_survivors(brackets)
    hparams = {name: column[history.members] for name, column in hparams_of(history).items()}
    np.testing.assert_allclose(history.values, score(hparams, history.steps), atol=2e-5)


def check_best(history, max_steps):
    full = np.flatnonzero(history.steps == max_steps)
    best = full[np.argmax(history.values[full])]
    assert history.best_member == history.members[best] and history.best_value == history.values[best]
    assert history.best_params == SPACE.to_params(history.X[history.best_member])
    assert history.best_metrics["count"] == max_steps and history.best_metrics["score"] == history.best_value
    assert history.best_metrics["x"] == pytest.approx(history.best_params["x"], rel=1e-6)


@pytest.mark.long
def test_hyperband_trains_the_brackets_of_the_paper():
    # Li et al. (2018), JMLR 18(185), table 1: R = 81, eta = 3; `test_brackets` has its numbers.
    history = hyperband(toy(num_steps=81), min_steps=1, num_workers=1)
    check_hyperband(history, 81)
    check_best(history, 81)
    assert history.num_members == 81 + 34 + 15 + 8 + 5


@pytest.mark.long
def test_hyperband_of_other_seeds():
    for seed in range(1, 5):
        history = hyperband(toy(num_steps=9), seed=seed, num_workers=1)
        check_hyperband(history, 9)
        check_best(history, 9)
        steps, values = history.curve(history.best_member)
        assert steps.tolist() in ([1, 3, 9], [3, 9], [9]) and values[-1] == history.best_value
        assert (np.diff(values) >= 0).all()


def test_a_resumed_member_is_as_one_trained_straight_through(noisy):
    straight = successive_halving(toy(noise=1.0, num_steps=9), num_members=9, seed=3, min_steps=9, num_workers=1)
    last = noisy.steps == 9
    assert sizes(brackets_of(noisy)) == (((9, 1), (3, 3), (1, 9)),) and sizes(brackets_of(straight)) == (((9, 9),),)
    np.testing.assert_array_equal(noisy.X, straight.X)
    np.testing.assert_allclose(noisy.values[last], straight.values[noisy.members[last]], rtol=2e-5)


@pytest.mark.parametrize("arguments", [(9, 2, 9, 2.0), (5, 5, 5, 3.0), (5, 1, 27, 3.0)])
def test_one_bracket(arguments):
    num_members, min_steps, max_steps, eta = arguments
    history = successive_halving(
        toy(), num_members=num_members, min_steps=min_steps, max_steps=max_steps, eta=eta, num_workers=1
    )
    brackets = brackets_of(history)
    assert sizes(brackets) == (halving(*arguments),)
    check_survivors(brackets)
    assert history.total_steps == num_steps_of(halving(*arguments)) and history.num_members == num_members


def test_by_default_the_first_rung_is_a_27th_of_a_full_run():
    history = successive_halving(toy(num_steps=54), num_workers=1)
    assert sizes(brackets_of(history)) == (((27, 2), (9, 6), (3, 18), (1, 54)),)


def test_the_seed_decides_everything(noisy):
    objective = toy(noise=1.0, num_steps=9)
    again, other = (successive_halving(objective, num_members=9, seed=seed, num_workers=1) for seed in (3, 4))
    for a, b in zip(again[:4], noisy[:4], strict=True):
        np.testing.assert_array_equal(a, b)
    assert again.best_params == noisy.best_params
    assert not np.isin(other.X, noisy.X).any() and not np.isin(other.values, noisy.values).any()


def test_brackets_have_other_configurations_and_keys():
    history = hyperband(toy(noise=1.0, num_steps=9), num_workers=1)
    assert len(np.unique(history.X[:, 0])) == history.num_members
    before = history.values - score({n: c[history.members] for n, c in hparams_of(history).items()}, history.steps)
    firsts = [before[history.members == member][0] for member in range(history.num_members)]
    assert len(np.unique(firsts)) == history.num_members


@pytest.mark.long
@pytest.mark.parametrize("run", [successive_halving, functools.partial(bohb, algorithm=near_best)])
def test_minimising_is_maximising_the_negative(run):
    high, low = (run(toy(direction, num_steps=9), num_workers=1) for direction in ("maximize", "minimize"))
    np.testing.assert_array_equal(low.X, high.X)
    np.testing.assert_array_equal(low.members, high.members)
    np.testing.assert_array_equal(low.values, -high.values)
    assert low.best_member == high.best_member and low.best_value == -high.best_value
    check_survivors(brackets_of(low), sign=-1.0)


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_diverged_members_go_first(direction):
    objective = toy(direction, diverging=0.4)
    history = successive_halving(objective, num_members=27, min_steps=2, max_steps=18, num_workers=1)
    diverged = history.X[:, 0] >= 0.4
    assert 9 < diverged.sum() < 18  # so that a rung holds only sound members, and not all diverged ones fit the last
    np.testing.assert_array_equal(np.isfinite(history.values), ~diverged[history.members])
    assert set(history.values[~np.isfinite(history.values)]) == {-np.inf if direction == "maximize" else np.inf}
    assert not diverged[history.members[history.steps > 2]].any()
    assert np.isfinite(history.best_value) and not diverged[history.best_member]


def test_diverged_members_fill_a_rung_for_which_too_few_are_sound():
    history = hyperband(toy(diverging=0.15), min_steps=3, num_workers=1)
    assert sizes(brackets_of(history)) == hyperband_brackets(27, 3, 3)
    for bracket in brackets_of(history):
        finite = [int(np.isfinite(values).sum()) for _, values, _ in bracket]
        rooms = [len(members) for members, _, _ in bracket[1:]]
        assert finite[1:] == [min(n, room) for n, room in zip(finite, rooms, strict=False)]
    assert history.best_params["x"] < 0.15


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_a_run_in_which_all_diverge(run):
    options = {"algorithm": never} if run is bohb else {}
    history = run(toy("minimize", diverging=0.0), min_steps=3, num_workers=1, **options)
    assert (history.values == np.inf).all() and history.best_value == np.inf


@pytest.mark.long
def test_structures_are_told_apart():
    history = successive_halving(TwoStructures(), num_members=3, min_steps=3, seed=2, num_workers=1)
    layers = hparams_of(history, TwoStructures.space)["layers"]
    assert set(layers.tolist()) == {1, 2}
    assert history.best_metrics["count"] == 9
    assert history.num_compilations >= 2 * 3  # three functions of each structure


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
@pytest.mark.parametrize(
    "arguments, name",
    [
        ({"eta": 1.0}, "eta"),
        ({"eta": float("nan")}, "eta"),
        ({"min_steps": 0}, "min_steps"),
        ({"min_steps": 28}, "min_steps"),
        ({"max_steps": 0}, "max_steps"),
    ],
)
def test_bad_numbers_are_named(run, arguments, name):
    with pytest.raises(ValueError, match=f"`{name}`"):
        run(toy(), **arguments)


def test_other_bad_arguments_are_named():
    with pytest.raises(ValueError, match="`num_members`.*got 0"):
        successive_halving(toy(), num_members=0)
    for share in (-0.1, 1.1):
        with pytest.raises(ValueError, match="`random_share`"):
            bohb(toy(), random_share=share)
    with pytest.raises(KeyError, match="'accuracy'.*'score'"):
        successive_halving(toy()._replace(metric="accuracy"), num_members=2)


def test_nothing_recorded_is_no_history():
    with pytest.raises(ValueError, match="nothing was evaluated"):
        Recorder(toy(), SPACE).history(0, 0)


# Where configurations come from.


def filled(values, steps, space=LINE, points=None):
    """A recorder of one member a value, evaluated after `steps[i]` steps."""
    recorder = Recorder(line_toy(space), space)
    points = np.linspace(0.05, 0.95, len(values))[:, None] if points is None else points
    recorder.record(range(len(values)), points, steps, values)
    return recorder


def test_random_points_are_the_uniform_ones_of_the_space():
    space = Space(a=Float(0.0, 1.0), b=Int(1, 4))
    X = random_sampler(space)(jax.random.key(0), 400, Recorder(toy(), space))
    assert X.shape == (400, 2) and X.dtype == float
    assert ((X >= 0) & (X <= 1)).all() and abs(X[:, 0].mean() - 0.5) < 0.05
    np.testing.assert_allclose(np.unique(X[:, 1]), [0.125, 0.375, 0.625, 0.875])


@pytest.mark.parametrize("options, enough", [({}, 3), ({"min_observations": 5}, 5)])
def test_the_model_is_asked_once_a_rung_has_enough_finite_values(options, enough):
    sampler = model_sampler(LINE, near_best, random_share=0.0, **options)
    for n in range(7):
        values = np.r_[np.arange(n) + 1.0, -np.inf, np.nan]
        X = sampler(jax.random.key(0), 4, filled(values, np.ones(n + 2)))
        near = np.abs(X - np.linspace(0.05, 0.95, n + 2)[n - 1]) < 1e-3
        assert X.shape == (4, 1)
        assert near.all() if n >= enough else not near.any()


def test_the_model_learns_from_the_highest_rung_with_enough_values():
    sampler = model_sampler(LINE, near_best, random_share=0.0)
    steps = np.array([1] * 5 + [3] * 4 + [9] * 2)
    values = np.array([9.0, 0, 0, 0, 0, 0, 5.0, 0, 0, 0, 8.0])  # the best of rungs 1, 3 and 9: rows 0, 6 and 10
    recorder = filled(values, steps)
    X = sampler(jax.random.key(0), 2, recorder)
    np.testing.assert_allclose(X, np.linspace(0.05, 0.95, 11)[6], atol=1e-3)
    recorder.record([11], [[0.2]], [9], [10.0])
    np.testing.assert_allclose(sampler(jax.random.key(0), 2, recorder), 0.2, atol=1e-3)


@pytest.mark.long
@pytest.mark.parametrize("share, num_random", [(0.0, 0), (1 / 3, 2), (0.5, 3), (1.0, 6)])
def test_the_share_of_random_points(share, num_random):
    recorder = filled([0.0, 5.0, 0.0], [1, 1, 1])
    algorithm = never if share == 1.0 else near_best
    X = model_sampler(LINE, algorithm, random_share=share)(jax.random.key(1), 6, recorder)
    assert X.shape == (6, 1) and (np.abs(X - 0.5) < 1e-3).sum() == 6 - num_random
    assert len(np.unique(X)) == 6


def test_an_exhausted_space_is_filled_up_with_random_points():
    space = Space(x=Int(0, 3))
    seen = filled([1.0, 2.0, 3.0], [1, 1, 1], space, np.array([[0.125], [0.375], [0.625]]))
    sampler = model_sampler(space, at_random, random_share=0.0)
    X = sampler(jax.random.key(0), 6, seen)
    assert X.shape == (6, 1) and set(X[:, 0]) <= {0.125, 0.375, 0.625, 0.875}
    assert X[0, 0] == 0.875  # the only point that was left


@pytest.mark.slow
def test_the_proposals_of_a_gaussian_process_are_better_than_chance():
    points = np.linspace(0.0, 1.0, 6)[:, None]
    recorder = filled(-((points[:, 0] - 0.3) ** 2), np.ones(6), points=points)
    sampler = model_sampler(LINE, cached_bayesopt, random_share=0.0)
    X = np.concatenate([sampler(jax.random.key(seed), 3, recorder) for seed in range(3)])
    random = np.concatenate([random_sampler(LINE)(jax.random.key(seed), 3, recorder) for seed in range(3)])
    # The nearest of each three; where the model is sure of the optimum, the others explore.
    near, by_chance = (np.abs(points.reshape(3, 3) - 0.3).min(axis=1) for points in (X, random))
    assert np.median(near) < 0.25 * np.median(by_chance), (X, random)


# BOHB.


@pytest.mark.long
def test_the_first_bracket_is_random_and_the_next_learn_from_it():
    history = bohb(toy(num_steps=9), algorithm=near_best, random_share=0.0, num_workers=1)
    uniform = bohb(toy(num_steps=9), algorithm=never, random_share=1.0, num_workers=1)
    for run in (history, uniform):
        check_hyperband(run, 9)
    np.testing.assert_array_equal(history.X[:9], uniform.X[:9])
    best = history.X[np.argmax(history.values[:9])]
    np.testing.assert_allclose(history.X[9:14], np.tile(best, (5, 1)), atol=1e-3)
    assert (np.abs(uniform.X[9:14] - best) > 1e-3).any(axis=1).all()


@pytest.mark.long
def test_later_brackets_of_bohb_are_better_than_those_of_hyperband():
    def later(run, **options):
        """What the configurations of the second and third bracket reach, over a few seeds."""
        histories = [run(toy(num_steps=9), seed=seed, num_workers=1, **options) for seed in range(4)]
        return np.array([score({n: c[9:] for n, c in hparams_of(h).items()}, 9) for h in histories])

    found, random = later(bohb, algorithm=near_best), later(hyperband)
    assert np.median(found) > np.median(random) + 0.1, (found, random)


@pytest.mark.long
def test_bohb_with_its_own_model():
    options = {"min_steps": 1, "num_workers": 1}
    history = bohb(line_toy()._replace(num_steps=3), **options)
    random = bohb(line_toy()._replace(num_steps=3), random_share=1.0, **options)
    assert sizes(brackets_of(history)) == sizes(brackets_of(random)) == hyperband_brackets(3, 1, 3)
    np.testing.assert_array_equal(history.X[:4], random.X[:4])  # of the second bracket one of two is random
    assert history.X[4] != random.X[4] and 0 <= history.X[4] <= 1


@pytest.mark.long
def test_the_seed_decides_all_of_bohb():
    first, again, other = (
        bohb(toy(noise=1.0, num_steps=9), algorithm=at_random, seed=seed, num_workers=1) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first.X, again.X)
    np.testing.assert_array_equal(first.values, again.values)
    assert not np.isin(other.X, first.X).any()
