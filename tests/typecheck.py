"""The decorator that checks annotations when BOJAX_TYPECHECK=1; it must not import bojax.

Results are checked, and so are the arguments that bojax passes. Arguments that a test or a docstring's example passes
are not: they may be wrong on purpose, and then bojax's own message refuses them.
"""

import functools
import pathlib
import sys

from beartype import BeartypeConf, beartype
from beartype.roar import BeartypeCallHintParamViolation

_CHECK = beartype(conf=BeartypeConf(is_pep484_tower=True))
"""An int is taken where a float is wanted, as type checkers take it."""
_TESTS = pathlib.Path(__file__).parent
_OWN = (str(_TESTS.parent / "bojax"), str(_TESTS.parent / "models"))


def check(function):
    """Check the annotations of a function wherever bojax calls it."""
    checked = _CHECK(function)
    if not callable(function) or isinstance(function, type):
        return checked

    @functools.wraps(function)
    def called(*args, **kwargs):
        try:
            return checked(*args, **kwargs)
        except BeartypeCallHintParamViolation:
            if _called_by_bojax():
                raise
            return function(*args, **kwargs)

    return called


def _called_by_bojax() -> bool:
    """Whether the nearest caller among bojax, tests and examples is bojax."""
    frame = sys._getframe(2)
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(_OWN):
            return True
        if file.startswith("<doctest") or (file.startswith(str(_TESTS)) and file != __file__):
            return False
        frame = frame.f_back
    return False
