"""Every registered piece through the shipped conformance kit, and the kit against pieces that are wrong."""

import jax
import jax.numpy as jnp
import pytest

import bojax
from bojax import acquisition, optim, surrogates, testing
from tests.helpers import ACQUISITIONS, ALGORITHMS, BATCH_ACQUISITIONS, OPTIMIZERS, SPACES, SURROGATES

BOTH, DOUBLE = ("float32", "float64"), ("float64",)
FAST_ALGORITHMS = {
    "random_search": BOTH,
    "random_search-finite": DOUBLE,
    "random_search-tree": DOUBLE,
    "grid_search": DOUBLE,
    "grid_search-tree": DOUBLE,
    "sobol_search": DOUBLE,
    "tpe": DOUBLE,
    "tpe-tree": DOUBLE,
    "bayesopt-tree": DOUBLE,
    "bayesopt-mixed-batch": DOUBLE,
    "turbo": DOUBLE,
    "genetic": DOUBLE,
    "cma_es": DOUBLE,
    "forest": DOUBLE,
}


def cases(registry, fast):
    """Every name with both dtypes; pairs that `fast` (name to dtypes) leaves out are slow: compiling takes its time."""
    return [
        pytest.param(name, dtype, id=f"{name}-{dtype}", marks=() if dtype in fast.get(name, ()) else pytest.mark.slow)
        for name in registry
        for dtype in BOTH
    ]


@pytest.mark.long
@pytest.mark.parametrize("name", ACQUISITIONS)
def test_acquisition(name):
    testing.check_acquisition(ACQUISITIONS[name]())


@pytest.mark.long
@pytest.mark.parametrize(("name", "dtype"), cases(BATCH_ACQUISITIONS, dict.fromkeys(BATCH_ACQUISITIONS, DOUBLE)))
def test_batch_acquisition(name, dtype):
    testing.check_batch_acquisition(BATCH_ACQUISITIONS[name](), dtypes=[dtype])


@pytest.mark.long
@pytest.mark.parametrize(("name", "dtype"), cases(SURROGATES, {"matern52": DOUBLE}))
def test_surrogate(name, dtype):
    testing.check_surrogate(SURROGATES[name](), dtypes=[dtype])


@pytest.mark.long
@pytest.mark.parametrize(("name", "dtype"), cases(OPTIMIZERS, {"multistart": DOUBLE}))
def test_optimizer(name, dtype):
    testing.check_optimizer(OPTIMIZERS[name], dtypes=[dtype])


@pytest.mark.long
@pytest.mark.parametrize(("name", "dtype"), cases(ALGORITHMS, FAST_ALGORITHMS))
def test_algorithm(name, dtype):
    testing.check_algorithm(ALGORITHMS[name](), dtypes=[dtype])


def nan_at_zero(posterior, X, best_f):
    return jnp.log(posterior.mean(X) - best_f)


def promotes(posterior, X, best_f):
    return posterior.mean(X).astype(jnp.float16)


def mixes_rows(posterior, X, best_f):
    return posterior.mean(X) - jnp.max(posterior.mean(X))


@pytest.mark.long
@pytest.mark.parametrize("wrong", [nan_at_zero, promotes, mixes_rows])
def test_the_kit_sees_a_wrong_acquisition(wrong):
    with pytest.raises(AssertionError, match="wrong|nan|dtype|row"):
        testing.check_acquisition(wrong)


def broken(algorithm, **changes):
    return algorithm._replace(**changes)


@pytest.mark.long
def test_the_kit_sees_a_wrong_algorithm():
    good = bojax.random_search(SPACES["continuous"](), q=2)

    def outside(key, state):
        X, state, info = good.ask(key, state)
        return X + 1.0, state, info

    def forgets(key, state):
        X, new, info = good.ask(key, state)
        return X, state, info

    def keeps_failures(state, X, y):
        new = good.tell(state, X, y)
        return new._replace(observations=new.observations._replace(mask=new.observations.told))

    def no_status(key, state):
        X, state, info = good.ask(key, state)
        return X, state, info.valid

    def retraces(state, X, y):
        new = good.tell(state, X, y)
        wide = jnp.concatenate([new.observations.y, y])
        return new._replace(observations=new.observations._replace(y=wide))

    hidden = []

    def impure(key, state):
        hidden.append(None)
        return good.ask(jax.random.fold_in(key, len(hidden)), state)

    for piece, match in [
        ({"ask": outside}, "unit cube"),
        ({"ask": forgets}, "pending"),
        ({"ask": no_status}, "status"),
        ({"ask": impure}, "differs"),
        ({"tell": keeps_failures}, "masked"),
        ({"tell": retraces}, "is float"),
    ]:
        with pytest.raises(AssertionError, match=match):
            testing.check_algorithm(broken(good, **piece), num_rounds=2, dtypes=DOUBLE)


def test_the_kit_sees_a_wrong_optimizer():
    def center_only(key, lattice, fn, seen, center):
        value = fn(center[None])[0]
        return center, optim.CandidateInfo(value, jnp.bool_(True), value)

    with pytest.raises(AssertionError, match="maximum"):
        testing.check_optimizer(center_only, spaces=["continuous"], dtypes=DOUBLE)


@pytest.mark.long
def test_the_kit_sees_a_wrong_surrogate():
    good = surrogates.gp(num_restarts=1, max_evals=10)

    def retyped(num_dims, dtype):
        return jax.tree.map(lambda leaf: leaf.astype(jnp.float32), good.init(num_dims, dtype))

    def failing(key, observations, params):
        params, info = good.fit(key, observations, params)
        return params, info._replace(ok=jnp.bool_(False))

    for piece, match in [({"init": retyped}, "dtype"), ({"fit": failing}, "failed")]:
        with pytest.raises(AssertionError, match=match):
            testing.check_surrogate(good._replace(**piece), dtypes=DOUBLE)


@pytest.mark.long
def test_the_mock_posterior_answers_as_prescribed():
    posterior = testing.MockPosterior(lambda X: 2.0 * X[:, 0], lambda X: 0.25 * jnp.ones_like(X[:, 0]))
    X = jnp.array([[0.1, 0.2], [0.5, 0.6], [0.1, 0.2]])
    mean, cov = posterior.joint(X)
    assert jnp.allclose(mean, jnp.array([0.2, 1.0, 0.2]))
    assert jnp.allclose(cov, 0.25 * jnp.array([[1.0, 0, 1], [0, 1, 0], [1, 0, 1]]))
    samples = posterior.sample(jax.random.key(0), X, 4000)
    assert (samples[:, 0] == samples[:, 2]).all()
    assert jnp.allclose(samples.mean(axis=0), mean, atol=5 * 0.5 / 4000**0.5)
    assert jax.jit(lambda p, X: p.mean(X))(posterior, X).shape == (3,)
    assert acquisition.ucb(posterior, X, beta=4.0)[1] == 2.0
