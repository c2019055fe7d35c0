"""The process with gradients and local steps: what a step is, and who wins."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bojax import Categorical, Float, Space, data
from bojax.loop import _hybrid, hybrid, restore
from bojax.loop._hybrid import RADIUS_BOUNDS, inverse_hessian_product, local_step
from bojax.optim import multistart

MOVES = jnp.ones(3, bool)
A = np.diag([1.0, 4.0, 9.0]) + 0.3
TOP = np.array([0.4, 0.5, 0.6])


def bowl(X):
    """Values and gradients of a concave quadratic with its top at `TOP`."""
    D = np.asarray(X) - TOP
    return 2.0 - 0.5 * np.einsum("ni,ij,nj->n", D, A, D), -D @ A


def told(X, grad=None):
    y, G = bowl(X)
    return data.from_numpy(np.asarray(X), y, 16, "float64", grad=G if grad is None else grad)


def test_two_loops_are_the_bfgs_matrix(x64):
    rng = np.random.default_rng(0)
    S = rng.normal(size=(4, 3))
    D = S @ A
    H = np.eye(3) * (S[-1] @ D[-1]) / (D[-1] @ D[-1])
    for s, d in zip(S, D, strict=True):  # written out: Nocedal and Wright (2006), equation 6.17
        rho = 1.0 / (s @ d)
        left = np.eye(3) - rho * np.outer(s, d)
        H = left @ H @ left.T + rho * np.outer(s, s)
    g = rng.normal(size=3)
    got = inverse_hessian_product(jnp.asarray(S), jnp.asarray(D), jnp.asarray(g), jnp.asarray(1.0))
    np.testing.assert_allclose(got, H @ g, rtol=1e-10)


def test_pairs_of_negative_curvature_are_left_out(x64):
    S, g = jnp.asarray(np.eye(3)), jnp.array([3.0, 0.0, 4.0])
    step = inverse_hessian_product(S, -S, g, jnp.asarray(0.5))
    np.testing.assert_allclose(step, 0.5 * g / 5.0, rtol=1e-12)


@pytest.mark.long
def test_steps_climb_to_the_top(x64):
    X = np.array([[0.1, 0.9, 0.2], [0.15, 0.8, 0.3]])
    for _ in range(14):
        x, gain = local_step(told(X), MOVES)
        assert float(gain) >= 0 and np.all((x >= 0) & (x <= 1))
        X = np.vstack([X, x])
    assert bowl(X)[0].max() > 2.0 - 1e-4


def test_the_radius_grows_after_success_and_shrinks_after_failure(x64):
    start, better = np.array([0.1, 0.1, 0.1]), np.array([0.12, 0.12, 0.12])
    grown, _ = local_step(told([start, better]), MOVES)
    shrunk, _ = local_step(told([better, start]), MOVES)
    apart = np.linalg.norm(better - start)
    np.testing.assert_allclose(np.linalg.norm(grown - better), 2.0 * apart, rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(shrunk - better), 0.5 * apart, rtol=1e-6)
    lonely, _ = local_step(told([start]), MOVES)
    np.testing.assert_allclose(np.linalg.norm(lonely - start), RADIUS_BOUNDS[1] * np.sqrt(3), rtol=1e-6)


def test_no_step_without_a_gradient_or_out_of_the_cube(x64):
    X = np.array([[0.2, 0.2, 0.2], [0.4, 0.5, 0.5]])
    _, gain = local_step(told(X, np.array([[1.0] * 3, [np.nan] * 3])), MOVES)
    assert gain == -np.inf
    corner, gain = local_step(told([[0.0, 0.0, 1.0]], np.array([[-1.0, 2.0, 1.0]])), MOVES)
    assert corner[0] == 0.0 and corner[1] > 0.0 and corner[2] == 1.0 and gain > 0
    x, _ = local_step(told(X), jnp.array([True, False, True]))
    assert x[1] == 0.5 and x[0] != 0.4


SPACE = Space(a=Float(0.0, 1.0), kind=Categorical(["u", "v"]), b=Float(0.0, 1.0))


def state_of(algorithm, wrong=False):
    """Six points of a bowl, told with their gradients."""
    rng = np.random.default_rng(1)
    X = np.asarray(SPACE.round(jnp.asarray(rng.random((6, 3)))))
    y, grad = -((X[:, 0] - 0.3) ** 2) - (X[:, 2] - 0.8) ** 2, -2 * (X - np.array([0.3, 0.0, 0.8]))
    state = restore(
        algorithm.init(jax.random.key(0)), data.Told(X, y, np.zeros((0, 3)), {"grad": -grad if wrong else grad})
    )
    return X[np.argmax(y)], state


def small(make):
    return make(SPACE, q=2, num_initial=3, optimizer=multistart(num_restarts=2, raw_samples=32))


@pytest.fixture(scope="module")
def trusting():
    """An algorithm that trusts local steps as much as they say, compiled once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_hybrid, "OPTIMISM", 1e9)
        yield small(hybrid)


@pytest.mark.long
def test_the_larger_gain_is_evaluated(x64, trusting):
    best, state = state_of(trusting)
    points, after, info = trusting.ask(jax.random.key(1), state)
    assert info.is_local and info.local_gain > info.global_gain
    assert points[0, 1] == best[1]  # local steps move no category
    assert info.valid.all() and int(after.pending.mask.sum()) == 2
    np.testing.assert_array_equal(after.pending.X[:2], points)
    _, _, again = trusting.ask(jax.random.key(2), after)
    assert not again.is_local  # it is pending


def test_wrong_gradients_make_no_steps(x64, trusting):
    _, state = state_of(trusting, wrong=True)
    points, after, info = trusting.ask(jax.random.key(1), state)
    assert not after.params.believed and not info.is_local and info.local_gain > info.global_gain
    assert info.valid.all()
