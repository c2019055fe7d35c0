"""What a space knows of its columns reaches the surrogates, kernels and means that users put in."""

import re

import gpjax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bojax
from bojax import data, multifidelity, surrogates
from bojax.surrogates import Inputs, Surrogate, bound, matern52

NUM_CATEGORIES = 12
SPACE = bojax.Space({name: bojax.Categorical([f"c{i}" for i in range(NUM_CATEGORIES)]) for name in "abc"})
MIXED = bojax.Space(x=bojax.Float(0.0, 1.0), c=bojax.Categorical(list("uvwxyz")), n=bojax.Int(1, 4))
INPUTS = Inputs(MIXED.num_values, MIXED.is_categorical)
DIMS = (1,)

RNG = np.random.default_rng(0)
TABLES = jnp.asarray(np.stack([RNG.permutation(NUM_CATEGORIES) for _ in range(3)]) / (NUM_CATEGORIES - 1.0))


def gpjax_kernel():
    return gpjax.kernels.Matern52(lengthscale=jnp.full(3, 0.5))


def short(make, **settings):
    return lambda: make(num_restarts=1, max_evals=20, **settings)


CHAIN = {"num_warmup": 8, "num_samples": 16, "thinning": 8, "max_depth": 2}
BINDABLE = {
    "gp": short(surrogates.gp),
    "rbf": short(surrogates.gp, kernel=surrogates.rbf()),
    "warped": short(surrogates.gp, kernel=surrogates.warped()),
    "gpjax kernel": lambda: surrogates.gp(gpjax_kernel(), num_restarts=1, max_evals=20),
    "gpjax mean": lambda: surrogates.gp(mean=gpjax.mean_functions.Constant(0.3), num_restarts=1, max_evals=20),
    "sparse_gp": lambda: surrogates.sparse_gp(8, num_restarts=1, max_evals=20),
    "map_ensemble": short(surrogates.map_ensemble, num_members=2),
    "fully_bayesian_gp": short(surrogates.fully_bayesian_gp, **CHAIN),
    "saas": lambda: surrogates.saas(num_warmup=8, num_samples=16),
    "deep_ensemble": lambda: surrogates.deep_ensemble(2, widths=(16,), num_steps=20),
    "gradient_gp": short(surrogates.gradient_gp),
    "transformed": lambda: surrogates.with_output_transform(
        surrogates.gp(num_restarts=1, max_evals=20), surrogates.bilog
    ),
    "wrapped": lambda: surrogates.gp(surrogates.by_equality(matern52()), num_restarts=1, max_evals=20),
}


def observations():
    X = np.array(MIXED.sample(jax.random.key(3), 12), float)
    return data.from_numpy(X, np.sin(5.0 * X[:, 0]) + 3.0 * (X[:, 1] > 0.5), 16, np.float32)


def relabelled(seen):
    """The same observations, categories in another order."""
    order = np.array([3, 0, 5, 1, 4, 2])
    position = np.floor(np.asarray(seen.X[:, 1]) * 6).astype(int).clip(0, 5)
    return seen._replace(X=seen.X.at[:, 1].set(jnp.asarray((order[position] + 0.5) / 6, seen.X.dtype)))


SLOW = ("rbf", "map_ensemble", "fully_bayesian_gp", "saas", "gpjax mean", "transformed", "gpjax kernel")


@pytest.mark.long
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in SLOW else ())
        for name in BINDABLE
        if name != "deep_ensemble"
    ],
)
def test_beliefs_do_not_depend_on_the_order_of_categories(name):
    seen = observations()
    surrogate = bound(BINDABLE[name](), INPUTS, "surrogate")
    params = surrogate.init(3, jnp.float32)
    one, other = (surrogate.posterior(params, told) for told in (seen, relabelled(seen)))
    expected = one.mean_var(seen.X[:12])
    for got, wanted in zip(other.mean_var(relabelled(seen).X[:12]), expected, strict=True):
        np.testing.assert_allclose(np.asarray(got), np.asarray(wanted), rtol=1e-3, atol=1e-3)


@pytest.mark.long
def test_a_deep_ensemble_sees_categories_one_hot():
    X = jnp.asarray((np.arange(6) + 0.5)[:, None] / 6 * np.array([[0, 1, 0]]) + np.array([[0.2, 0, 0.4]]), jnp.float32)
    features = surrogates._deep_ensemble.network_inputs(X, INPUTS)
    assert features.shape == (6, 8)
    distances = np.linalg.norm(np.asarray(features)[:, None] - np.asarray(features)[None, :], axis=-1)
    np.testing.assert_allclose(distances, np.sqrt(2.0) * (1 - np.eye(6)), atol=1e-5)
    surrogate = bound(BINDABLE["deep_ensemble"](), INPUTS, "surrogate")
    seen = observations()
    params, info = surrogate.fit(jax.random.key(0), seen, surrogate.init(3, jnp.float32))
    assert bool(info.ok) and surrogate.posterior(params, seen).mean(seen.X).shape == (16,)


def test_what_the_user_said_of_the_columns_stays():
    for kernel in (matern52(categorical_dims=()), surrogates.rbf(categorical_dims=(2,))):
        assert bound(kernel, INPUTS, "kernel") is kernel
    warped = bound(surrogates.warped(matern52(categorical_dims=())), INPUTS, "kernel")
    params = warped.init(3, jnp.float32)
    params = params._replace(log_a=jnp.full(3, 0.7))
    near, far = jnp.array([[0.5, 0.25, 0.5]]), jnp.array([[0.5, 0.75, 0.5]])
    # Categorical columns are never warped, and what is compared stays: here by distance.
    expected = matern52().matrix(params.kernel, near, far)
    np.testing.assert_allclose(np.asarray(warped.matrix(params, near, far)), np.asarray(expected), rtol=1e-5)


def test_a_space_without_categories_leaves_surrogates_as_they_are():
    surrogate, inputs = surrogates.gp(), Inputs((0, 5), (False, False))
    assert bound(surrogate, inputs, "surrogate") is surrogate
    assert bound(surrogate._replace(bind=None), inputs, "surrogate").bind is None


def unaware_kernel():
    return matern52()._replace(bind=None)


MAKERS = {
    "bayesopt": lambda surrogate: bojax.bayesopt(MIXED, surrogate=surrogate),
    "thompson": lambda surrogate: bojax.thompson(MIXED, surrogate=surrogate),
    "turbo": lambda surrogate: bojax.turbo(MIXED, surrogate=surrogate),
    "cost_aware": lambda surrogate: bojax.loop.cost_aware(MIXED, surrogate=surrogate),
    "costs": lambda surrogate: bojax.loop.cost_aware(MIXED, cost=surrogate),
    "freeze_thaw": lambda surrogate: multifidelity.freeze_thaw(
        multifidelity.from_functions(MIXED, init=None, advance=None, evaluate=None, metric="m", num_steps=4),
        budget_steps=9,
        surrogate=surrogate,
    ),
}


@pytest.mark.parametrize("name", list(MAKERS))
def test_every_algorithm_tells_surrogates_of_categories_and_refuses_those_that_do_not_listen(name):
    class Told(Exception):
        pass

    def bind(inputs):
        extra = (0,) if name == "freeze_thaw" else ()
        assert inputs == Inputs((*MIXED.num_values, *extra), (*MIXED.is_categorical, *map(bool, extra)))
        raise Told

    plain = surrogates.gp()
    with pytest.raises(Told):
        MAKERS[name](plain._replace(bind=bind))
    argument = "cost" if name == "costs" else "surrogate"
    with pytest.raises(ValueError, match=rf"`{argument}` must say how it treats categories.*\[1\].*bind\(inputs\)"):
        MAKERS[name](plain._replace(bind=None))
    with pytest.raises(ValueError, match="`kernel` must say how it treats categories.*by_equality"):
        MAKERS[name](surrogates.gp(unaware_kernel()))


@pytest.mark.unchecked
def test_a_surrogate_must_be_one():
    for wrong in (surrogates.gp, matern52(), Surrogate):
        with pytest.raises(TypeError, match=re.escape("`surrogate` must be a Surrogate, got")):
            bojax.bayesopt(MIXED, surrogate=wrong)


def test_an_outsiders_surrogate_may_take_the_categories_apart_itself():
    told = []

    def one_hot(inputs):
        """A linear model of one-hot categories, written with public names only."""
        told.append(inputs)
        base = surrogates.gp(num_restarts=1, max_evals=10)
        dims = np.repeat(np.arange(len(inputs.num_values)), [k if c else 1 for k, c in zip(*inputs, strict=True)])
        level = np.concatenate([np.arange(k) if c else [-1] for k, c in zip(*inputs, strict=True)])

        def widen(X):
            k = np.array(inputs.num_values)[dims]
            cell = jnp.floor(X[:, dims] * k[None, :].astype(X.dtype))
            return jnp.where(level[None, :] < 0, X[:, dims], (cell == level[None, :]).astype(X.dtype))

        def widened(observations):
            return observations._replace(X=widen(observations.X))

        return Surrogate(
            init=lambda num_dims, dtype: base.init(len(dims), dtype),
            fit=lambda key, observations, params: base.fit(key, widened(observations), params),
            posterior=lambda params, observations, num_spare=0: base.posterior(
                params, widened(observations), num_spare
            ),
        )

    outsider = surrogates.gp()._replace(bind=one_hot)
    bojax.bayesopt(MIXED, surrogate=outsider)
    assert told == [INPUTS]
    copes = surrogates.gp()._replace(bind=lambda inputs: surrogates.gp())
    bojax.bayesopt(MIXED, surrogate=copes)


@pytest.mark.long
def test_a_gpjax_kernel_with_categories_converts_to_gpjax_and_back():
    seen = observations()
    surrogate = bound(surrogates.gp(gpjax_kernel()), INPUTS, "surrogate")
    with jax.enable_x64(True):
        seen = jax.tree.map(lambda leaf: leaf.astype(jnp.float64) if leaf.dtype == jnp.float32 else leaf, seen)
        posterior = surrogate.posterior(surrogate.init(3, jnp.float64), seen)
        converted = surrogates.from_gpjax(surrogates.to_gpjax(posterior))
        X = jnp.asarray(MIXED.sample(jax.random.key(8), 7))
        for got, expected in zip(converted.mean_var(X), posterior.mean_var(X), strict=True):
            np.testing.assert_allclose(np.asarray(got), np.asarray(expected), rtol=1e-6, atol=1e-8)


def test_a_gpjax_kernel_that_treats_categories_itself_is_left_alone():
    kernel = surrogates.from_gpjax(gpjax_kernel())
    kernel = kernel._replace(bind=lambda inputs: kernel)
    assert bound(kernel, INPUTS, "kernel") is kernel
    with pytest.raises(TypeError, match="for GPJax models"):
        surrogates.from_gpjax(gpjax_kernel(), num_restarts=1)


def objective(params):
    return -sum(TABLES[i, params[name]] ** 2 for i, name in enumerate("abc"))


def best_of_50(surrogate, seed=0):
    final = bojax.run(jax.random.key(seed), bojax.bayesopt(SPACE, surrogate=surrogate), objective, num_steps=50)
    return float(-final.observations.y.max())


@pytest.mark.long
@pytest.mark.parametrize("name", ["gp", "gpjax kernel"])
def test_categories_are_found_as_fast_with_a_surrogate_that_was_put_in(name):
    assert best_of_50(BINDABLE[name]()) < 0.02


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in BINDABLE if name not in ("gp", "gpjax kernel", "gpjax mean")])
def test_categories_are_found_as_fast_with_every_surrogate(name):
    full = {"deep_ensemble": surrogates.deep_ensemble, "sparse_gp": lambda: surrogates.sparse_gp(64)}
    assert best_of_50(full.get(name, BINDABLE[name])()) < 0.1
