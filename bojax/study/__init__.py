"""The host: studies that are stored, resumed and shared; `minimize` and `maximize` in one call."""

from bojax.study._believed import Believed, SurrogateQuality
from bojax.study._minimize import Result, maximize, minimize
from bojax.study._nested import Nested, nested_objective, tune_nested, tuned_hparams
from bojax.study._open import study_names
from bojax.study._plots import plot_slices, plot_trajectory
from bojax.study._study import Study
from bojax.study._suggest import AlgorithmFactory
from bojax.study._training import Training
from bojax.study._trial import Trial
from bojax.study._tune import tune, tune_study

__all__ = [
    "AlgorithmFactory",
    "Believed",
    "Nested",
    "Result",
    "Study",
    "SurrogateQuality",
    "Training",
    "Trial",
    "maximize",
    "minimize",
    "nested_objective",
    "plot_slices",
    "plot_trajectory",
    "study_names",
    "tune",
    "tune_nested",
    "tune_study",
    "tuned_hparams",
]
