"""Hypergradients of bojax, TorchOpt, higher and Betty: accuracy, time and memory.

Run from the checkout: `python -m benchmarks.hypergrad [--quick] [--json FILE] [--only SECTION ...]`.

The peers are optional; one that is not installed is left out with a note:

    pip install torch torchopt==0.7.3 higher==0.2.1
    pip install --no-deps --ignore-requires-python betty-ml==0.2.1

Betty 0.2.1 asks for Python below 3.11 in its metadata, but runs on it.
"""

import functools
import importlib.util
import os
import warnings
from typing import Any

import jax
import lineax
import numpy as np

from benchmarks import _hyper_memory, _hyper_own
from benchmarks._hyper_tasks import Task, cancer, differences, digits, relative_error, synthetic
from benchmarks._timing import Report, Samples, has, interleave, milliseconds, parser
from bojax import hypergrad

SECTIONS = ("accuracy", "small", "unroll", "memory", "cost")
ONE_THREAD = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
REPEATS = 10
"""Short calls are timed in a row: the first after a pause finds cold caches."""
PEERS = {"TorchOpt": "torchopt", "higher": "higher", "Betty": "betty"}


def installed() -> set[str]:
    """The peers that can be imported."""
    if importlib.util.find_spec("torch") is None:
        return set()
    return {name for name, module in PEERS.items() if has(module)} | {"torch.func"}


def judge(report: Report, bars: list[tuple[str, float, float, bool]]) -> None:
    """Rows (what, measured, the bar, whether less is better), with a word on each."""
    rows = []
    for what, measured, bar, less in bars:
        good, side = (measured <= bar, "at most") if less else (measured >= bar, "at least")
        rows.append([what, f"{measured:.3g}", f"{side} {bar:g}", "met" if good else "missed"])
    report.table(["aim", "measured", "bar", ""], rows)
    report.figure("aims", rows=rows)


def accuracy(report: Report, *, peers: set[str], quick: bool) -> None:
    """Relative errors on a problem whose hypergradient is known."""
    task = cancer()
    num_steps = 50 if quick else 1000
    check = relative_error(differences(task), task.grad)
    report.section(
        "Accuracy: breast cancer, logistic regression, an L2 weight for each of 30 features",
        "||grad - reference|| / ||reference||. Every method starts at the solved inner problem. The reference is a "
        f"direct solve in NumPy; extrapolated differences agree to {check:.1e}. `rate` is one over the largest "
        f"curvature at the solution; unrolls take {num_steps} steps of gradient descent with it.",
    )
    errors: dict[str, dict[str, float]] = {}
    for dtype in ("float64", "float32"):
        with jax.enable_x64(dtype == "float64"):
            for name, (method, solver) in _accurate(task, dtype, num_steps, quick).items():
                call = _hyper_own.program(task, method, inner_solver=solver, dtype=dtype).call
                errors.setdefault(name, {})[dtype] = relative_error(call().grad, task.grad)
        for name, contestant in _peers_accurate(task, dtype, num_steps, peers).items():
            errors.setdefault(name, {})[dtype] = relative_error(contestant(), task.grad)
    report.table(["", "float64", "float32"], [[n, *(f"{e:.1e}" for e in by.values())] for n, by in errors.items()])
    report.figure("accuracy", errors=errors, reference_check=check, num_steps=num_steps)
    if quick:
        return
    wanted = {"Implicit(Direct())": 1e-10, "Implicit(CG())": 1e-8, "Implicit(lineax GMRES)": 1e-8}
    bars = [(f"{n}, float64", errors[f"bojax {n}"]["float64"], bar, True) for n, bar in wanted.items()]
    bars += [(f"{n}, float32", errors[f"bojax {n}"]["float32"], 1e-4, True) for n in wanted]
    judge(report, bars)


def _accurate(task: Task, dtype: str, num_steps: int, quick: bool) -> dict[str, tuple[Any, Any]]:
    """bojax's contestants: pairs of a method and an inner solver."""
    tight: dict[str, Any] = {"rtol": 1e-10 if dtype == "float64" else 1e-6, "atol": 0.0}
    rate = task.learning_rate
    solvers: dict[str, Any] = {
        "Direct()": hypergrad.Direct(),
        "CG()": hypergrad.CG(),
        "CG(max_steps=5)": hypergrad.CG(max_steps=5),
        "CG(max_steps=10)": hypergrad.CG(max_steps=10),
        "lineax CG": lineax.CG(**tight),
        "lineax GMRES": lineax.GMRES(**tight, restart=30),
        "lineax BiCGStab": lineax.BiCGStab(**tight),
        "Neumann(20, rate)": hypergrad.Neumann(20, scale=rate),
        "Neumann(500, rate)": hypergrad.Neumann(500, scale=rate),
    }
    if quick:
        solvers = {name: solvers[name] for name in ("Direct()", "CG()")}
    out: dict[str, tuple[Any, Any]] = {
        f"bojax Implicit({name})": (hypergrad.Implicit(solver), _hyper_own.stay) for name, solver in solvers.items()
    }
    if not quick:
        out["bojax OneStep"] = hypergrad.OneStep(scale=rate), _hyper_own.stay
    for name, way in _hyper_own.unrolls(task, num_steps).items():
        if "Implicit" not in name and not (quick and name != "bojax Unrolled(mixflow, step)"):
            out[name] = way
    return out


def _peers_accurate(task: Task, dtype: str, num_steps: int, peers: set[str]) -> dict[str, Any]:
    if not peers:
        return {}
    import torch

    from benchmarks import _hyper_peers as theirs

    case = functools.partial(theirs.Case, task, getattr(torch, dtype))
    out = {}
    if "TorchOpt" in peers:
        out["TorchOpt implicit, CG (default, rtol 1e-5)"] = theirs.torchopt_implicit(case(), 0)
        out["TorchOpt implicit, CG, rtol 1e-10"] = theirs.torchopt_implicit(case(), 0, rtol=1e-10, maxiter=200)
        out["TorchOpt MetaSGD"] = theirs.torchopt_unrolled(case(), num_steps)
    if "higher" in peers:
        out["higher"] = theirs.higher_unrolled(case(), num_steps)
    if "Betty" in peers:
        for k in (5, 10, 30):
            out[f"Betty CG, {k} steps"] = theirs.betty(case(), 0, type="cg", cg_iterations=k)
        for k in (20, 500):
            settings = {"neumann_iterations": k, "neumann_alpha": task.learning_rate}
            out[f"Betty Neumann, {k} terms, rate"] = theirs.betty(case(), 0, type="neumann", **settings)
        out["Betty darts (default)"] = theirs.betty(case(), 0, type="darts")
    return out


def small(report: Report, *, peers: set[str], rounds: int, num_steps: int, quick: bool) -> None:
    """One outer step of a small problem, where the eager libraries pay for every operation."""
    task = synthetic()
    report.section(
        f"One outer step: logistic regression, 500 examples, 20 features, {num_steps} steps of gradient descent inside",
        "float32. Inner steps, hypergradient and an outer step of gradient descent with momentum. Implicit methods go "
        "on from the last solution, unrolls start anew. *Differs*: the first hypergradient from bojax's of the kind. "
        f"{REPEATS} steps are measured in a row, and the table has the time of one.",
    )
    descent = hypergrad.Descent(_hyper_own.sgd(task), num_steps)
    implicit, implicit_s = _hyper_own.outer_steps(task, hypergrad.Implicit(hypergrad.CG(max_steps=10)), descent)
    unrolled, unrolled_s = _hyper_own.outer_steps(task, hypergrad.Unrolled(_hyper_own.sgd(task), num_steps))
    own = {"bojax Implicit, CG 10": implicit, "bojax Unrolled": unrolled}
    contestants = own | _peers_small(task, num_steps, peers)
    grads: dict[str, np.ndarray] = {}

    def recorded(name, call):
        def function(_):
            for _ in range(REPEATS):
                grad = call()
                grads.setdefault(name, grad)

        return function

    samples = interleave({name: recorded(name, call) for name, call in contestants.items()}, rounds)
    samples = {name: _shared(s, REPEATS) for name, s in samples.items()}
    rows = []
    for name, s in samples.items():
        kind = "bojax Unrolled" if any(word in name for word in ("Unrolled", "MetaSGD", "higher")) else next(iter(own))
        ratio, gap = s.median / samples[kind].median, relative_error(grads[name], grads[kind])
        rows.append([name, milliseconds(s), f"{ratio:.3g}", "" if name == kind else f"{gap:.1e}"])
    report.table(["", "ms: median (quartiles)", "times bojax's of the kind", "differs by"], rows)
    report.note(f"bojax compiles in {implicit_s:.1f} s (implicit) and {unrolled_s:.1f} s (unrolled), once.")
    report.figure(
        "small",
        num_steps=num_steps,
        compile_s=[implicit_s, unrolled_s],
        samples={name: s.summary() for name, s in samples.items()},
        differs={row[0]: row[3] for row in rows},
    )
    if quick:
        return
    bars = [("seconds to compile", max(implicit_s, unrolled_s), 5.0, True)]
    base = samples["bojax Implicit, CG 10"].median
    for peer in ("TorchOpt", "Betty"):
        times = [s.median for name, s in samples.items() if name.startswith(peer) and "MetaSGD" not in name]
        if times:
            bars.append((f"times as fast as {peer}, implicit", min(times) / base, 20.0, False))
    judge(report, bars)


def _shared(samples: Samples, calls: int) -> Samples:
    """The seconds of one of so many calls in a row."""
    return Samples([s / calls for s in samples.seconds], samples.first / calls)


def _peers_small(task: Task, num_steps: int, peers: set[str]) -> dict[str, Any]:
    if not peers:
        return {}
    from benchmarks import _hyper_peers as theirs

    case = functools.partial(theirs.Case, task, outer_rate=1.0)
    out = {}
    if "TorchOpt" in peers:
        out["TorchOpt implicit, CG 10"] = theirs.torchopt_implicit(case(), num_steps, maxiter=10)
        out["TorchOpt MetaSGD"] = theirs.torchopt_unrolled(case(), num_steps)
    if "higher" in peers:
        out["higher"] = theirs.higher_unrolled(case(), num_steps)
    if "Betty" in peers:
        out["Betty CG 10"] = theirs.betty(case(), num_steps, type="cg", cg_iterations=10)
        neumann = {"neumann_iterations": 10, "neumann_alpha": 1.0}
        out["Betty Neumann 10"] = theirs.betty(case(), num_steps, type="neumann", **neumann)
        out["Betty darts (default)"] = theirs.betty(case(), num_steps, type="darts")
    return out


def unroll(report: Report, *, peers: set[str], rounds: int, num_steps: int, quick: bool) -> None:
    """Reverse mode through the training of a network: time here, memory in fresh processes."""
    task = digits(8, 16) if quick else digits()
    sizes = sum(a.size for a in jax.tree.leaves(task.params0))
    report.section(
        f"Unroll: a network of {sizes:,} parameters, {len(task.train[1])} examples, {num_steps} steps with momentum",
        "float32, an L2 weight for each of three layers. Memory: rise of the resident memory of a fresh process during "
        "one call, and the temporary memory that XLA reports.",
    )
    ways = {name: method for name, (method, _) in _hyper_own.unrolls(task, num_steps).items() if "Unrolled" in name}
    names = ["bojax Unrolled(mixflow, step)"] if quick else list(ways)
    programs = {name: _hyper_own.program(task, ways[name]) for name in names}
    calls: dict[str, Any] = {name: functools.partial(lambda p: p.call().grad, p) for name, p in programs.items()}
    their_names = [name for name in _hyper_memory.PEERS if name.split()[0] in peers]
    if their_names:
        from benchmarks._hyper_peers import Case

        calls |= {name: _hyper_memory.peer(name, Case(task), num_steps) for name in their_names}
    grads: dict[str, Any] = {}

    def recorded(name):
        def function(_):
            grads[name] = np.asarray(calls[name]())

        return function

    samples = interleave({name: recorded(name) for name in calls}, rounds)
    used = {name: _hyper_memory.measure(name, num_steps, quick=quick) for name in calls}
    fastest = min((samples[n].median for n in their_names), default=None)
    rows = []
    for name, s in samples.items():
        compile_s = f"{programs[name].compile_s:.1f}" if name in programs else ""
        ratio = "" if fastest is None else f"{fastest / s.median:.2f}"
        gap = relative_error(grads[name], grads[names[0]])
        rows.append([name, milliseconds(s), ratio, compile_s, *_memory_cells(used[name]), f"{gap:.0e}"])
    header = ["", "ms: median (quartiles)", "times as fast as the fastest peer", "compilation, s", "MiB, resident"]
    report.table([*header, "MiB, XLA", f"differs from {names[0]}"], rows)
    compile_s = {name: p.compile_s for name, p in programs.items()}
    summary = {name: s.summary() for name, s in samples.items()}
    report.figure("unroll", num_steps=num_steps, samples=summary, memory=used, compile_s=compile_s)
    if not quick:
        _judge_unroll(report, samples, used, programs, [n for n in their_names if n != "torch.func"])


def _judge_unroll(report: Report, samples: dict[str, Samples], used: Any, programs: Any, peers: list[str]) -> None:
    bars = [("seconds to compile, slowest", max(p.compile_s for p in programs.values()), 5.0, True)]
    for name in programs if peers else ():
        if "mixflow" in name:
            fastest = min(samples[peer].median for peer in peers)
            bars.append((f"times as fast, {name}", fastest / samples[name].median, 1.5, False))
            if used[name]["rise_mib"]:
                least = min(used[peer]["rise_mib"] for peer in peers)
                bars.append((f"times less memory, {name}", least / used[name]["rise_mib"], 4.0, False))
    judge(report, bars)


def _memory_cells(used: dict[str, Any]) -> list[str]:
    return ["" if used[key] is None else f"{used[key]:.3g}" for key in ("rise_mib", "temp_mib")]


def memory(report: Report, *, peers: set[str], lengths: tuple[int, ...], quick: bool) -> None:
    """Memory against the number of steps, every cell in a process of its own."""
    report.section(
        "Memory against the number of inner steps",
        "MiB: rise of the resident memory of a fresh process during one call; in brackets what XLA reports.",
    )
    names = list(_hyper_own.unrolls(digits(), 2))
    names = names[3:4] if quick else [*names, *(n for n in _hyper_memory.PEERS if n.split()[0] in peers)]
    rows, xla = [], {}
    for name in names:
        cells = []
        for num_steps in lengths:
            used = _hyper_memory.measure(name, num_steps, quick=quick)
            resident, temp = _memory_cells(used)
            cells.append(f"{resident} ({temp})" if temp else resident)
            xla.setdefault(name, []).append(used["temp_mib"])
            report.figure("memory", contestant=name, num_steps=num_steps, **used)
        rows.append([name, *cells])
    report.table(["", *(f"T = {n}" for n in lengths)], rows)
    if not quick:
        flat = ("bojax Implicit(CG(10))", "bojax Forward")
        bars = [(f"{n.removeprefix('bojax ')}: last over first", xla[n][-1] / xla[n][0], 1.05, True) for n in flat]
        root = "bojax Unrolled(mixflow, sqrt)"
        judge(report, [*bars, ("Unrolled(mixflow, sqrt): last over first", xla[root][-1] / xla[root][0], 4.0, True)])


def cost(report: Report, *, rounds: int, num_steps: int, long: int, quick: bool) -> None:
    """What bojax's methods cost in inner gradients, and in training runs."""
    steps = (2,) if quick else (10, 20)
    programs = _cost_programs(digits(8, 16) if quick else digits(), num_steps, long, steps, quick)
    report.section(
        f"Cost: the same network, unrolls of {num_steps} and {long} steps",
        "Everything a call returns is computed: value, hypergradient, diagnostics. The inner solver of the implicit "
        f"method does nothing. Short calls are measured {REPEATS} in a row, and the table has the time of one.",
    )
    short = {name: REPEATS if name == "inner gradient" or "CG" in name else 1 for name in programs}

    def repeated(name):
        return lambda _: [programs[name].call() for _ in range(short[name])]

    samples = interleave({name: repeated(name) for name in programs}, rounds)
    samples = {name: _shared(s, short[name]) for name, s in samples.items()}
    gradients = {name: s.median / samples["inner gradient"].median for name, s in samples.items()}
    runs = {n: s.median / samples[f"training, T = {_length(n, num_steps)}"].median for n, s in samples.items()}
    rows = [[n, milliseconds(s), f"{gradients[n]:.1f}", f"{runs[n]:.2f}"] for n, s in samples.items()]
    report.table(["", "ms: median (quartiles)", "inner gradients", "training runs of the length"], rows)
    report.figure("cost", num_steps=num_steps, samples={name: s.summary() for name, s in samples.items()})
    if quick:
        return
    bars = [(f"{n}: gradients", gradients[n], 1.5 * k + 4, True) for k in steps for n in [f"Implicit, {k} CG steps"]]
    for name in programs:
        if "mixflow" in name:
            bars.append((f"{name}: training runs", runs[name], 5.0 if "sqrt" in name else 3.5, True))
    judge(report, bars)


def _length(name: str, default: int) -> int:
    return int(name.split("T = ")[1]) if "T = " in name else default


def _cost_programs(task: Task, num_steps: int, long: int, steps: tuple[int, ...], quick: bool) -> dict[str, Any]:
    inner_loss, _ = task.losses()
    h, params, train, _ = task.arrays(np.float32)
    programs = {"inner gradient": _hyper_own.compiled(jax.grad(inner_loss), params, h, train)}
    for k in steps:
        # Damped, so that the system is positive definite away from a minimum and takes all its steps.
        method = hypergrad.Implicit(hypergrad.CG(rtol=1e-30, max_steps=k), damping=1.0)
        programs[f"Implicit, {k} CG steps"] = _hyper_own.program(task, method, inner_solver=_hyper_own.stay)
        taken = int(programs[f"Implicit, {k} CG steps"].call().info.adjoint_steps)
        if taken != k:
            raise RuntimeError(f"conjugate gradients took {taken} steps in place of {k}.")
    short_ways = ("mixflow, step",) if quick else ("plain", "mixflow")
    for length, ways in ((num_steps, short_ways), (long, ("mixflow, sqrt",))):
        descent = hypergrad.Descent(_hyper_own.sgd(task), length)
        training = functools.partial(lambda descent, w, h, d: descent(inner_loss, w, h, d).params, descent)
        programs[f"training, T = {length}"] = _hyper_own.compiled(training, params, h, train)
        for name, (method, _) in _hyper_own.unrolls(task, length).items():
            if "Unrolled" in name and any(way in name for way in ways):
                programs[f"{name.removeprefix('bojax ')}, T = {length}"] = _hyper_own.program(task, method)
    return programs


def main(argv: list[str] | None = None) -> None:
    """Runs the sections."""
    arguments = parser(__doc__, botorch=False)
    arguments.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS, help="the sections to run")
    arguments.add_argument("--rounds", type=int, help="measurements of each contestant (default 15; unroll: 7)")
    arguments.add_argument("--no-peers", action="store_true", help="leave TorchOpt, higher, Betty and torch.func out")
    args = arguments.parse_args(argv)
    # Read when JAX starts its backend, here and in the processes that measure memory.
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {ONE_THREAD}".strip()
    os.environ["OMP_NUM_THREADS"] = "1"
    found = installed()
    peers = set() if args.no_peers else found
    report = Report("benchmarks.hypergrad", args)
    if missing := [name for name in PEERS if name not in found]:
        report.note(f"Left out, since not installed: {', '.join(missing)}. The docstring of this script tells how to.")
    if peers:
        import torch

        torch.set_num_threads(1)
        warnings.filterwarnings("ignore", category=FutureWarning)  # TorchOpt uses names that torch has deprecated
    rounds = args.rounds or (1 if args.quick else 15)
    if "accuracy" in args.only:
        accuracy(report, peers=peers, quick=args.quick)
    if "small" in args.only:
        small(report, peers=peers, rounds=rounds, num_steps=5 if args.quick else 100, quick=args.quick)
    if "unroll" in args.only:
        num_steps, turns = (4, 1) if args.quick else (256, args.rounds or 7)
        unroll(report, peers=peers, rounds=turns, num_steps=num_steps, quick=args.quick)
    if "memory" in args.only:
        memory(report, peers=peers, lengths=(16,) if args.quick else (16, 64, 256, 1024), quick=args.quick)
    if "cost" in args.only:
        num_steps, long = (4, 8) if args.quick else (64, 1024)
        cost(report, rounds=rounds, num_steps=num_steps, long=long, quick=args.quick)


if __name__ == "__main__":
    main()
