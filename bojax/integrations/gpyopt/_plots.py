"""Figures of a `BayesianOptimization`, by matplotlib, which is imported when it is first needed."""

from typing import Any

import numpy as np
from scipy.special import ndtr

from bojax.integrations.gpyopt._algorithms import JITTER, WEIGHT
from bojax.integrations.gpyopt._settings import Settings
from bojax.space import Float

GRID_1D, GRID_2D = 401, 51
"""Points per axis at which the model is drawn."""


def convergence(X: np.ndarray, best: np.ndarray, filename: Any) -> Any:
    """Distances between consecutive rows of X [n, d], and the best values so far [n]; returns the two axes."""
    plt = _pyplot()
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    distances = np.linalg.norm(np.diff(X, axis=0), axis=1)
    axes[0].plot(np.arange(1, len(X)), distances, "o-", color="tab:red")
    axes[0].set(xlabel="evaluation", ylabel="distance to the one before", title="Distance between consecutive points")
    axes[1].plot(np.arange(len(best)), best, "o-")
    axes[1].set(xlabel="evaluation", ylabel="best value", title="Best value so far")
    _finish(plt, figure, filename)
    return axes


def acquisition(problem: Any, settings: Settings, filename: Any, label_x: str | None, label_y: str | None) -> Any:
    """The model and the acquisition of a `BayesianOptimization` in one or two continuous columns."""
    parameters = [problem.space[name] for name in problem.space.names]
    if (
        len(parameters) > 2
        or problem.X.shape[1] != len(parameters)
        or not all(isinstance(p, Float) for p in parameters)
    ):
        raise ValueError(
            "`domain` must have one or two continuous columns for `plot_acquisition`, "
            f"got {len(parameters)} columns. Use `plot_convergence`."
        )
    plt = _pyplot()
    draw = _draw_line if len(parameters) == 1 else _draw_plane
    figure, axes = draw(plt, problem, settings, label_x, label_y)
    _finish(plt, figure, filename)
    return axes


def _draw_line(plt: Any, problem: Any, settings: Settings, label_x: str | None, label_y: str | None) -> Any:
    (parameter,) = problem.space.parameters
    grid = np.linspace(parameter.low, parameter.high, GRID_1D)
    mean, std = (column[:, 0] for column in problem.predict(grid[:, None]))
    utility = _utility(problem, settings, mean, std)
    figure, axes = plt.subplots(2, 1, figsize=(8, 6), sharex=True, layout="constrained", height_ratios=(2, 1))
    axes[0].fill_between(grid, mean - 2 * std, mean + 2 * std, alpha=0.25, label="two standard deviations")
    axes[0].plot(grid, mean, label="mean")
    axes[0].plot(problem.X[:, 0], problem.Y[:, 0], "o", color="tab:red", markersize=4, label="evaluations")
    axes[1].plot(grid, utility, color="tab:red", label="acquisition")
    for k, x in enumerate(problem.suggest_next_locations()[:, 0]):
        for each in axes:
            each.axvline(x, color="tab:gray", linestyle="--", label=None if k else "next")
    axes[0].set_ylabel(label_y or "f(x)")
    axes[1].set(xlabel=label_x or "x", ylabel="acquisition, scaled")
    axes[0].legend()
    return figure, axes


def _draw_plane(plt: Any, problem: Any, settings: Settings, label_x: str | None, label_y: str | None) -> Any:
    a, b = (np.linspace(p.low, p.high, GRID_2D) for p in problem.space.parameters)
    points = np.stack(np.meshgrid(a, b), axis=-1).reshape(-1, 2)
    mean, std = (column[:, 0] for column in problem.predict(points))
    utility = _utility(problem, settings, mean, std)
    figure, axes = plt.subplots(1, 3, figsize=(15, 4.5), layout="constrained")
    suggested = problem.suggest_next_locations()
    titles = ("Mean", "Standard deviation", "Acquisition, scaled")
    for each, values, title in zip(axes, (mean, std, utility), titles, strict=True):
        figure.colorbar(each.contourf(a, b, values.reshape(GRID_2D, GRID_2D), levels=50), ax=each)
        each.plot(problem.X[:, 0], problem.X[:, 1], "o", color="tab:red", markersize=3)
        each.plot(suggested[:, 0], suggested[:, 1], "D", color="tab:pink", markersize=5)
        each.set(xlabel=label_x or "X1", ylabel=label_y or "X2", title=title)
    return figure, axes


def _utility(problem: Any, settings: Settings, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """[k] the acquisition of single points, scaled to [0, 1]."""
    options, scale = dict(settings.options), float(np.nanstd(problem.Y)) or 1.0
    best = -float(np.min(problem.predict(problem.X)[0])) + options.get("acquisition_jitter", JITTER) * scale
    gain = -mean - best
    z = gain / np.maximum(std, 1e-12 * scale)
    match settings.acquisition:
        case "LCB":
            values = options.get("acquisition_weight", WEIGHT) * std - mean
        case "EI":
            values = gain * ndtr(z) + std * np.exp(-0.5 * z**2) / np.sqrt(2.0 * np.pi)
        case _:
            values = ndtr(z)
    span = np.ptp(values)
    return (values - values.min()) / span if span > 0 else np.zeros_like(values)


def _pyplot() -> Any:
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError("matplotlib is needed: pip install 'bojax[plots]'") from error
    return pyplot


def _finish(plt: Any, figure: Any, filename: Any) -> None:
    """Writes the figure to a file, or shows it where there is a display."""
    if filename is not None:
        figure.savefig(filename, dpi=150)
        plt.close(figure)
    elif plt.get_backend().lower() in ("agg", "cairo", "pdf", "pgf", "ps", "svg", "template"):
        plt.close(figure)
    else:
        plt.show()
