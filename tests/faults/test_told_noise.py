"""What is told of the noise helps, or does no harm; 0 means exact."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bojax
from bojax import acquisition, data, objectives, surrogates
from bojax.data import empty_pending, resize
from bojax.study.tuning._tune import _noise_variances
from tests.helpers import observe, smooth

BRANIN = objectives.branin()


def studies(told, num_studies, num_trials=30, std=1.0):
    """True values [studies, trials] (maximised) of studies whose values have noise."""
    algorithm = bojax.bayesopt(BRANIN.space)

    def study(key):
        key_init, key_ask, key_noise = jax.random.split(key, 3)
        state = algorithm.init(key_init)
        pending = empty_pending(2, 0, state.observations.X.dtype)
        state = state._replace(observations=resize(state.observations, num_trials), pending=pending)

        def step(state, keys):
            X, state, _ = algorithm.ask(keys[0], state)
            f = -BRANIN(BRANIN.space.decode(X))
            y = f + std * jax.random.normal(keys[1], f.shape, f.dtype)
            noise_var = jnp.full(f.shape, std**2, f.dtype) if told else None
            return algorithm.tell(state, X, y, noise_var), f[0]

        keys = jax.random.split(key_ask, num_trials), jax.random.split(key_noise, num_trials)
        return jax.lax.scan(step, state, keys)[1]

    with bojax.host_scope():
        keys = jax.random.split(jax.random.key(5), num_studies)
        return np.asarray(jax.jit(lambda keys: jax.lax.map(study, keys))(keys))


@pytest.mark.slow
def test_told_noise_helps_on_branin():
    told, untold = (-BRANIN.optimum - studies(told, 128).max(axis=1) for told in (True, False))
    assert np.median(told) < np.median(untold)


@pytest.mark.long
def test_zero_means_exact(x64):
    """A told zero is the least noise, whatever the model learned of the others."""
    X = np.linspace(0.0, 1.0, 8)[:, None]
    y = np.array([0.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 0.0])
    model = surrogates.gp(noise=surrogates.fixed_noise(0.5))
    params = model.init(1, jnp.float64)
    seen = observe(X, y)
    exact = seen.with_columns(noise_var=jnp.full(8, jnp.nan).at[3].set(0.0))
    residual = np.abs(model.posterior(params, seen).mean(X) - y)
    other = np.abs(model.posterior(params, exact).mean(X) - y)
    assert residual[3] > 0.1 and other[3] < 1e-4 and other[5] > 0.1


@pytest.mark.long
@pytest.mark.parametrize("model", [surrogates.gp, surrogates.sparse_gp, surrogates.gradient_gp])
def test_told_noise_takes_the_place_of_learned_noise(x64, model):
    X = np.random.default_rng(0).random((12, 2))
    y = np.asarray(smooth(X))
    observations = observe(X, y)
    told = observations.with_columns(noise_var=jnp.full(12, 4.0 * np.var(y)))
    surrogate = model()
    params = surrogate.init(2, jnp.float64)
    spread = [np.ptp(surrogate.posterior(params, seen).mean(X)) for seen in (observations, told)]
    assert spread[1] < 0.7 * spread[0]


def test_runs_that_agree_by_chance_are_not_exact():
    """Two of three trials have runs that differ; the third one's are equal."""
    space = bojax.Space(x=bojax.Float(0.0, 1.0))
    study = bojax.Study(space, seed=0, algorithm=random_search)
    values = np.array([[1.0, 3.0], [0.0, 4.0], [2.0, 2.0]])
    told = np.array(_noise_variances(study, values))
    assert (told > 0.1).all() and told[2] == told.min() and told[1] == told.max()
    assert _noise_variances(study, values[:, :1]) == [None] * 3
    many = np.random.default_rng(0).normal(size=(3, 500))
    assert np.allclose(_noise_variances(study, many), many.var(axis=1, ddof=1) / 500, rtol=0.01)


def random_search(space, q):
    return bojax.random_search(space, q=q)


def test_rows_without_told_noise_have_none():
    state = bojax.bayesopt(BRANIN.space).init(jax.random.key(0))
    assert np.isnan(state.observations.columns["noise_var"]).all()
    seen = data.append(data.empty(1, 2), jnp.array([[0.1], [0.2]]), jnp.zeros(2), noise_var=jnp.array([0.0, jnp.nan]))
    assert seen.columns["noise_var"][0] == 0.0 and np.isnan(seen.columns["noise_var"][1])


@pytest.mark.long
def test_an_evaluation_that_noise_drowns_is_worth_less():
    """Where the mean is nearly known, told noise lowers the gain; without any the gain is expected improvement."""
    X = np.array([[0.1], [0.5], [0.9]])
    posterior = surrogates.gp().posterior(surrogates.gp().init(1, jnp.float32), observe(X, [0.0, 1.0, 0.0]))
    nobody = jnp.zeros((0, 1)), jnp.zeros(0, bool)
    Z = jnp.array([[0.5], [0.7]])

    def gains(noise_var):
        context = acquisition.Context(jnp.float32(1.0), jnp.asarray(X), jnp.ones(3, bool), *nobody, noise_var)
        chosen = acquisition.batch_log_ei()
        return np.asarray(chosen.value(chosen.begin(jax.random.key(0), posterior, context, 1), Z))

    def slope(noise_var):
        context = acquisition.Context(jnp.float32(1.0), jnp.asarray(X), jnp.ones(3, bool), *nobody, noise_var)
        chosen = acquisition.batch_log_ei()
        state = chosen.begin(jax.random.key(0), posterior, context, 1)
        return jax.grad(lambda Z: jnp.sum(chosen.value(state, Z)))(Z)

    assert jnp.isfinite(slope(jnp.zeros(()))).all() and jnp.isfinite(slope(jnp.full((), 0.1))).all()
    quiet, loud = gains(0.0), gains(0.1)
    np.testing.assert_allclose(quiet, acquisition.log_ei(posterior, Z, jnp.float32(1.0)), rtol=1e-4)
    assert (loud < quiet).all() and (quiet - loud)[0] > 2.0 * (quiet - loud)[1]
