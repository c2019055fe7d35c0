"""The host: studies that are stored, resumed and shared; `minimize` and `maximize` in one call."""

from bojax.study._believed import Believed, SurrogateQuality
from bojax.study._minimize import Result, maximize, minimize
from bojax.study._nested import Nested, tune_nested, tuned_hparams
from bojax.study._plots import plot_slices, plot_trajectory
from bojax.study._study import Study
from bojax.study._trial import Trial
from bojax.study._tune import tune

__all__ = [
    "Believed",
    "Nested",
    "Result",
    "Study",
    "SurrogateQuality",
    "Trial",
    "maximize",
    "minimize",
    "plot_slices",
    "plot_trajectory",
    "tune",
    "tune_nested",
    "tuned_hparams",
]
