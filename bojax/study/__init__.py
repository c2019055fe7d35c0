"""The host: studies that are stored, resumed and shared; `minimize` and `maximize` in one call."""

from bojax.study._study import Study
from bojax.study.asking._suggest import AlgorithmFactory, suggest
from bojax.study.opening._open import study_names
from bojax.study.records._trial import Trial
from bojax.study.reports._believed import Believed, SurrogateQuality
from bojax.study.reports._plots import plot_slices, plot_trajectory
from bojax.study.running._minimize import Result, maximize, minimize
from bojax.study.tuning._nested import Nested, nested_objective, tune_nested, tuned_hparams
from bojax.study.tuning._training import Training
from bojax.study.tuning._tune import tune, tune_study

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
    "suggest",
    "tune",
    "tune_nested",
    "tune_study",
    "tuned_hparams",
]
