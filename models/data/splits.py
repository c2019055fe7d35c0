"""Train, validation and test parts: containers, and fixed splits of a data set.

Every split is fixed by its seed, so that every study sees the same problem: hyperparameters are tuned on the
validation part, and the test part is reported and never tuned on.
"""

from typing import Any, NamedTuple

import numpy as np

Indices = tuple[np.ndarray, np.ndarray, np.ndarray]


class Split(NamedTuple):
    """Examples of one part: ``inputs`` an array [n, ...] or a dict of such arrays, ``targets`` [n, ...]."""

    inputs: Any
    targets: np.ndarray


class Dataset(NamedTuple):
    """The three disjoint parts of a data set.

    Attributes:
        train: examples for training.
        validation: examples for choosing hyperparameters.
        test: examples for reporting only, never for tuning.
    """

    train: Split
    validation: Split
    test: Split


def split_indices(labels: np.ndarray, seed: int = 0) -> Indices:
    """Splits every class into a train, a validation and a test part of 60, 20 and 20 percent.

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
        for part, piece in zip(parts, _pieces(members, 0.2, 0.2), strict=True):
            part.append(piece)
    train, validation, test = (np.sort(np.concatenate(part)) for part in parts)
    return train, validation, test


def shuffled_indices(n: int, seed: int, validation: float = 0.2, test: float = 0.2) -> Indices:
    """Splits 0 .. n-1 at random, regardless of classes.

    Args:
        n: number of examples.
        seed: seed of the shuffle.
        validation: fraction of the validation part, in [0, 1].
        test: fraction of the test part, in [0, 1]; the two fractions sum to less than 1.

    Returns:
        Sorted indices of the train, validation and test examples: disjoint, and together all of 0 .. n-1.

    Raises:
        ValueError: if a share is negative or nothing is left to train on.
    """
    if min(validation, test) < 0 or validation + test >= 1:
        raise ValueError(f"shares must be non-negative and sum to less than 1, got {validation} and {test}")
    pieces = _pieces(np.random.RandomState(seed).permutation(n), validation, test)
    train, held_out, tested = (np.sort(piece) for piece in pieces)
    return train, held_out, tested


def cut(inputs: Any, targets: np.ndarray, indices: Indices) -> Dataset:
    """Copies of the three parts of a data set, read-only because all callers of a loader share the arrays.

    Args:
        inputs: array [n, ...] or dict of arrays [n, ...].
        targets: [n, ...].
        indices: those of the train, validation and test examples.
    """
    return Dataset(*(Split(_take(inputs, index), _take(targets, index)) for index in indices))


def shift_right(targets: np.ndarray, start: int) -> np.ndarray:
    """The tokens before each target [n, t], `start` before the first: a decoder's inputs under teacher forcing."""
    return np.concatenate([np.full_like(targets[:, :1], start), targets[:, :-1]], axis=1)


def _pieces(members: np.ndarray, validation: float, test: float) -> Indices:
    num_test = round(test * len(members))
    num_held_out = num_test + round(validation * len(members))
    return members[num_held_out:], members[num_test:num_held_out], members[:num_test]


def _take(arrays: Any, index: np.ndarray) -> Any:
    if isinstance(arrays, dict):
        return {name: _take(array, index) for name, array in arrays.items()}
    part = arrays[index]
    part.flags.writeable = False
    return part
