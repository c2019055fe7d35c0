"""Scikit-learn's bundled digits, split once and for all.

1797 grey images of 8x8 pixels in ten classes: the test part of the UCI set "Optical Recognition of
Handwritten Digits" (Alpaydin and Kaynak, 1998). The split is stratified and fixed, so that every study sees
the same problem: hyperparameters are tuned on the validation part, and the test part is reported and never
tuned on. The split ignores who wrote a digit, so its accuracies say nothing about unseen writers.
"""

from functools import cache
from typing import NamedTuple

import numpy as np

NUM_CLASSES = 10
SPLIT_SEED = 0
VALIDATION_FRACTION = 0.2
TEST_FRACTION = 0.2


class Split(NamedTuple):
    """Examples of one part: ``images`` [n, 8, 8] float32 and ``labels`` [n] int32."""

    images: np.ndarray
    labels: np.ndarray


class Dataset(NamedTuple):
    """The three disjoint parts of a data set."""

    train: Split
    validation: Split
    test: Split


def split_indices(labels: np.ndarray, seed: int = SPLIT_SEED) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cuts every class into a train, a validation and a test part.

    Args:
        labels: [n] class of every example.
        seed: seed of the shuffle.

    Returns:
        Sorted indices of the train, validation and test examples: disjoint, and together all of 0 .. n-1.
    """
    rng = np.random.RandomState(seed)  # its stream is frozen across NumPy versions, `default_rng`'s is not
    parts: tuple[list, list, list] = ([], [], [])
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        num_test = round(TEST_FRACTION * len(members))
        num_held_out = num_test + round(VALIDATION_FRACTION * len(members))
        cuts = members[num_held_out:], members[num_test:num_held_out], members[:num_test]
        for part, cut in zip(parts, cuts, strict=True):
            part.append(cut)
    train, validation, test = (np.sort(np.concatenate(part)) for part in parts)
    return train, validation, test


@cache
def load_digits() -> Dataset:
    """Reads the digits, standardised by the mean and deviation of the train part's pixels.

    The first call reads the file inside scikit-learn (no network); later calls return the same arrays.
    """
    from sklearn import datasets  # slow to import, and needed by nobody who only lists the zoo

    pixels, targets = datasets.load_digits(return_X_y=True)
    images, labels = np.asarray(pixels, np.float64).reshape(-1, 8, 8), np.asarray(targets, np.int32)
    indices = split_indices(labels)
    mean, std = images[indices[0]].mean(), images[indices[0]].std()
    images = ((images - mean) / std).astype(np.float32)
    splits = [Split(images[index], labels[index]) for index in indices]
    for array in (array for split in splits for array in split):
        array.flags.writeable = False  # every caller gets the same arrays
    return Dataset(*splits)
