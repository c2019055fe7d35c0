"""The package of integrations imports no tool before its module is asked for."""

import pytest

from bojax import integrations
from tests.helpers import run_python


def test_an_unknown_tool_is_named():
    with pytest.raises(AttributeError, match="no attribute 'spearmint'"):
        integrations.spearmint  # noqa: B018


def test_private_names_are_not_modules():
    with pytest.raises(AttributeError, match="no attribute '_hidden'"):
        integrations._hidden  # noqa: B018


@pytest.mark.long
def test_the_package_is_light():
    run_python(
        "import sys, bojax; bojax.integrations; "
        "assert not {'optuna', 'ray', 'hyperopt', 'gpyopt'} & set(sys.modules), set(sys.modules)",
        timeout=120,
    )
