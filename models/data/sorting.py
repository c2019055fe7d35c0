"""Sorting of sequences of symbols: a sequence-to-sequence task with exact answers.

Symbols are the tokens 1 .. num_symbols, in the source as in the target; 0 is the start token of the decoder.
"""

from functools import cache

import numpy as np

from .splits import Dataset, cut, shift_right, shuffled_indices

START = 0


@cache
def load_sorting(length: int = 10, num_symbols: int = 16, num_examples: int = 6000) -> Dataset:
    """Draws distinct sequences of uniform symbols; 60, 20 and 20 percent go to the three parts.

    Args:
        length: length of every sequence, at least 1.
        num_symbols: number of symbols, at least 1.
        num_examples: size of the three parts together, at most half of the `num_symbols ** length` sequences.

    Returns:
        Inputs ``source`` [n, length] int32 and ``previous`` [n, length] int32 (the targets shifted right behind
        `START`); targets [n, length] int32, the source in ascending order.

    Raises:
        ValueError: if an argument is out of range.
    """
    if min(length, num_symbols, num_examples) < 1:
        raise ValueError("length, num_symbols and num_examples must be at least 1")
    if 2 * num_examples > num_symbols**length:
        raise ValueError(f"{num_examples} examples are more than half of {num_symbols}**{length} sequences")
    rng = np.random.RandomState(0)
    found: dict[tuple[int, ...], None] = {}  # a set that keeps the order of the draws
    while len(found) < num_examples:
        found.update(dict.fromkeys(map(tuple, rng.randint(1, num_symbols + 1, size=(num_examples, length)).tolist())))
    source = np.array(list(found)[:num_examples], np.int32)
    targets = np.sort(source, axis=1)
    inputs = {"source": source, "previous": shift_right(targets, START)}
    return cut(inputs, targets, shuffled_indices(num_examples, seed=0))
