"""A character n-gram model with interpolated Kneser-Ney smoothing: the baseline of the neural language models.

The highest order counts n-grams. Each lower order counts in how many distinct left contexts an n-gram was seen,
which tells how likely it is to continue something new (Kneser and Ney, 1995). A discount is taken off every count
and its mass goes to the next lower order; below order 1 lies the uniform distribution over the vocabulary.
"""

import math
from collections import Counter
from typing import NamedTuple


class Level(NamedTuple):
    """Counts of one order: of n-grams, of all that follow a context, and of the kinds of characters that follow it."""

    counts: dict[str, int]
    totals: dict[str, int]
    kinds: dict[str, int]
    discount: float


class NGram(NamedTuple):
    """A fitted model; ``levels[k]`` holds the counts of order k + 1."""

    levels: tuple[Level, ...]
    vocabulary: frozenset[str]


def fit(train: str, order: int, vocabulary: str | None = None) -> NGram:
    """Counts the n-grams of a text.

    Args:
        train: the text, at least `order` characters.
        order: longest n-gram, at least 1; the context is one character shorter.
        vocabulary: all characters that may occur; by default those of `train`.

    Raises:
        ValueError: if the order or the text is too short, or `train` has characters outside the vocabulary.
    """
    if not 1 <= order <= len(train):
        raise ValueError(f"order must be in 1 .. {len(train)}, got {order}")
    characters = frozenset(train if vocabulary is None else vocabulary)
    if not characters.issuperset(train):
        raise ValueError(f"characters not in the vocabulary: {sorted(set(train) - characters)}")
    counts = Counter(train[start : start + order] for start in range(len(train) - order + 1))
    levels = [_level(counts)]
    for length in range(order - 1, 0, -1):
        longer = {train[start : start + length + 1] for start in range(len(train) - length)}
        levels.append(_level(Counter(ngram[1:] for ngram in longer)))
    return NGram(tuple(reversed(levels)), characters)


def probability(model: NGram, context: str, character: str) -> float:
    """Probability of a character after a context of any length; over the vocabulary it sums to 1.

    Only the last characters of the context count, one fewer than the order. A context that was never seen is cut
    on its left until it was.

    Raises:
        ValueError: if the character is not in the vocabulary.
    """
    if character not in model.vocabulary:
        raise ValueError(f"character not in the vocabulary: {character!r}")
    value = 1 / len(model.vocabulary)
    for length, level in enumerate(model.levels[: len(context) + 1]):
        suffix = context[len(context) - length :]
        total = level.totals.get(suffix)
        if total is None:
            break
        own = max(level.counts.get(suffix + character, 0) - level.discount, 0)
        value = (own + level.discount * level.kinds[suffix] * value) / total
    return value


def bits_per_character(model: NGram, text: str) -> float:
    """Mean of -log2 of the probability of each character of a text after those before it.

    Raises:
        ValueError: if the text is empty or has a character outside the vocabulary.
    """
    if not text:
        raise ValueError("text is empty")
    width = len(model.levels) - 1
    logs = (math.log2(probability(model, text[max(0, i - width) : i], text[i])) for i in range(len(text)))
    return -math.fsum(logs) / len(text)


def _level(counts: Counter[str]) -> Level:
    totals, kinds = Counter(), Counter()
    for ngram, count in counts.items():
        totals[ngram[:-1]] += count
        kinds[ngram[:-1]] += 1
    once, twice = (sum(count == k for count in counts.values()) for k in (1, 2))
    discount = (once + 1) / (once + 2 * twice + 2)  # Ney's estimate, kept strictly between 0 and 1
    return Level(dict(counts), dict(totals), dict(kinds), discount)
