"""Runs in a fresh process: how long do an import and the first suggestions take? Used by `benchmarks.speed`.

Prints a line at each event; the parent process takes the time when a line arrives.
"""

import argparse
import importlib
import time

START = time.perf_counter()
BUDGET = 60.0
"""Seconds after which a study ends: torch with its default threads can take 20 s a suggestion on a busy machine."""

NUM_DIMS = 4
NUM_INITIAL = 6
"""The default size of bojax's initial design in four dimensions; BoTorch gets as many points."""


def imports(modules: list[str]) -> None:
    """Prints the seconds that importing takes, without the start of the interpreter."""
    start = time.perf_counter()
    for module in modules:
        importlib.import_module(module)
    print(time.perf_counter() - start, flush=True)


def objective(values) -> float:
    """Costs nothing; the smallest value is at 0.3."""
    return sum((float(value) - 0.3) ** 2 for value in values)


def bojax_study(num_trials: int, cache: str | None) -> None:
    """A study in memory, as a user writes it."""
    import bojax

    print("imported", flush=True)
    if cache is not None:
        bojax.enable_compilation_cache(cache)
    study = bojax.Study(bojax.Space({f"x{i}": bojax.Float(0.0, 1.0) for i in range(NUM_DIMS)}), seed=0)
    for _ in range(num_trials):
        trial = study.ask()[0]
        print("suggested", flush=True)
        study.tell(trial, objective(trial.params.values()))
        if time.perf_counter() - START > BUDGET:
            break


def botorch_study(num_trials: int, threads: int) -> None:
    """The same loop with BoTorch's defaults."""
    import numpy as np
    import torch
    from botorch.utils.sampling import draw_sobol_samples

    from benchmarks import _botorch

    print("imported", flush=True)
    if threads:
        torch.set_num_threads(threads)
    torch.manual_seed(0)
    bounds = torch.stack([torch.zeros(NUM_DIMS), torch.ones(NUM_DIMS)]).double()
    design = draw_sobol_samples(bounds, n=NUM_INITIAL, q=1, seed=0)[:, 0].numpy()
    X, y = np.zeros((0, NUM_DIMS)), np.zeros(0)
    for i in range(num_trials):
        x = design[i] if i < NUM_INITIAL else _botorch.suggest(X, y)[0]
        print("suggested", flush=True)
        X, y = np.concatenate([X, x[None]]), np.append(y, -objective(x))
        if time.perf_counter() - START > BUDGET:
            break


def main() -> None:
    """Runs what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["imports", "bojax", "botorch"])
    parser.add_argument("--modules", nargs="*", default=[])
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--cache")
    parser.add_argument("--threads", type=int, default=0)
    args = parser.parse_args()
    if args.what == "imports":
        imports(args.modules)
    elif args.what == "bojax":
        bojax_study(args.trials, args.cache)
    else:
        botorch_study(args.trials, args.threads)


if __name__ == "__main__":
    main()
