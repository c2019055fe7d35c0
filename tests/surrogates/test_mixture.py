"""Mixtures of Gaussian processes: moments by brute force over the members, fantasies of each member."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bojax import acquisition
from bojax.surrogates import MixturePosterior
from bojax.surrogates import _gp as gp_module
from tests.helpers import observe, smooth, tol

M = 3


@functools.cache
def mixture_of(x64=True):
    """Three members that disagree, with one spare row."""
    X = np.random.default_rng(0).random((7, 2))
    observations = observe(X, 5.0 * smooth(X) + 3.0, capacity=9)
    model, dtype = gp_module.gp_model(), observations.X.dtype
    assert (dtype == jnp.float64) == x64
    params = gp_module.initial_params(model, 2, dtype)
    stacked = jax.vmap(lambda move: jax.tree.map(lambda leaf: leaf + move, params))(jnp.array([-1.0, 0.0, 1.0], dtype))
    condition = jax.jit(jax.vmap(lambda params: gp_module.condition(model, params, observations, 1)))
    return MixturePosterior(condition(stacked))


def each_member(mixture, fn):
    """What `fn` gives for every member by itself."""
    compiled = jax.jit(fn)
    return [compiled(jax.tree.map(lambda leaf, i=i: leaf[i], mixture.members)) for i in range(M)]


def moments(mixture, X, change=lambda member: member):
    """Mean and covariance at X by the laws of total expectation and covariance, in NumPy."""
    means, covariances = map(np.stack, zip(*each_member(mixture, lambda m: change(m).joint(X)), strict=True))
    return means.mean(axis=0), covariances.mean(axis=0) + np.cov(means.T, bias=True)


def points(seed, k):
    return jnp.asarray(np.random.default_rng(seed).random((k, 2)))


@pytest.mark.long
def test_moments(x64):
    mixture, X = mixture_of(), points(1, 5)
    mean, cov = moments(mixture, X)

    @jax.jit
    def answers(p):
        return p.mean(X), p.var(X), p.mean_var(X)[0], *p.joint(X), p.cov(X[:2], X[2:]), p.observation_noise()

    noises = each_member(mixture, lambda member: member.observation_noise())
    wanted = mean, np.diag(cov), mean, mean, cov, cov[:2, 2:], np.mean(noises)
    assert mixture.num_members == M
    variances = each_member(mixture, lambda member: member.var(X))
    assert np.trace(cov) > 1.02 * np.sum(variances) / M, "members that agree would test nothing"
    for got, want in zip(answers(mixture), wanted, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-9)


@pytest.mark.long
def test_samples_have_the_moments_and_belong_to_members_in_turn(x64):
    mixture, X, s = mixture_of(), points(2, 3), 30_000
    samples = np.asarray(jax.jit(lambda p: p.sample(jax.random.key(0), X, s))(mixture))
    mean, cov = moments(mixture, X)
    std = np.sqrt(np.diag(cov))
    assert np.all(np.abs(samples.mean(axis=0) - mean) < 5 * std / s**0.5)
    assert np.allclose(np.cov(samples.T) / np.outer(std, std), cov / np.outer(std, std), atol=8 * (2 / s) ** 0.5)
    for i, (own_mean, own_var) in enumerate(each_member(mixture, lambda member: member.mean_var(X))):
        own = samples[i::M]
        assert np.all(np.abs(own.mean(axis=0) - own_mean) < 5 * np.sqrt(own_var / len(own)))


@pytest.mark.long
def test_append_and_standardized_reach_every_member(x64):
    mixture, X = mixture_of(), points(3, 4)
    y = jnp.asarray(2.0)

    @jax.jit
    def answers(p):
        standardized = p.standardized()
        return p.append(X[0], y).joint(X)[1], standardized.mean_var(X), p.mean_var(X)

    cov, (mean, var), (own_mean, own_var) = answers(mixture)
    np.testing.assert_allclose(cov, moments(mixture, X, lambda m: m.append(X[0], y))[1], rtol=1e-9, atol=1e-9)
    loc, scale = mixture.members.scale.loc[0], mixture.members.scale.scale[0]
    assert scale > 1.1
    np.testing.assert_allclose(mean * scale + loc, own_mean, rtol=1e-10)
    np.testing.assert_allclose(var * scale**2, own_var, rtol=1e-10)


@pytest.mark.long
def test_fantasies_are_those_of_the_members(x64):
    mixture, P, X = mixture_of(), points(4, 4), points(5, 5)
    mask = jnp.array([True, False, True])
    base = jnp.asarray(np.random.default_rng(4).normal(size=(2 * M, 4)))

    def answers(posterior, base):
        fantasies = posterior.fantasies(P[:3], mask, base[:, :3], 1).append(P[3], base[:, 3])
        return fantasies.values, *fantasies.mean_var(X), *fantasies.joint(X)

    values, mean, var, joint_mean, joint_cov = jax.jit(answers)(mixture, base)
    assert mean.shape == var.shape == joint_mean.shape == (2 * M, 5) and values.shape == (2 * M, 4)
    one = jax.jit(answers)
    for i in range(M):
        rows = slice(2 * i, 2 * i + 2)
        own = one(jax.tree.map(lambda leaf, i=i: leaf[i], mixture.members), base[rows])
        np.testing.assert_allclose(values[rows], own[0], rtol=1e-9)
        np.testing.assert_allclose(mean[rows], own[1], rtol=1e-9)
        np.testing.assert_allclose(var[rows], np.broadcast_to(own[2], (2, 5)), rtol=1e-7)
        np.testing.assert_allclose(joint_mean[rows], own[3], rtol=1e-9)
        np.testing.assert_allclose(joint_cov[i], own[4][0], rtol=1e-7, atol=1e-9)


def test_the_batch_acquisition_is_the_mean_over_members(x64):
    mixture, X, best_f = mixture_of(), points(6, 4), jnp.asarray(4.0)
    nothing = jnp.zeros((0, 2)), jnp.zeros(0, bool)
    context = acquisition.Context(best_f, mixture.members.X[0], mixture.members.mask[0], *nothing)
    rule = acquisition.batch_log_ei()
    got = jax.jit(lambda p: rule.value(rule.begin(jax.random.key(0), p, context, 1), X))(mixture)
    want = np.log(np.mean(each_member(mixture, lambda member: acquisition.ei(member, X, best_f)), axis=0))
    np.testing.assert_allclose(got, want, rtol=1e-8)


def test_samples_that_cannot_be_divided_are_refused(x64):
    with pytest.raises(ValueError, match=f"multiple of {M}"):
        mixture_of().fantasies(jnp.zeros((1, 2)), jnp.ones(1, bool), jnp.zeros((M + 1, 1)))


@pytest.mark.long
@pytest.mark.parametrize("x64_on", [False, True])
def test_dtypes_gradients_and_vmap(x64_on):
    with jax.enable_x64(x64_on):
        mixture, X = mixture_of(x64_on), points(7, 3)

        @jax.jit
        def answers(mixture):
            both = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), mixture)
            gradient = jax.grad(lambda X: jnp.sum(mixture.mean(X)) + jnp.sum(mixture.var(X)))(X)
            return gradient, jax.vmap(lambda p: p.mean(X))(both)[1], mixture.mean(X)

        gradient, vmapped, mean = answers(mixture)
        assert gradient.dtype == mean.dtype == X.dtype and np.all(np.isfinite(gradient))
        np.testing.assert_allclose(vmapped, mean, rtol=tol(X.dtype))
