"""Progress on stderr: a bar on a terminal, and elsewhere a line now and then."""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

_FIRST_INTERVAL, _LAST_INTERVAL = 1.0, 60.0
"""Seconds between two lines: short at first, doubled each time, so that a log of days stays readable."""

_PATIENCE = 30.0
"""Seconds after which the first trial gets a line. A faster one only starts the clock, since it was spent compiling."""

Show = Callable[[int, float | None, bool], None]
"""Shows the number of trials, the best value, and whether the last trial has a value."""


@contextlib.contextmanager
def progress_bar(
    name: str, direction: str, values: Sequence[float], total: int | None, show: bool, initial: int = 0
) -> Iterator[Callable[[float | None], None]]:
    """Shows how far a loop is, with the best value so far.

    Args:
        name: name of the study.
        direction: "minimize" or "maximize".
        values: values of earlier trials.
        total: number of trials at the end; None where it is unknown.
        show: whether to show anything.
        initial: number of trials at the start.

    Yields:
        A function to call with the value of each finished trial, None for a failed one.
    """
    choose = max if direction == "maximize" else min
    count, best = initial, choose(values) if values else None
    if not show or sys.stderr is None:
        display = contextlib.nullcontext(lambda count, best, complete: None)
    elif getattr(sys.stderr, "isatty", bool)():
        display = _bar(name, total, initial, best)
    else:
        display = _lines(name, total)
    with display as show_state:

        def advance(value: float | None) -> None:
            nonlocal count, best
            count += 1
            if value is not None:
                best = choose([value] if best is None else [best, value])
            show_state(count, best, value is not None)

        yield advance


@contextlib.contextmanager
def _bar(name: str, total: int | None, initial: int, best: float | None) -> Iterator[Show]:
    import tqdm

    # tqdm draws nothing on a terminal that reports no rows, so the number of rows is given.
    options: dict[str, Any] = {"desc": name, "initial": initial, "ncols": _num_columns(), "nrows": 20}
    with tqdm.tqdm(total=total, **options) as bar:

        def show(count: int, best: float | None, complete: bool) -> None:
            bar.set_postfix_str(_best(best), refresh=False)
            bar.update(count - bar.n)

        bar.set_postfix_str(_best(best), refresh=False)
        yield show


@contextlib.contextmanager
def _lines(name: str, total: int | None) -> Iterator[Show]:
    """Lines of text; none where all trials end within the first interval.

    A failed trial prints no line, because a warning reports it.
    """
    start, last = time.monotonic(), None
    interval, unsaid = _FIRST_INTERVAL, ""
    of = "" if total is None else f" of {total}"

    def show(count: int, best: float | None, complete: bool) -> None:
        nonlocal interval, last, unsaid
        now = time.monotonic()
        parts = (f"{name}: {count}{of} trials", _best(best), f"{now - start:.0f} s")
        unsaid = ", ".join(part for part in parts if part)
        if last is None:
            last = now if now - start < _PATIENCE else start
        if complete and now - last >= interval:
            _say(unsaid)
            interval, last, unsaid = min(2.0 * interval, _LAST_INTERVAL), now, ""

    try:
        yield show
    finally:
        if unsaid and interval > _FIRST_INTERVAL:
            _say(unsaid)


def _best(value: float | None) -> str:
    return "" if value is None else f"best {value:.6g}"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _num_columns() -> int | None:
    """Width of the terminal; 80 where it reports none, because tqdm would then draw nothing."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except (OSError, ValueError, AttributeError):
        return None
