"""Numeric settings are arrays: studies with different ones run under one `vmap`."""

import jax
import jax.numpy as jnp
import numpy as np

import bojax
from bojax import acquisition, optim, surrogates


def test_studies_with_different_settings_run_side_by_side():
    problem = bojax.objectives.branin()

    def study(key, outputscale_std, loc, beta):
        kernel = surrogates.matern52(prior=surrogates.KernelPrior(outputscale_std=outputscale_std))
        surrogate = surrogates.gp(kernel, noise=surrogates.learned_noise(loc=loc))
        algorithm = bojax.bayesopt(
            problem.space,
            surrogate=surrogate,
            acquisition=acquisition.ucb(beta),
            num_initial=3,
            optimizer=optim.multistart(num_restarts=2, raw_samples=16),
        )
        return bojax.run(key, algorithm, lambda params: -problem(params), num_steps=5).observations.y

    key, settings = jax.random.key(0), [(1.0, -6.0, 4.0), (0.5, -4.0, 0.0)]
    with jax.enable_x64(True):
        columns = jnp.asarray(settings, jnp.float64)
        together = jax.jit(jax.vmap(lambda row: study(key, *row)))(columns)
        assert not np.allclose(together[0], together[1])
        np.testing.assert_allclose(together[1], study(key, *settings[1]), rtol=1e-6)
