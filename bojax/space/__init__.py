"""Search spaces: parameters, and the map between native values and the unit cube."""

from bojax.space._choices import check_choices, check_choices_on_host, warn_of_unread, watched_arrays
from bojax.space._coerce import to_space
from bojax.space._conditions import INACTIVE
from bojax.space._constraints import Linear, linear
from bojax.space._lattice import LONG_STEP, MAX_MOVES, Kind, Lattice
from bojax.space._parameters import Categorical, Float, Int, Ordinal, Parameter
from bojax.space._space import CONSTRAINTS, Space, describes

__all__ = [
    "CONSTRAINTS",
    "INACTIVE",
    "LONG_STEP",
    "MAX_MOVES",
    "Categorical",
    "Float",
    "Int",
    "Kind",
    "Lattice",
    "Linear",
    "Ordinal",
    "Parameter",
    "Space",
    "check_choices",
    "check_choices_on_host",
    "describes",
    "linear",
    "to_space",
    "warn_of_unread",
    "watched_arrays",
]
