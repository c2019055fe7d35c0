"""The space as data: padded columns change nothing, and one program serves every space of a class."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bojax
from bojax import data, loop
from bojax._threefry import random_bits
from bojax.data import Told
from bojax.loop import restore
from bojax.loop._defaults import inputs_of
from bojax.optim import is_seen, nearby_unseen, num_raw_bits, raw_points
from bojax.optim._lattice import all_points, neighbors
from bojax.space import Lattice
from bojax.surrogates import fit_success, gp, matern52, takes_padding
from bojax.surrogates._gp import gp_model, log_posterior
from bojax.surrogates._inputs import bound
from tests.helpers import small_bayesopt

SPACES = {
    "continuous": bojax.Space({f"x{i}": bojax.Float(0.0, 1.0) for i in range(6)}),
    "mixed": bojax.Space(
        {
            "rate": bojax.Float(1e-4, 1.0, log=True),
            "width": bojax.Int(16, 512, log=True),
            "kind": bojax.Categorical(["a", "b", "c"]),
            "grid": bojax.Float(0.0, 1.0, step=0.1),
            "level": bojax.Ordinal([1, 2, 4, 8]),
        }
    ),
    "finite": bojax.Space(a=bojax.Int(0, 5), b=bojax.Categorical(["x", "y", "z"])),
    "large": bojax.Space({f"n{i}": bojax.Int(0, 40) for i in range(3)}),
    "tree": bojax.Space(
        {
            "kind": bojax.Categorical(["a", "b", "c"]),
            "rate": bojax.Float(1e-4, 1.0, log=True, when={"kind": ["a", "c"]}),
            "level": bojax.Ordinal([1, 2, 4, 8], when={"kind": "b"}),
            "share": bojax.Float(0.0, 1.0),
            "deep": bojax.Float(0.0, 1.0, when={"level": [4, 8]}),
        }
    ),
    "finite tree": bojax.Space(a=bojax.Int(0, 5), b=bojax.Categorical(["x", "y", "z"], when={"a": [1, 3]})),
}


@pytest.fixture(params=list(SPACES))
def space(request):
    return SPACES[request.param]


def padded_points(space, X):
    missing = Lattice.padded(space).num_dims - space.num_dims
    return jnp.concatenate([X, jnp.full((len(X), missing), 0.5, X.dtype)], axis=1)


def sampled(space, n, seed=0):
    return space.sample(jax.random.key(seed), n, jnp.float64)


def test_a_padded_lattice_is_the_exact_one(x64, space):
    exact, padded = Lattice.of(space), Lattice.padded(space)
    d = space.num_dims
    X = jnp.asarray(np.random.default_rng(0).random((50, d)))
    P = padded.positions(padded_points(space, X))
    np.testing.assert_array_equal(P[:, :d], exact.positions(X))
    snapped = padded.snap(padded_points(space, X))
    np.testing.assert_allclose(snapped[:, :d], exact.snap(X), rtol=0, atol=1e-12)
    assert (snapped[:, d:] == 0.5).all() and int(padded.num_live) == d
    np.testing.assert_allclose(padded.round(padded_points(space, X))[:, :d], space.round(X), rtol=0, atol=1e-12)
    on_host = exact.snap(np.asarray(X))
    assert isinstance(on_host, np.ndarray)
    np.testing.assert_allclose(on_host, exact.snap(X), rtol=0, atol=1e-15)


@pytest.mark.long
def test_seen_and_unseen_points_of_padded_columns(x64, space):
    exact, padded = Lattice.of(space), Lattice.padded(space)
    d, X = space.num_dims, sampled(space, 12)
    mask, others = jnp.arange(12) < 9, jnp.concatenate([sampled(space, 8, 1), X[:4]])
    seen = is_seen(exact, others, X, mask)
    np.testing.assert_array_equal(is_seen(padded, padded_points(space, others), padded_points(space, X), mask), seen)
    np.testing.assert_array_equal(is_seen(exact, *map(np.asarray, (others, X, mask))), seen)
    if exact.is_finite:
        x, fresh = nearby_unseen(exact, X[0], X, mask)
        y, also = nearby_unseen(padded, padded_points(space, X)[0], padded_points(space, X), mask)
        np.testing.assert_allclose(y[:d], x)
        assert bool(fresh) == bool(also)
    if exact.kind.max_points:
        points, real = all_points(padded, jnp.float64)
        points, every = (np.unique(X, axis=0) for X in (points[real][:, :d], all_points(exact, jnp.float64)[0]))
        assert len(every) == space.cardinality  # rows of a space with conditions may repeat
        np.testing.assert_allclose(points, every)


@pytest.mark.long
def test_neighbors_of_padded_columns(x64):
    space = SPACES["mixed"]
    X = sampled(space, 4)
    around = neighbors(jax.random.key(0), Lattice.of(space), X)
    padded = neighbors(jax.random.key(0), Lattice.padded(space), padded_points(space, X))
    count = around.shape[1]
    np.testing.assert_allclose(padded[:, :count, : space.num_dims], around, atol=1e-12)
    np.testing.assert_array_equal(padded[:, count:], jnp.broadcast_to(padded[:, :1], padded[:, count:].shape))


@pytest.mark.long
def test_raw_points_of_padded_columns(x64, space):
    exact, padded = Lattice.of(space), Lattice.padded(space)
    bits = jax.random.bits(jax.random.key(0), (num_raw_bits(64, padded.num_dims),), jnp.uint32)
    center = sampled(space, 1)
    few = raw_points(bits[: num_raw_bits(64, space.num_dims)], exact, 64, center[0])
    more = raw_points(bits, padded, 64, padded_points(space, center)[0])
    np.testing.assert_allclose(more[:, : space.num_dims], few, atol=1e-12)


@pytest.mark.long
def test_the_likelihood_of_padded_columns_and_its_gradient(x64, space):
    d, padded = space.num_dims, Lattice.padded(space)
    X = sampled(space, 20)
    y = jnp.sin(5.0 * X).sum(axis=1)

    def density(lattice, X):
        model = gp_model()
        model = model._replace(kernel=bound(model.kernel, inputs_of(lattice), "kernel"))
        observations = data.append(data.empty(X.shape[1], 32), X, y)
        params = gp().init(X.shape[1], jnp.float64)
        params = params._replace(kernel=model.kernel.init(X.shape[1], jnp.float64))
        return jax.value_and_grad(lambda params: log_posterior(model, params, observations))(params)

    value, grad = density(Lattice.of(space), X)
    other, other_grad = density(padded, padded_points(space, X))
    np.testing.assert_allclose(other, value, rtol=1e-12)
    lengthscales = other_grad.kernel.log_lengthscale
    np.testing.assert_allclose(lengthscales[:d], grad.kernel.log_lengthscale, rtol=1e-10, atol=1e-10)
    assert (lengthscales[d:] == 0.0).all(), "padding has no lengthscale of its own"
    np.testing.assert_allclose(other_grad.log_noise_var, grad.log_noise_var, rtol=1e-10)


@pytest.mark.long
def test_predictions_of_padded_columns(x64, space):
    X, Z = sampled(space, 20), sampled(space, 5, 1)
    y = jnp.sin(5.0 * X).sum(axis=1)

    def predict(lattice, X, Z):
        surrogate = bound(gp(matern52()), inputs_of(lattice), "surrogate")
        observations = data.append(data.empty(X.shape[1], 32), X, y)
        posterior = surrogate.posterior(surrogate.init(X.shape[1], jnp.float64), observations)
        success = fit_success(
            observations._replace(mask=observations.mask.at[:4].set(False)), inputs=inputs_of(lattice)
        )
        return (*posterior.mean_var(Z), success.log_probability(Z))

    exact = jax.jit(lambda X, Z: predict(Lattice.of(space), X, Z))(X, Z)
    other = jax.jit(predict)(Lattice.padded(space), padded_points(space, X), padded_points(space, Z))
    for value, same in zip(exact, other, strict=True):
        np.testing.assert_allclose(same, value, rtol=1e-10, atol=1e-10)


@pytest.mark.long
def test_the_design_on_the_host_is_that_of_ask(x64, space):
    algorithm: Any = small_bayesopt(space, q=2, num_initial=8)
    X, key = sampled(space, 3), jax.random.key(7)
    told = Told(np.asarray(X), np.array([1.0, np.nan, 3.0]), np.asarray(sampled(space, 1, 2)))
    state = restore(algorithm.init(key), told)
    points, _, info = algorithm.ask(jax.random.key(1), state)
    assert int(info.status) == bojax.Status.INITIAL
    shift = random_bits(np.asarray(jax.random.key_data(key)), space.num_dims)
    np.testing.assert_array_equal(shift, state.shift)
    rows, valid = algorithm.begin(shift, told)
    assert isinstance(rows, np.ndarray)
    np.testing.assert_allclose(rows, points, atol=1e-15)
    np.testing.assert_array_equal(valid, info.valid)
    many = Told(np.asarray(sampled(space, 9)), np.arange(9.0), told.X[:0])
    assert algorithm.begin(shift, many) is None
    assert algorithm.begin(shift, many._replace(y=np.ones(9))) is not None, "equal values say nothing"


@pytest.mark.long
def test_a_padded_ask_gives_the_points_of_the_exact_one(x64, space):
    algorithm: Any = small_bayesopt(space, num_initial=3)
    X = sampled(space, 8)
    y = np.asarray(-((X - 0.3) ** 2).sum(axis=1))
    state = restore(algorithm.init(jax.random.key(0)), Told(np.asarray(X), y, np.asarray(X[:0])))
    exact, _, info = algorithm.ask(jax.random.key(1), state)

    def asked(lattice, observations):
        other = algorithm.on(lattice)
        state = other.init(jax.random.key(0))._replace(observations=observations)
        return other.ask(jax.random.key(1), state)

    observations = data.from_numpy(np.asarray(padded_points(space, X)), y, 16, np.float64, noise_var=None)
    points, _, other = jax.jit(asked)(Lattice.padded(space), observations)
    assert int(other.status) == int(info.status) == bojax.Status.OK
    np.testing.assert_allclose(other.fit_loss, info.fit_loss, rtol=1e-8)
    np.testing.assert_allclose(other.acquisition, info.acquisition, rtol=1e-4)
    np.testing.assert_allclose(points[:, : space.num_dims], exact, atol=1e-3)


def test_only_algorithms_whose_parts_take_padding_are_shared(space):
    assert bojax.bayesopt(space).on is not None
    assert bojax.noisy_bayesopt(space).on is not None
    own = matern52()._replace(log_prior=matern52().log_prior)
    assert bojax.bayesopt(space, surrogate=gp(own)).on is None
    assert bojax.turbo(space).on is None


def test_a_replaced_function_survives_binding(space):
    own = matern52()._replace(log_prior=lambda params: -jnp.sum(params.log_lengthscale**2))
    bound_kernel = bound(own, inputs_of(Lattice.of(space)), "kernel")
    assert bound_kernel.log_prior is own.log_prior
    assert not takes_padding(bound_kernel)


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1])
def test_random_integers_on_the_host_are_those_of_jax(seed):
    words: Any = np.array([0, seed], np.uint32)
    bits = jax.random.bits(jax.random.wrap_key_data(words, impl="threefry2x32"), (9,), jnp.uint32)
    np.testing.assert_array_equal(random_bits(words, 9), bits)


def test_seen_points_on_the_host_fill_gaps(x64):
    space = SPACES["continuous"]
    algorithm: Any = loop.bayesopt(space)
    shift = random_bits(np.array([0, 3], np.uint32), 6)
    nothing = np.zeros((0, 6))
    first, _ = algorithm.begin(shift, Told(nothing, np.zeros(0), nothing))
    second, _ = algorithm.begin(shift, Told(nothing, np.zeros(0), first))
    again, _ = algorithm.begin(shift, Told(second, np.ones(1), nothing))
    np.testing.assert_array_equal(again, first)
    assert not is_seen(Lattice.of(space), second, first, np.ones(1, bool))[0]
    assert first.shape == (1, 6)


@pytest.mark.long
def test_studies_of_different_spaces_run_in_one_program():
    spaces = [SPACES["continuous"], bojax.Space(x=bojax.Float(0.0, 1.0), n=bojax.Int(1, 8))]
    lattices = Lattice.stack(spaces)
    targets = np.array([0.3, 0.7])
    keys = jax.random.split(jax.random.key(0), 2)

    def algorithm(setting):
        return small_bayesopt(setting["lattice"], num_initial=3)

    def f(x, setting):
        return -jnp.sum((x - setting["target"]) ** 2)

    settings = {"lattice": lattices, "target": targets}
    finals = bojax.run_many(keys, algorithm, f, 10, settings=settings)
    X, y = finals.observations.X, finals.observations.y
    assert X.shape == (2, 10, 8) and np.isfinite(y).all()
    assert (X[1, :, 2:] == 0.5).all(), "padding stands still"
    np.testing.assert_allclose(spaces[1].round(X[1, :, :2]), X[1, :, :2], atol=1e-6)
    assert y[0].max() > y[0, :3].max() and y[1].max() > y[1, :3].max()
    with pytest.raises(ValueError, match="one class"):
        Lattice.stack([SPACES["finite"], SPACES["mixed"]])
