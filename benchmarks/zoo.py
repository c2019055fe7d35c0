"""What the objectives of the zoo reach after tuning.

Run from the checkout: `python -m benchmarks.zoo [--only OBJECTIVE ...] [--num-seeds 3] [--json FILE]`.
"""

import statistics
import time
from typing import Any

from benchmarks._timing import Report, has, parser

OBJECTIVES = ("digits_mlp", "digits_cnn", "dates_seq2seq", "dates_transformer", "modular_transformer", "text_lm")
BARS = {
    "digits_mlp": ("test_accuracy", 0.97),
    "digits_cnn": ("test_accuracy", 0.985),
    "dates_seq2seq": ("test_exact_match", 0.95),
    "dates_transformer": ("test_exact_match", 0.95),
    "modular_transformer": ("validation_accuracy", 0.9),
}
ORDERS = (3, 5)  # of the n-gram models beside the language model


def tuned(name: str, *, num_trials: int, batch_size: int, num_seeds: int, seed: int, quick: bool) -> dict[str, Any]:
    """Tunes one objective; the best trial's metrics, the time and the programs it took."""
    import bojax
    import models

    objective = models.OBJECTIVES[name].with_num_steps(3) if quick else models.OBJECTIVES[name]
    start = time.perf_counter()
    result = bojax.tune(
        objective, num_trials=num_trials, batch_size=batch_size, num_seeds=num_seeds, seed=seed, progress=False
    )
    return {
        "objective": name,
        "seed": seed,
        "metric": objective.metric,
        "value": result.best_value,
        "metrics": result.best_trial.user_attrs,
        "params": result.best_params,
        "seconds": time.perf_counter() - start,
        "num_steps": objective.num_steps,
        "num_compilations": result.num_compilations,
    }


def ngrams(report: Report, quick: bool) -> None:
    """Bits per character of Kneser-Ney n-gram models on the text of `text_lm`."""
    from benchmarks._ngram import bits_per_character, fit
    from models.data.text import VOCABULARY, text_parts

    train, validation, test = text_parts()
    rows = []
    for order in ORDERS[:1] if quick else ORDERS:
        model = fit(train, order, VOCABULARY)
        bits = {"validation": bits_per_character(model, validation), "test": bits_per_character(model, test)}
        report.figure("ngram", order=order, **bits)
        rows.append([f"{order}-gram", *(f"{value:.3f}" for value in bits.values())])
    report.table(["Kneser-Ney", "validation, bits per character", "test"], rows)


def main(argv: list[str] | None = None) -> None:
    """Tunes every objective, and fits the n-gram models."""
    arguments = parser(__doc__, botorch=False)
    arguments.add_argument("--only", nargs="+", default=list(OBJECTIVES), help="objectives of the zoo")
    arguments.add_argument("--trials", type=int, default=40)
    arguments.add_argument("--batch-size", type=int, default=4)
    arguments.add_argument("--num-seeds", type=int, default=1, help="runs of every configuration")
    arguments.add_argument("--study-seeds", nargs="+", type=int, default=[0])
    args = arguments.parse_args(argv)
    report = Report("benchmarks.zoo", args)
    if not has("flax", "optax", "sklearn"):
        report.note("Nothing to measure: it needs flax, optax and scikit-learn, which bojax depends on.")
        return
    num_trials = 4 if args.quick else args.trials
    report.section(
        f"Best of {num_trials} trials, in batches of {args.batch_size}, {args.num_seeds} runs of each",
        "The best trial is that with the best validation metric; the test part is reported only.",
    )
    rows = []
    for name in args.only[:1] if args.quick else args.only:
        shown, bar = BARS.get(name, ("", None))
        runs = []
        for seed in args.study_seeds:
            run = tuned(
                name,
                num_trials=num_trials,
                batch_size=args.batch_size,
                num_seeds=args.num_seeds,
                seed=seed,
                quick=args.quick,
            )
            report.figure("tuned", **run)
            runs.append(run)
        shown = shown or runs[0]["metric"].replace("validation_", "test_")
        reached = [run["metrics"][shown] for run in runs]
        rows.append(
            [
                name,
                ", ".join(f"{run['value']:.4f}" for run in runs),
                shown,
                ", ".join(f"{value:.4f}" for value in reached),
                "" if bar is None else f"{bar}: {'met' if statistics.median(reached) >= bar else 'missed'}",
                ", ".join(f"{run['seconds']:.0f}" for run in runs),
                runs[0]["num_compilations"],
            ]
        )
    report.table(["objective", "best validation value", "metric", "its value", "bar", "s", "programs"], rows)
    if "text_lm" in args.only or args.quick:
        ngrams(report, args.quick)


if __name__ == "__main__":
    main()
