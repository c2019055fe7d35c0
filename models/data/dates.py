"""Translation of dates in words to ISO form: a small sequence-to-sequence task without data files.

A source is a day from 1950-01-01 to 2049-12-31 in one of ten English formats, in lower case. The answer is always
determined: dots put the day first, slashes the month, and a year of two digits is 19xx from 50 on and 20xx below.
"""

from datetime import date
from functools import cache

import numpy as np

from .splits import Dataset, cut, shift_right

PAD = 0  # in the source
START = 0  # in the previous target tokens
SOURCE_LENGTH = 32

SOURCE_SYMBOLS = " ,-./0123456789abcdefghijklmnopqrstuvwxyz"  # tokens 1, 2, ...
TARGET_SYMBOLS = "0123456789-"  # tokens 1, 2, ...
SOURCE_VOCABULARY = 1 + len(SOURCE_SYMBOLS)
TARGET_VOCABULARY = 1 + len(TARGET_SYMBOLS)

MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
FORMATS = (
    "{weekday}, {d} {month} {year}",
    "{weekday:.3} {d} {month:.3} {year}",
    "{month:.3} {d}, {year}",
    "{month} {nth}, {year}",
    "{nth} of {month} {year}",
    "the {nth} day of {month}, {year}",
    "{year}, {month} {d}",
    "{d}-{month:.3}-{yy:02}",
    "{d:02}.{m:02}.{year}",
    "{m:02}/{d:02}/{year}",
)
FIRST_DAY, LAST_DAY = date(1950, 1, 1).toordinal(), date(2049, 12, 31).toordinal()


@cache
def load_dates(num_examples: int = 8000) -> Dataset:
    """Draws distinct days, so that no two parts share a day, and a format for each.

    Args:
        num_examples: size of the three parts together; an eighth each goes to validation and test. 8 .. 36525.

    Returns:
        Inputs ``source`` [n, 32] int32 (padded with `PAD` at the end) and ``previous`` [n, 10] int32 (the targets
        shifted right behind `START`); targets [n, 10] int32, the symbols of YYYY-MM-DD.

    Raises:
        ValueError: if `num_examples` is out of range.
    """
    num_days = LAST_DAY - FIRST_DAY + 1
    if not 8 <= num_examples <= num_days:
        raise ValueError(f"num_examples must be in 8 .. {num_days}, got {num_examples}")
    rng = np.random.RandomState(0)
    days = [date.fromordinal(FIRST_DAY + int(offset)) for offset in rng.permutation(num_days)[:num_examples]]
    formats = rng.randint(len(FORMATS), size=num_examples)
    source = np.stack([encode_source(write_date(day, form)) for day, form in zip(days, formats, strict=True)])
    targets = np.array([[1 + TARGET_SYMBOLS.index(c) for c in day.isoformat()] for day in days], np.int32)
    order, held_out = np.arange(num_examples), num_examples // 8
    parts = order[: -2 * held_out], order[-2 * held_out : -held_out], order[-held_out:]
    return cut({"source": source, "previous": shift_right(targets, START)}, targets, parts)


def write_date(day: date, form: int) -> str:
    """Writes a day in words.

    Args:
        day: from 1950 to 2049, for a year of two digits to be understood.
        form: index into `FORMATS`.
    """
    return FORMATS[form].format(
        weekday=WEEKDAYS[day.weekday()],
        d=day.day,
        nth=f"{day.day}{_suffix(day.day)}",
        m=day.month,
        month=MONTHS[day.month - 1],
        year=day.year,
        yy=day.year % 100,
    )


def encode_source(text: str) -> np.ndarray:
    """Tokens [32] int32 of a sentence in either case, padded at the end.

    Raises:
        ValueError: if the text is too long or has a character which is not in `SOURCE_SYMBOLS`.
    """
    lower = text.lower()
    unknown = sorted(set(lower) - set(SOURCE_SYMBOLS))
    if unknown:
        raise ValueError(f"characters not in the vocabulary: {unknown}")
    if len(lower) > SOURCE_LENGTH:
        raise ValueError(f"at most {SOURCE_LENGTH} characters, got {len(lower)}")
    tokens = np.full(SOURCE_LENGTH, PAD, np.int32)
    tokens[: len(lower)] = [1 + SOURCE_SYMBOLS.index(character) for character in lower]
    return tokens


def decode_source(tokens: np.ndarray) -> str:
    """The sentence of source tokens [s], without the padding."""
    return "".join(SOURCE_SYMBOLS[token - 1] for token in tokens if token != PAD)


def decode_target(tokens: np.ndarray) -> str:
    """The string of target tokens [t], a question mark for every `START`."""
    return "".join("?" if token == START else TARGET_SYMBOLS[token - 1] for token in tokens)


def _suffix(day: int) -> str:
    return "th" if 11 <= day <= 13 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
