"""The decorator that checks annotations when BOJAX_TYPECHECK=1; it must not import bojax."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
"""An int is taken where a float is wanted, as type checkers take it."""
