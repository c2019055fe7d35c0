"""Figures of a study (matplotlib, imported when first needed)."""

import os
from typing import Any

import numpy as np

from bojax.study._study import Study


def plot_trajectory(study: Study, target: Any = None) -> Any:
    """Draws each value over the trial numbers, the best value so far, and where evaluations failed.

    Args:
        study: the study.
        target: a file to write, matplotlib axes to draw on, or None for new axes.

    Returns:
        The axes.

    Raises:
        ImportError: matplotlib is not installed.
    """
    axes, finish = _open_target(target)
    trials = study.trials
    complete = [t for t in trials if t.state == "complete"]
    failed = [t.number for t in trials if t.state in ("fail", "pruned")]
    numbers, values = [t.number for t in complete], np.array([t.value for t in complete], float)
    if len(values):
        best = np.maximum.accumulate(values) if study.direction == "maximize" else np.minimum.accumulate(values)
        axes.plot(numbers, values, "o", color="tab:blue", alpha=0.5, label="value")
        axes.step(numbers, best, where="post", color="tab:orange", label="best so far")
    if failed:
        # On the lower edge of the axes: a failed evaluation has no value.
        axes.plot(
            failed,
            np.zeros(len(failed)),
            "x",
            color="tab:red",
            label="failed",
            transform=axes.get_xaxis_transform(),
            clip_on=False,
        )
    axes.set_xlabel("trial")
    axes.set_ylabel(f"value ({study.direction})")
    axes.set_title(study.name)
    if len(values) or failed:
        axes.legend()
    finish()
    return axes


def _pyplot() -> Any:
    try:
        from matplotlib import figure
    except ImportError as error:
        raise ImportError("matplotlib is needed: pip install matplotlib") from error
    return figure


def _open_target(target: Any) -> tuple[Any, Any]:
    """Axes to draw on and what to call when the drawing is done."""
    if target is not None and not isinstance(target, str | os.PathLike):
        return target, lambda: None
    figure = _pyplot().Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    return axes, (lambda: None) if target is None else lambda: figure.savefig(target, dpi=150)
