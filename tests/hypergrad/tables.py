"""Scikit-learn's tables, split into parts for training, validation and test."""

import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.model_selection import train_test_split


def digits(seed, sizes=(800, 400, 597)):
    """Parts (pixels [n, 64] in [0, 1], labels [n]) of a random split."""
    X, y = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(y))
    parts = np.split(order, np.cumsum(sizes)[:-1])
    return [(jnp.asarray(X[part] / 16.0, float), jnp.asarray(y[part], jnp.int32)) for part in parts]


def cancer(seed):
    """Parts (features [n, 30], labels [n] in {0, 1}): a third for training, half for validation, the rest for tests."""
    X, y = load_breast_cancer(return_X_y=True)
    train, rest = train_test_split(np.arange(len(y)), train_size=1 / 3, stratify=y, random_state=seed)
    valid, test = train_test_split(rest, train_size=3 / 4, stratify=y[rest], random_state=seed)
    X = (X - X[train].mean(0)) / X[train].std(0)
    return [(jnp.asarray(X[part], float), jnp.asarray(y[part], float)) for part in (train, valid, test)]
