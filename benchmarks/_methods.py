"""The contestants of a race: each proposes batches of points of the unit cube and is told their values.

A method is a function `(space, budget, q, seed) -> (ask, tell)`; `ask()` gives X [q, d] in the cube (NumPy) and
`tell(X, y)` takes values to be maximized. Peers run as their documentation shows them.
"""

import warnings
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

import bojax
from benchmarks._timing import has
from bojax import acquisition, surrogates
from bojax.loop._defaults import default_num_initial

Method = Callable[
    [bojax.Space, int, int, int], tuple[Callable[[], np.ndarray], Callable[[np.ndarray, np.ndarray], None]]
]


def random(space, budget, q, seed):
    """Uniform points."""
    rng = np.random.default_rng(seed)
    return lambda: np.asarray(space.round(rng.random((q, space.num_dims)))), lambda X, y: None


_ALGORITHMS: dict[Any, Any] = {}


def bojax_method(make: Callable[..., Any]) -> Method:
    """A bojax algorithm on the host, compiled once for each space and q; `make(space, q=...)` gives it."""

    def method(space, budget, q, seed):
        key = (make, space, q)
        if key not in _ALGORITHMS:
            _ALGORITHMS[key] = make(space, q=q)
        algorithm = _ALGORITHMS[key]
        X, y, count = np.zeros((0, space.num_dims)), np.zeros(0), [0]
        data = {"X": X, "y": y}
        with bojax.host_scope():
            start = algorithm.init(jax.random.key(seed))

        def ask():
            with bojax.host_scope():
                state = bojax.loop.restore(start, bojax.data.Told(data["X"], data["y"], X))
                count[0] += 1
                points, _, _ = algorithm.ask(jax.random.fold_in(jax.random.key(seed), count[0]), state)
                return np.asarray(points)

        def tell(points, values):
            data["X"], data["y"] = np.concatenate([data["X"], points]), np.concatenate([data["y"], values])

        return ask, tell

    return method


def botorch(space, budget, q, seed):
    """BoTorch: SingleTaskGP, qLogNEI, sequential greedy, a Sobol design of as many points as bojax's."""
    import torch
    from botorch.acquisition import qLogNoisyExpectedImprovement
    from botorch.optim import optimize_acqf
    from scipy.stats import qmc

    from benchmarks import _botorch

    if any(space.num_values):
        raise ValueError("this BoTorch set-up takes continuous spaces only")
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    d = space.num_dims
    initial = default_num_initial(d)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        design = qmc.Sobol(d, seed=seed).random(-(-initial // q) * q)
    data = {"X": np.zeros((0, d)), "y": np.zeros(0)}
    bounds = torch.stack([torch.zeros(d), torch.ones(d)]).double()

    def ask():
        n = len(data["X"])
        if n < initial:
            return design[n : n + q]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = _botorch.fit(data["X"], data["y"])
            rule = qLogNoisyExpectedImprovement(model, torch.from_numpy(data["X"]), prune_baseline=True)
            X, _ = optimize_acqf(rule, bounds, q=q, num_restarts=10, raw_samples=512, sequential=True)
        return X.detach().numpy()

    def tell(X, y):
        data["X"], data["y"] = np.concatenate([data["X"], X]), np.concatenate([data["y"], y])

    return ask, tell


def optuna_method(make: Callable[[int], Any]) -> Method:
    """A sampler of Optuna on the same space, asked q times before it is told."""

    def method(space, budget, q, seed):
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            study = optuna.create_study(sampler=make(seed), direction="maximize")
        distributions = {name: _distribution(optuna, p) for name, p in zip(space.names, space.parameters, strict=True)}
        open_trials = []

        def ask():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                open_trials[:] = [study.ask(distributions) for _ in range(q)]
            return np.stack([space.from_params(trial.params) for trial in open_trials])

        def tell(X, y):
            for trial, value in zip(open_trials, y, strict=True):
                study.tell(trial, float(value))

        return ask, tell

    return method


def study_method(space, budget, q, seed):
    """`bojax.Study`, as a user asks it."""
    study = bojax.Study(space, direction="maximize", seed=seed)
    open_trials = []

    def ask():
        open_trials[:] = study.ask(q)
        return np.stack([space.from_params(trial.params) for trial in open_trials])

    def tell(X, y):
        for trial, value in zip(open_trials, y, strict=True):
            study.tell(trial, float(value))

    return ask, tell


def _bojax_sampler(seed):
    from bojax.integrations.optuna import BojaxSampler

    return BojaxSampler(seed=seed)


def _distribution(optuna, parameter):
    if isinstance(parameter, bojax.Float):
        log, step = parameter.log and parameter.step is None, parameter.step
        return optuna.distributions.FloatDistribution(parameter.low, parameter.high, log=log, step=step)
    if isinstance(parameter, bojax.Int):
        return optuna.distributions.IntDistribution(
            parameter.low, parameter.high, log=parameter.log, step=parameter.step
        )
    choices = parameter.choices if isinstance(parameter, bojax.Categorical) else parameter.values
    return optuna.distributions.CategoricalDistribution(choices)


def cma(space, budget, q, seed):
    """CMA-ES of the package `cma` in the cube, from its center with a step of a quarter, q points a generation."""
    import cma as package

    size = q if q > 1 else 4 + int(3 * np.log(space.num_dims))
    options = {"bounds": [0, 1], "seed": seed + 1, "verbose": -9, "popsize": max(size, 2)}
    state = {"es": package.CMAEvolutionStrategy(space.num_dims * [0.5], 0.25, options), "queue": [], "X": [], "y": []}

    def ask():
        points = []
        while len(points) < q:
            if not state["queue"]:
                state["queue"] = list(state["es"].ask())
            points.append(state["queue"].pop(0))
        return np.asarray(space.round(np.stack(points)))

    def tell(X, y):
        state["X"] += list(X)
        state["y"] += list(-y)
        while len(state["X"]) >= options["popsize"]:
            size = options["popsize"]
            state["es"].tell(state["X"][:size], state["y"][:size])
            state["X"], state["y"] = state["X"][size:], state["y"][size:]

    return ask, tell


def _optuna_sampler(name):
    def make(seed):
        import optuna

        return getattr(optuna.samplers, name)(seed=seed)

    return make


def _ranked(kernel):
    """A Gaussian process of another kernel that sees bad values by their rank, as the default one does."""
    return surrogates.with_output_transform(surrogates.gp(kernel), surrogates.half_rank)


METHODS: dict[str, Method] = {
    "bojax": bojax_method(bojax.bayesopt),
    "bojax-study": study_method,
    "bojax-optuna": optuna_method(_bojax_sampler),
    "random": random,
    "tpe": optuna_method(_optuna_sampler("TPESampler")),
    "cma": cma,
    "optuna-gp": optuna_method(_optuna_sampler("GPSampler")),
    "botorch": botorch,
    "bojax-thompson": bojax_method(bojax.thompson),
    "bojax-turbo": bojax_method(bojax.turbo),
    "bojax-tpe": bojax_method(bojax.tpe),
    "bojax-sobol": bojax_method(bojax.sobol_search),
    "bojax-grid": bojax_method(bojax.grid_search),
    "bojax-nei": bojax_method(
        lambda space, q: bojax.bayesopt(space, q=q, acquisition=acquisition.batch_log_nei()._replace(noisy=False))
    ),
    "bojax-believer": bojax_method(
        lambda space, q: bojax.bayesopt(
            space, q=q, acquisition=acquisition.kriging_believer(acquisition.log_ei, in_logs=True)
        )
    ),
    "bojax-no-warp": bojax_method(lambda space, q: bojax.bayesopt(space, q=q, surrogate=surrogates.gp())),
    "bojax-noise": bojax_method(
        lambda space, q: bojax.bayesopt(space, q=q, surrogate=bojax.loop.default_surrogate(noisy=True))
    ),
    "bojax-rbf": bojax_method(lambda space, q: bojax.bayesopt(space, q=q, surrogate=_ranked(surrogates.rbf()))),
}
"""Every contestant by name."""

NEEDS = {"tpe": ("optuna",), "optuna-gp": ("optuna", "torch"), "cma": ("cma",), "botorch": ("torch", "botorch")}
"""Packages a contestant needs beside bojax."""


def missing(name: str) -> list[str]:
    """The packages a contestant lacks here."""
    return [package for package in NEEDS.get(name, ()) if not has(package)]
