"""Conformance checks for parts written outside bojax, to be called from any test suite.

    def test_my_algorithm():
        bojax.testing.check_algorithm(my_algorithm(space))

Each check raises an AssertionError that says what is wrong. `MockPosterior` is a posterior with a given mean and
variance, for testing acquisition functions.
"""

from bojax.testing._acquisition import check_acquisition
from bojax.testing._algorithm import check_algorithm
from bojax.testing._batch import check_batch_acquisition
from bojax.testing._mock import MockPosterior
from bojax.testing._optimizer import check_optimizer
from bojax.testing._surrogate import check_surrogate

__all__ = [
    "MockPosterior",
    "check_acquisition",
    "check_algorithm",
    "check_batch_acquisition",
    "check_optimizer",
    "check_surrogate",
]
