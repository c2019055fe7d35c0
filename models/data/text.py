r"""English text for character models: the help topics of Python's `pydoc`.

The text ships with the interpreter, so nothing is downloaded, but it differs between versions of Python: compare
losses within one version only. Runs of spaces become one space and runs of newlines one newline, so indentation
and blank lines are lost. Typographic quotes become plain ones, and any other character outside `VOCABULARY` becomes
its last symbol.

Topics quote each other at length ("specialnames" holds all of "customization"). Only the first occurrence of a
paragraph is kept, in sorted order of topics, so no paragraph of one part is in another.
"""

import re
import string
from functools import cache

import numpy as np

from .splits import Dataset, Split

OTHER = "\N{REPLACEMENT CHARACTER}"
VOCABULARY = "\n " + string.ascii_letters + string.digits + string.punctuation + OTHER
VALIDATION_SHARE = TEST_SHARE = 0.1
_TOKENS = {character: token for token, character in enumerate(VOCABULARY)}
_PLAIN = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "–": "-", "—": "-", "…": "..."})  # noqa: RUF001


def encode(text: str) -> np.ndarray:
    """Tokens [n] int32, one per character; characters outside `VOCABULARY` become the last token."""
    return np.array([_TOKENS.get(character, len(VOCABULARY) - 1) for character in text], np.int32)


def decode(tokens: np.ndarray) -> str:
    """The string of tokens [n], each in 0 .. len(VOCABULARY) - 1."""
    return "".join(VOCABULARY[token] for token in tokens)


@cache
def text_parts() -> tuple[str, str, str]:
    """The train, validation and test text, about 80, 10 and 10 percent of the characters.

    Each part consists of whole topics in shuffled order. A topic goes to the test part if it still fits into its size,
    otherwise to the validation part under the same rule, otherwise to the train part.
    """
    topics = _topics()
    total = sum(map(len, topics))
    train, validation, test = [], [], []
    room = {"validation": VALIDATION_SHARE * total, "test": TEST_SHARE * total}
    for index in np.random.RandomState(0).permutation(len(topics)):
        topic = topics[index]
        if len(topic) <= room["test"]:
            test.append(topic)
            room["test"] -= len(topic)
        elif len(topic) <= room["validation"]:
            validation.append(topic)
            room["validation"] -= len(topic)
        else:
            train.append(topic)
    return "\n".join(train), "\n".join(validation), "\n".join(test)


@cache
def load_text(context: int = 64) -> Dataset:
    """Non-overlapping windows of the three parts; a shorter remainder is dropped.

    Args:
        context: length of a window, at least 1.

    Returns:
        Inputs [n, context] int32, tokens of consecutive characters; targets [n, context] int32, the next characters.

    Raises:
        ValueError: if the context is smaller than 1 or a part is too short for one window.
    """
    shortest = min(map(len, text_parts()))
    if not 1 <= context < shortest:
        raise ValueError(f"context must be in 1 .. {shortest - 1}, got {context}")
    return Dataset(*(_windows(encode(part), context) for part in text_parts()))


def _topics() -> list[str]:
    from pydoc_data.topics import topics

    seen, texts = set(), []
    for name in sorted(topics):
        kept = []
        for paragraph in re.split(r"\n\s*\n", topics[name]):
            key = " ".join(paragraph.split())
            if key and key not in seen:
                seen.add(key)
                kept.append(_normalized(paragraph))
        texts.append("\n".join(kept))
    return [text for text in texts if text]


def _normalized(text: str) -> str:
    characters = decode(encode(text.translate(_PLAIN)))
    return re.sub(r"\n+", "\n", re.sub(" +", " ", characters)).strip("\n")


def _windows(tokens: np.ndarray, context: int) -> Split:
    length = (len(tokens) - 1) // context * context
    inputs, targets = tokens[:length].reshape(-1, context), tokens[1 : length + 1].reshape(-1, context)
    for array in (inputs, targets):
        array.flags.writeable = False
    return Split(inputs, targets)
