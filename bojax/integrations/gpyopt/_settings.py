"""GPyOpt's choices of model, acquisition and evaluator, checked.

What is unknown is an error, and what has no effect gives a warning.
"""

import math
import numbers
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from bojax._errors import BojaxWarning
from bojax._plain import plain

MODELS = ("GP", "GP_MCMC", "sparseGP", "input_warped_GP", "RF")
ACQUISITIONS = ("EI", "MPI", "LCB", "EI_MCMC", "MPI_MCMC", "LCB_MCMC")
EVALUATORS = ("sequential", "random", "local_penalization", "thompson_sampling")
DESIGNS = ("random", "latin", "sobol", "grid")

OPTIONS = {
    "acquisition_jitter": "by the acquisitions 'EI' and 'MPI' of Gaussian processes, without Thompson sampling",
    "acquisition_weight": "by the acquisition 'LCB' without Thompson sampling",
    "noise_var": "by Gaussian processes, unless `exact_feval` is set",
    "num_inducing": "by the model 'sparseGP'",
    "optimize_restarts": "by Gaussian processes",
    "max_iters": "by Gaussian processes",
    "n_samples": "by the model 'GP_MCMC'",
    "n_burnin": "by the model 'GP_MCMC'",
    "subsample_interval": "by the model 'GP_MCMC'",
    "objective_name": "",
}
"""Further arguments, and when they are used."""
IGNORED = {
    "ARD": "every model has one lengthscale per dimension",
    "step_size": "the sampler chooses its steps itself",
    "leapfrog_steps": "the sampler chooses its steps itself",
    "model_optimizer_type": "fits use a quasi-Newton method",
    "acquisition_transformation": "utilities are logarithms",
    "input_warping_function_type": "the input warping is Kumaraswamy's",
}
"""Further arguments that change nothing unless they have one of the values in `FITTING`, and why."""
FITTING = {
    "ARD": (True,),
    "model_optimizer_type": ("lbfgs",),
    "acquisition_transformation": ("none",),
    "input_warping_function_type": ("kumar_warping",),
}
REPLACED = {
    "kernel": "Use bojax.Study with an `algorithm` whose surrogate has a kernel of your own.",
    "model": "Choose by `model_type`, or use bojax.Study with an algorithm of your own.",
    "acquisition": "Choose by `acquisition_type`, or use bojax.Study with an algorithm of your own.",
}


class Settings(NamedTuple):
    """What determines the algorithm; hashable.

    Attributes:
        model: one of `MODELS`.
        acquisition: "EI", "MPI" or "LCB".
        evaluator: one of `EVALUATORS`; "sequential" for batches of one.
        batch_size: number of points of one iteration.
        exact: whether values have no noise.
        standardized: whether `noise_var` is in units of the values' variance.
        repeats: whether a point may be evaluated again.
        with_cost: whether costs are learned.
        options: further arguments by name.
    """

    model: str
    acquisition: str
    evaluator: str
    batch_size: int
    exact: bool
    standardized: bool
    repeats: bool
    with_cost: bool
    options: tuple[tuple[str, Any], ...]


def read_settings(given: Mapping[str, Any], options: Mapping[str, Any]) -> Settings:
    """The checked settings.

    Args:
        given: the named arguments of `BayesianOptimization`.
        options: its further keyword arguments.

    Raises:
        TypeError: an argument has the wrong type, or is unknown.
        ValueError: an argument has an unknown value, or two do not fit together.
    """
    model = chosen("model_type", given["model_type"], MODELS)
    name = (
        "EI"
        if given["acquisition_type"] is None
        else chosen("acquisition_type", given["acquisition_type"], ACQUISITIONS)
    )
    if name.endswith("_MCMC") and model != "GP_MCMC":
        raise ValueError(f"`model_type` must be 'GP_MCMC' with acquisition_type={name!r}, got {model!r}.")
    batch_size = whole("batch_size", given["batch_size"], 1)
    named = "random" if given["evaluator_type"] is None else given["evaluator_type"]
    evaluator = chosen("evaluator_type", named, EVALUATORS)
    if evaluator == "sequential" and batch_size > 1:
        warn(f"`batch_size`={batch_size} has no effect with evaluator_type='sequential', which evaluates single points")
    evaluator = evaluator if batch_size > 1 else "sequential"
    chosen("acquisition_optimizer_type", given["acquisition_optimizer_type"], ("lbfgs",))
    cost = given["cost_withGradients"]
    if not (cost is None or cost == "evaluation_time" or callable(cost)):
        raise TypeError(f"`cost_withGradients` must be a function, 'evaluation_time' or None, got {cost!r}.")
    acquisition = name.removesuffix("_MCMC")
    if cost is not None and (acquisition == "LCB" or evaluator == "thompson_sampling"):
        which = "acquisition_type='LCB'" if acquisition == "LCB" else "evaluator_type='thompson_sampling'"
        raise ValueError(f"`cost_withGradients` must be None with {which}: only an improvement is divided by the cost.")
    flags = {flag: is_flag(flag, given[flag]) for flag in ("exact_feval", "normalize_Y", "de_duplication")}
    settings = Settings(
        model=model,
        acquisition=acquisition,
        evaluator=evaluator,
        batch_size=1 if evaluator == "sequential" else batch_size,
        exact=flags["exact_feval"],
        standardized=flags["normalize_Y"],
        repeats=not flags["de_duplication"],
        with_cost=cost is not None,
        options=tuple(sorted(_options(options).items())),
    )
    _check_together(settings)
    _warn_of_unused(settings, given)
    return settings


def _options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The further arguments that have an effect, checked."""
    found = {}
    for name, value in options.items():
        value = plain(value)
        if name in REPLACED:
            if value is not None:
                raise TypeError(
                    f"`{name}` must be left out, got {value!r}: objects of GPy and GPyOpt are not used. "
                    f"{REPLACED[name]}"
                )
        elif name in IGNORED:
            if value not in FITTING.get(name, ()):
                warn(f"`{name}`={value!r} has no effect: {IGNORED[name]}")
        elif name not in OPTIONS:
            raise TypeError(
                f"BayesianOptimization must be given no arguments but its own and {sorted(OPTIONS)}, got {name!r}."
            )
        elif name == "objective_name":
            found[name] = str(value)
        elif name in ("acquisition_jitter", "acquisition_weight", "noise_var"):
            if name != "noise_var" or value is not None:
                found[name] = number(name, value, 0.0)
        else:
            found[name] = whole(name, value, 1)
    return found


def _check_together(settings: Settings) -> None:
    if settings.model == "RF" and settings.acquisition != "EI":
        raise ValueError(f"`acquisition_type` must be 'EI' with model_type='RF', got {settings.acquisition!r}.")
    if settings.model == "RF" and settings.with_cost:
        raise ValueError("`cost_withGradients` must be None with model_type='RF', whose acquisition knows no cost.")
    if settings.evaluator == "thompson_sampling" and settings.model not in ("GP", "input_warped_GP"):
        raise ValueError(
            f"`model_type` must be 'GP' or 'input_warped_GP' with Thompson sampling, got {settings.model!r}: "
            "only these draw whole functions."
        )


def _warn_of_unused(settings: Settings, given: Mapping[str, Any]) -> None:
    options, by_draws = dict(settings.options), settings.evaluator == "thompson_sampling"
    forest = settings.model == "RF"
    used = {
        "acquisition_jitter": settings.acquisition != "LCB" and not by_draws and not forest,
        "acquisition_weight": settings.acquisition == "LCB" and not by_draws,
        "noise_var": not settings.exact and not forest,
        **dict.fromkeys(("optimize_restarts", "max_iters"), not forest),
        "num_inducing": settings.model == "sparseGP",
        **dict.fromkeys(("n_samples", "n_burnin", "subsample_interval"), settings.model == "GP_MCMC"),
    }
    for name in options:
        if not used.get(name, True):
            warn(f"`{name}`={options[name]!r} has no effect: it is used {OPTIONS[name]}")
    if by_draws and settings.acquisition != "EI":
        warn(f"`acquisition_type`={given['acquisition_type']!r} has no effect with evaluator_type='thompson_sampling'")
    if forest and settings.exact:
        warn("`exact_feval`=True has no effect with model_type='RF': a forest averages values that are close")
    if not settings.standardized:
        warn("`normalize_Y`=False changes only the units of `noise_var`: the model standardizes the values it sees")
    if whole("model_update_interval", given["model_update_interval"], 1) > 1:
        warn("`model_update_interval` has no effect: the model is fitted to all results before each suggestion")
    if is_flag("verbosity_model", given["verbosity_model"]):
        warn("`verbosity_model` has no effect: fits print nothing")


def chosen(name: str, value: Any, known: Sequence[str]) -> str:
    """One of the known values, or a ValueError that lists them."""
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"`{name}` must be one of {list(known)}, got {value!r}.")
    return value


def whole(name: str, value: Any, lowest: int) -> int:
    """A whole number of at least `lowest`, or an error that names the argument."""
    value = plain(value)
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < lowest:
        raise ValueError(f"`{name}` must be a whole number of at least {lowest}, got {value!r}.")
    return int(value)


def number(name: str, value: Any, lowest: float) -> float:
    """A finite number of at least `lowest`, or an error that names the argument."""
    value = plain(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"`{name}` must be a number of at least {lowest}, got {value!r}.")
    if not (math.isfinite(value) and value >= lowest):
        raise ValueError(f"`{name}` must be a finite number of at least {lowest}, got {value!r}.")
    return float(value)


def seed_of(value: Any) -> int:
    """The seed, checked; drawn from NumPy's global generator if there is none."""
    seed = int(np.random.randint(2**31)) if value is None else whole("seed", value, 0)
    if seed >= 2**32:
        raise ValueError(f"`seed` must be below 2**32, got {seed}.")
    return seed


def is_flag(name: str, value: Any) -> bool:
    """A bool, or a TypeError that names the argument."""
    value = plain(value)
    if not isinstance(value, bool):
        raise TypeError(f"`{name}` must be True or False, got {value!r}.")
    return value


def warn(text: str) -> None:
    """Warns the caller of the package."""
    warnings.warn(f"{text}.", BojaxWarning, stacklevel=4)
