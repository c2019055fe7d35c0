"""Races: the best value after each evaluation, for bojax and its peers.

    python -m benchmarks.regret --suite bbob --dim 5 --budget 50 --methods bojax tpe cma random --out race.jsonl
    python -m benchmarks.regret --report --out race.jsonl [--figure race.png]
    python -m benchmarks.regret --methods bojax-tpe tpe --baseline tpe --seeds 3 --out tpe.jsonl

Every run is one JSON line; a run that is already in the file is not repeated, so a race can be stopped and resumed.
"""

import argparse
import itertools
import json
import os
import pathlib
import sys
import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import bojax
from benchmarks import _problems
from benchmarks._methods import METHODS, missing
from bojax import objectives

INSTANCES = (11, 12, 13, 14, 15)
"""Instances of BBOB that may be looked at. The others are kept for checks from outside."""
FLOOR = 1e-8
"""Regrets below count as this."""
GROUPS = {
    "separable": range(1, 6),
    "moderate conditioning": range(6, 10),
    "high conditioning": range(10, 15),
    "multi-modal, adequate structure": range(15, 20),
    "multi-modal, weak structure": range(20, 25),
}


class Case(NamedTuple):
    """A problem of a race: its name and instance, the space, and `regret(X [k, d]) -> [k]`."""

    problem: str
    instance: int
    space: bojax.Space
    regret: Callable[[np.ndarray], np.ndarray]


def bbob(function: int, instance: int, dim: int) -> Case:
    """A BBOB function on [-5, 5]^d; regret above its optimum.

    Raises:
        ValueError: when the instance is one of those held out.
    """
    if instance not in INSTANCES:
        raise ValueError(f"`instance` must be one of {INSTANCES}, got {instance}: the others are held out.")
    import ioh

    problem = ioh.get_problem(function, instance=instance, dimension=dim, problem_class=ioh.ProblemClass.BBOB)
    space = bojax.Space({f"x{i}": bojax.Float(-5.0, 5.0) for i in range(dim)})

    def regret(X):
        return np.array([problem(list(10.0 * x - 5.0)) for x in X]) - problem.optimum.y

    return Case(f"f{function}", instance, space, regret)


def embedded(name: str, instance: int, dim: int = 100) -> Case:
    """A small function of a few of `dim` coordinates, chosen by the instance."""
    inner = _problems.problem(name)
    chosen = np.random.default_rng(instance).choice(dim, inner.space.num_dims, replace=False)
    space = bojax.Space({f"x{i}": bojax.Float(0.0, 1.0) for i in range(dim)})
    return Case(f"{name}-in-{dim}", instance, space, lambda X: -inner.values(X[:, chosen]) - inner.objective.optimum)


def ackley_mixed(instance: int) -> Case:
    """Ackley's function of 20 variables: 10 floats, 5 integers and 5 categories, its optimum moved by the instance."""
    rng = np.random.default_rng(instance)
    shift, order = rng.uniform(-0.3, 0.3, 20), [rng.permutation(5) for _ in range(5)]
    shift[10:] = np.round(shift[10:] * 10) / 10
    parameters: dict[str, Any] = {f"x{i}": bojax.Float(-1.0, 1.0) for i in range(10)}
    parameters |= {f"n{i}": bojax.Int(-10, 10) for i in range(5)}
    parameters |= {f"c{i}": bojax.Categorical(["a", "b", "c", "d", "e"]) for i in range(5)}
    space = bojax.Space(parameters)

    def one(x):
        params = space.to_params(x)
        z = [params[f"x{i}"] - shift[i] for i in range(10)]
        z += [params[f"n{i}"] / 10.0 - shift[10 + i] for i in range(5)]
        z += [order[i]["abcde".index(params[f"c{i}"])] / 5.0 for i in range(5)]
        z = 5.0 * np.asarray(z)
        mean_square, mean_cos = np.mean(z**2), np.mean(np.cos(2 * np.pi * z))
        return 20.0 + np.e - 20.0 * np.exp(-0.2 * np.sqrt(mean_square)) - np.exp(mean_cos)

    return Case("ackley20-mixed", instance, space, lambda X: np.array([one(x) for x in X]))


def zoo(name: str, instance: int) -> Case:
    """An objective of the model zoo; its regret is one minus the validation accuracy."""
    import jax

    from bojax import models

    objective = getattr(models, name)
    space = bojax.Space.from_spec(objective.space)
    train = jax.jit(jax.vmap(objective.train, (0, 0)))

    def regret(X):
        keys = jax.random.split(jax.random.key(instance), len(X))
        hparams = space.decode(np.asarray(X, np.float32))
        return 1.0 - np.nan_to_num(np.asarray(train(keys, hparams)["validation_accuracy"], np.float64))

    return Case(name, instance, space, regret)


def cases(args: argparse.Namespace) -> list[Case]:
    """The problems of a suite, instance after instance, so that an early stop leaves whole rounds."""
    if args.suite == "bbob":
        return [bbob(f, i, args.dim) for i in args.instances for f in args.functions]
    if args.suite == "hartmann6":
        space = objectives.hartmann6().space
        inner = _problems.problem("hartmann6")
        return [
            Case("hartmann6", i, space, lambda X: -inner.values(X) - inner.objective.optimum) for i in args.instances
        ]
    if args.suite == "ackley20":
        return [ackley_mixed(i) for i in args.instances]
    if args.suite == "embedded":
        return [embedded(name, i) for i in args.instances for name in ("branin", "hartmann6")]
    return [zoo(name, i) for i in args.instances for name in ("digits_mlp", "digits_cnn")]


def race(case: Case, method: str, *, budget: int, q: int, seed: int) -> dict[str, Any]:
    """One run, as plain data: the smallest regret after each evaluation and the seconds of each suggestion."""
    ask, tell = METHODS[method](case.space, budget, q, seed)
    regrets: list[float] = []
    seconds: list[float] = []
    while len(regrets) < budget:
        start = time.perf_counter()
        X = ask()
        seconds.append(time.perf_counter() - start)
        values = case.regret(X)
        regrets += [float(v) for v in values]
        tell(X, -values)
    trace = np.minimum.accumulate(regrets)[:budget]
    return {
        "problem": case.problem,
        "dim": case.space.num_dims,
        "instance": case.instance,
        "method": method,
        "q": q,
        "seed": seed,
        "budget": budget,
        "trace": [float(f"{v:.6g}") for v in trace],
        "seconds": round(sum(seconds), 3),
        "last_seconds": round(float(np.median(seconds[len(seconds) // 2 :])), 4),
    }


def identity(run: dict[str, Any]) -> tuple:
    """What makes a run the same as another."""
    return tuple(run[name] for name in ("problem", "dim", "instance", "method", "q", "seed", "budget"))


def read(path: pathlib.Path) -> list[dict[str, Any]]:
    """The runs of a file; none when it does not exist."""
    return [json.loads(line) for line in path.read_text().splitlines() if line] if path.exists() else []


def ranks(values: dict[str, float]) -> dict[str, float]:
    """Ranks from 1 (smallest value), ties averaged."""
    return {
        name: 1.0 + sum(o < v for o in values.values()) + 0.5 * (sum(o == v for o in values.values()) - 1)
        for name, v in values.items()
    }


def medians(runs: list[dict[str, Any]], methods: list[str]) -> dict[str, dict[str, float]]:
    """From problem and method to the median over runs of the final log10 regret; whole rounds only.

    Only instances that all the methods have finished count, so that all are judged by the same ones.
    """
    final: dict[tuple[str, int, int], dict[str, float]] = defaultdict(dict)
    for run in runs:
        if run["method"] in methods:
            regret = np.log10(max(run["trace"][-1], FLOOR))
            final[run["problem"], run["instance"], run["seed"]][run["method"]] = float(regret)
    by_problem: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for (problem, _, _), found in final.items():
        if len(found) == len(methods):
            for method, value in found.items():
                by_problem[problem][method].append(value)
    return {p: {m: float(np.median(v)) for m, v in found.items()} for p, found in by_problem.items()}


def report(runs: list[dict[str, Any]], methods: list[str] | None = None) -> str:
    """A Markdown table of mean ranks and mean log10 regrets, for each q and budget."""
    lines = []
    settings = sorted({(run["dim"], run["budget"], run["q"]) for run in runs})
    for dim, budget, q in settings:
        chosen = [r for r in runs if (r["dim"], r["budget"], r["q"]) == (dim, budget, q)]
        names = [m for m in METHODS if any(r["method"] == m for r in chosen) and (not methods or m in methods)]
        table = medians(chosen, names)
        if not table:
            lines.append(f"\nd = {dim}, budget {budget}, q = {q}: no run that all of {names} have finished.\n")
            continue
        ranked = {problem: ranks(found) for problem, found in table.items()}
        lines.append(f"\n## d = {dim}, {budget} evaluations, q = {q}: {len(table)} problems\n")
        columns = {"all": list(table)} | {
            group: [f"f{i}" for i in numbers if f"f{i}" in table] for group, numbers in GROUPS.items()
        }
        columns = {name: problems for name, problems in columns.items() if problems}
        lines.append("| mean rank | " + " | ".join(columns) + " | mean log10 regret | behind random | s a suggestion |")
        lines.append("| --- |" + " ---: |" * (len(columns) + 3))
        for method in sorted(names, key=lambda m: np.mean([r[m] for r in ranked.values()])):
            cells = [f"{np.mean([ranked[p][method] for p in problems]):.2f}" for problems in columns.values()]
            behind = [p for p in table if "random" in names and table[p][method] > table[p]["random"]]
            pace = np.median([r["last_seconds"] for r in chosen if r["method"] == method])
            mean = np.mean([found[method] for found in table.values()])
            lines.append(
                f"| {method} | " + " | ".join(cells) + f" | {mean:.2f} | {' '.join(behind) or '-'} | {pace:.3g} |"
            )
    return "\n".join(lines) + "\n"


def pairs(runs: list[dict[str, Any]], baseline: str) -> str:
    """A Markdown table of each method's log10 regret less that of `baseline`, paired by problem, instance and seed."""
    final = {identity(run): float(np.log10(max(run["trace"][-1], FLOOR))) for run in runs}
    found: dict[tuple, list[float]] = defaultdict(list)
    for (problem, dim, instance, method, q, seed, budget), value in final.items():
        other = final.get((problem, dim, instance, baseline, q, seed, budget))
        if method != baseline and other is not None:
            found[dim, budget, q, method].append(value - other)
    lines = [f"| d | evaluations | q | method | log10 regret less that of {baseline} | standard error | pairs |"]
    lines.append("| ---: | ---: | ---: | --- | ---: | ---: | ---: |")
    for (dim, budget, q, method), gaps in sorted(found.items()):
        error = np.std(gaps, ddof=1) / np.sqrt(len(gaps)) if len(gaps) > 1 else np.nan
        lines.append(f"| {dim} | {budget} | {q} | {method} | {np.mean(gaps):+.3f} | {error:.3f} | {len(gaps)} |")
    return "\n".join(lines) + "\n"


def figure(runs: list[dict[str, Any]], path: str) -> None:
    """Mean log10 regret over evaluations, a panel for each q."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    settings = sorted({(run["dim"], run["budget"], run["q"]) for run in runs})
    _, axes = plt.subplots(1, len(settings), figsize=(5 * len(settings), 4), squeeze=False)
    for axis, (dim, budget, q) in zip(axes[0], settings, strict=True):
        for method in METHODS:
            traces = [
                r["trace"] for r in runs if (r["dim"], r["budget"], r["q"], r["method"]) == (dim, budget, q, method)
            ]
            if traces:
                axis.plot(np.arange(1, budget + 1), np.mean(np.log10(np.maximum(traces, FLOOR)), axis=0), label=method)
        axis.set(xlabel="evaluations", ylabel="mean log10 regret", title=f"d = {dim}, q = {q}")
        axis.legend()
    plt.tight_layout()
    plt.savefig(path, dpi=120)


def main(argv: list[str] | None = None) -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--suite", choices=("bbob", "hartmann6", "ackley20", "embedded", "zoo"), default="bbob")
    parser.add_argument("--dim", type=int, default=5, help="dimensions of the BBOB functions")
    parser.add_argument("--budget", type=int, default=50)
    parser.add_argument("--q", type=int, default=1)
    parser.add_argument("--instances", type=int, nargs="+", default=list(INSTANCES))
    parser.add_argument("--functions", type=int, nargs="+", default=list(range(1, 25)))
    parser.add_argument("--methods", nargs="+", choices=sorted(METHODS), default=None)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("race.jsonl"))
    parser.add_argument("--time-limit", type=float, default=float("inf"), help="seconds after which no run is begun")
    parser.add_argument("--report", action="store_true", help="only print the table of what is in the file")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each problem and instance")
    parser.add_argument("--baseline", choices=sorted(METHODS), help="also print differences from this method, in pairs")
    parser.add_argument("--figure", help="write the curves to this file")
    args = parser.parse_args(argv)
    if not args.report:
        begin = time.monotonic()
        done = {identity(run) for run in read(args.out)}
        names = args.methods or ["bojax", "random", "tpe", "cma", "optuna-gp", "botorch"]
        for name in [n for n in names if missing(n)]:
            print(f"{name} is left out: {', '.join(missing(name))} cannot be imported.", flush=True)
            names = [n for n in names if n != name]
        for case, repeat in itertools.product(cases(args), range(args.seeds)):
            for name in names:
                seed = case.instance + 1000 * repeat
                key = (case.problem, case.space.num_dims, case.instance, name, args.q, seed, args.budget)
                if key in done or time.monotonic() - begin > args.time_limit:
                    continue
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    run = race(case, name, budget=args.budget, q=args.q, seed=seed)
                with open(args.out, "a", encoding="utf-8") as file:
                    file.write(json.dumps(run) + "\n")
                print(f"{case.problem} {case.instance} {name}: {run['trace'][-1]:.3g} ({run['seconds']} s)", flush=True)
    runs = read(args.out)
    print(report(runs, args.methods if args.report else None))
    if args.baseline:
        print(pairs(runs, args.baseline))
    if args.figure:
        figure(runs, args.figure)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main(sys.argv[1:])
