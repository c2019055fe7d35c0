import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bojax
from bojax import data, testing
from bojax.acquisition import (
    Context,
    batch_log_ei,
    batch_ucb,
    gaussian_prior,
    kriging_believer,
    log_ei,
    per_cost,
    ucb,
    weighted,
    with_prior,
    with_success,
)
from bojax.acquisition._weighted import LOWEST, log_softplus
from bojax.surrogates import fit_success

POSTERIOR = testing.MockPosterior(lambda X: jnp.sin(5.0 * X[:, 0]), lambda X: 0.1 + X[:, 0] ** 2)
X = jnp.asarray(np.random.default_rng(0).random((7, 2)), jnp.float32)
LOG_EI, UCB = kriging_believer(log_ei, in_logs=True), kriging_believer(ucb)


def context(num_observed=4, best_f=0.3):
    seen = jnp.asarray(np.random.default_rng(1).random((8, 2)), jnp.float32)
    nobody = jnp.zeros((0, 2), jnp.float32)
    return Context(jnp.float32(best_f), seen, jnp.arange(8) < num_observed, nobody, jnp.zeros(0, bool))


def values(acquisition, of=X, **kwargs):
    return acquisition.value(acquisition.begin(jax.random.key(0), POSTERIOR, context(**kwargs), 1), of)


def slanted(X):
    return -3.0 * X[:, 1]


def success_model(failed):
    seen = np.random.default_rng(2).random((8, 2))
    y = np.where(failed & (seen[:, 0] > 0.5), np.nan, 1.0)
    return fit_success(data.from_numpy(seen, y, 8, np.float32))


@pytest.mark.long
@pytest.mark.parametrize(
    "acquisition",
    [
        weighted(batch_log_ei(num_samples=8), lambda X: jnp.log(0.1 + X[:, 0])),
        weighted(ucb, lambda X: -X[:, 0]),
        with_prior(batch_ucb(num_samples=8), gaussian_prior(0.3, [0.2, jnp.inf])),
    ],
    ids=["logs", "function", "sampled"],
)
def test_keeps_the_contract(acquisition):
    testing.check_batch_acquisition(acquisition, dtypes=["float32"])


@pytest.mark.long
def test_logarithms_get_the_log_weight():
    np.testing.assert_allclose(values(weighted(log_ei, slanted)), values(LOG_EI) + slanted(X), rtol=1e-6)
    joint = weighted(batch_log_ei(num_samples=4), slanted)
    batch = jnp.stack([X[:3], X[3:6]])
    state = joint.begin(jax.random.key(0), bojax.surrogates.gp().posterior(*fitted(), 3), context(), 3)
    plain = batch_log_ei(num_samples=4).joint(state.inner, batch)
    np.testing.assert_allclose(joint.joint(state, batch), plain - 3.0 * batch[:, :, 1].mean(axis=1), rtol=1e-5)


def fitted():
    surrogate = bojax.surrogates.gp()
    seen = data.append(data.empty(2, 8, jnp.float32), X, X[:, 0])
    return surrogate.init(2, jnp.float32), seen


def test_others_keep_their_order_where_the_weight_is_equal():
    plain, weighed = values(UCB), values(weighted(ucb, lambda X: jnp.zeros(X.shape[0], X.dtype)))
    np.testing.assert_array_equal(np.argsort(plain), np.argsort(weighed))
    assert np.argmax(values(weighted(ucb, lambda X: -1e3 * (X[:, 0] - X[3, 0]) ** 2))) == 3


@pytest.mark.long
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_log_softplus_over_its_range(dtype):
    with jax.enable_x64(dtype is np.float64):
        z = np.concatenate(
            [-(10.0 ** np.arange(-3, 30, 3.0)), np.linspace(-35, 35, 141), 10.0 ** np.arange(-3, 30, 3.0)]
        )
        z = np.sort(z.astype(dtype))
        value, slope = jax.vmap(jax.value_and_grad(log_softplus))(jnp.asarray(z))
        wide = z.astype(np.float64)
        exact = np.where(wide < -700, wide, np.log(np.logaddexp(0.0, np.maximum(wide, -700))))
        exact = np.where(wide < -30, wide, exact)
        np.testing.assert_allclose(value, exact, rtol=1e-6 if dtype is np.float32 else 1e-12, atol=1e-6)
        assert np.isfinite(slope).all() and (np.diff(value) >= 0).all() and value.dtype == dtype
        np.testing.assert_allclose(slope[z < -40], 1.0)


def test_impossible_points_stay_finite():
    acquisition = with_prior(log_ei, lambda X: jnp.where(X[:, 0] > 0.5, -jnp.inf, 0.0), beta=4.0)
    found = np.asarray(values(acquisition))
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, values(LOG_EI) + np.where(X[:, 0] > 0.5, LOWEST, 0.0), rtol=1e-5)


def test_a_prior_fades_with_the_observations():
    acquisition = with_prior(log_ei, gaussian_prior([0.2, 0.8], [0.1, jnp.inf]), beta=6.0)
    for n in (1, 3, 8):
        expected = values(LOG_EI) - 6.0 / n * 0.5 * ((X[:, 0] - 0.2) / 0.1) ** 2
        np.testing.assert_allclose(values(acquisition, num_observed=n), expected, rtol=1e-4)
    np.testing.assert_allclose(values(acquisition, num_observed=0), values(acquisition, num_observed=1), rtol=1e-6)


@pytest.mark.long
def test_a_prior_of_native_values():
    space = bojax.Space(rate=bojax.Float(1e-4, 1.0, log=True), kind=bojax.Categorical(["a", "b"]))

    def log_prior(params):
        return -jnp.abs(jnp.log10(params["rate"]) + 2.0) + jnp.where(params["kind"] == 1, 0.0, -5.0)

    expected = -np.abs(-4.0 + 4.0 * X[:, 0] + 2.0) + np.where(X[:, 1] >= 0.5, 0.0, -5.0)
    found = values(with_prior(log_ei, log_prior, beta=4.0, space=space)) - values(LOG_EI)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_costs_divide_and_cool():
    plain = values(LOG_EI)
    np.testing.assert_allclose(values(per_cost(log_ei, slanted)), plain - slanted(X), rtol=1e-5)
    np.testing.assert_allclose(values(per_cost(log_ei, slanted, exponent=0.0)), plain, rtol=1e-6)
    spent = float(np.exp(slanted(context().X[:4])).sum())
    cooled = values(per_cost(log_ei, slanted, budget=4.0 * spent))
    np.testing.assert_allclose(cooled, plain - 0.75 * slanted(X), rtol=1e-4)
    np.testing.assert_allclose(values(per_cost(log_ei, slanted, budget=0.5 * spent)), plain, rtol=1e-6)


@pytest.mark.long
@pytest.mark.parametrize("plain", [LOG_EI, UCB], ids=["logs", "values"])
def test_nothing_changes_while_nothing_failed(plain):
    good, bad = success_model(False), success_model(True)
    np.testing.assert_array_equal(values(with_success(plain, good)), values(plain))
    state_of = with_success(plain, bad)
    risky, safe = jnp.array([[0.95, 0.4]]), jnp.array([[0.1, 0.4]])
    assert bad.log_probability(risky)[0] < bad.log_probability(safe)[0] - 0.5
    lost = [values(plain, of)[0] - values(state_of, of)[0] for of in (risky, safe)]
    if plain is LOG_EI:
        expected = -4.0 * (bad.log_probability(risky)[0] - bad.log_probability(safe)[0])
        np.testing.assert_allclose(lost[0] - lost[1], expected, rtol=1e-3)
    assert lost[0] > lost[1] + 1.0


def test_bad_arguments_say_what_to_do():
    with pytest.raises(ValueError, match="`beta` must not be negative"):
        with_prior(log_ei, slanted, beta=-1.0)
    with pytest.raises(ValueError, match="`width` must be positive.*inf"):
        gaussian_prior(0.5, 0.0)
    with pytest.raises(ValueError, match="`center` must be finite"):
        gaussian_prior(jnp.nan, 1.0)
    with pytest.raises(ValueError, match="`budget` must be positive"):
        per_cost(log_ei, slanted, budget=0.0)
    with pytest.raises(ValueError, match="`aversion` must not be negative"):
        with_success(log_ei, success_model(True), aversion=-1.0)
