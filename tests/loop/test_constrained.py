"""Algorithms on constrained spaces: every suggestion is feasible, new, and good."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bojax
from bojax.optim import multistart
from bojax.space import Lattice
from tests.helpers import idle, small_bayesopt, small_gp

SPACES = {
    "disk": lambda: bojax.Space(
        {"a": bojax.Float(0.0, 1.0), "b": bojax.Float(0.0, 1.0)},
        constraints=[lambda p: 0.04 - (p["a"] - 0.3) ** 2 - (p["b"] - 0.3) ** 2],
    ),
    "tight": lambda: bojax.Space(
        {name: bojax.Float(0.0, 1.0) for name in "abc"},
        constraints=[bojax.linear(dict.fromkeys("abc", 1), at_most=0.18)],
    ),
    "mixed": lambda: bojax.Space(
        {
            "a": bojax.Float(0.0, 1.0),
            "n": bojax.Int(1, 9),
            "c": bojax.Categorical(["u", "v", "w"]),
            "d": bojax.Ordinal([1, 2, 4, 8]),
        },
        constraints=[bojax.linear({"a": 5, "n": 1}, at_most=6.0), lambda p: 2.5 - p["c"] - p["d"] * p["a"]],
    ),
    "finite": lambda: bojax.Space(
        {"a": bojax.Int(1, 6), "b": bojax.Categorical(["u", "v", "w"])},
        constraints=[lambda p: 6 - p["a"] * (1 + p["b"])],
    ),
    "large": lambda: bojax.Space(
        {name: bojax.Int(0, 100) for name in "abc"}, constraints=[bojax.linear(dict.fromkeys("abc", 1), at_most=20)]
    ),
}

TINY = {"num_initial": 3, "capacity": 16}
FEW: dict[str, Any] = {"optimizer": multistart(num_restarts=2, raw_samples=32)}
PATHS = {"num_features": 32, "surrogate": small_gp(max_evals=20)}

ALGORITHMS = {
    "random_search": lambda space: bojax.random_search(space, q=2, capacity=32),
    "bayesopt": small_bayesopt,
    "bayesopt-batch": lambda space: small_bayesopt(space, q=2),
    "noisy": lambda space: bojax.noisy_bayesopt(space, q=2, surrogate=small_gp(), **TINY, **FEW),
    "hybrid": lambda space: bojax.loop.hybrid(space, **TINY, **FEW),
    "thompson": lambda space: bojax.thompson(space, q=2, raw_samples=16, num_restarts=1, **TINY, **PATHS),
    "pso": lambda space: bojax.loop.pso(space, q=2, capacity=16),
    "genetic": lambda space: bojax.loop.genetic(space, q=2, capacity=16),
    "turbo": lambda space: bojax.turbo(space, q=2, num_candidates=40, **TINY, **PATHS),
}

FAST = [("random_search", "tight")]
LONG = [("random_search", "finite"), ("bayesopt", "disk"), ("bayesopt-batch", "mixed"), ("noisy", "tight")]
LONG += [("hybrid", "disk"), ("thompson", "mixed"), ("turbo", "tight"), ("pso", "tight")]
SLOW = [pair for name in ALGORITHMS for pair in [(name, space) for space in SPACES] if pair not in FAST + LONG]
CASES = [
    *(pytest.param(*case, id="-".join(case)) for case in FAST),
    *(pytest.param(*case, id="-".join(case), marks=pytest.mark.long) for case in LONG),
    *(pytest.param(*case, id="-".join(case), marks=pytest.mark.slow) for case in SLOW),
]


def smooth(X):
    """Largest at a corner that the constraints exclude, so that the search is drawn outside."""
    return jnp.sum(X, axis=-1) + 0.1 * jnp.sin(9.0 * X[:, 0])


@pytest.mark.parametrize("name, space", CASES)
def test_every_suggestion_is_feasible(name, space):
    space = SPACES[space]()
    with jax.enable_x64(True):
        algorithm = ALGORITHMS[name](space)
        state, seen = algorithm.init(jax.random.key(0)), []
        for i in range(4):
            X, state, info = algorithm.ask(jax.random.key(i), state)
            X = np.asarray(X)[np.asarray(info.valid)]
            assert len(X) == algorithm.q
            assert np.asarray(space.is_feasible(jnp.asarray(X))).all()
            # Their margins hold in plain Python, too, without the tolerance.
            assert all(space.broken_by(space.to_params(x)) is None for x in X)
            assert (np.asarray(Lattice.of(space).margins(X)) >= -1e-14).all()
            seen += list(map(tuple, X.round(6)))
            state = algorithm.tell(state, X, smooth(X))
        assert algorithm.repeats or len(set(seen)) == len(seen)


def test_a_finite_space_is_exhausted_by_its_feasible_points():
    space = SPACES["finite"]()
    algorithm = bojax.random_search(space, q=1, capacity=32)
    state = algorithm.init(jax.random.key(0))
    assert space.cardinality is not None
    for i in range(space.cardinality):
        X, state, info = algorithm.ask(jax.random.key(i), state)
        assert info.valid.all()
        state = algorithm.tell(state, X, jnp.zeros(1))
    _, _, info = algorithm.ask(jax.random.key(99), state)
    assert bojax.Status(int(info.status)).name == "EXHAUSTED"


def test_infeasible_results_are_data():
    space = SPACES["disk"]()
    algorithm = bojax.random_search(space)
    state = algorithm.tell(algorithm.init(jax.random.key(0)), [[0.9, 0.9]], [1.0])
    X, _, info = algorithm.ask(jax.random.key(1), state)
    assert info.valid.all() and space.is_feasible(X).all()


@pytest.mark.long
def test_held_coordinates_are_kept():
    space = SPACES["tight"]()
    with jax.enable_x64(True):
        algorithm = bojax.random_search(space, q=2)
        state = algorithm.init(jax.random.key(0))
        X, _, info = algorithm.ask(jax.random.key(1), state, jnp.array([0.17, jnp.nan, jnp.nan]))
        assert info.valid.all() and (X[:, 0] == 0.17).all() and space.is_feasible(X).all()
        _, _, info = algorithm.ask(jax.random.key(1), state, jnp.array([0.5, jnp.nan, jnp.nan]))
        assert not info.valid.any()  # no feasible point has it


def test_the_initial_design_needs_no_program_and_is_feasible():
    space = SPACES["tight"]()
    algorithm: Any = bojax.bayesopt(space, num_initial=8)
    told = bojax.data.Told(np.zeros((0, 3)), np.zeros(0), np.zeros((0, 3)))
    shift = np.array([7, 11, 13], np.uint32)
    points = []
    for _ in range(8):
        X, valid = algorithm.begin(shift, told)
        assert valid.all() and np.asarray(space.is_feasible(jnp.asarray(X))).all()
        points.append(X[0])
        told = told._replace(X=np.array(points), y=np.arange(len(points), dtype=float))
    assert algorithm.ask._cache_size() == 0
    # They fill the simplex rather than a corner of it.
    assert (np.ptp(np.array(points), axis=0) > 0.05).all()


@pytest.mark.long
def test_the_constrained_optimum_is_found():
    """The optimum lies on the boundary of a disk; brute force on a fine grid gives its value."""
    space = bojax.Space(
        {"a": bojax.Float(-2.0, 2.0), "b": bojax.Float(-2.0, 2.0)},
        constraints=[lambda p: 1.0 - p["a"] ** 2 - p["b"] ** 2],
    )

    def f(params):
        return -((params["a"] - 1.2) ** 2) - 2.0 * (params["b"] - 0.9) ** 2 + 0.1 * jnp.sin(5.0 * params["a"])

    a, b = np.meshgrid(*[np.linspace(-1.0, 1.0, 2001)] * 2)
    values = np.where(a**2 + b**2 <= 1.0, -((a - 1.2) ** 2) - 2.0 * (b - 0.9) ** 2 + 0.1 * np.sin(5.0 * a), -np.inf)
    final = bojax.run(jax.random.key(0), small_bayesopt(space, num_restarts=4, raw_samples=128), f, num_steps=16)
    told = final.observations
    with jax.enable_x64(True):
        assert np.asarray(space.is_feasible(told.X)).all()
    assert values.max() - told.y.max() < 5e-3
    # A random point is far worse: the share of points that good is small.
    assert np.mean(values[np.isfinite(values)] > values.max() - 5e-3) < 0.01


class TestStudy:
    """Studies with random search, which compile little."""

    @staticmethod
    def open(space, **settings):
        return bojax.Study(space, seed=0, algorithm=lambda space, q: bojax.random_search(space, q=q), **settings)

    @pytest.mark.long
    def test_trials_are_feasible_whether_asked_enqueued_or_fixed(self):
        study = self.open(SPACES["tight"]())
        study.enqueue({"a": 0.15})
        study.enqueue({"a": 0.1, "b": 0.05, "c": 0.01})
        trials = [*study.ask(3), *study.ask(2, fixed={"b": 0.175})]
        assert trials[0].params["a"] == 0.15 and trials[1].params == {"a": 0.1, "b": 0.05, "c": 0.01}
        assert all(sum(trial.params.values()) <= 0.18 for trial in trials)
        assert [trial.params["b"] for trial in trials[3:]] == [0.175, 0.175]

    def test_what_leaves_no_feasible_point_is_an_error_before_anything_is_written(self):
        study = self.open(SPACES["disk"]())
        with pytest.raises(
            ValueError, match=r"`params` must be feasible, got .* which breaks constraint 0 \(<lambda>\)"
        ):
            study.enqueue({"a": 0.9, "b": 0.9})
        with pytest.raises(bojax.BojaxError, match="`params` leaves no feasible point"):
            study.enqueue({"a": 0.9})
        with pytest.raises(bojax.BojaxError, match="`fixed` leaves no feasible point"):
            study.ask(fixed={"b": 0.9})
        assert len(study.optuna.trials) == 0
        added = study.add({"a": 0.9, "b": 0.9}, 1.0)  # a foreign result may be infeasible
        assert added.state == "complete"

    def test_optunas_own_queue_is_checked(self):
        study = self.open(SPACES["disk"]())
        study.optuna.enqueue_trial({"a": 0.9, "b": 0.9})
        with pytest.warns(bojax.BojaxWarning, match="breaks constraint 0"):
            trial = study.ask()[0]
        assert study.space.broken_by(trial.params) is None

    @pytest.mark.long
    def test_linear_constraints_are_stored_and_functions_must_be_given_again(self, tmp_path):
        storage = f"sqlite:///{tmp_path}/study.db"
        self.open(SPACES["tight"](), storage=storage, name="linear").ask()
        assert self.open(None, storage=storage, name="linear").space == SPACES["tight"]()
        with pytest.raises(bojax.StudyError, match="exists with another space"):
            self.open(bojax.Space({name: bojax.Float(0.0, 1.0) for name in "abc"}), storage=storage, name="linear")

        self.open(SPACES["disk"](), storage=storage, name="function").ask()
        with pytest.raises(bojax.StudyError, match="give the same `space` again"):
            self.open(None, storage=storage, name="function")
        again = self.open(SPACES["disk"](), storage=storage, name="function")
        assert len(again.optuna.trials) == 1
        with pytest.raises(bojax.StudyError, match="exists with another space"):
            self.open(
                bojax.Space({"a": bojax.Float(0.0, 1.0), "b": bojax.Float(0.0, 1.0)}), storage=storage, name="function"
            )

    def test_a_space_may_gain_constraints(self):
        study = self.open(bojax.Space({name: bojax.Float(0.0, 1.0) for name in "abc"}))
        study.add({"a": 0.9, "b": 0.9, "c": 0.9}, 1.0)
        tighter = study.carry(SPACES["tight"]())
        assert len(tighter.trials) == 1
        assert sum(tighter.ask()[0].params.values()) <= 0.18

    def test_a_finite_space_ends_with_its_last_feasible_point(self):
        study = self.open(SPACES["finite"]())
        study.add({"a": 6, "b": "w"}, 0.0)  # infeasible: it takes no place
        asked = study.ask(30)
        assert len(asked) == study.space.cardinality == len({(t.params["a"], t.params["b"]) for t in asked})
        with pytest.raises(bojax.SpaceExhaustedError, match="all 11 feasible points"):
            study.ask()

    def test_an_algorithm_without_held_values_is_repaired(self):
        def stubborn(space, q):
            plain = bojax.random_search(space, q=q)
            return plain._replace(ask=lambda key, state: plain.ask(key, state))

        study = bojax.Study(SPACES["tight"](), seed=0, algorithm=stubborn)
        with pytest.warns(bojax.BojaxWarning, match="held"):
            trial = study.ask(fixed={"a": 0.17})[0]
        assert trial.params["a"] == 0.17 and sum(trial.params.values()) <= 0.18

    @pytest.mark.long
    def test_two_linear_spaces_share_a_program(self):
        from bojax.study.asking._job import job_of
        from bojax.study.asking._suggest import bayesopt

        other = bojax.Space(
            {"x": bojax.Float(1.0, 2.0), "y": bojax.Float(0.0, 3.0)},
            constraints=[bojax.linear({"x": 1, "y": 2}, at_most=4)],
        )
        jobs = [job_of(bayesopt, space, 1) for space in (SPACES["tight"](), other)]
        assert jobs[0].lattice is not None and jobs[0].ask is jobs[1].ask
        assert job_of(bayesopt, SPACES["disk"](), 1).lattice is None
        study = bojax.Study(other, seed=0)
        for _ in range(5):
            trial = study.ask()[0]
            assert trial.params["x"] + 2 * trial.params["y"] <= 4
            study.tell(trial, -trial.params["x"] * trial.params["y"])
        idle()
