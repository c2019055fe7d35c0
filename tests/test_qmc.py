"""Sobol points are SciPy's, without its imports."""

import numpy as np
import pytest

from bojax import _qmc
from tests.helpers import run_python


@pytest.mark.parametrize("num_dims", [1, 2, 3, 6, 37, 150, 1100, _qmc.MAX_DIMS])
def test_the_sequence_is_that_of_scipy(num_dims):
    for num_points in (0, 1, 2, 3, 64, 513) if num_dims < _qmc.MAX_DIMS else (5,):
        integers = _qmc.sobol_integers(num_points, num_dims)
        np.testing.assert_array_equal(integers, _qmc._by_scipy(num_points, num_dims))
        assert integers.shape == (num_points, num_dims) and integers.dtype == np.uint32
        assert not integers.flags.writeable


def test_more_dimensions_than_the_table_has_are_an_error():
    with pytest.raises(ValueError, match="`num_dims` must be at most 21201"):
        _qmc.sobol_integers(1, _qmc.MAX_DIMS + 1)


def test_without_the_table_scipy_draws_the_points(monkeypatch):
    def absent():
        raise FileNotFoundError

    monkeypatch.setattr(_qmc, "_table", absent)
    found = _qmc.sobol_integers(7, 11)
    np.testing.assert_array_equal(found, _qmc._by_scipy(7, 11))


def test_points_need_no_statistics():
    run_python(
        "import sys; from bojax import _qmc; _qmc.sobol_integers(8, 3); assert 'scipy.stats' not in sys.modules",
        timeout=60,
    )
