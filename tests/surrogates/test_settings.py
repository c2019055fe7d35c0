"""Numeric settings are arrays: studies with different ones run under one `vmap`."""

import jax
import numpy as np
import pytest

import bojax
from bojax import acquisition, optim, surrogates


def algorithm(row):
    """An algorithm whose numeric settings are all given."""
    prior = surrogates.KernelPrior(
        lengthscale_loc=row["loc"], lengthscale_std=row["std"], outputscale_std=row["outputscale_std"]
    )
    surrogate = surrogates.gp(
        surrogates.matern52(prior=prior), noise=surrogates.known_noise(row["noise_var"]), num_restarts=1, max_evals=20
    )
    return bojax.bayesopt(
        bojax.objectives.branin().space,
        surrogate=surrogate,
        acquisition=acquisition.ucb(row["beta"]),
        optimizer=optim.multistart(num_restarts=2, raw_samples=16),
        num_initial=3,
    )


SETTINGS = {
    "loc": np.array([0.0, 1.0]),
    "std": np.array([1.0, 2.0]),
    "outputscale_std": np.array([1.0, 0.5]),
    "noise_var": np.array([1e-4, 1e-2]),
    "beta": np.array([4.0, 0.0]),
}


@pytest.mark.long
def test_stacked_settings_give_what_each_alone_gives():
    problem = bojax.objectives.branin()
    keys = jax.random.split(jax.random.key(0), 2)

    def f(params):
        return -problem(params)

    together = bojax.run_many(keys, algorithm, f, num_steps=5, settings=SETTINGS, parallel="vmap")
    row = jax.tree.map(lambda leaf: float(leaf[1]), SETTINGS)
    alone = bojax.run(keys[1], algorithm(row), f, num_steps=5)
    np.testing.assert_allclose(together.observations.y[1], alone.observations.y, rtol=1e-6)
    assert not np.allclose(together.observations.X[0, 3:], together.observations.X[1, 3:])


def test_settings_that_do_not_fit_are_refused():
    keys, f = jax.random.split(jax.random.key(0), 2), lambda params: params["x0"]
    with pytest.raises(ValueError, match=r"`settings` must hold arrays with one row for each of the 2 keys.*beta"):
        bojax.run_many(keys, algorithm, f, 5, settings=SETTINGS | {"beta": np.ones(3)})
    with pytest.raises(TypeError, match="`algorithm` must be a function from the settings"):
        bojax.run_many(keys, bojax.bayesopt(bojax.objectives.branin().space), f, 5, settings=SETTINGS)
    with pytest.raises(TypeError, match="`algorithm` must be an Algorithm"):
        bojax.run_many(keys, lambda row: row, f, 5, settings=SETTINGS)
