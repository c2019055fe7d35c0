"""What a suggestion costs in Optuna's own loop: `BojaxSampler` beside `Study` and Optuna's `GPSampler`.

Run from the checkout: `python -m benchmarks.optuna_sampler [--quick] [--json FILE] [--only SECTION ...]`.

* `ask`: a warm suggestion for Hartmann-6 at n = 100, all parameters requested. Peer: GPSampler, which needs torch.
* `overhead`: the time of a suggestion outside of the compiled program, in memory and on SQLite, beside that of `Study`.

Whole studies are compared by `python -m benchmarks.regret --methods bojax-optuna bojax-study optuna-gp`.
"""

import pathlib
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import optuna

import bojax
from benchmarks import _problems
from benchmarks._timing import Report, Samples, has, interleave, parser, timing_rows
from bojax._programs import Kept
from bojax.integrations.optuna import BojaxSampler
from bojax.storage import to_distributions

SECTIONS = ("ask", "overhead")
AIM = 5.0
"""How many times as fast as GPSampler a suggestion should be."""
OVERHEAD_AIM = 2.0
"""Milliseconds that a suggestion of the sampler may take longer than one of `Study`, outside of the program."""
PROBLEM = "hartmann6"


class Own:
    """`Study`: asks, and tells the value of the call before; only asking is in `seconds`."""

    def __init__(self, X: np.ndarray, y: np.ndarray, url: str | None = None):
        self.space, self.y, self.trial = _problems.problem(PROBLEM).space, y, None
        self.seconds: list[float] = []
        self.study = bojax.Study(self.space, direction="maximize", storage=url, name="own", seed=0)
        for x, value in zip(X, y, strict=True):
            self.study.add(self.space.to_params(x), float(value))

    def __call__(self, i: int) -> None:
        if self.trial is not None:
            self.study.tell(self.trial, float(self.y[i % len(self.y)]))
        start = time.perf_counter()
        (self.trial,) = self.study.ask()
        self.seconds.append(time.perf_counter() - start)


class Optunas:
    """A study of Optuna with some sampler, in the same way; the objective's requests of parameters count as asking."""

    def __init__(self, sampler: Any, X: np.ndarray, y: np.ndarray, url: str | None = None, name: str = "optuna"):
        space, self.y, self.trial = _problems.problem(PROBLEM).space, y, None
        self.seconds: list[float] = []
        self.kinds = to_distributions(space)
        self.study = optuna.create_study(sampler=sampler, direction="maximize", storage=url, study_name=name)
        trials = [
            optuna.trial.create_trial(params=space.to_params(x), distributions=self.kinds, value=float(value))
            for x, value in zip(X, y, strict=True)
        ]
        self.study.add_trials(trials)

    def __call__(self, i: int) -> None:
        if self.trial is not None:
            self.study.tell(self.trial, float(self.y[i % len(self.y)]))
        start = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.trial = self.study.ask()
            for name, kind in self.kinds.items():
                self.trial.suggest_float(name, kind.low, kind.high)  # type: ignore[attr-defined]
        self.seconds.append(time.perf_counter() - start)


def ask(report: Report, num_points: int, rounds: int) -> None:
    """A warm suggestion."""
    report.section(f"A warm suggestion, {PROBLEM}, n = {num_points}", f"Aim: {AIM:g} times as fast as GPSampler.")
    data = _problems.data_sets(PROBLEM, num_points, 1)[0]
    functions: dict[str, Any] = {"BojaxSampler": Optunas(BojaxSampler(seed=0), *data), "Study": Own(*data)}
    if has("torch"):
        functions["GPSampler"] = Optunas(optuna.samplers.GPSampler(seed=0), *data)
    else:
        report.note("GPSampler is left out: torch is not installed.")
    samples = interleave(functions, rounds)
    samples = {name: Samples(functions[name].seconds[1:], s.first) for name, s in samples.items()}
    reference = "GPSampler" if "GPSampler" in samples else "Study"
    report.table(["", "ms: median (quartiles)", f"times as fast as {reference}"], timing_rows(samples, reference))
    report.figure("ask", n=num_points, **{name: s.summary() for name, s in samples.items()})


def overhead(report: Report, sizes: list[int], rounds: int) -> None:
    """The time of a suggestion outside of its program."""
    report.section(
        "A suggestion outside of the compiled program",
        f"Milliseconds; in memory the aim is at most {OVERHEAD_AIM:g} ms more than `Study`. The least of {rounds} "
        "first: on a busy machine it says most. On SQLite Optuna's own code commits every parameter by itself, which "
        "RandomSampler shows; `Study` commits all at once.",
    )
    original, spent = Kept.__call__, list[float]()

    def timed(kept: Kept, *args: Any) -> Any:
        start = time.perf_counter()
        out = [np.asarray(array) for array in original(kept, *args)]
        spent.append(time.perf_counter() - start)
        return out

    rows = []
    Kept.__call__ = timed  # type: ignore[method-assign]
    try:
        with tempfile.TemporaryDirectory() as folder:
            for size in sizes:
                data = _problems.data_sets(PROBLEM, size, 1)[0]
                for where in ("memory", "SQLite") if size == min(sizes) else ("memory",):
                    url = None if where == "memory" else f"sqlite:///{pathlib.Path(folder) / f'{size}.db'}"
                    askers: dict[str, Callable[[int], None]] = {
                        "BojaxSampler": Optunas(BojaxSampler(seed=0), *data, url=url),
                        "Study": Own(*data, url=url),
                        "RandomSampler": Optunas(optuna.samplers.RandomSampler(seed=0), *data, url=url, name="random"),
                    }
                    outside: dict[str, list[float]] = {name: [] for name in askers}
                    for i in range(rounds + 2):
                        for name, asker in askers.items():
                            spent.clear()
                            asker(i)
                            taken = asker.seconds[-1] - sum(spent)  # type: ignore[attr-defined]
                            outside[name] += [1e3 * taken] if i >= 2 else []  # the first ones compile
                    report.figure("overhead", where=where, n=size, outside_ms=outside)
                    for name, values in outside.items():
                        least, median = min(values), statistics.median(values)
                        rows.append([f"{name}, {where}", size, f"{least:.2f}", f"{median:.2f}"])
    finally:
        Kept.__call__ = original  # type: ignore[method-assign]
    report.table(["", "trials", "least", "median"], rows)


def main(argv: list[str] | None = None) -> None:
    """Runs the sections."""
    arguments = parser(__doc__, botorch=False)
    arguments.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS, help="the sections to run")
    arguments.add_argument("--rounds", type=int, help="suggestions measured of each (default 20)")
    args = arguments.parse_args(argv)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    report = Report("benchmarks.optuna_sampler", args)
    rounds = args.rounds or (2 if args.quick else 20)
    if "ask" in args.only:
        ask(report, 20 if args.quick else 100, rounds)
    if "overhead" in args.only:
        overhead(report, [20] if args.quick else [100, 1000], rounds)


if __name__ == "__main__":
    main()
