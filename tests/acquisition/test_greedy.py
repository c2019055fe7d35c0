"""Batches over sampled objectives against plain Monte-Carlo estimates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bojax import acquisition, surrogates
from bojax.acquisition import Context
from tests.helpers import observe, smooth


def setting(noise_var=1e-3, pending=()):
    X = np.random.default_rng(0).random((9, 2))
    observations = observe(X, smooth(X), capacity=12)
    surrogate = surrogates.gp(noise=surrogates.fixed_noise(noise_var))
    num_spare = len(pending) + 4
    posterior = surrogate.posterior(surrogate.init(2, observations.X.dtype), observations, num_spare).standardized()
    best_f = jnp.max(jnp.where(observations.mask, posterior.mean(observations.X), -jnp.inf))
    pending = jnp.asarray(np.reshape(pending, (-1, 2)), observations.X.dtype)
    return posterior, Context(best_f, observations.X, observations.mask, pending, jnp.ones(len(pending), bool))


def joint_samples(posterior, X, count, seed=5):
    mean, cov = (np.asarray(a) for a in posterior.joint(jnp.asarray(X)))
    values, vectors = np.linalg.eigh(cov)
    z = np.random.default_rng(seed).normal(size=(count, len(X)))
    return mean + z @ (vectors * np.sqrt(np.maximum(values, 0))).T


def gain(samples, best):
    """Mean and standard error of the largest improvement in each sample."""
    improvement = np.maximum(samples.max(axis=1) - best, 0.0)
    return improvement.mean(), improvement.std() / len(improvement) ** 0.5


BATCH = np.array([[0.2, 0.8], [0.85, 0.3], [0.25, 0.75]])


@pytest.mark.long
def test_gains_in_turn_and_jointly_are_the_joint_improvement():
    with jax.enable_x64(True):
        posterior, context = setting(pending=[[0.9, 0.9]])
        rule = acquisition.batch_log_ei(num_samples=4096)
        start = state = rule.begin(jax.random.key(0), posterior, context, 3)
        gains = []
        for x in jnp.asarray(BATCH):
            gains.append(np.exp(rule.value(state, x[None])[0]))
            state = rule.add(state, x)
        joint = np.exp(rule.joint(start, jnp.asarray(BATCH)[None])[0])
        assert np.isclose(sum(gains), joint, rtol=1e-8)

        samples = joint_samples(posterior, np.concatenate([[[0.9, 0.9]], BATCH]), 400_000)
        best = np.maximum(context.best_f, samples[:, 0])
        want, error = gain(samples[:, 1:], best)
        assert abs(joint - want) < 5 * error + 0.01 * want
        first, error = gain(samples[:, 1:2], best)
        assert abs(gains[0] - first) < 5 * error + 0.01 * first


@pytest.mark.long
def test_one_point_without_pending_ones_is_log_ei():
    with jax.enable_x64(True):
        posterior, context = setting()
        X = jnp.asarray(np.random.default_rng(1).random((50, 2)))
        want = acquisition.log_ei(posterior, X, context.best_f)
        for num_samples in (1, 64):
            rule = acquisition.batch_log_ei(num_samples=num_samples)
            for q in (1, 2):
                got = rule.value(rule.begin(jax.random.key(0), posterior, context, q), X)
                assert np.allclose(got, want, rtol=1e-9)


@pytest.mark.long
def test_noisy_improvement_integrates_over_the_incumbent():
    with jax.enable_x64(True):
        posterior, context = setting(noise_var=0.3)
        rule = acquisition.batch_log_nei(num_samples=4096, num_baseline=9)
        x = jnp.array([[0.1, 0.9]])
        got = np.exp(rule.value(rule.begin(jax.random.key(0), posterior, context, 1), x)[0])
        observed = np.asarray(context.X)[np.asarray(context.mask)]
        samples = joint_samples(posterior, np.concatenate([observed, x]), 400_000)
        want, error = gain(samples[:, -1:], samples[:, :-1].max(axis=1))
        assert abs(got - want) < 5 * error + 0.01 * want
        plain = np.exp(acquisition.log_ei(posterior, x, context.best_f)[0])
        assert abs(plain - want) > 10 * error + 0.02 * want  # the two differ where noise is large


@pytest.mark.long
def test_probability_of_improvement_counts_samples_that_have_not_improved():
    with jax.enable_x64(True):
        posterior, context = setting(pending=[[0.9, 0.9]])
        rule = acquisition.batch_log_pi(num_samples=4096)
        state = rule.add(rule.begin(jax.random.key(0), posterior, context, 2), jnp.asarray(BATCH[0]))
        got = np.exp(rule.value(state, jnp.asarray(BATCH[1:2]))[0])
        samples = joint_samples(posterior, np.concatenate([[[0.9, 0.9]], BATCH[:2]]), 400_000)
        hit = (samples[:, 2] > context.best_f) & np.all(samples[:, :2] <= float(context.best_f), axis=1)
        assert abs(got - hit.mean()) < 5 * hit.std() / 4e5**0.5 + 0.02 * hit.mean()


@pytest.mark.long
def test_upper_bound_and_simple_regret_of_a_batch():
    with jax.enable_x64(True):
        posterior, context = setting()
        samples = joint_samples(posterior, BATCH[:2], 400_000)
        mean = np.asarray(posterior.mean(jnp.asarray(BATCH[:2])))
        bound = mean + np.sqrt(0.5 * 4.0 * np.pi) * np.abs(samples - mean)
        for rule, scores in (
            (acquisition.batch_ucb(beta=4.0, num_samples=4096), bound),
            (acquisition.batch_simple_regret(num_samples=4096), samples),
        ):
            state = rule.add(rule.begin(jax.random.key(0), posterior, context, 2), jnp.asarray(BATCH[0]))
            got = rule.value(state, jnp.asarray(BATCH[1:2]))[0]
            best = scores.max(axis=1)
            assert abs(got - best.mean()) < 5 * best.std() / 4e5**0.5 + 0.01
            single = rule.value(rule.begin(jax.random.key(0), posterior, context, 1), jnp.asarray(BATCH[:1]))[0]
            assert abs(single - scores[:, 0].mean()) < 5 * scores[:, 0].std() / 4096**0.5


@pytest.mark.long
@pytest.mark.parametrize(
    "name", ["batch_log_ei", "batch_log_nei", pytest.param("batch_log_pi", marks=pytest.mark.slow), "batch_ucb"]
)
def test_a_pending_point_is_not_proposed_again(name):
    with jax.enable_x64(True):
        posterior, context = setting()
        rule = getattr(acquisition, name)()
        grid = jnp.asarray(np.random.default_rng(3).random((400, 2)))
        before = rule.value(rule.begin(jax.random.key(0), posterior, context, 2), grid)
        best = int(jnp.argmax(before))
        _, pending = setting(pending=[np.asarray(grid[best])])
        after = rule.value(rule.begin(jax.random.key(0), posterior, pending, 2), grid)
        assert int(jnp.argmax(after)) != best
        assert after[best] < np.quantile(after, 0.9)


def test_bad_numbers_are_named():
    with pytest.raises(ValueError, match="num_samples"):
        acquisition.batch_log_ei(num_samples=0)
    with pytest.raises(ValueError, match="num_baseline"):
        acquisition.batch_log_nei(num_baseline=0)
    with pytest.raises(ValueError, match="beta"):
        acquisition.batch_ucb(beta=-1.0)
