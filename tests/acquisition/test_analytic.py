"""Acquisition values against SciPy's normal distribution, and how they relate to each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats

from bojax import acquisition
from bojax.testing import MockPosterior

MEANS = np.array([-3.0, -0.5, 0.0, 0.7, 2.0])
STDS = np.array([0.1, 1.0, 0.5, 3.0, 0.2])
BEST = 0.4
# The mean and the deviation of each row are its coordinates.
POSTERIOR = MockPosterior(lambda X: X[:, 0], lambda X: X[:, 1] ** 2)


def rows():
    return jnp.asarray(np.stack([MEANS, STDS], axis=1))


@pytest.fixture(autouse=True)
def scope(x64):
    yield


def test_expected_improvement_is_the_integral_of_the_improvement():
    got = acquisition.ei(POSTERIOR, rows(), jnp.asarray(BEST))
    for mean, std, value in zip(MEANS, STDS, got, strict=True):
        density = scipy.stats.norm(mean, std).pdf
        top = max(mean + 12 * std, BEST + 1.0)
        want = scipy.integrate.quad(lambda f, density=density: (f - BEST) * density(f), BEST, top)[0]
        np.testing.assert_allclose(value, want, rtol=1e-6, atol=1e-9)


def test_probability_of_improvement():
    got = acquisition.pi(POSTERIOR, rows(), jnp.asarray(BEST))
    np.testing.assert_allclose(got, scipy.stats.norm.sf(BEST, MEANS, STDS), rtol=1e-10)


def test_logarithms_are_logarithms():
    for plain, log in ((acquisition.ei, acquisition.log_ei), (acquisition.pi, acquisition.log_pi)):
        want = jnp.log(plain(POSTERIOR, rows(), jnp.asarray(BEST)))
        np.testing.assert_allclose(log(POSTERIOR, rows(), jnp.asarray(BEST)), want, rtol=1e-9, atol=1e-12)


@pytest.mark.long
def test_logarithms_keep_a_slope_where_the_plain_ones_are_flat():
    far = jnp.asarray([[-1e3, 1.0]])
    for plain, log in ((acquisition.ei, acquisition.log_ei), (acquisition.pi, acquisition.log_pi)):
        assert plain(POSTERIOR, far, jnp.zeros(())) == 0
        slope = jax.grad(lambda X, log=log: log(POSTERIOR, X, jnp.zeros(()))[0])(far)[0, 0]
        np.testing.assert_allclose(slope, 1e3, rtol=1e-2)  # d(-z^2 / 2) / dz at z = -1000


def test_upper_confidence_bound_and_mean():
    np.testing.assert_allclose(acquisition.ucb(POSTERIOR, rows(), beta=9.0), MEANS + 3 * STDS, rtol=1e-12)
    np.testing.assert_allclose(acquisition.ucb(POSTERIOR, rows()), MEANS + 2 * STDS, rtol=1e-12)
    np.testing.assert_allclose(acquisition.posterior_mean(POSTERIOR, rows()), MEANS, rtol=1e-14)


@pytest.mark.long
@pytest.mark.parametrize("name", ["ei", "log_ei", "pi", "log_pi", "posterior_mean", "ucb"])
def test_a_higher_mean_is_better(name):
    X = jnp.stack([jnp.linspace(-5.0, 5.0, 21), jnp.full(21, 0.7)], axis=1)
    values = getattr(acquisition, name)(POSTERIOR, X, jnp.zeros(()))
    assert (np.diff(values) > 0).all()
