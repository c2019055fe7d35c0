"""Scikit-learn's bundled tables: classification of breast cancer and wine, regression of diabetes. Needs no network.

Features are standardized, column by column, by the mean and deviation of the train part. The three parts hold
60, 20 and 20 percent of the rows; those of the classification tables are stratified.
"""

from functools import cache

import numpy as np

from .splits import Dataset, Indices, cut, shuffled_indices, split_indices

CANCER_FEATURES, CANCER_CLASSES = 30, 2
WINE_FEATURES, WINE_CLASSES = 13, 3


@cache
def load_cancer() -> Dataset:
    """Breast cancer (569 rows): features [n, 30] float32; targets [n] int32, 0 malignant and 1 benign."""
    from sklearn import datasets

    return _classification(*map(np.asarray, datasets.load_breast_cancer(return_X_y=True)))


@cache
def load_wine() -> Dataset:
    """Wine (178 rows): features [n, 13] float32; targets [n] int32 in 0 .. 2, the grower."""
    from sklearn import datasets

    return _classification(*map(np.asarray, datasets.load_wine(return_X_y=True)))


@cache
def load_diabetes() -> Dataset:
    """Diabetes (442 rows): features [n, 10] float32; targets [n] float32, the disease's progress after a year.

    Targets have mean 0 and deviation 1 on the train part; `diabetes_scale` converts back to the original units.
    """
    features, progress, indices = _diabetes()
    mean, std = diabetes_scale()
    return cut(_standardized(features, indices[0]), ((progress - mean) / std).astype(np.float32), indices)


def diabetes_scale() -> tuple[float, float]:
    """Mean and deviation of the train part's targets: `mean + std * target` is in the original units."""
    _, progress, (train, _, _) = _diabetes()
    return float(progress[train].mean()), float(progress[train].std())


@cache
def _diabetes() -> tuple[np.ndarray, np.ndarray, Indices]:
    from sklearn import datasets

    features, progress = map(np.asarray, datasets.load_diabetes(return_X_y=True, scaled=False))
    return features, np.asarray(progress, np.float64), shuffled_indices(len(progress), seed=0)


def _classification(features: np.ndarray, classes: np.ndarray) -> Dataset:
    labels = np.asarray(classes, np.int32)
    indices = split_indices(labels)
    return cut(_standardized(features, indices[0]), labels, indices)


def _standardized(features: np.ndarray, train: np.ndarray) -> np.ndarray:
    values = np.asarray(features, np.float64)
    return ((values - values[train].mean(axis=0)) / values[train].std(axis=0)).astype(np.float32)
