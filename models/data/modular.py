"""Addition modulo a number, as sequences "a b =" of three tokens: the whole table, partly held out."""

from functools import cache

import numpy as np

from .splits import Dataset, cut, shuffled_indices


@cache
def load_modular(modulus: int = 31) -> Dataset:
    """All pairs (a, b) and their sums: 70 percent for training, 15 for validation and 15 for test.

    Args:
        modulus: p, at least 3; the numbers are the tokens 0 .. p-1 and the sign "=" is the token p.

    Returns:
        Inputs [n, 3] int32, the tokens a, b and "="; targets [n] int32, (a + b) mod p.

    Raises:
        ValueError: if the modulus is too small to fill the three parts.
    """
    if modulus < 3:
        raise ValueError(f"modulus must be at least 3, got {modulus}")
    a, b = np.divmod(np.arange(modulus**2, dtype=np.int32), np.int32(modulus))
    inputs = np.stack([a, b, np.full_like(a, modulus)], axis=1)
    return cut(inputs, (a + b) % np.int32(modulus), shuffled_indices(modulus**2, 0, validation=0.15, test=0.15))
