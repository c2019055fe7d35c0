"""Many whole studies at once with `bojax.run_many`, against BoTorch's loop; time and regret.

Run from the checkout: `python -m benchmarks.studies [--quick] [--json FILE] [--only SECTION ...]`.
"""

import contextlib
import statistics
from typing import Any

import numpy as np

from benchmarks._timing import NO_BOTORCH, Report, environment, has, parser, spread
from benchmarks._worker import Worker

SECTIONS = ("time", "acceptance")
ACCEPTANCE = (("hartmann6", 40), ("branin", 25))
MODES = ("map", "shard", "vmap")


def initial_size(num_dims: int) -> int:
    """Size of bojax's default initial design, which BoTorch's studies get too."""
    from bojax.loop._defaults import default_num_initial

    return default_num_initial(num_dims)


def peer_study(name: str, X: list, num_steps: int, seed: int, threads: int) -> tuple[float, float, float]:
    """BoTorch's loop from the initial design of bojax's study number `seed`: its regret, seconds a step, cores."""
    from benchmarks import _botorch
    from benchmarks._problems import problem

    _botorch.torch.set_num_threads(threads)
    chosen = problem(name)
    design = np.asarray(X)[: initial_size(chosen.space.num_dims)]
    for points in (design, design[:1]):
        chosen.values(points)  # compiled outside of the clock
    y, seconds, cores = _botorch.study(chosen.values, design, num_steps, seed)
    return float(chosen.regret(y)), seconds / (num_steps - len(design)), cores


def time_studies(
    report: Report,
    workers: dict[str, Worker],
    name: str,
    *,
    studies: int,
    steps: int,
    rounds: int,
    seeds: int,
    threads: int,
) -> list[str]:
    """Time of one step of one study, each way of running many of them and BoTorch in turns; returns what failed."""
    report.section(
        f"{studies} studies of {steps} evaluations: {name}",
        "Milliseconds for each model-based step of each study (the initial designs cost next to nothing); compilation "
        "is apart. *Cores* is processor time over time. BoTorch starts from bojax's initial designs.",
    )
    seconds: dict[str, list[float]] = {}
    first: dict[str, float] = {}
    answers: dict[str, dict[str, Any]] = {}
    failed = []
    for mode, worker in workers.items():
        try:
            answers[mode] = worker.run(name, studies=studies, steps=steps, parallel=mode)
        except RuntimeError as error:
            report.note(f"**{mode} failed**: {error}")
            failed.append(f"{name}, {mode}")
            continue
        seconds[mode], first[mode] = [], answers[mode]["seconds"]
    peer: list[tuple[float, float, float]] = []
    for i in range(rounds):
        for mode in seconds:
            answers[mode] = workers[mode].run(name, studies=studies, steps=steps, parallel=mode)
            seconds[mode].append(answers[mode]["seconds"])
        for seed in range(i * seeds // rounds, (i + 1) * seeds // rounds):
            X = next(iter(answers.values()))["X"][seed % studies]
            peer.append(peer_study(name, X, steps, seed, threads))
    rows = []
    for mode, taken in seconds.items():
        num_steps = studies * (steps - initial_size(len(answers[mode]["X"][0][0])))
        each, regret = [s / num_steps for s in taken], answers[mode]["regret"]
        label = f"bojax, {mode}" + (f" over {answers[mode]['devices']} devices" if mode == "shard" else "")
        ratio = f"{statistics.median(s for _, s, _ in peer) / statistics.median(each):.1f}" if peer else "-"
        compiling = f"{max(first[mode] - statistics.median(taken), 0):.1f}"
        cores = answers[mode]["cores"]
        row = [label, spread([1e3 * s for s in each], ".3g"), ratio, f"{cores:.1f}", compiling, spread(regret), studies]
        rows.append(row)
        values = {"seconds": taken, "cores": cores, "first_s": first[mode], "seconds_a_step": each, "regret": regret}
        report.figure("studies", problem=name, mode=mode, studies=studies, steps=steps, **values)
    if peer:
        label = f"BoTorch, one study after another, {threads} thread" + ("s" if threads > 1 else "")
        regret, each, busy = (list(column) for column in zip(*peer, strict=True))
        cores = f"{statistics.median(busy):.1f}"
        rows.append([label, spread([1e3 * s for s in each], ".3g"), "1", cores, "-", spread(regret), len(peer)])
        values = {"threads": threads, "cores": busy, "seconds_a_step": each, "regret": regret}
        report.figure("studies", problem=name, mode="BoTorch", studies=len(peer), steps=steps, **values)
    header = ["", "ms a step: median (quartiles)", "times as fast as BoTorch", "cores", "compilation, s"]
    report.table([*header, "final regret", "studies"], rows)
    return failed


def acceptance(
    report: Report, worker: Worker, mode: str, name: str, *, studies: int, steps: int, seeds: int, threads: int
) -> None:
    """The final regret of bojax, of random search and of BoTorch's loop with equal budgets."""
    answer = worker.run(name, studies=studies, steps=steps, parallel=mode)
    random = worker.run(name, studies=studies, steps=steps, parallel=mode, algorithm="random_search")
    contestants = {"bojax": answer["regret"], "random search": random["regret"]}
    if seeds:
        peer = [peer_study(name, answer["X"][seed], steps, seed, threads) for seed in range(min(seeds, studies))]
        contestants["BoTorch, same initial designs"] = [r for r, *_ in peer]
        contestants["bojax, these seeds only"] = answer["regret"][: len(peer)]
    report.section(f"Acceptance: {name}, {steps} evaluations", f"bojax's first call took {answer['seconds']:.1f} s.")
    rows = [[n, len(r), spread(r), f"{max(r):.2g}"] for n, r in contestants.items()]
    report.table(["", "studies", "final regret: median (quartiles)", "worst"], rows)
    report.figure("acceptance", problem=name, steps=steps, regret=contestants, seconds=answer["seconds"])


def main(argv: list[str] | None = None) -> None:
    """Runs the sections."""
    arguments = parser(__doc__)
    arguments.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS, help="the sections to run")
    arguments.add_argument("--problems", nargs="+", default=["branin", "hartmann6"], help="names in bojax.objectives")
    arguments.add_argument(
        "--modes", nargs="+", choices=MODES, default=list(MODES), help='ways to run many; "map" always'
    )
    arguments.add_argument("--studies", type=int, help="studies at once (default 32)")
    arguments.add_argument("--steps", type=int, help="evaluations of each study (default 30)")
    arguments.add_argument("--rounds", type=int, help="measurements of each contestant (default 4)")
    arguments.add_argument("--botorch-seeds", type=int, help="studies of BoTorch in all (default 4)")
    arguments.add_argument("--botorch-threads", type=int, default=1, help="torch threads (default 1, the fastest here)")
    args = arguments.parse_args(argv)
    installed = has("torch", "botorch")
    report = Report("benchmarks.studies", args)
    if not installed:
        report.note(NO_BOTORCH)
    seeds = (1 if args.quick else 4) if args.botorch_seeds is None else args.botorch_seeds
    seeds = 0 if args.no_botorch or not installed else seeds
    studies, steps = args.studies or (2 if args.quick else 32), args.steps or (7 if args.quick else 30)
    problems = args.problems[:1] if args.quick else args.problems
    cores = environment()["cores"]
    failed = []
    with contextlib.ExitStack() as stack:
        workers = {m: stack.enter_context(Worker(cores if m == "shard" else 1, cpu_only=True)) for m in args.modes}
        if "time" in args.only:
            rounds = args.rounds or (1 if args.quick else 4)
            for name in problems:
                settings = {"rounds": rounds, "seeds": seeds, "threads": args.botorch_threads}
                failed += time_studies(report, workers, name, studies=studies, steps=steps, **settings)
        if "acceptance" in args.only:
            mode = "shard" if "shard" in workers and not failed else args.modes[0]
            for name, budget in ACCEPTANCE[-1:] if args.quick else ACCEPTANCE:
                budget, count = (steps, 2) if args.quick else (budget, 16)
                settings = {"studies": count, "steps": budget, "seeds": seeds, "threads": args.botorch_threads}
                acceptance(report, workers[mode], mode, name, **settings)
    if failed:
        raise SystemExit(f"failed: {'; '.join(failed)}")


if __name__ == "__main__":
    main()
