"""Figures of a study, by matplotlib, which is imported when it is first needed."""

import dataclasses
import math
import os
from typing import Any

import numpy as np

from bojax._errors import StudyError
from bojax.space import Categorical, Float, Int, Ordinal, Space
from bojax.study._study import Study

_MAX_POINTS = 101
"""Most points of a slice along one parameter."""

_MAX_TICKS, _MAX_CHOICES, _MAX_LABEL, _ROW_LENGTH = 6, 20, 20, 32
"""What fits: ticks of numbers, ticks of choices, characters of a label, and characters of all labels in a row."""


def plot_trajectory(study: Study, target: Any = None) -> Any:
    """Draws the values over the trial numbers, the best value so far, and the failed trials.

    Args:
        study: the study.
        target: a file to write, matplotlib axes to draw on, or None for new axes.

    Returns:
        The axes.

    Raises:
        ImportError: matplotlib is not installed.

    Example:
        >>> import bojax
        >>> study = bojax.Study(bojax.Space(x=bojax.Float(0.0, 1.0)), seed=0)
        >>> _ = study.add({"x": 0.5}, 1.0)
        >>> plot_trajectory(study).get_ylabel()
        'value (minimize)'
    """
    is_file = target is None or isinstance(target, str | os.PathLike)
    axes: Any = _new_figure(6.4, 4.0).subplots() if is_file else target
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
        style: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "clip_on": False}
        axes.plot(failed, np.zeros(len(failed)), "x", color="tab:red", label="failed", **style)
    axes.set_xlabel("trial")
    axes.set_ylabel(f"value ({study.direction})")
    axes.set_title(study.name)
    if len(values) or failed:
        axes.legend()
    _whole_numbers(axes.xaxis)
    if is_file and target is not None:
        axes.figure.savefig(target, dpi=150)
    return axes


def plot_slices(study: Study, target: Any = None) -> Any:
    """Draws the predictions of the algorithm's surrogate along each parameter, all others fixed at the best trial.

    The line is the predicted mean of the noise-free objective, the band two standard deviations around it (see
    `Study.predict`). Dots are the complete trials. Their other parameters differ, so they need not lie in the band.

    Args:
        study: a study with at least two complete trials.
        target: a file to write, or None.

    Returns:
        An array of axes [d].

    Raises:
        ImportError: matplotlib is not installed.
        StudyError: fewer than two trials are complete.

    Example:
        >>> import bojax
        >>> study = bojax.Study(bojax.Space(x=bojax.Float(0.0, 1.0)), seed=0)
        >>> study.optimize(lambda params: params["x"], num_trials=4, progress=False)
        >>> [axes.get_xlabel() for axes in plot_slices(study)]
        ['x']
    """
    best_params = study.best_params
    names = study.space.active_names(best_params)
    best = {name: best_params[name] for name in names}
    complete = [t for t in study.trials if t.state == "complete" and study.space.is_complete(t.params)]
    if len(complete) < 2:
        raise StudyError(f"the study {study.name!r} has fewer than two complete trials, too few to predict from.")
    columns = [_slice_values(study.space[name]) for name in names]
    pairs = zip(names, columns, strict=True)
    means, stds = study.predict([_with(study.space, best, name, value) for name, values in pairs for value in values])
    num_dims, edges = len(columns), np.cumsum([len(values) for values in columns])[:-1]
    num_columns = min(num_dims, 3)
    num_rows = -(-num_dims // num_columns)
    figure = _new_figure(3.6 * num_columns, 2.8 * num_rows)
    grid = figure.subplots(num_rows, num_columns, sharey=True, squeeze=False)
    for axes in grid.flat[num_dims:]:
        axes.set_visible(False)
    for axes, name, values, mean, std in zip(
        grid.flat, names, columns, np.split(means, edges), np.split(stds, edges), strict=False
    ):
        _draw_slice(axes, study, name, np.array([_place(study, name, value) for value in values]), mean, std)
        having = [trial for trial in complete if name in trial.params]
        places = [_place(study, name, trial.params[name]) for trial in having]
        axes.plot(places, [trial.value for trial in having], ".", color="tab:gray", alpha=0.6, zorder=1)
    for axes in grid[:, 0]:
        axes.set_ylabel(f"value ({study.direction})")
    figure.suptitle(f"{study.name}: slices through trial {study.best_trial.number}")
    if target is not None:
        figure.savefig(target, dpi=150)
    return grid.flat[:num_dims]


def _with(space: Space, params: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
    """The parameters with another value of one; those that exist only then have the middle of their range."""
    x = space.coordinates_of({**params, name: value})
    return space.to_params(np.where(np.isnan(x), 0.5, x))


def _slice_values(parameter: Any) -> list[Any]:
    """Values of a parameter at which its slice is drawn: evenly spaced on its scale, or all of a few discrete ones."""
    if isinstance(parameter, Float) and not parameter.num_values:
        line = Space({"value": dataclasses.replace(parameter, when=None)})
        return [line.to_params(np.array([u]))["value"] for u in np.linspace(0.0, 1.0, _MAX_POINTS)]
    num_values = parameter.num_values
    positions = np.unique(np.linspace(0, num_values - 1, min(num_values, _MAX_POINTS)).round().astype(int))
    return [parameter.value(int(position)) for position in positions]


def _place(study: Study, name: str, value: Any) -> float:
    """Where a value is on its axis: a number at itself, a choice or an ordinal value at its position."""
    parameter = study.space[name]
    if isinstance(parameter, Categorical):
        value = parameter.choices.index(value)
    elif isinstance(parameter, Ordinal):
        value = parameter.values.index(value)
    return float(value)


def _draw_slice(axes: Any, study: Study, name: str, at: np.ndarray, mean: np.ndarray, std: np.ndarray) -> None:
    parameter = study.space[name]
    if isinstance(parameter, Float | Int):
        axes.plot(at, mean, color="tab:blue")
        axes.fill_between(at, mean - 2.0 * std, mean + 2.0 * std, color="tab:blue", alpha=0.2, linewidth=0.0)
        _set_scale(axes, parameter)
    else:
        axes.errorbar(at, mean, yerr=2.0 * std, fmt="o", color="tab:blue", capsize=3.0)
        labels = parameter.choices if isinstance(parameter, Categorical) else parameter.values
        _set_choices(axes, [str(label) for label in labels])
    axes.axvline(_place(study, name, study.best_params[name]), color="tab:orange", linewidth=1.0)
    axes.set_xlabel(name)


def _set_scale(axes: Any, parameter: Float | Int) -> None:
    """Few ticks with plain labels; whole numbers for an `Int`."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    if not parameter.log:
        if isinstance(parameter, Int):
            _whole_numbers(axes.xaxis)
        return
    axes.set_xscale("log")
    # Matplotlib labels minor ticks where a range has few powers of ten, and then they overlap.
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_locator(FixedLocator(_log_ticks(parameter.low, parameter.high, isinstance(parameter, Int))))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick_label(value)))


def _log_ticks(low: float, high: float, whole: bool) -> list[float]:
    """Up to six round numbers in a range on a log scale; its ends and its middle where fewer than three are round."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for digits in ((1,), (1, 3), (1, 2, 5), tuple(range(1, 10))):
        ticks = [float(f"{digit}e{power}") for power in range(first, last + 1) for digit in digits]
        ticks = [tick for tick in ticks if low <= tick <= high and not (whole and tick % 1)]
        if len(ticks) >= 3:
            break
    if len(ticks) < 3:
        ticks = list(np.linspace(low, high, 3))
        ticks = sorted({float(round(tick)) for tick in ticks}) if whole else ticks
    return ticks[:: -(-len(ticks) // _MAX_TICKS)]


def _tick_label(value: float) -> str:
    text = f"{value:.6g}"
    return text if float(text) == value else str(float(value)).removesuffix(".0")


def _set_choices(axes: Any, labels: list[str]) -> None:
    """A tick for each choice, or for some where there are many, with labels that do not overlap."""
    step = -(-len(labels) // _MAX_CHOICES)
    shown = [_shortened(label) for label in labels[::step]]
    if len(set(shown)) < len(shown):
        shown = labels[::step]
    axes.set_xticks(range(0, len(labels), step), shown)
    if sum(map(len, shown)) > _ROW_LENGTH:
        axes.tick_params(axis="x", labelrotation=90.0)


def _shortened(label: str) -> str:
    half = _MAX_LABEL // 2
    return label if len(label) <= _MAX_LABEL else f"{label[: half - 2]}...{label[1 - half :]}"


def _whole_numbers(axis: Any) -> None:
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(nbins=_MAX_TICKS, integer=True, min_n_ticks=1))


def _new_figure(width: float, height: float) -> Any:
    """A figure made without pyplot, which would need a display and keep the figure alive."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("matplotlib is needed: pip install matplotlib") from error
    return Figure(figsize=(width, height), layout="constrained")
