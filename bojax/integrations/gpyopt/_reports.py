"""Reports and tables of evaluations, as files."""

import csv
import time
from typing import Any

import numpy as np

from bojax.integrations.gpyopt._campaign import Rows
from bojax.integrations.gpyopt._domain import Domain
from bojax.integrations.gpyopt._settings import Settings


def write_report(problem: Any, settings: Settings, domain: Domain, file: Any) -> None:
    """Writes the settings and the best point of a `BayesianOptimization` to a file, as text."""
    checked_file("report_file", file)
    values = problem.Y[:, 0]
    best = int(np.nanargmin(values)) if np.isfinite(values).any() else None
    lines = {
        "Problem": problem.objective_name,
        "Written": time.strftime("%Y-%m-%d %H:%M:%S"),
        "Variables": ", ".join(f"{name}" for name in domain.names),
        "Types": ", ".join(domain.types),
        "Evaluations": f"{len(values)}, of which {int(np.isnan(values).sum())} failed",
        "Iterations of the last run": problem.num_acquisitions,
        "Seconds of the last run": f"{problem.cum_time:.2f}",
        "Tolerance": problem.eps,
        "Model": problem.model_type,
        "Acquisition": problem.acquisition_type,
        "Evaluator": f"{problem.evaluator_type}, {settings.batch_size} points per iteration",
        "Exact values": settings.exact,
        "Threads": problem.num_cores,
        "Smallest value": "none" if best is None else repr(float(values[best])),
        "Its point": "none" if best is None else problem.X[best].tolist(),
    }
    width = max(map(len, lines)) + 2
    with open(file, "w", encoding="utf-8") as out:
        out.write("Bayesian optimization by bojax\n\n")
        out.writelines(f"{name + ':':<{width}}{value}\n" for name, value in lines.items())


def write_evaluations(rows: Rows, file: Any) -> None:
    """Writes the columns Iteration, Y, var_1, ..., separated by tabs."""
    checked_file("evaluations_file", file)
    with open(file, "w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out, delimiter="\t")
        writer.writerow(["Iteration", "Y", *(f"var_{k + 1}" for k in range(rows.X.shape[1]))])
        for i, (x, y) in enumerate(zip(rows.X.tolist(), rows.Y.tolist(), strict=True)):
            writer.writerow([i + 1, y, *x])


def checked_file(name: str, file: Any) -> None:
    """Raises TypeError where no file is given."""
    if file is None:
        raise TypeError(f"`{name}` must be the name of a file, got None.")
