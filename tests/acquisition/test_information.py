"""Information and look-ahead acquisitions against BoTorch's figures, quadrature and nested samples."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from bojax import acquisition
from bojax.acquisition import Context, Optima
from bojax.acquisition._max_value import inverse_mills, sample_optima, truncated_share
from tests.oracle.pair import hyperparameters, posterior_of

CASES = json.loads((pathlib.Path(__file__).parents[1] / "oracle" / "information.json").read_text())


def check(fn, X, want):
    value, gradient = jax.value_and_grad(fn)(jnp.asarray(X))
    assert np.isclose(value, want["value"], rtol=1e-6, atol=1e-9)
    size = max(1e-6, np.max(np.abs(want["gradient"])))
    assert np.max(np.abs(gradient - np.asarray(want["gradient"]))) < 1e-6 * size


def after(posterior, pending):
    """The posterior after observing points, whatever their values; None without any."""
    for x in pending:
        posterior = posterior.append(jnp.asarray(x), jnp.zeros(()))
    return posterior if pending else None


@pytest.mark.long
@pytest.mark.parametrize("number", range(len(CASES)))
def test_gibbon_is_that_of_botorch(number):
    case = CASES[number]
    with jax.enable_x64(True):
        posterior = posterior_of(case["gp"])
        values, conditioned = jnp.asarray(case["values"]), after(posterior, case["pending"])

        def fn(X):
            return acquisition.gibbon_information(posterior, X, values, conditioned=conditioned)[0]

        check(fn, case["x"], case["found"]["gibbon"])


@pytest.mark.long
@pytest.mark.parametrize("number", range(len(CASES)))
def test_joint_entropy_is_that_of_botorch(number):
    case = CASES[number]
    with jax.enable_x64(True):
        posterior = posterior_of(case["gp"])
        optima = Optima(jnp.asarray(case["optima"]), jnp.asarray(case["values"]))

        def fn(X):
            return acquisition.joint_entropy(posterior, X, optima, optimum_noise=case["optimum_noise"])[0]

        check(fn, case["x"], case["found"]["jes"])


@pytest.mark.long
@pytest.mark.parametrize("number", range(len(CASES)))
def test_the_one_shot_gradient_is_that_of_botorch(number):
    case = CASES[number]
    with jax.enable_x64(True):
        posterior, base = posterior_of(case["gp"]), jnp.asarray(case["base"])

        def fn(X):
            return acquisition.one_shot_kg(posterior, X[:2], X[2:], base_samples=base, current=0.25)

        check(fn, case["X"] + case["fantasies"], case["found"]["kg"])


@pytest.mark.long
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_truncated_normal_pieces(dtype):
    with jax.enable_x64(dtype == "float64"):
        gamma = np.concatenate([-np.logspace(3, -3, 30), [0.0], np.logspace(-3, 1.5, 30)])
        hazard = np.exp(stats.norm.logpdf(gamma) - stats.norm.logcdf(gamma))
        rtol = 1e-9 if dtype == "float64" else 2e-5
        assert np.allclose(inverse_mills(jnp.asarray(gamma, dtype)), hazard, rtol=rtol)
        near = gamma > -20
        share = stats.truncnorm(-np.inf, gamma[near]).var()
        got = np.asarray(truncated_share(jnp.asarray(gamma, dtype)))
        assert np.allclose(got[near], share, rtol=1e-6 if dtype == "float64" else 1e-2)
        assert np.all(got > 0) and np.all(got <= 1 + 1e-6)
        slope = jax.vmap(jax.grad(truncated_share))(jnp.asarray(gamma, dtype))
        assert np.all(np.isfinite(slope))


@pytest.mark.long
def test_max_value_entropy_is_the_loss_of_entropy_by_truncation():
    with jax.enable_x64(True):
        posterior = posterior_of(hyperparameters(3))
        X = jnp.asarray(np.random.default_rng(0).random((4, 3)))
        mean, var = posterior.mean_var(X)
        for lead in (-1.0, 0.2, 2.0):
            tops = mean[0] + lead * jnp.sqrt(var[0])
            got = acquisition.max_value_entropy(posterior, X[:1], tops[None])[0]
            mass = stats.norm.cdf(lead)
            density = lambda z, mass=mass: stats.norm.pdf(z) / mass  # noqa: E731
            left = integrate.quad(lambda z, f=density: -f(z) * np.log(f(z)), -12, lead)[0]
            assert np.isclose(got, stats.norm.entropy() - left, rtol=1e-6)


@pytest.mark.long
def test_the_discrete_gradient_is_a_nested_estimate():
    with jax.enable_x64(True):
        posterior = posterior_of(hyperparameters(4))
        rng = np.random.default_rng(1)
        x, candidates = jnp.asarray(rng.random((1, 3))), jnp.asarray(rng.random((6, 3)))
        z = jnp.asarray(rng.normal(size=300))
        got = acquisition.discrete_kg(posterior, x, candidates, z)[0]
        mean, var = posterior.mean_var(x)
        root = jnp.sqrt(var[0] + posterior.observation_noise())
        points = jnp.concatenate([candidates, x])
        risen = jax.vmap(lambda z: jnp.max(posterior.append(x[0], mean[0] + root * z).mean(points)))(z)
        assert np.isclose(got, jnp.mean(risen) - jnp.max(posterior.mean(points)), rtol=1e-8)
        even = jnp.concatenate([z, -z])  # with an exact mean of zero the value cannot fall
        assert acquisition.discrete_kg(posterior, x, candidates, even)[0] >= 0


def context_of(posterior):
    none = jnp.zeros((0, 3))
    X = posterior.X
    return Context(jnp.max(posterior.mean(X)), X, jnp.ones(len(X), bool), none, jnp.zeros(0, bool))


@pytest.mark.slow
def test_sampled_optima_have_the_law_of_the_maximum():
    with jax.enable_x64(True):
        posterior = posterior_of(hyperparameters(5))
        context = context_of(posterior)
        optima = sample_optima(jax.random.key(0), posterior, context, 2000, 512)
        assert np.all(optima.values >= context.best_f)
        assert np.all((optima.X >= 0) & (optima.X <= 1))
        other = sample_optima(jax.random.key(1), posterior, context, 2000, 1024)
        error = np.std(np.asarray(other.values)) / 2000**0.5
        lead = float(np.mean(np.asarray(other.values)) - np.mean(np.asarray(optima.values)))
        assert -5 * error < lead < 0.5 * np.std(np.asarray(other.values)) + 5 * error


@pytest.mark.long
@pytest.mark.parametrize("name", ["mes", "gibbon", "jes", "knowledge_gradient"])
def test_a_chosen_point_is_worth_less_the_second_time(name):
    with jax.enable_x64(True):
        posterior = posterior_of(hyperparameters(6))
        rule = getattr(acquisition, name)()
        state = rule.begin(jax.random.key(0), posterior, context_of(posterior), 2)
        grid = jnp.asarray(np.random.default_rng(3).random((200, 3)))
        values = rule.value(state, grid)
        best = int(jnp.argmax(values))
        again = rule.value(rule.add(state, grid[best]), grid)
        assert again[best] < values[best]
        assert int(jnp.argmax(again)) != best


def test_bad_numbers_are_named():
    for make in (acquisition.mes, acquisition.gibbon, acquisition.jes):
        with pytest.raises(ValueError, match="num_candidates"):
            make(num_candidates=0)
    with pytest.raises(ValueError, match="num_fantasies"):
        acquisition.knowledge_gradient(num_fantasies=1)
