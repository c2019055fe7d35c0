"""What every algorithm remembers: observations, pending points, failures, room, finite spaces."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bojax
from bojax import loop
from bojax._errors import BojaxError, Status
from tests.helpers import SPACES, small_bayesopt, smooth

NONE = np.zeros((0, 2))


@pytest.fixture(scope="module")
def bayesopt():
    """On two Floats, with room for four pending points; compiled once for all tests here in float64."""
    return small_bayesopt(SPACES["continuous"](), q=2, max_pending=4, capacity=16)


@pytest.fixture(scope="module")
def random_search():
    return bojax.random_search(SPACES["continuous"](), q=2, capacity=16)


def told(algorithm, rounds, key=0, f=smooth):
    """A state after some rounds."""
    state = algorithm.init(jax.random.key(key))
    for i in range(rounds):
        X, state, _ = algorithm.ask(jax.random.key(i), state)
        state = algorithm.tell(state, X, f(np.asarray(X)))
    return state


@pytest.mark.long
@pytest.mark.parametrize("name", ["bayesopt", "random_search"])
def test_asking_again_before_telling_gives_other_points(x64, name, request):
    algorithm = request.getfixturevalue(name)
    for rounds in (0, 3):  # in the initial design and after it
        state = told(algorithm, rounds)
        X1, state, _ = algorithm.ask(jax.random.key(7), state)
        X2, state, _ = algorithm.ask(jax.random.key(7 if name == "bayesopt" else 8), state)
        points = np.concatenate([X1, X2])
        distances = np.linalg.norm(points[:, None] - points[None], axis=-1) + np.eye(4)
        assert distances.min() > 1e-6, f"after {rounds} rounds"


@pytest.mark.long
def test_the_status_tells_the_design_from_the_model(x64, bayesopt):
    state, statuses = bayesopt.init(jax.random.key(0)), []
    for i in range(3):
        X, state, info = bayesopt.ask(jax.random.key(i), state)
        statuses.append(Status(int(info.status)))
        assert np.isnan(info.acquisition).all() == (statuses[-1] == Status.INITIAL)
        state = bayesopt.tell(state, X, smooth(np.asarray(X)))
    assert statuses == [Status.INITIAL, Status.INITIAL, Status.OK]


@pytest.mark.long
def test_pending_points_are_remembered_and_forgotten(x64, bayesopt):
    state = told(bayesopt, 3)
    assert not state.pending.mask.any()
    X, state, _ = bayesopt.ask(jax.random.key(5), state)
    assert state.pending.mask.sum() == 2
    state = bayesopt.tell(state, X[:1], np.zeros(1))
    assert state.pending.mask.sum() == 1
    np.testing.assert_array_equal(np.asarray(state.pending.X)[np.asarray(state.pending.mask)], X[1:])
    state = bayesopt.tell(state, np.array([[0.123, 0.456]]), np.zeros(1))  # never asked for
    assert state.pending.mask.sum() == 1
    state = bayesopt.tell(state, X[1:], np.full(1, np.nan))
    assert not state.pending.mask.any()


@pytest.mark.long
@pytest.mark.parametrize("wide", [False, True], ids=["float32", "float64"])
def test_pending_points_of_wide_log_ints_are_forgotten(wide):
    """Their coordinates may differ in the last bit between programs; they are the same points all the same."""
    space = bojax.Space(
        n=bojax.Int(1, 60_000, log=True), m=bojax.Int(1, 5000, log=True), s=bojax.Int(0, 10**6, step=10)
    )
    algorithm = bojax.random_search(space, q=4, capacity=128)
    with jax.enable_x64(wide):
        state = algorithm.init(jax.random.key(0))
        for i in range(16):
            X, state, _ = algorithm.ask(jax.random.key(i), state)
            host = np.stack([space.from_params(space.to_params(x)) for x in np.asarray(X)])
            state = algorithm.tell(state, host if i % 2 else X, np.zeros(4))
            assert not state.pending.mask.any(), f"round {i}"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_failed_evaluations_are_never_the_incumbent(x64, bayesopt, bad):
    state = told(bayesopt, 2)
    X, state, _ = bayesopt.ask(jax.random.key(3), state)
    failed = bayesopt.tell(state, X, np.array([bad, 0.3]))
    assert failed.observations.count == 6 and failed.observations.mask.sum() == 5
    X, _, info = bayesopt.ask(jax.random.key(4), failed)
    assert np.isfinite(X).all() and info.status == Status.OK


def test_nothing_but_failures(x64, bayesopt):
    state = bayesopt.init(jax.random.key(0))
    points = []
    for i in range(4):
        X, state, info = bayesopt.ask(jax.random.key(i), state)
        points.append(X)
        assert info.status == Status.INITIAL, "with no value to learn from, the design goes on"
        state = bayesopt.tell(state, X, np.full(2, np.nan))
    assert len(np.unique(np.concatenate(points), axis=0)) == 8


@pytest.mark.long
@pytest.mark.parametrize("name", ["bayesopt", "random_search"])
def test_overflow_raises_outside_of_compiled_code(x64, name, request):
    algorithm = request.getfixturevalue(name)
    state = algorithm.init(jax.random.key(0))
    state = algorithm.tell(state, np.random.default_rng(0).random((16, 2)), np.arange(16.0))
    with pytest.raises(BojaxError, match=r"16 of at most 16.*grow"):
        algorithm.tell(state, np.full((1, 2), 0.5), np.zeros(1))
    grown = loop.grow(state, 32)
    more = algorithm.tell(grown, np.full((1, 2), 0.25), np.zeros(1))
    assert more.observations.count == 17 and more.observations.mask.sum() == 17
    np.testing.assert_array_equal(more.observations.y[:16], state.observations.y)


def test_overflow_is_a_status_inside_of_compiled_code(x64, bayesopt):
    state = bayesopt.init(jax.random.key(0))
    X = np.random.default_rng(0).random((17, 2))
    full = jax.jit(bayesopt.tell)(state, jnp.asarray(X), jnp.arange(17.0))
    X, _, info = bayesopt.ask(jax.random.key(0), full)
    assert info.status == Status.OVERFLOW
    assert np.isfinite(X).all()


def test_growing_only_grows(x64, random_search):
    state = random_search.init(jax.random.key(0))
    with pytest.raises(ValueError, match="capacity"):
        loop.grow(state, 8)
    assert loop.grow(state, 16).observations.capacity == 16


def test_tell_refuses_wrong_shapes(x64, random_search):
    state = random_search.init(jax.random.key(0))
    for X, y in ((np.zeros((2, 3)), np.zeros(2)), (np.zeros(2), np.zeros(2)), (np.zeros((2, 2)), np.zeros(3))):
        with pytest.raises(ValueError, match="shape"):
            random_search.tell(state, X, y)


def test_tell_rounds_to_the_space(x64):
    space = SPACES["finite"]()
    algorithm = bojax.random_search(space, capacity=4)
    state = algorithm.tell(algorithm.init(jax.random.key(0)), np.array([[0.99, 0.01]]), np.zeros(1))
    np.testing.assert_array_equal(state.observations.X[0], space.round(jnp.array([0.99, 0.01])))


@pytest.mark.long
@pytest.mark.parametrize("name", ["bayesopt", "random_search"])
def test_restoring_equals_telling_one_by_one(x64, name, request):
    algorithm = request.getfixturevalue(name)
    rng = np.random.default_rng(1)
    X, y = rng.random((7, 2)), rng.normal(size=7)
    y[2] = np.nan
    state = algorithm.init(jax.random.key(0))
    for x, value in zip(X, y, strict=True):
        state = algorithm.tell(state, x[None], value[None])
    restored = loop.restore(algorithm.init(jax.random.key(0)), bojax.data.Told(X, y, NONE))
    # A restored state has room for the pending points it was given, which are none here.
    jax.tree.map(np.testing.assert_array_equal, restored._replace(pending=state.pending), state)
    one, other = (algorithm.ask(jax.random.key(1), s) for s in (restored, state))
    np.testing.assert_allclose(one[0], other[0], atol=1e-6)
    assert one[2].status == other[2].status


def test_restoring_pending_points(x64, random_search):
    fresh = random_search.init(jax.random.key(0))
    X = np.random.default_rng(2).random((5, 2))
    state = loop.restore(fresh, bojax.data.Told(X[:2], np.zeros(2), X[2:]))
    assert state.pending.mask.sum() == 3
    np.testing.assert_array_equal(state.pending.X[:3], X[2:])
    assert state.pending.X.shape[0] >= 3 + 2, "there is room for the next ask"
    nothing = loop.restore(fresh, bojax.data.Told(NONE, np.zeros(0), NONE))
    assert nothing.observations.count == 0 and not nothing.pending.mask.any()


@pytest.mark.long
@pytest.mark.parametrize("make", [small_bayesopt, bojax.random_search])
def test_a_finite_space_is_searched_without_repetition_until_nothing_is_left(x64, make):
    space = SPACES["finite"]()
    algorithm = make(space, q=4, capacity=32)
    state = algorithm.init(jax.random.key(0))
    seen = set()
    for i in range(5):
        X, state, info = algorithm.ask(jax.random.key(i), state)
        valid = np.asarray(info.valid)
        new = {tuple(p) for p in np.asarray(space.positions(X))[valid].tolist()}
        assert len(new) == valid.sum() and not new & seen
        seen |= new
        assert (info.status == Status.EXHAUSTED) == (not valid.all())
        assert valid.sum() == (4 if i < 4 else 2), "18 points in batches of 4"
        state = algorithm.tell(state, X[valid], np.arange(valid.sum()) * 1.0)
        assert not state.pending.mask.any()
    _, _, info = algorithm.ask(jax.random.key(9), state)
    assert info.status == Status.EXHAUSTED and not info.valid.any()


@pytest.mark.long
def test_failed_points_of_a_finite_space_are_not_asked_again(x64):
    space = SPACES["finite"]()
    algorithm = bojax.random_search(space, q=9, capacity=32)
    state = algorithm.init(jax.random.key(0))
    X1, state, _ = algorithm.ask(jax.random.key(0), state)
    state = algorithm.tell(state, X1, np.full(9, np.nan))
    X2, _, info = algorithm.ask(jax.random.key(1), state)
    assert info.valid.all()
    assert len(np.unique(np.concatenate([X1, X2]), axis=0)) == 18


@pytest.mark.parametrize(
    ("make", "kwargs"),
    [
        (bojax.bayesopt, {"q": 0}),
        (bojax.bayesopt, {"capacity": 0}),
        (bojax.bayesopt, {"num_initial": 0}),
        (bojax.bayesopt, {"max_pending": 1, "q": 2}),
        (bojax.random_search, {"q": 0}),
        (bojax.random_search, {"capacity": 0}),
    ],
)
def test_bad_numbers_are_refused(make, kwargs):
    with pytest.raises(ValueError, match=next(iter(kwargs))):
        make(SPACES["continuous"](), **kwargs)
