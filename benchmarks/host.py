"""The host's share of a study: what `ask` and `tell` cost around the compiled program, in memory and on SQLite.

Run from the checkout: `python -m benchmarks.host [--quick] [--json FILE] [--only SECTION ...]`.
"""

import pathlib
import statistics
import tempfile
import time
from typing import Any

import numpy as np

import bojax
from benchmarks._timing import Report, parser
from bojax._programs import Kept

SECTIONS = ("memory", "sqlite", "share")
SPACE = bojax.Space({f"x{i}": bojax.Float(0.0, 1.0) for i in range(6)})
AIMS = {"memory": 1.0, "sqlite": 30.0, "share": 3.0}
"""Milliseconds."""


def random_search(space: bojax.Space, q: int) -> Any:
    """What needs no surrogate, so that little but the host's work is left."""
    return bojax.random_search(space, q=q)


def trial(study: bojax.Study) -> tuple[float, float, float]:
    """Milliseconds of one `ask` and `tell`, then of the processor, then of the `ask` alone."""
    wall, cpu = time.perf_counter(), time.process_time()
    (asked,) = study.ask(1)
    asking = time.perf_counter() - wall
    study.tell(asked, sum(asked.params.values()))
    return 1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - cpu), 1e3 * asking


def fill(study: bojax.Study, num_trials: int) -> None:
    """Adds results until the study has that many trials."""
    for i in range(len(study.trials), num_trials):
        study.add(
            {name: ((i * 7919 + j * 104729) % 99991) / 99991 for j, name in enumerate(SPACE.names)}, float(i % 17)
        )


def rounds_of(study: bojax.Study, rounds: int) -> tuple[list[float], list[float], list[float]]:
    """The measurements of some trials; two more before them, which compile, are left out."""
    for _ in range(2):
        trial(study)
    walls, cpus, asks = zip(*(trial(study) for _ in range(rounds)), strict=True)
    return list(walls), list(cpus), list(asks)


def stored(report: Report, section: str, sizes: list[int], rounds: int) -> None:
    """`ask` and `tell` of random search, against the number of trials."""
    where = "in memory" if section == "memory" else "on SQLite"
    report.section(f"Random search {where}: ask + tell", f"Aim: at most {AIMS[section]:g} ms, whatever the number.")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        url = None if section == "memory" else f"sqlite:///{pathlib.Path(folder) / 'study.db'}"
        study = bojax.Study(SPACE, storage=url, seed=0, algorithm=random_search)
        for size in sizes:
            fill(study, size)
            walls, cpus, _ = rounds_of(study, rounds)
            report.figure(f"{section}, {size} trials", wall_ms=walls, cpu_ms=cpus)
            rows.append([size, f"{min(walls):.2f}", f"{statistics.median(walls):.2f}", f"{min(cpus):.2f}"])
    report.table(["trials", "least, ms", "median, ms", "processor, least, ms"], rows)


def share(report: Report, sizes: list[int], rounds: int) -> None:
    """The time of an `ask` of the default algorithm outside of its compiled program."""
    report.section("Bayesian optimization in memory: `ask` outside of the program", f"Aim: below {AIMS['share']:g} ms.")
    rows = []
    original = Kept.__call__
    spent: list[float] = []

    def timed(kept: Kept, *args: Any) -> Any:
        start = time.perf_counter()
        out = [np.asarray(array) for array in original(kept, *args)]
        spent.append(1e3 * (time.perf_counter() - start))
        return out

    Kept.__call__ = timed  # type: ignore[method-assign]
    try:
        study = bojax.Study(SPACE, seed=0)
        for size in sizes:
            fill(study, size)
            asks = rounds_of(study, rounds)[2]
            outside = [ask - inside for ask, inside in zip(asks, spent[-rounds:], strict=True)]
            report.figure(f"share, {size} trials", outside_ms=outside, inside_ms=spent[-rounds:])
            rows.append(
                [size, f"{min(outside):.2f}", f"{statistics.median(outside):.2f}", f"{min(spent[-rounds:]):.1f}"]
            )
    finally:
        Kept.__call__ = original  # type: ignore[method-assign]
    report.table(["trials", "outside, least, ms", "median, ms", "program, least, ms"], rows)


def main(argv: list[str] | None = None) -> None:
    """Runs the sections."""
    arguments = parser(__doc__, botorch=False)
    arguments.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS, help="the sections to run")
    arguments.add_argument("--rounds", type=int, help="trials measured at each size (default 40)")
    arguments.add_argument("--sizes", type=int, nargs="+", help="numbers of trials (default 100 1000; share: 100 500)")
    args = arguments.parse_args(argv)
    report = Report("benchmarks.host", args)
    rounds = args.rounds or (2 if args.quick else 40)
    for section in SECTIONS:
        sizes = args.sizes or ([4] if args.quick else [100, 500] if section == "share" else [100, 1000])
        if section in args.only and section == "share":
            share(report, sizes, rounds)
        elif section in args.only:
            stored(report, section, sizes, rounds)


if __name__ == "__main__":
    main()
