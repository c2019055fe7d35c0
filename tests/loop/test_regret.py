"""Does it optimise? Median regret over fixed seeds against a bound a working optimizer keeps with room to spare."""

import jax
import numpy as np
import pytest

import bojax
from bojax import objectives

SEEDS = 16


def regrets(objective, algorithm, num_steps, seeds=SEEDS):
    keys = jax.random.split(jax.random.key(2024), seeds)
    finals = bojax.run_many(keys, algorithm, lambda params: -objective(params), num_steps)
    return objective.regret(-np.max(finals.observations.y, axis=1))


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("make", "num_steps", "bound"), [(objectives.branin, 25, 1e-2), (objectives.hartmann6, 40, 0.1)]
)
def test_median_regret(make, num_steps, bound):
    objective = make()
    regret = regrets(objective, bojax.bayesopt(objective.space), num_steps)
    assert (regret > -1e-4).all(), "below the known optimum"  # float32 rounds the objective
    assert np.median(regret) < bound, np.sort(regret)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_better_than_random_search_in_mixed_spaces():
    objective = objectives.mixed()
    found = regrets(objective, bojax.bayesopt(objective.space), 30)
    random = regrets(objective, bojax.random_search(objective.space), 30)
    assert np.median(found) < 0.5 * np.median(random), (np.sort(found), np.sort(random))
