"""Scikit-learn's bundled digits, with a fixed split.

1797 gray images of 8x8 pixels in ten classes: the test part of the UCI set "Optical Recognition of
Handwritten Digits" (Alpaydin and Kaynak, 1998). The split is stratified. It ignores who wrote a digit, so its
accuracies say nothing about unseen writers.
"""

from functools import cache

import numpy as np

from .splits import Dataset, cut, split_indices

NUM_CLASSES = 10


@cache
def load_digits() -> Dataset:
    """Reads images [n, 8, 8] float32, standardized by the train part's pixels, and classes [n] int32 in 0 .. 9.

    The first call reads the file inside scikit-learn (no network); later calls return the same read-only arrays.
    """
    from sklearn import datasets  # slow to import, and not needed to list the zoo

    pixels, classes = datasets.load_digits(return_X_y=True)
    images, labels = np.asarray(pixels, np.float64).reshape(-1, 8, 8), np.asarray(classes, np.int32)
    indices = split_indices(labels)
    mean, std = images[indices[0]].mean(), images[indices[0]].std()
    return cut(((images - mean) / std).astype(np.float32), labels, indices)
