"""What a user of `Study` waits for, and the algorithm alone: time, quality, and the number of compilations.

Run from the checkout: `python -m benchmarks.speed [--quick] [--json FILE] [--only SECTION ...]`.
"""

import statistics
import tempfile
import time

import jax
import numpy as np

import bojax
from benchmarks import _problems, _quality, _through_study
from benchmarks._probe import BUDGET, NUM_DIMS, num_initial
from benchmarks._probe import run as run_probe
from benchmarks._timing import NO_BOTORCH, Report, Samples, has, interleave, parser, spread, timing_rows
from bojax._errors import Status
from bojax.optim import multistart

SECTIONS = (*_through_study.SECTIONS, "warm", "quality", "first", "compilations")


def warm(report: Report, *, num_points: int, rounds: int, botorch: bool) -> None:
    """One suggestion for Hartmann-6, everything compiled: fit and acquisition together and apart."""
    report.section(
        f"Warm suggestion: n = {num_points}, d = 6, q = 1",
        "10 restarts and 512 raw samples each, float64. Every round has its own data set, the same for all. *Cold*: "
        "the fit starts from the prior's mode, as in `Study`. *Warm start*: it starts from the fit to one point less, "
        "as inside `bojax.run`.",
    )
    data = _problems.data_sets("hartmann6", num_points, rounds)
    space = _problems.problem("hartmann6").space
    algorithm = bojax.bayesopt(space, num_initial=2)
    surrogate, acquire = bojax.surrogates.gp(), _quality.acquirer(space)
    with bojax.host_scope():
        keys = [jax.random.key(i) for i in range(rounds)]
        fresh, none = algorithm.init(keys[0]), np.zeros((0, 6))
        cold = [bojax.loop.restore(fresh, bojax.data.Told(X, y, none)) for X, y in data]
        start = time.perf_counter()
        jax.block_until_ready(algorithm.ask(keys[0], cold[0]))
        first_call_s = time.perf_counter() - start
        before = [bojax.loop.restore(fresh, bojax.data.Told(X[:-1], y[:-1], none)) for X, y in data]
        params = [algorithm.ask(key, state)[1].params for key, state in zip(keys, before, strict=True)]
        warm_start = [state._replace(params=p) for state, p in zip(cold, params, strict=True)]
        fitted = [surrogate.fit(keys[i], cold[i].observations, params[i])[0] for i in range(rounds)]

    def ask(states):
        def function(i):
            with bojax.host_scope():
                X, _, info = jax.device_get(algorithm.ask(keys[i], states[i]))
            if info.status != Status.OK:
                raise RuntimeError(f"no model-based suggestion: {Status(info.status)!r}")
            return X

        return function

    def fit(states):
        def function(i):
            with bojax.host_scope():
                jax.block_until_ready(surrogate.fit(keys[i], states[i].observations, states[i].params))

        return function

    def acquisition(i):
        with bojax.host_scope():
            jax.block_until_ready(acquire(keys[i], fitted[i], cold[i].observations))

    functions = {"bojax, cold": ask(cold), "bojax, warm start": ask(warm_start)}
    functions |= {
        "bojax fit, cold": fit(cold),
        "bojax fit, warm start": fit(warm_start),
        "bojax acquisition": acquisition,
    }
    parts: dict[str, tuple[list[float], list[float]]] = {}
    if botorch:
        from benchmarks import _botorch

        def peer(name, threads):
            parts[name] = [], []

            def function(i):
                _botorch.torch.set_num_threads(threads)
                _botorch.torch.manual_seed(i)
                _, fit_s, acquisition_s = _botorch.suggest(*data[i])
                parts[name][0].append(fit_s)
                parts[name][1].append(acquisition_s)

            return function

        for threads in sorted({1, _botorch.DEFAULT_THREADS}):
            name = f"BoTorch, {threads} thread" + ("s (default)" if threads > 1 else "")
            functions[name] = peer(name, threads)
    samples = interleave(functions, rounds)
    whole = {name: s for name, s in samples.items() if name in parts or name in ("bojax, cold", "bojax, warm start")}
    fits = {name: s for name, s in samples.items() if name.startswith("bojax fit")}
    fits |= {f"{name}: fit": Samples(p[0][1:], p[0][0]) for name, p in parts.items()}
    acquisitions = {"bojax acquisition": samples["bojax acquisition"]}
    acquisitions |= {f"{name}: acquisition": Samples(p[1][1:], p[1][0]) for name, p in parts.items()}
    compile_s = max(first_call_s - whole["bojax, cold"].median, 0.0)
    peer_name = min(parts, key=lambda name: whole[name].median) if parts else None
    for title, rows, own, suffix in (
        ("whole suggestion", whole, "bojax, cold", ""),
        ("fit alone", fits, "bojax fit, cold", ": fit"),
        ("acquisition alone", acquisitions, "bojax acquisition", ": acquisition"),
    ):
        reference = own if peer_name is None else peer_name + suffix
        report.table([title, "ms: median (quartiles)", f"times as fast as {reference}"], timing_rows(rows, reference))
    report.note(
        "Ratios are of medians, against the faster setting of the peer. bojax compiles its `ask` once for each "
        f"capacity, here in {compile_s:.2f} s, which is not in the table."
    )
    report.figure(
        "warm suggestion",
        num_points=num_points,
        capacity=cold[0].observations.capacity,
        peer=peer_name,
        compile_s=compile_s,
        samples={name: s.summary() for name, s in {**whole, **fits, **acquisitions}.items()},
    )


def first_minute(report: Report, *, rounds: int, trials: int, botorch: bool) -> None:
    """Fresh processes: imports, then a study up to its first model-based suggestion and on."""
    stack = ["jax", "flax", "optax"] if has("flax", "optax") else ["jax"]
    contestants = {"bojax": ["bojax"], " + ".join(stack): stack}
    if botorch:
        contestants["botorch"] = ["botorch"]
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for i in range(rounds + 1):  # the first round only brings the files into memory
        for name, modules in contestants.items():
            taken = float(run_probe("imports", "--modules", *modules)[1][0])
            if i:
                seconds[name].append(taken)
    base = statistics.median(seconds[" + ".join(stack)])
    report.section("Import", "In fresh processes, without the start of the interpreter.")
    rows = [[f"import {n}", spread(s, ".3g"), f"{statistics.median(s) / base:.2f}"] for n, s in seconds.items()]
    report.table(["", "s: median (quartiles)", f"times {' + '.join(stack)}"], rows)
    report.figure("import", seconds=seconds)

    report.section(
        "The first minute",
        f"From the start of the process, {NUM_DIMS} floats, in memory, an objective that costs nothing. The first "
        f"{num_initial(NUM_DIMS)} suggestions are the initial design; *first* is the one after them, the first from a "
        "model.",
    )
    runs: dict[str, list[list[float]]] = {"bojax, empty cache": [], "bojax, warm cache": []}
    if botorch:
        runs |= {"BoTorch, default threads": [], "BoTorch, 1 thread": []}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as cache:
            for name in ("bojax, empty cache", "bojax, warm cache"):
                runs[name].append(run_probe("bojax", "--cache", cache, "--trials", str(trials))[0])
        for name, threads in (("BoTorch, default threads", "0"), ("BoTorch, 1 thread", "1")):
            if name in runs:
                runs[name].append(run_probe("botorch", "--threads", threads, "--trials", str(trials))[0])
    report.table(
        [
            *("s: median (quartiles)", "imported", "first suggestion", "first from a model", f"all {trials}"),
            *("ms a following one: median", "largest"),
        ],
        [_first_minute_row(name, marks, trials) for name, marks in runs.items()],
    )
    report.note(
        f"A larger *largest* than median is a compilation: the buffer of observations has grown. A study ends after "
        f"{BUDGET:.0f} s, and then the column *all {trials}* has the number of its suggestions."
    )
    report.figure("first minute", trials=trials, marks_s=runs)


def _first_minute_row(name, runs, trials):
    cells = []
    for k in (0, 1, 1 + num_initial(NUM_DIMS), trials):
        reached = [marks[k] for marks in runs if len(marks) > k]
        fewest = min(len(marks) - 1 for marks in runs)
        cells.append(spread(reached, ".3g") if len(reached) == len(runs) else f"only {fewest}")
    following = [
        1e3 * (b - a)
        for m in runs
        for a, b in zip(m[1 + num_initial(NUM_DIMS) :], m[2 + num_initial(NUM_DIMS) :], strict=False)
    ]
    median, largest = (f"{statistics.median(following):.3g}", f"{max(following):.3g}") if following else ("-", "-")
    return [name, *cells, median, largest]


def compilations(report: Report, *, trials: int) -> None:
    """How many programs a growing study compiles: the cache of the jitted `ask` through `restore`."""
    report.section(f"Compilations over {trials} trials")
    problem = _problems.problem("branin")
    algorithm = bojax.bayesopt(problem.space, optimizer=multistart(num_restarts=2, raw_samples=32))
    X, y = np.zeros((0, 2)), np.zeros(0)
    counts, capacities = [], []
    with bojax.host_scope():
        fresh = algorithm.init(jax.random.key(0))
        for i in range(trials):
            state = bojax.loop.restore(fresh, bojax.data.Told(X, y, X[:0]))
            x = np.asarray(algorithm.ask(jax.random.key(i), state)[0])
            X, y = np.concatenate([X, x]), np.concatenate([y, problem.values(x)])
            counts.append(algorithm.ask._cache_size())
            if state.observations.capacity not in capacities:
                capacities.append(state.observations.capacity)
    rows = [[c, counts.index(k + 1) + 1] for k, c in enumerate(capacities)]
    report.table(["capacity", "compiled at trial"], rows)
    report.note(f"{counts[-1]} programs for {trials} trials.")
    report.figure("compilations", trials=trials, programs=counts[-1], capacities=capacities, at_trials=rows)
    if counts[-1] != len(capacities):
        raise RuntimeError(f"{counts[-1]} programs were compiled for the {len(capacities)} capacities {capacities}.")


def main(argv: list[str] | None = None) -> None:
    """Runs the sections."""
    arguments = parser(__doc__)
    arguments.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS, help="the sections to run")
    arguments.add_argument(
        "--rounds", type=int, help="measurements of each contestant (default 15; fresh processes: 7)"
    )
    arguments.add_argument(
        "--points", type=int, help="observations in the warm suggestions (default: those of the aims)"
    )
    arguments.add_argument(
        "--threads", type=int, help="threads of BoTorch through `Study` (default: 1, and torch's own)"
    )
    args = arguments.parse_args(argv)
    installed = has("torch", "botorch")
    botorch = installed and not args.no_botorch
    report = Report("benchmarks.speed", args)
    if not installed:
        report.note(NO_BOTORCH)
    _through_study.run(report, args.only, args)
    points = args.points or (14 if args.quick else 100)
    rounds = args.rounds or (1 if args.quick else 15)
    if "warm" in args.only:
        warm(report, num_points=points, rounds=rounds, botorch=botorch)
    if "quality" in args.only:
        _quality.quality(report, num_points=points, count=2 if args.quick else max(rounds, 12), botorch=botorch)
    if "first" in args.only:
        processes = args.rounds or (1 if args.quick else 7)
        first_minute(report, rounds=processes, trials=8 if args.quick else 30, botorch=botorch)
    if "compilations" in args.only:
        compilations(report, trials=18 if args.quick else 200)


if __name__ == "__main__":
    main()
