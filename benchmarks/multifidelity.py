"""Training runs judged before they are done, against studies that train every configuration in full.

Run from the checkout: `python -m benchmarks.multifidelity [--objective digits_cnn] [--seeds 5] [--json FILE]`.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from benchmarks._timing import Report, has, parser


def random_in_full(objective: Any, seed: int, budget_steps: int) -> dict[str, Any]:
    """Random configurations trained in full."""
    import bojax

    space = bojax.Space.from_spec(objective.space)
    draw_key, train_key = jax.random.split(jax.random.key(seed))
    n = budget_steps // objective.num_steps
    hparams = {k: np.asarray(v) for k, v in space.decode(space.sample(draw_key, n)).items()}
    metrics = bojax.train_many(objective, jax.random.split(train_key, n), hparams)
    sign = 1 if objective.direction == "maximize" else -1
    best = int(np.argmax(sign * metrics[objective.metric]))
    return _result(metrics[objective.metric][best], metrics["test_accuracy"][best], n * objective.num_steps)


def model_in_full(objective: Any, seed: int, budget_steps: int) -> dict[str, Any]:
    """`bojax.tune`."""
    import bojax

    n = budget_steps // objective.num_steps
    result = bojax.tune(objective, num_trials=n, batch_size=4, seed=seed, progress=False)
    return _result(result.best_value, result.best_trial.user_attrs["test_accuracy"], n * objective.num_steps)


def by_history(function: Callable[..., Any], **arguments: Any) -> Callable[..., dict[str, Any]]:
    """One of `bojax.multifidelity`; gets no budget but its own."""

    def run(objective: Any, seed: int, budget_steps: int) -> dict[str, Any]:
        history = function(objective, seed=seed, **arguments)
        return _result(history.best_value, history.best_metrics["test_accuracy"], history.total_steps)

    return run


def _result(value: float, test: float, steps: int) -> dict[str, Any]:
    return {"value": float(value), "test_accuracy": float(test), "steps": int(steps)}


def contestants(objective: Any, num_trials: int) -> dict[str, tuple[Callable[..., dict[str, Any]], int]]:
    """By name: the function and its budget of steps."""
    from bojax import multifidelity

    full, third = num_trials * objective.num_steps, num_trials * objective.num_steps // 3
    return {
        "random search, in full": (random_in_full, full),
        "bojax.tune, in full": (model_in_full, full),
        "random search, a third": (random_in_full, third),
        "hyperband": (by_history(multifidelity.hyperband), third),
        "bohb": (by_history(multifidelity.bohb), third),
        "asha": (by_history(multifidelity.asha, budget_steps=third), third),
        "freeze_thaw": (by_history(multifidelity.freeze_thaw, budget_steps=third), third),
    }


def main(argv: list[str] | None = None) -> None:
    """Runs every contestant for every seed."""
    arguments = parser(__doc__, botorch=False)
    arguments.add_argument("--objective", default="digits_cnn", help="a classifier of the zoo (default digits_cnn)")
    arguments.add_argument("--trials", type=int, default=40, help="full runs of the full-budget study")
    arguments.add_argument("--seeds", type=int, default=5)
    arguments.add_argument("--only", nargs="+", help="contestants")
    args = arguments.parse_args(argv)
    report = Report("benchmarks.multifidelity", args)
    if not has("flax", "optax", "sklearn"):
        report.note("Nothing to measure: it needs flax, optax and scikit-learn, which bojax depends on.")
        return
    import models

    objective = models.digits_mlp.with_num_steps(9) if args.quick else models.OBJECTIVES[args.objective]
    num_trials, num_seeds = (6, 1) if args.quick else (args.trials, args.seeds)
    report.section(
        f"{objective.name}, {objective.num_steps} steps a run, {num_seeds} seeds",
        f"A full-budget study trains {num_trials} configurations in full; the others get a third of its steps. "
        "Hyperband and BOHB have the steps of one pass over their brackets.",
    )
    rows = []
    named = contestants(objective, num_trials)
    chosen = args.only or ([n for n in named if n in ("random search, in full", "hyperband")] if args.quick else named)
    for name in chosen:
        function, budget_steps = named[name]
        runs = []
        for seed in range(num_seeds):
            start = time.perf_counter()
            run = function(objective, seed, budget_steps) | {"contestant": name, "seed": seed}
            runs.append(run | {"seconds": time.perf_counter() - start})
            report.figure("run", objective=objective.name, **runs[-1])
        median = {key: statistics.median(run[key] for run in runs) for key in ("value", "test_accuracy", "seconds")}
        rows.append(
            [
                name,
                max(run["steps"] for run in runs),
                f"{median['value']:.4f} ({min(run['value'] for run in runs):.4f} to "
                f"{max(run['value'] for run in runs):.4f})",
                f"{median['test_accuracy']:.4f}",
                f"{median['seconds']:.0f}",
            ]
        )
    report.table(["", "steps", "best validation accuracy: median (range)", "test accuracy, median", "s, median"], rows)


if __name__ == "__main__":
    main()
