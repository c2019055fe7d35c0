"""A noiseless objective is never evaluated twice at one place; a noisy one is, where that pays."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bojax
from bojax import acquisition, loop
from bojax.optim._lattice import SAME

SQUARE = bojax.Space({f"x{i}": bojax.Float(0.0, 1.0) for i in range(2)})
MIXED = bojax.Space(x=bojax.Float(0.0, 1.0), n=bojax.Int(1, 5), c=bojax.Categorical(["u", "v", "w"]))
slow = functools.partial(pytest.param, marks=pytest.mark.slow)  # a program of its own, of a kind that others stand for
FACTORIES = [bojax.bayesopt, bojax.thompson, bojax.turbo, bojax.random_search]


def corner(p):
    return p["x0"] + p["x1"]


def mixed_corner(p):
    return p["x"] + p["n"] - (p["c"] == 0)


def repeats(X):
    """How many rows stand at the place of an earlier one."""
    X = np.asarray(X, float)
    near = np.max(np.abs(X[:, None] - X[None]), axis=-1) < SAME
    return int(np.sum(np.any(np.tril(near, -1), axis=1)))


@pytest.mark.long
@pytest.mark.parametrize("factory", FACTORIES)
@pytest.mark.parametrize("q", [1, 4])
def test_an_optimum_in_a_corner_is_evaluated_once(factory, q):
    final = bojax.run(jax.random.key(0), factory(SQUARE, q=q), corner, 40 // q)
    assert repeats(final.observations.X) == 0
    assert final.observations.y.max() > (1.999 if factory is bojax.bayesopt else 1.2)


@pytest.mark.long
@pytest.mark.parametrize("factory", [bojax.bayesopt, slow(bojax.thompson), slow(bojax.turbo)])
def test_mixed_spaces_have_places_too(factory):
    final = bojax.run(jax.random.key(0), factory(MIXED, q=2), mixed_corner, 12)
    assert repeats(final.observations.X) == 0


@pytest.mark.long
@pytest.mark.parametrize(
    "chosen",
    [
        acquisition.log_ei,
        slow(acquisition.ucb),
        slow(acquisition.posterior_mean),
        acquisition.batch_log_nei()._replace(noisy=False),
        slow(acquisition.batch_simple_regret()),
    ],
)
def test_no_acquisition_repeats_itself(chosen):
    final = bojax.run(jax.random.key(0), bojax.bayesopt(SQUARE, q=2, acquisition=chosen), corner, 10)
    assert repeats(final.observations.X) == 0


@pytest.mark.long
def test_where_nothing_better_is_left_the_space_is_explored():
    X = bojax.run(jax.random.key(0), bojax.bayesopt(SQUARE), corner, 40).observations.X
    assert np.sum(np.min(1.0 - X, axis=1) > 0.2) >= 8


@pytest.mark.long
@pytest.mark.parametrize("factory", [bojax.bayesopt, slow(bojax.thompson), slow(bojax.turbo), bojax.random_search])
def test_asks_without_a_tell_give_other_points(factory):
    study = bojax.Study(SQUARE, "maximize", seed=0, algorithm=FACTORY_OF[factory])
    for trial in study.ask(6):
        study.tell(trial, corner(trial.params))
    rows = [list(study.ask()[0].params.values()) for _ in range(10)]
    assert repeats(rows) == 0


FACTORY_OF = {factory: (lambda space, q, factory=factory: factory(space, q=q)) for factory in FACTORIES}


def noisy(space, q):
    return bojax.noisy_bayesopt(space, q=q)


@pytest.mark.slow
def test_a_noisy_finite_space_goes_on_and_finds_its_best_arm():
    space = bojax.Space(arm=bojax.Categorical(list("abcdef")))
    means = dict(zip("abcdef", [0.0, 1.0, 2.0, 3.0, 4.0, 8.0], strict=True))
    rng = np.random.default_rng(0)
    study = bojax.Study(space, "maximize", seed=0, algorithm=noisy)
    study.optimize(lambda p: means[p["arm"]] + 3.0 * rng.normal(), 40, progress=False)
    arms = [trial.params["arm"] for trial in study.trials]
    assert len(arms) == 40 and set(arms) == set("abcdef")
    assert arms.count("f") >= 7 and study.best_believed.params == {"arm": "f"}


@pytest.mark.long
def test_a_finite_space_without_noise_is_exhausted():
    algorithm = bojax.bayesopt(bojax.Space(n=bojax.Int(1, 3)))
    assert not algorithm.repeats and noisy(SQUARE, 1).repeats
    state = algorithm.init(jax.random.key(0))
    state = algorithm.tell(state, algorithm.space.sample(jax.random.key(0), 1), jnp.ones(1))
    seen = []
    for i in range(3):
        X, state, info = algorithm.ask(jax.random.key(i), state)
        seen.append(bool(info.valid[0]))
        state = algorithm.tell(state, X, jnp.array([float(i)]))
    assert seen == [True, True, False]


HELD = [*FACTORIES, slow(loop.hybrid), slow(loop.cost_aware)]


@pytest.mark.long
@pytest.mark.parametrize("factory", HELD)
def test_held_coordinates_are_kept_and_the_others_chosen_given_them(factory):
    algorithm = factory(SQUARE, q=2)
    X = np.random.default_rng(0).random((10, 2))
    y = -((X[:, 0] + X[:, 1] - 1.0) ** 2)  # the best x1 is 1 - x0
    state = loop.restore(algorithm.init(jax.random.key(0)), bojax.data.Told(X, y, X[:0]))
    held = jnp.array([0.9, jnp.nan], state.observations.X.dtype)
    asked, _, info = algorithm.ask(jax.random.key(1), state, held)
    assert np.allclose(asked[:, 0], 0.9) and info.valid.all() and repeats(asked) == 0
    if factory in (bojax.bayesopt, loop.hybrid):
        assert np.abs(asked[0, 1] - 0.1) < 0.1


@pytest.mark.long
@pytest.mark.parametrize("factory", [bojax.bayesopt, bojax.random_search, bojax.thompson])
def test_held_values_of_a_finite_space(factory):
    space = bojax.Space(c=bojax.Categorical(["u", "v", "w"]), n=bojax.Int(1, 4))
    algorithm = factory(space)
    state = algorithm.init(jax.random.key(0))
    row = space.from_params({"c": "v", "n": 1})
    held = jnp.asarray(np.array([row[0], np.nan]), state.observations.X.dtype)
    seen = set()
    for i in range(4):
        X, state, info = algorithm.ask(jax.random.key(i), state, held)
        params = space.to_params(np.asarray(X[0]))
        assert params["c"] == "v" and bool(info.valid[0])
        seen.add(params["n"])
        state = algorithm.tell(state, X, jnp.array([float(i)]))
    assert seen == {1, 2, 3, 4}
