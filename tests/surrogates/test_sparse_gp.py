"""The sparse Gaussian process against GPJax's collapsed bound and the exact process."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bojax
from bojax import data, objectives, surrogates
from bojax.surrogates._collapsed import collapsed_bound, inducing_jitter
from bojax.surrogates._gp import gp_model, initial_params, log_posterior
from bojax.surrogates._sparse_gp import Inducing, choose_inducing, condition_sparse, evidence_bound
from tests.helpers import observe, smooth, tol

D = 2


def params_of(model, *, noise_var=0.02, num_dims=D, dtype=jnp.float64):
    """Hyperparameters away from any special value."""
    start = initial_params(model, num_dims, dtype)
    kernel = start.kernel._replace(log_lengthscale=jnp.linspace(-0.9, -0.2, num_dims, dtype=dtype))
    return start._replace(
        kernel=kernel._replace(log_outputscale=jnp.asarray(0.4, dtype)),
        mean=jnp.asarray(0.3, dtype),
        log_noise_var=jnp.log(jnp.asarray(noise_var, dtype)),
    )


def used(Z):
    return Inducing(jnp.asarray(Z), jnp.ones(len(Z), bool))


def all_answers(posterior, X):
    return (*posterior.mean_var(X), posterior.joint(X)[1], posterior.cov(X[:2], X))


def all_close(got, want, **tolerance):
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, **tolerance)


@pytest.mark.long
@pytest.mark.parametrize("kernel", [surrogates.matern52, surrogates.rbf])
def test_bound_and_predictions_are_those_of_gpjax(x64, kernel):
    import gpjax

    rng = np.random.default_rng(0)
    X, Z, Q = rng.random((40, D)), rng.random((7, D)), jnp.asarray(rng.random((6, D)))
    model = gp_model(kernel())
    params = params_of(model)
    observations = observe(X, smooth(X))
    y, loc, scale = (np.asarray(smooth(X)), smooth(X).mean(), smooth(X).std(ddof=1))

    # One jitter for both: theirs is absolute.
    jitter = inducing_jitter(np.float64) * float(jnp.exp(params.kernel.log_outputscale))
    prior = gpjax.gps.Prior(
        kernel=model.kernel.to_gpjax(params.kernel),
        mean_function=gpjax.mean_functions.Constant(params.mean),
        jitter=jitter,
    )
    joint = prior * gpjax.likelihoods.Gaussian(obs_stddev=jnp.exp(0.5 * params.log_noise_var))
    family = gpjax.variational_families.CollapsedVariationalGaussian(model=joint, inducing_inputs=jnp.asarray(Z))
    dataset = gpjax.Dataset(X=jnp.asarray(X), y=jnp.asarray((y - loc) / scale)[:, None])
    want = gpjax.objectives.collapsed_elbo(family, dataset)
    np.testing.assert_allclose(evidence_bound(model, params, observations, used(Z)), want, rtol=1e-10)

    theirs = family.predict(Q, dataset)
    ours = condition_sparse(model, params, observations, used(Z))
    cov = theirs.covariance() - jitter * np.eye(len(Q))  # they add it to what they predict
    np.testing.assert_allclose(ours.mean_var(Q)[0], loc + scale * theirs.mean, rtol=1e-8)
    np.testing.assert_allclose(ours.cov(Q, Q), scale**2 * cov, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(ours.mean_var(Q)[1], scale**2 * np.diagonal(cov), rtol=1e-6, atol=1e-9)
    assert np.isclose(ours.observation_noise(), scale**2 * jnp.exp(params.log_noise_var))


@pytest.mark.long
def test_the_gradient_is_that_of_the_formulas(x64):
    rng = np.random.default_rng(1)
    m, n = 4, 9
    X, Z = rng.random((n, D)), rng.random((m, D))
    model = gp_model()
    params = params_of(model)
    k = lambda A, B: model.kernel.matrix(params.kernel, jnp.asarray(A), jnp.asarray(B))  # noqa: E731
    mask = jnp.arange(n) != 3
    args = (
        k(Z, Z) + 1e-6 * jnp.eye(m),
        k(Z, X),
        jnp.diagonal(k(X, X)),
        jnp.asarray(0.01 + rng.random(n)),
        jnp.asarray(rng.normal(size=n)),
    )

    def dense(Kzz, Kzx, Kxx_diagonal, noise_var, residual):
        """Titsias' bound as it is defined, real rows only."""
        Kzx, Kxx_diagonal, noise_var, residual = (a[..., mask] for a in (Kzx, Kxx_diagonal, noise_var, residual))
        Q = Kzx.T @ jnp.linalg.solve(Kzz, Kzx)
        S = Q + jnp.diag(noise_var)
        log_density = -0.5 * residual @ jnp.linalg.solve(S, residual) - 0.5 * jnp.linalg.slogdet(2 * jnp.pi * S)[1]
        return log_density - 0.5 * jnp.sum((Kxx_diagonal - jnp.diagonal(Q)) / noise_var)

    want, want_grad = jax.value_and_grad(dense, range(5))(*args)
    got, got_grad = jax.jit(jax.value_and_grad(lambda *a: collapsed_bound(*a, mask), range(5)))(*args)
    np.testing.assert_allclose(got, want, rtol=1e-10)
    want_grad = (0.5 * (want_grad[0] + want_grad[0].T), *want_grad[1:])
    all_close(got_grad, want_grad, rtol=1e-7, atol=1e-7)


@pytest.mark.long
def test_with_all_points_inducing_it_is_the_exact_process(x64):
    X = np.random.default_rng(0).random((20, D))
    observations = observe(X, smooth(X), capacity=24)
    model = gp_model()
    params = params_of(model)
    exact, sparse = surrogates.gp(), surrogates.sparse_gp(32)
    Q = jnp.asarray(np.random.default_rng(1).random((5, D)))
    one, other = exact.posterior(params, observations, 3), sparse.posterior(params, observations, 3)
    all_close(all_answers(other, Q), all_answers(one, Q), rtol=1e-5, atol=1e-6)
    for step in range(3):
        one, other = (p.append(Q[step], jnp.asarray(2.0 + step)) for p in (one, other))
    all_close(all_answers(other, Q), all_answers(one, Q), rtol=1e-5, atol=1e-6)
    # The units may change before or after something is appended.
    all_close(all_answers(other.standardized(), Q), all_answers(one.standardized(), Q), rtol=1e-5, atol=1e-6)
    mask, base = jnp.array([True, False, True]), jnp.asarray(np.random.default_rng(2).normal(size=(4, 3)))
    fantasies, other_fantasies = (p.fantasies(Q[:3] + 0.05, mask, base, 1) for p in (one, other))
    all_close(other_fantasies.mean_var(Q), fantasies.mean_var(Q), rtol=1e-4, atol=1e-5)


@pytest.mark.long
def test_what_is_masked_does_not_matter(x64):
    """Neither padding nor failed rows nor inducing points that are left over."""
    X = np.random.default_rng(0).random((9, D))
    Q = jnp.asarray(np.random.default_rng(1).random((5, D)))
    surrogate = surrogates.sparse_gp(12)
    params = params_of(gp_model())
    want = all_answers(surrogate.posterior(params, observe(X, smooth(X))), Q)
    rows = np.array([0, 2, 3, 7, 8, 11, 12, 14, 15])
    got = all_answers(surrogate.posterior(params, observe(X, smooth(X), 16, rows)), Q)
    all_close(got, want, rtol=tol(jnp.float64), atol=tol(jnp.float64))
    twice = observe(np.concatenate([X, X]), np.concatenate([smooth(X), smooth(X)]))
    chosen = choose_inducing(gp_model(), params, twice, 12)
    assert chosen.mask.sum() == 9 and len(np.unique(np.asarray(chosen.Z)[np.asarray(chosen.mask)], axis=0)) == 9


@pytest.mark.slow
def test_the_bound_rises_with_inducing_points_to_the_likelihood(x64):
    X = np.random.default_rng(0).random((40, D))
    observations = observe(X, smooth(X))
    model = gp_model()
    params = params_of(model, noise_var=1e-2)
    values = []
    for m in (2, 5, 10, 20, 40):
        inducing = choose_inducing(model, params, observations, m)
        assert inducing.mask.all() and len(np.unique(inducing.Z, axis=0)) == m
        values.append(float(evidence_bound(model, params, observations, inducing)))
    assert np.all(np.diff(values) > 0)
    prior = model.kernel.log_prior(params.kernel) + model.mean.log_prior(params.mean)
    prior = prior + model.noise.log_prior(params.log_noise_var)
    assert np.isclose(values[-1], log_posterior(model, params, observations) - prior, atol=1e-3)
    random = used(X[:10])
    assert values[2] > evidence_bound(model, params, observations, random)


def test_noise_told_with_each_observation_counts(x64):
    X = np.random.default_rng(0).random((12, D))
    noise_var = jnp.asarray(np.random.default_rng(1).random(12))
    observations = observe(X, smooth(X)).with_columns(noise_var=noise_var)
    params = params_of(gp_model())
    Q = jnp.asarray(np.random.default_rng(2).random((5, D)))
    want = surrogates.gp().posterior(params, observations)
    got = surrogates.sparse_gp(12).posterior(params, observations)
    all_close(all_answers(got, Q), all_answers(want, Q), rtol=1e-5, atol=1e-6)


def test_nothing_to_learn_is_no_fit(x64):
    X = np.random.default_rng(0).random((8, D))
    kernel = surrogates.matern52()
    frozen = kernel._replace(
        init=lambda num_dims, dtype: (),
        matrix=lambda params, X, Z: kernel.matrix(kernel.init(D, X.dtype), X, Z),
        diagonal=lambda params, X: jnp.ones_like(X[:, 0]),
        log_prior=lambda params: jnp.zeros(()),
        bounds=lambda params: ((), ()),
    )
    surrogate = surrogates.sparse_gp(4, kernel=frozen, mean=surrogates.zero_mean(), noise=surrogates.fixed_noise(1e-2))
    params, info = surrogate.fit(jax.random.key(0), observe(X, smooth(X)), surrogate.init(D, jnp.float64))
    assert info.ok and info.num_evals == 1 and not jax.tree.leaves(params)


@pytest.mark.long
def test_float32_with_little_noise_is_finite():
    X = np.random.default_rng(0).random((200, D)).astype(np.float32)
    observations = observe(X, smooth(X).astype(np.float32), capacity=256)
    surrogate = surrogates.sparse_gp(48, max_evals=20)
    params, info = surrogate.fit(jax.random.key(0), observations, surrogate.init(D, jnp.float32))
    assert info.ok
    mean, var = surrogate.posterior(params, observations).mean_var(jnp.asarray(X))
    assert mean.dtype == jnp.float32 and np.all(var > 0)
    assert np.sqrt(np.mean((mean - smooth(X)) ** 2)) < 0.05


@pytest.mark.slow
def test_a_thousand_points_are_learned_and_errors_are_as_large_as_foretold(x64):
    rng = np.random.default_rng(0)
    X = rng.random((1200, 3))
    y = smooth(X) + 0.1 * rng.normal(size=1200)
    surrogate = surrogates.sparse_gp(64)
    observations = data.from_numpy(X[:1000], y[:1000], 1024, np.float64)
    params, info = surrogate.fit(jax.random.key(0), observations, surrogate.init(3, jnp.float64))
    assert info.ok
    posterior = surrogate.posterior(params, observations)
    mean, var = posterior.mean_var(jnp.asarray(X[1000:]))
    assert np.sqrt(np.mean((mean - smooth(X[1000:])) ** 2)) < 0.05
    assert 0.08 < np.sqrt(posterior.observation_noise()) < 0.12
    z = (y[1000:] - mean) / np.sqrt(var + posterior.observation_noise())
    assert abs(np.mean(z**2) - 1.0) < 5 * (2 / 200) ** 0.5  # five standard errors of a mean of squares


@pytest.mark.slow
def test_a_study_beats_random_search(x64):
    branin = objectives.branin()
    algorithm = bojax.bayesopt(branin.space, surrogate=surrogates.sparse_gp(16))
    keys = jax.random.split(jax.random.key(0), 8)
    finals = bojax.run_many(keys, algorithm, lambda p: -branin(p), num_steps=25)
    baseline = bojax.run_many(keys, bojax.random_search(branin.space), lambda p: -branin(p), num_steps=25)
    regret, other = (np.median(-np.max(f.observations.y, axis=1)) - branin.optimum for f in (finals, baseline))
    assert regret < 0.1 * other


def test_bad_numbers_are_named():
    with pytest.raises(ValueError, match="num_inducing"):
        surrogates.sparse_gp(0)
    with pytest.raises(ValueError, match="max_evals"):
        surrogates.sparse_gp(max_evals=0)
