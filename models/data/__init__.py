"""The zoo's data sets: bundled with scikit-learn or generated here, with fixed splits, and never downloaded.

Each `load_*` is called when a training run is traced, not before, and returns the same read-only arrays every time.
"""

from .dates import load_dates
from .digits import load_digits
from .modular import load_modular
from .sorting import load_sorting
from .splits import Dataset, Split
from .tables import load_cancer, load_diabetes, load_wine
from .text import load_text

__all__ = [
    "Dataset",
    "Split",
    "load_cancer",
    "load_dates",
    "load_diabetes",
    "load_digits",
    "load_modular",
    "load_sorting",
    "load_text",
    "load_wine",
]
