"""Spaces that branch: evaluations to the optimum, against the same space flattened and Optuna's TPE with groups.

Run from the checkout: `python -m benchmarks.conditional [--seeds 10] [--budget 80] [--json FILE]`.

* `branches`: a choice of two models; the better one has three parameters of its own, the other two, and both share one.
* `widths`: a network of one to four layers, each with a width, and a learning rate.

The flattened space gives every parameter in every trial, and the objective ignores those that do not belong.
"""

import math
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks._timing import Report, parser

Objective = Callable[[Mapping[str, Any]], float]


def branches() -> tuple[dict[str, Any], Objective, float]:
    """The space, an objective to minimize, and the value that counts as its optimum."""
    from bojax import Categorical, Float

    space = {
        "model": Categorical(["svm", "forest"]),
        "log_C": Float(-4.0, 4.0, when={"model": "svm"}),
        "log_gamma": Float(-6.0, 2.0, when={"model": "svm"}),
        "shrink": Float(0.0, 1.0, when={"model": "svm"}),
        "depth": Float(1.0, 20.0, when={"model": "forest"}),
        "features": Float(0.1, 1.0, when={"model": "forest"}),
        "smoothing": Float(1e-4, 1.0, log=True),
    }

    def objective(params):
        shared = 0.05 * (math.log10(params["smoothing"]) + 2.3) ** 2
        if params["model"] == "forest":
            return 0.25 + shared + 0.003 * (params["depth"] - 11.0) ** 2 + 0.6 * (params["features"] - 0.4) ** 2
        C, gamma, shrink = params["log_C"], params["log_gamma"], params["shrink"]
        valley = 0.04 * (C + gamma + 1.0) ** 2 + 0.05 * (C - 1.5) ** 2
        return 0.1 + shared + valley + 0.5 * (shrink - 0.7) ** 2

    return space, objective, 0.11


def widths() -> tuple[dict[str, Any], Objective, float]:
    """The space, an objective to minimize, and the value that counts as its optimum."""
    from bojax import Float, Int

    best = (7.0, 6.0, 5.5, 5.0)  # logarithms of the best width of each layer
    space: dict[str, Any] = {"depth": Int(1, 4)}
    space |= {f"width_{i}": Int(8, 512, log=True, when={"depth": list(range(i, 5))}) for i in range(1, 5)}
    space["learning_rate"] = Float(1e-5, 1e-1, log=True)

    def objective(params):
        depth = params["depth"]
        loss = {1: 0.30, 2: 0.16, 3: 0.10, 4: 0.14}[depth] + 0.05 * (math.log10(params["learning_rate"]) + 2.7) ** 2
        return loss + sum(0.02 * (math.log2(params[f"width_{i}"]) - best[i - 1]) ** 2 for i in range(1, depth + 1))

    return space, objective, 0.112


PROBLEMS = {"branches": branches, "widths": widths}


def through_study(space: dict[str, Any], objective: Objective, budget: int, seed: int) -> list[float]:
    """The values of the default algorithm."""
    import bojax

    study = bojax.Study(space, seed=seed)
    study.optimize(objective, num_trials=budget, progress=False)
    return [trial.value for trial in study.trials if trial.value is not None]


def flattened(space: dict[str, Any], objective: Objective, budget: int, seed: int) -> list[float]:
    """The values of the default algorithm in the space without conditions."""
    import dataclasses

    flat = {name: dataclasses.replace(parameter, when=None) for name, parameter in space.items()}
    return through_study(flat, objective, budget, seed)


def by_random_search(space: dict[str, Any], objective: Objective, budget: int, seed: int) -> list[float]:
    """The values of random search."""
    import bojax

    study = bojax.Study(space, seed=seed, algorithm=lambda space, q: bojax.random_search(space, q=q))
    study.optimize(objective, num_trials=budget, progress=False)
    return [trial.value for trial in study.trials if trial.value is not None]


def by_tpe(space: dict[str, Any], objective: Objective, budget: int, seed: int) -> list[float]:
    """The values of Optuna's multivariate TPE with groups, define-by-run."""
    import optuna

    return define_by_run(
        lambda: optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True), space, objective, budget
    )


def by_sampler(space: dict[str, Any], objective: Objective, budget: int, seed: int) -> list[float]:
    """The values of `BojaxSampler`, define-by-run: it has to learn the branches from the trials."""
    from bojax.integrations.optuna import BojaxSampler

    return define_by_run(lambda: BojaxSampler(seed=seed), space, objective, budget)


def define_by_run(sampler: Callable[[], Any], space: dict[str, Any], objective: Objective, budget: int) -> list[float]:
    """The values of a sampler in Optuna's own loop."""
    import warnings

    import optuna

    from bojax import Space
    from bojax.storage import to_distributions

    tree = Space(space)
    distributions = to_distributions(tree)

    def suggested(trial):
        params: dict[str, Any] = {}
        for name in tree.in_order():
            if name in tree.active_names(params):
                params[name] = trial._suggest(name, distributions[name])
        return objective(params)

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study = optuna.create_study(sampler=sampler())
        study.optimize(suggested, n_trials=budget)
    return [trial.value for trial in study.trials if trial.value is not None]


METHODS = {
    "bojax": through_study,
    "bojax, flattened": flattened,
    "BojaxSampler, define-by-run": by_sampler,
    "Optuna TPE, multivariate, group": by_tpe,
    "random search": by_random_search,
}


def evaluations_to(target: float, values: list[float]) -> int | None:
    """The number of the first evaluation that reaches the target; None if none does."""
    reached = np.flatnonzero(np.asarray(values) <= target)
    return int(reached[0]) + 1 if reached.size else None


def main(argv: list[str] | None = None) -> None:
    """Runs every method for every seed."""
    arguments = parser(__doc__, botorch=False)
    arguments.add_argument("--seeds", type=int, default=10)
    arguments.add_argument("--budget", type=int, default=80, help="evaluations of each study (default 80)")
    arguments.add_argument("--only", nargs="+", choices=list(METHODS), help="methods")
    args = arguments.parse_args(argv)
    report = Report("benchmarks.conditional", args)
    num_seeds, budget = (1, 8) if args.quick else (args.seeds, args.budget)
    for problem, make in PROBLEMS.items():
        space, objective, target = make()
        report.section(
            f"{problem}, {num_seeds} seeds, {budget} evaluations",
            f"Evaluations until a value of at most {target}; {budget + 1} counts for a study that does not get there.",
        )
        rows = []
        for name in args.only or METHODS:
            needed, best, start = [], [], time.perf_counter()
            for seed in range(num_seeds):
                values = METHODS[name](space, objective, budget, seed)
                needed.append(evaluations_to(target, values))
                best.append(min(values))
                report.figure("study", problem=problem, method=name, seed=seed, needed=needed[-1], best=best[-1])
            counted = [budget + 1 if count is None else count for count in needed]
            rows.append(
                [
                    name,
                    f"{statistics.median(counted):g}",
                    f"{statistics.mean(counted):.1f}",
                    f"{sum(count is not None for count in needed)} of {num_seeds}",
                    f"{statistics.median(best):.4f}",
                    f"{(time.perf_counter() - start) / num_seeds:.1f}",
                ]
            )
        report.table(["", "median", "mean", "reached", "best value, median", "s a study"], rows)


if __name__ == "__main__":
    main()
