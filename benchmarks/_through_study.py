"""What a user of `Study` waits for, imports and compilation included. Used by `benchmarks.speed`.

Every section compares with a peer of the same run: BoTorch, or the same study under easier conditions.
"""

import contextlib
import functools
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

import bojax
from benchmarks import _problems
from benchmarks._probe import num_initial
from benchmarks._probe import run as run_probe
from benchmarks._timing import Report, has, interleave, spread, timing_rows
from benchmarks._worker import Worker

SECTIONS = ("fresh", "long", "second", "ask", "batch", "mixed", "many")
AIMS = {50: 10, 130: 8, 200: 8, 500: 5, 1000: 5}
"""How many times as fast as BoTorch a warm ask should be, by the number of trials."""
BATCH_AIM = 30
BUDGET = 120
"""Seconds after which a fresh process is stopped."""
WITHOUT_PEER = 1000
"""BoTorch is left out above this number of trials: one suggestion takes minutes."""
COMPILED = "/jax/core/compile/backend_compile_duration"
"""JAX's event of a compilation."""


def thread_counts() -> list[int]:
    """The numbers of threads that BoTorch is measured with: one, and torch's default."""
    from benchmarks import _botorch

    return sorted({1, _botorch.DEFAULT_THREADS})


def fresh(report: Report, *, rounds: int, trials: int, threads: list[int]) -> None:
    """The first suggestions of a fresh process, with and without programs on disk."""
    report.section(
        f"{trials} suggestions in a fresh process",
        "Six floats, in memory, an objective that costs nothing, imports included. *Class known*: a study of five "
        "floats has run on the machine and left its programs on disk.",
    )
    own, known = "bojax, nothing on disk", "bojax, class known"
    seconds: dict[str, list[float]] = {own: [], known: []} | {peer_name(k): [] for k in threads}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            seconds[own].append(finished("bojax", trials, "--dims", "6", store=f"{folder}/own"))
            finished("bojax", trials, "--dims", "5", store=f"{folder}/known")
            seconds[known].append(finished("bojax", trials, "--dims", "6", store=f"{folder}/known"))
        for k in threads:
            seconds[peer_name(k)].append(finished("botorch", trials, "--dims", "6", "--threads", str(k)))
    reference = fastest({name: statistics.median(s) for name, s in seconds.items()}, own)
    base = statistics.median(seconds[reference])
    rows = [[name, spread(s, ".3g"), f"{base / statistics.median(s):.2f}"] for name, s in seconds.items()]
    report.table(["", "s: median (quartiles)", f"times as fast as {reference}"], rows)
    report.note("Aims: as fast as BoTorch with nothing on disk, 3 times with the class known.")
    report.figure("fresh process", trials=trials, seconds=seconds)


def finished(what: str, num_trials: int, *options: str, store: str = "off") -> float:
    """Seconds from the start of a process to its last suggestion, or infinity if the probe's budget ended before."""
    marks, lines = run_probe(what, "--trials", str(num_trials), "--budget", str(BUDGET), *options, store=store)
    return marks[-1] if sum(line.startswith("suggested") for line in lines) == num_trials else float("inf")


def long(report: Report, *, trials: int, sleep: float) -> None:
    """The slowest ask of a long study after the first one from a model, over the median ask."""
    report.section(
        f"The longest wait in {trials} trials",
        f"A fresh process with nothing on disk, six floats, an objective of {sleep} s. The largest ask up to the "
        "first one from a model is apart.",
    )
    with tempfile.TemporaryDirectory() as folder:
        options = ["--trials", str(trials), "--dims", "6", "--sleep", str(sleep), "--budget", "3600"]
        lines = run_probe("bojax", *options, store=folder)[1]
    asks = [float(line.split()[1]) for line in lines if line.startswith("suggested")]
    first, following = max(asks[: num_initial(6) + 1]), asks[num_initial(6) + 1 :]
    median, slowest = statistics.median(following), max(following)
    slow = [i + num_initial(6) + 1 for i, s in enumerate(following) if s > 5 * median]
    report.table(
        [
            "until the first from a model, s",
            "median of the others, ms",
            "largest, ms",
            "largest over median",
            "above 5 medians",
        ],
        [[f"{first:.2f}", f"{1e3 * median:.1f}", f"{1e3 * slowest:.1f}", f"{slowest / median:.1f}", len(slow)]],
    )
    report.note(f"Aim: at most 5 times the median. Trials above it, from 0: {slow or 'none'}.")
    report.figure("longest wait", trials=trials, sleep_s=sleep, asks_s=asks, above=slow)


@contextlib.contextmanager
def compilations() -> Iterator[list[float]]:
    """Collects the seconds of every compilation in any thread."""
    found: list[float] = []

    def listen(event: str, duration_secs: float, **kwargs: str | int) -> None:
        del kwargs
        if event == COMPILED:
            found.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def second(report: Report, *, trials: int) -> None:
    """How many programs a second study compiles whose space is another one of the same class."""
    report.section(f"A second study in one process, {trials} trials each", "Programs compiled; the aim is 0.")
    floats = {f"a{i}": bojax.Float(0.0, 1.0 + i) for i in range(6)}
    spaces = {
        "6 floats": bojax.Space(floats),
        "5 other floats": bojax.Space({f"b{i}": bojax.Float(0.1, 2.0 + i, log=i == 0) for i in range(5)}),
        "4 floats, 2 categories": bojax.Space(categories(4, 2)),
        "3 floats, 3 categories": bojax.Space(categories(3, 3)),
    }
    rows, counts = [], {}
    for name, space in spaces.items():
        start = time.perf_counter()
        with compilations() as found:
            study = bojax.Study(space, seed=0)
            for i in range(trials):
                (trial,) = study.ask()
                study.tell(trial, float(i % 7))
            settle()
        counts[name] = len(found)
        rows.append([name, len(found), f"{time.perf_counter() - start:.1f}"])
    report.table(["studies in turn", "programs compiled", "s"], rows)
    report.figure("second study", trials=trials, compiled=counts)


def settle(timeout: float = 60.0) -> None:
    """Waits until threads that compile ahead have ended or wait for work, so that they count for their own study."""
    end, before = time.monotonic() + timeout, -1.0
    while time.monotonic() < end and (busy := time.process_time()) - before > 0.05 and threading.active_count() > 1:
        before = busy
        time.sleep(0.5)


def categories(num_floats: int, num_categories: int) -> dict[str, Any]:
    """Parameters of a mixed space."""
    floats = {f"x{i}": bojax.Float(0.0, 1.0) for i in range(num_floats)}
    return floats | {f"c{i}": bojax.Categorical(["a", "b", "c"]) for i in range(num_categories)}


def study_of(space: bojax.Space, X: np.ndarray, y: np.ndarray) -> bojax.Study:
    """A study that was told values y [n], maximized, at points X [n, d] of the cube."""
    study = bojax.Study(space, direction="maximize", seed=0)
    for x, value in zip(X, y, strict=True):
        study.add(space.to_params(x), float(value))
    return study


class Asker:
    """Asks a study for q trials, and tells values for those of the call before; only asking is in `seconds`."""

    def __init__(self, study: bojax.Study, q: int):
        self.study, self.q = study, q
        self.values = [trial.value for trial in study.trials]
        self.asked: list[Any] = []
        self.seconds: list[float] = []

    def __call__(self, i: int) -> None:
        for k, trial in enumerate(self.asked):
            self.study.tell(trial, self.values[(i * self.q + k) % len(self.values)])
        start = time.perf_counter()
        self.asked = self.study.ask(self.q)
        self.seconds.append(time.perf_counter() - start)


def warm(
    report: Report, *, num_points: int, q: int, rounds: int, threads: list[int], with_tells: bool = False
) -> float | None:
    """One warm ask through a study of Hartmann-6, beside the compiled algorithm alone; returns the ratio to BoTorch."""
    data = _problems.data_sets("hartmann6", num_points, 1)[0]
    space = _problems.problem("hartmann6").space
    through = Asker(study_of(space, *data), q)
    functions: dict[str, Callable[[int], Any]] = {"Study.ask": through, "algorithm alone": alone(space, data, q)}
    if num_points <= WITHOUT_PEER:
        functions |= {peer_name(k): functools.partial(peer, k, data, q) for k in threads}
    samples = interleave(functions, rounds)
    if not with_tells:
        own = samples["Study.ask"]
        samples["Study.ask"] = own._replace(seconds=through.seconds[1:])
    reference = fastest({name: s.median for name, s in samples.items()}, "algorithm alone")
    ratio = samples[reference].median / samples["Study.ask"].median
    title = f"n = {num_points}, q = {q}" + (", tells included" if with_tells else "")
    report.table([title, "ms: median (quartiles)", f"times as fast as {reference}"], timing_rows(samples, reference))
    least = {name: min(s.seconds) for name, s in samples.items()}
    summary = {name: s.summary() for name, s in samples.items()}
    report.figure("ask through Study", num_points=num_points, q=q, tells=with_tells, least_s=least, samples=summary)
    return ratio if reference.startswith("BoTorch") else None


def alone(space: bojax.Space, data: tuple[np.ndarray, np.ndarray], q: int) -> Callable[[int], Any]:
    """The compiled `ask` of the algorithm on the same data."""
    X, y = data
    algorithm = bojax.bayesopt(space, q=q)
    with bojax.host_scope():
        told = bojax.data.Told(X, y, X[:0])
        state = bojax.loop.restore(algorithm.init(jax.random.key(0)), told)

    def function(i: int) -> Any:
        with bojax.host_scope():
            return jax.device_get(algorithm.ask(jax.random.key(i), state)[0])

    return function


def peer_name(threads: int) -> str:
    """How BoTorch is called in tables."""
    return f"BoTorch, {threads} thread" + ("s" if threads > 1 else "")


def peer(threads: int, data: tuple[np.ndarray, np.ndarray], q: int, i: int) -> None:
    """The next q points by BoTorch, fit included."""
    from benchmarks import _botorch

    _botorch.torch.set_num_threads(threads)
    _botorch.torch.manual_seed(i)
    _botorch.suggest(*data) if q == 1 else _botorch.suggest_batch(*data, q=q)


def fastest(seconds: dict[str, float], otherwise: str) -> str:
    """The faster setting of BoTorch; `otherwise` if it was left out."""
    peers = [name for name in seconds if name.startswith("BoTorch")]
    return min(peers, key=seconds.__getitem__) if peers else otherwise


def ask(report: Report, *, sizes: list[int], rounds: int, threads: list[int]) -> None:
    """Warm asks of one point at many numbers of trials."""
    report.section("Warm ask through Study", "d = 6, q = 1, fit included; *algorithm alone* is its compiled program.")
    ratios = {n: warm(report, num_points=n, q=1, rounds=fewer(rounds, n), threads=threads) for n in sizes}
    rows = [[n, AIMS.get(n, "-"), "-" if r is None else f"{r:.1f}"] for n, r in ratios.items()]
    report.table(["trials", "aim", "times as fast as BoTorch"], rows)


def batch(report: Report, *, sizes: list[int], q: int, rounds: int, threads: list[int]) -> None:
    """Warm asks of a batch against BoTorch's sequential greedy batches."""
    report.section("Warm batch through Study", "d = 6, fit included; BoTorch: qLogEI, sequential greedy, 512 samples.")
    ratios = {}
    for n in sizes:
        ratios[n] = warm(report, num_points=n, q=q, rounds=fewer(rounds, 4 * n), threads=threads)
        warm(report, num_points=n, q=q, rounds=rounds, threads=[], with_tells=True)
    rows = [[n, BATCH_AIM, "-" if r is None else f"{r:.1f}"] for n, r in ratios.items()]
    report.table(["trials", "aim", "times as fast as BoTorch"], rows)


def fewer(rounds: int, num_points: int) -> int:
    """Fewer measurements where each takes long."""
    return max(2, min(rounds, rounds * 200 // num_points))


def mixed(report: Report, *, num_points: int, rounds: int) -> None:
    """A warm ask of mixed spaces over that of a continuous one of the same size."""
    report.section(f"Warm ask of mixed spaces, n = {num_points}, d = 6", "Aim: at most 3 times the continuous space.")
    ints = {f"i{k}": bojax.Int(0, 9) for k in range(3)}
    spaces = {
        "6 floats": bojax.Space(categories(6, 0)),
        "3 floats, 3 integers": bojax.Space(categories(3, 0) | ints),
        "3 floats, 3 categories": bojax.Space(categories(3, 3)),
        "2 floats, 2 integers, 2 categories": bojax.Space(categories(2, 2) | dict(list(ints.items())[:2])),
    }
    askers: dict[str, Asker] = {}
    for name, space in spaces.items():
        X = np.random.default_rng(0).random((num_points, 6))
        askers[name] = Asker(study_of(space, X, -np.sum((X - 0.3) ** 2, axis=1)), 1)
    samples = interleave(askers, rounds)
    for name, function in askers.items():
        samples[name] = samples[name]._replace(seconds=function.seconds[1:])
    base = samples["6 floats"].median
    rows = [[name, f"{1e3 * s.median:.1f}", f"{s.median / base:.2f}"] for name, s in samples.items()]
    report.table(["", "ms: median", "times the continuous space"], rows)
    report.figure("mixed spaces", num_points=num_points, samples={n: s.summary() for n, s in samples.items()})


def many(report: Report, *, studies: int, steps: int, rounds: int) -> None:
    """Many studies of Branin by `run_many`, divided among one host device a core."""
    report.section(f"`run_many`: {studies} studies of {steps} evaluations, Branin", "Model-based steps only.")
    rows, seconds = [], {}
    for mode, devices in (("map", 1), ("shard", os.cpu_count() or 1)):
        with Worker(devices, cpu_only=True) as worker:
            run = functools.partial(worker.run, "branin", studies=studies, steps=steps, parallel=mode)
            first, *others = [run() for _ in range(rounds + 1)]
        each = [1e3 * answer["seconds"] / studies / (steps - num_initial(2)) for answer in others]
        seconds[mode] = each
        regret = statistics.median(others[-1]["regret"])
        rows.append([mode, spread(each, ".3g"), f"{min(each):.2f}", f"{first['seconds']:.1f}", f"{regret:.2g}"])
    report.table(["", "ms a study-step: median (quartiles)", "least", "first call, s", "median regret"], rows)
    report.figure("run_many", studies=studies, steps=steps, ms_a_step=seconds)


def run(report: Report, only: tuple[str, ...], args: Any) -> None:
    """Runs the chosen sections with the settings of the command line."""
    quick, rounds = args.quick, args.rounds or (1 if args.quick else 7)
    botorch = has("torch", "botorch") and not args.no_botorch
    threads = ([args.threads] if args.threads else thread_counts()) if botorch else []
    if "fresh" in only:
        fresh(report, rounds=args.rounds or (1 if quick else 3), trials=9 if quick else 30, threads=threads)
    if "long" in only:
        long(report, trials=12 if quick else 300, sleep=0.02 if quick else 0.5)
    if "second" in only:
        second(report, trials=9 if quick else 20)
    if "ask" in only:
        sizes = [args.points] if args.points else [12] if quick else [50, 130, 200, 500, 1000, 2000, 5000]
        ask(report, sizes=sizes, rounds=rounds, threads=threads)
    if "batch" in only:
        sizes = [args.points] if args.points else [12] if quick else [100, 150]
        batch(report, sizes=sizes, q=2 if quick else 8, rounds=rounds, threads=threads)
    if "mixed" in only:
        mixed(report, num_points=12 if quick else 40, rounds=rounds)
    if "many" in only:
        size = {"studies": 2, "steps": 6} if quick else {"studies": 32, "steps": 30}
        many(report, **size, rounds=rounds)
