"""Monte-Carlo acquisitions against BoTorch's figures and against each other."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bojax import acquisition
from bojax.acquisition._monte_carlo import fat_max, log_fat_softplus
from tests.oracle.pair import hyperparameters, posterior_of

CASES = json.loads((pathlib.Path(__file__).parents[1] / "oracle" / "monte_carlo.json").read_text())
NAMES = ("q_log_ei", "q_log_nei", "q_pi", "q_ucb", "q_simple_regret")


def ours(name, case, posterior):
    """Our acquisition of X [q, d] in the setting of a case."""
    pending = jnp.asarray(case["pending"]) if case["pending"] else None
    base, noisy = jnp.asarray(case["base"]), jnp.asarray(case["noisy_base"])
    if name == "q_log_nei":
        baseline = jnp.asarray(case["baseline"])
        return lambda X: acquisition.q_log_nei(posterior, X, X_baseline=baseline, base_samples=noisy, X_pending=pending)
    more = {"q_pi": {"tau": 0.1}, "q_ucb": {"beta": 2.0}}.get(name, {})
    function = getattr(acquisition, name)
    return lambda X: function(posterior, X, case["best_f"], base_samples=base, X_pending=pending, **more)


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("number", range(len(CASES)))
def test_values_and_gradients_are_those_of_botorch(name, number):
    case = CASES[number]
    with jax.enable_x64(True):
        fn = ours(name, case, posterior_of(case["gp"]))
        value, gradient = jax.value_and_grad(fn)(jnp.asarray(case["X"]))
        want = case["acquisitions"][name]
        assert np.isclose(value, want["value"], rtol=1e-6, atol=1e-9)
        size = max(1e-3, np.max(np.abs(want["gradient"])))
        assert np.max(np.abs(gradient - np.asarray(want["gradient"]))) < 1e-6 * size


@pytest.mark.long
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_far_tails_stay_finite_and_keep_a_slope(dtype):
    with jax.enable_x64(dtype == "float64"):
        u = jnp.concatenate([-jnp.logspace(8, -3, 60), jnp.zeros(1), jnp.logspace(-3, 8, 60)]).astype(dtype)
        value, slope = jax.vmap(jax.value_and_grad(log_fat_softplus))(u)
        assert np.all(np.isfinite(value)) and np.all(np.isfinite(slope)) and np.all(slope > 0)
        assert np.all(np.diff(value) > 0)
        x = jnp.asarray([[0.0, -1.0, -1e6], [3.0, 3.0, -2.0]], dtype)
        top, pull = jax.vjp(lambda x: fat_max(x, 1e-2), x)
        (gradient,) = pull(jnp.ones(2, dtype))
        assert np.all(np.isfinite(gradient)) and np.all(gradient >= 0)
        assert np.allclose(top, [0.0, 3.0 + 0.01 * np.log(2.0)], atol=1e-3)
        assert gradient[0, 1] > 1e-6


@pytest.mark.long
def test_batches_by_vmap_are_single_batches():
    with jax.enable_x64(True):
        posterior = posterior_of(hyperparameters(7))
        rng = np.random.default_rng(0)
        X, base = jnp.asarray(rng.random((4, 3, 3))), jnp.asarray(rng.normal(size=(32, 3)))
        for name in ("q_log_ei", "q_pi", "q_ucb", "q_simple_regret"):
            fn = lambda X, name=name: getattr(acquisition, name)(posterior, X, 0.5, base_samples=base)  # noqa: E731
            many = jax.jit(jax.vmap(jax.value_and_grad(fn)))(X)
            for i in range(4):
                value, gradient = jax.value_and_grad(fn)(X[i])
                assert np.isclose(many[0][i], value, rtol=1e-9)
                assert np.allclose(many[1][i], gradient, rtol=1e-7, atol=1e-10)


@pytest.mark.long
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equal_points_keep_finite_gradients(dtype):
    with jax.enable_x64(True):
        posterior = posterior_of(hyperparameters(8))
        posterior = jax.tree.map(lambda a: a.astype(dtype) if a.dtype.kind == "f" else a, posterior)
    with jax.enable_x64(dtype == np.float64):
        rng = np.random.default_rng(0)
        X = jnp.asarray(np.repeat(rng.random((1, 3)), 3, axis=0), dtype)
        base = jnp.asarray(rng.normal(size=(8, 3)), dtype)

        def value_of(X):
            return acquisition.q_log_ei(posterior, X, jnp.ones((), dtype), base_samples=base)

        value, gradient = jax.value_and_grad(value_of)(X)
        assert value.dtype == dtype and np.isfinite(value) and np.all(np.isfinite(gradient))


def test_base_samples_of_another_size_are_named():
    with jax.enable_x64(True):
        posterior = posterior_of(hyperparameters(0))
        with pytest.raises(ValueError, match="base_samples"):
            acquisition.q_log_ei(posterior, jnp.zeros((2, 3)), 0.0, base_samples=jnp.zeros((8, 3)))


def test_a_live_botorch_agrees_with_the_figures():
    pytest.importorskip("botorch")
    from tests.oracle.generate_botorch import cases

    for case, kept in zip(cases(), CASES, strict=True):
        for name in NAMES:
            assert np.isclose(case["acquisitions"][name]["value"], kept["acquisitions"][name]["value"], rtol=1e-8)
