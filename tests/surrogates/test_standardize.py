"""Standardising values of any magnitude, and the noise models that depend on the scale."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bojax import surrogates
from bojax.surrogates.outputs._standardize import Scale, standardize

Y = np.array([1.0, -2.0, 0.5, 4.0, 99.0])
MASK = np.array([True, True, True, True, False])


def run(y, mask=MASK):
    return standardize(jnp.asarray(y), jnp.asarray(mask))


@pytest.mark.parametrize("magnitude", [1e-300, 1e-30, 1e-6, 1.0, 1e30, 1e300])
def test_any_magnitude_gives_mean_0_and_deviation_1(x64, magnitude):
    standard, scale = run(Y * magnitude)
    kept = np.asarray(standard)[MASK]
    np.testing.assert_allclose(kept.mean(), 0.0, atol=1e-14)
    np.testing.assert_allclose(kept.std(ddof=1), 1.0, rtol=1e-13)
    assert standard[4] == 0.0
    np.testing.assert_allclose((scale.loc + scale.scale * standard)[:4], Y[:4] * magnitude, rtol=1e-12)


def test_values_of_1e30_and_1e_30_in_float32():
    for magnitude in (1e-30, 1e30):
        standard, scale = run((Y * magnitude).astype(np.float32))
        assert standard.dtype == jnp.float32
        np.testing.assert_allclose(np.asarray(standard)[MASK].std(ddof=1), 1.0, rtol=1e-5)
        assert np.isfinite(scale.scale) and scale.scale > 0


@pytest.mark.parametrize("value", [0.0, 3.0, -1e30, 1e-30])
def test_equal_values_become_zeros(x64, value):
    standard, scale = run(np.full(5, value))
    np.testing.assert_array_equal(standard, 0.0)
    np.testing.assert_allclose(scale.loc, value, rtol=1e-12)
    assert scale.scale > 0


def test_rounding_is_no_spread(x64):
    standard, _ = run(1.0 + 1e-15 * Y)
    assert np.abs(standard).max() < 1e-10


@pytest.mark.parametrize("count", [0, 1])
def test_few_values(x64, count):
    standard, scale = run(Y, np.arange(5) < count)
    np.testing.assert_array_equal(standard, 0.0)
    assert np.isfinite(scale.loc) and scale.scale > 0


def test_masked_values_do_not_matter_even_when_not_finite(x64):
    wild = Y.copy()
    wild[4] = np.nan
    jax.tree.map(np.testing.assert_array_equal, run(wild), run(Y))


SCALE = Scale(loc=jnp.float32(0.0), scale=jnp.float32(10.0))


def test_known_noise_is_in_the_units_of_y(x64):
    scale = Scale(loc=jnp.zeros(()), scale=jnp.asarray(10.0))
    noise = surrogates.known_noise(4.0)
    np.testing.assert_allclose(noise.variance((), scale), 0.04)
    np.testing.assert_allclose(surrogates.fixed_noise(0.3).variance((), scale), 0.3)
    huge = Scale(loc=jnp.zeros(()), scale=jnp.asarray(1e300))
    assert np.isfinite(noise.variance((), huge))


def test_noise_has_a_floor():
    assert surrogates.known_noise(0.0).variance((), SCALE) >= 1e-4  # float32
    with jax.enable_x64(True):
        scale = Scale(loc=jnp.zeros(()), scale=jnp.asarray(10.0))
        assert 0 < surrogates.fixed_noise(0.0).variance((), scale) <= 1e-4


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf])
@pytest.mark.parametrize("make", [surrogates.known_noise, surrogates.fixed_noise])
def test_a_bad_variance_is_refused(make, bad):
    with pytest.raises(ValueError, match="noise_var"):
        make(bad)


def test_learned_noise_starts_inside_its_bounds(x64):
    noise = surrogates.learned_noise()
    start = noise.init(jnp.float64)
    low, high = noise.bounds(start)
    assert low <= start <= high
    with pytest.raises(ValueError, match="std"):
        surrogates.learned_noise(std=0.0)
