"""The digits and their split."""

import numpy as np
import pytest

from models._data import NUM_CLASSES, load_digits, split_indices

GOLDEN = ([0, 1, 2, 4, 6], [5, 9, 14, 16, 18], [3, 7, 13, 19, 36])  # the first indices of each part


@pytest.fixture(scope="module")
def labels():
    from sklearn.datasets import load_digits as load

    return load(return_X_y=True)[1]


def test_split_is_a_partition(labels):
    parts = split_indices(labels)
    assert sorted(np.concatenate(parts).tolist()) == list(range(1797))
    assert [len(part) for part in parts] == [1079, 359, 359]


def test_split_is_stratified(labels):
    counts = np.stack([np.bincount(labels[part], minlength=NUM_CLASSES) for part in split_indices(labels)])
    shares = counts / counts.sum(axis=0, keepdims=True)
    np.testing.assert_allclose(shares, np.array([[0.6], [0.2], [0.2]]) * np.ones((1, NUM_CLASSES)), atol=0.006)


def test_split_is_fixed(labels):
    """Golden values: a change of the split changes every published number."""
    train, validation, test = split_indices(labels)
    assert GOLDEN == (train[:5].tolist(), validation[:5].tolist(), test[:5].tolist())
    assert all(np.array_equal(a, b) for a, b in zip(split_indices(labels), (train, validation, test), strict=True))
    assert not np.array_equal(split_indices(labels, seed=1)[0], train)


def test_parts_share_no_image():
    data = load_digits()
    seen = [{image.tobytes() for image in split.images} for split in data]
    assert not (seen[0] & seen[1] or seen[0] & seen[2] or seen[1] & seen[2])


def test_arrays():
    data = load_digits()
    for split in data:
        assert split.images.dtype == np.float32 and split.images.shape[1:] == (8, 8)
        assert split.labels.dtype == np.int32 and split.labels.shape == split.images.shape[:1]
        assert set(split.labels.tolist()) == set(range(NUM_CLASSES))
        with pytest.raises(ValueError, match="read-only"):
            split.images[0] = 0
    assert abs(data.train.images.mean()) < 1e-5 and abs(data.train.images.std() - 1) < 1e-5
    assert load_digits() is data
