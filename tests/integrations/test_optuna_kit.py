"""Optuna's own conformance kit for samplers, run on `BojaxSampler`."""

import optuna
import pytest
from optuna.testing.pytest_samplers import BasicSamplerTestCase, RelativeSamplerTestCase, SingleOnlySamplerTestCase

from bojax.integrations.optuna import BojaxSampler


@pytest.fixture(autouse=True)
def quiet():
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(before)


class Made:
    """Where the kit finds the sampler."""

    @pytest.fixture
    def sampler(self):
        return lambda: BojaxSampler(seed=0, n_startup_trials=0)


@pytest.mark.long
class TestBasic(Made, BasicSamplerTestCase):
    """Parameters of every kind, alone and together, conditional, with changing ranges, fixed, and failing."""


class TestRelative(Made, RelativeSamplerTestCase):
    """Pairs of parameters of every kind, chosen together."""


class TestSingleObjective(Made, SingleOnlySamplerTestCase):
    """Several objectives are refused."""
