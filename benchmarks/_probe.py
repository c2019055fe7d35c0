"""Runs in a fresh process: how long do an import and the first suggestions take? Used by `benchmarks.speed`.

Prints a line at each event; the parent process takes the time when a line arrives.
"""

import argparse
import importlib
import os
import subprocess
import sys
import time

START = time.perf_counter()
BUDGET = 60.0
"""Seconds after which a study ends: torch with its default threads can take 20 s a suggestion on a busy machine."""

NUM_DIMS = 4


def run(*arguments: str, store: str = "off") -> tuple[list[float], list[str]]:
    """Runs this file in a fresh process, with its compiled programs in a folder or, if it is "off", nowhere.

    Returns:
        When each of its lines came, in seconds from its start, and the lines.
    """
    from benchmarks._timing import ROOT

    env = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    if store != "off":
        os.makedirs(store, mode=0o700, exist_ok=True)
    command = [sys.executable, "-m", "benchmarks._probe", *arguments]
    start = time.perf_counter()
    with subprocess.Popen(
        command, cwd=ROOT, env={**env, "BOJAX_CACHE": store}, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        marks = [(time.perf_counter() - start, line.strip()) for line in process.stdout]
    if process.returncode or not marks:
        raise RuntimeError(f"`{' '.join(command)}` ended with {process.returncode}.")
    return [at for at, _ in marks], [line for _, line in marks]


def num_initial(num_dims: int) -> int:
    """The default size of bojax's initial design up to 15 dimensions; BoTorch gets as many points."""
    return max(3, num_dims + 1)


def imports(modules: list[str]) -> None:
    """Prints the seconds that importing takes, without the start of the interpreter."""
    start = time.perf_counter()
    for module in modules:
        importlib.import_module(module)
    print(time.perf_counter() - start, flush=True)


def objective(values) -> float:
    """Costs nothing; the smallest value is at 0.3."""
    return sum((float(value) - 0.3) ** 2 for value in values)


def bojax_study(num_trials: int, cache: str | None, num_dims: int, sleep: float, budget: float) -> None:
    """A study in memory, as a user writes it; prints the seconds of every `ask`."""
    import bojax

    print("imported", flush=True)
    if cache is not None:
        bojax.enable_compilation_cache(cache)
    study = bojax.Study(bojax.Space({f"x{i}": bojax.Float(0.0, 1.0) for i in range(num_dims)}), seed=0)
    for _ in range(num_trials):
        asked = time.perf_counter()
        trial = study.ask()[0]
        print("suggested", time.perf_counter() - asked, flush=True)
        time.sleep(sleep)
        study.tell(trial, objective(trial.params.values()))
        if time.perf_counter() - START > budget:
            break


def botorch_study(num_trials: int, threads: int, num_dims: int, budget: float) -> None:
    """The same loop with BoTorch's defaults."""
    import numpy as np
    import torch
    from botorch.utils.sampling import draw_sobol_samples

    from benchmarks import _botorch

    print("imported", flush=True)
    if threads:
        torch.set_num_threads(threads)
    torch.manual_seed(0)
    bounds = torch.stack([torch.zeros(num_dims), torch.ones(num_dims)]).double()
    design = draw_sobol_samples(bounds, n=num_initial(num_dims), q=1, seed=0)[:, 0].numpy()
    X, y = np.zeros((0, num_dims)), np.zeros(0)
    for i in range(num_trials):
        asked = time.perf_counter()
        x = design[i] if i < len(design) else _botorch.suggest(X, y)[0]
        print("suggested", time.perf_counter() - asked, flush=True)
        X, y = np.concatenate([X, x[None]]), np.append(y, -objective(x))
        if time.perf_counter() - START > budget:
            break


def main() -> None:
    """Runs what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["imports", "bojax", "botorch"])
    parser.add_argument("--modules", nargs="*", default=[])
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--cache")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--dims", type=int, default=NUM_DIMS)
    parser.add_argument("--sleep", type=float, default=0.0, help="seconds of every evaluation of bojax's study")
    parser.add_argument("--budget", type=float, default=BUDGET, help="seconds after which a study ends")
    args = parser.parse_args()
    if args.what == "imports":
        imports(args.modules)
    elif args.what == "bojax":
        bojax_study(args.trials, args.cache, args.dims, args.sleep, args.budget)
    else:
        botorch_study(args.trials, args.threads, args.dims, args.budget)


if __name__ == "__main__":
    main()
