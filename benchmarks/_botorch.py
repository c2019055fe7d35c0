"""The peer: BoTorch as its tutorials use it, in float64 on the CPU.

`SingleTaskGP` with its default kernel, priors and outcome standardization, `fit_gpytorch_mll`, `LogExpectedImprovement`
and `optimize_acqf`. Points live in the unit cube and values are maximized, as in bojax.
"""

import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from botorch.acquisition import LogExpectedImprovement, qLogExpectedImprovement
from botorch.fit import fit_gpytorch_mll
from botorch.models import SingleTaskGP
from botorch.optim import optimize_acqf
from gpytorch.kernels import MaternKernel, ScaleKernel
from gpytorch.means import ConstantMean
from gpytorch.mlls import ExactMarginalLogLikelihood

DEFAULT_THREADS = torch.get_num_threads()


def fit(X: np.ndarray, y: np.ndarray) -> SingleTaskGP:
    """A fitted model of values y [n] at points X [n, d]."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = SingleTaskGP(torch.from_numpy(X), torch.from_numpy(y)[:, None])
        fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
    return model


def maximize(model: Any, best_f: float, num_dims: int, *, num_restarts: int, raw_samples: int) -> np.ndarray:
    """The point [d] of the unit cube where the log expected improvement over `best_f` is largest."""
    bounds = torch.stack([torch.zeros(num_dims), torch.ones(num_dims)]).double()
    acquisition = LogExpectedImprovement(model, best_f=best_f)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        x, _ = optimize_acqf(acquisition, bounds, q=1, num_restarts=num_restarts, raw_samples=raw_samples)
    return x.detach().numpy()[0]


def maximize_batch(model: Any, best_f: float, num_dims: int, *, q: int, num_restarts: int, raw_samples: int):
    """q points [q, d] by sequential greedy maximization of the joint log expected improvement (512 samples)."""
    bounds = torch.stack([torch.zeros(num_dims), torch.ones(num_dims)]).double()
    acquisition = qLogExpectedImprovement(model, best_f=best_f)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        X, _ = optimize_acqf(
            acquisition, bounds, q=q, num_restarts=num_restarts, raw_samples=raw_samples, sequential=True
        )
    return X.detach().numpy()


def suggest_batch(X: np.ndarray, y: np.ndarray, *, q: int, num_restarts: int = 10, raw_samples: int = 512):
    """The next q points [q, d], fit included."""
    model = fit(X, y)
    size = {"q": q, "num_restarts": num_restarts, "raw_samples": raw_samples}
    return maximize_batch(model, float(y.max()), X.shape[1], **size)


def suggest(X: np.ndarray, y: np.ndarray, *, num_restarts: int = 10, raw_samples: int = 512):
    """The next point [d], and the seconds of the fit and of the acquisition."""
    start = time.perf_counter()
    model = fit(X, y)
    fitted = time.perf_counter()
    x = maximize(model, float(y.max()), X.shape[1], num_restarts=num_restarts, raw_samples=raw_samples)
    return x, fitted - start, time.perf_counter() - fitted


def study(f: Callable[[np.ndarray], np.ndarray], X: np.ndarray, num_steps: int, seed: int):
    """A study of `num_steps` evaluations that starts from the initial design X [k, d].

    Returns:
        The values [num_steps], the seconds of all of it but the first `len(X)` evaluations, and the processor time
        over these seconds.
    """
    torch.manual_seed(seed)
    y = f(X)
    start, busy = time.perf_counter(), time.process_time()
    while len(y) < num_steps:
        x = suggest(X, y)[0]
        X, y = np.concatenate([X, x[None]]), np.concatenate([y, f(x[None])])
    seconds = time.perf_counter() - start
    return y, seconds, (time.process_time() - busy) / seconds


def same_gp(X, y, *, lengthscale, outputscale, noise_var, mean) -> SingleTaskGP:
    """A GPyTorch model with the Matern-5/2 kernel and the hyperparameters of a bojax posterior.

    Args:
        X: [n, d] points.
        y: [n] standardized values.
        lengthscale: [d], outputscale, noise_var, mean: scalars, in standardized units.
    """
    kernel = ScaleKernel(MaternKernel(nu=2.5, ard_num_dims=X.shape[1]))
    values = torch.from_numpy(y)[:, None]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = SingleTaskGP(
            torch.from_numpy(X),
            values,
            train_Yvar=torch.full_like(values, noise_var),
            covar_module=kernel,
            mean_module=ConstantMean(),
            outcome_transform=None,
        )
    kernel.base_kernel.lengthscale = torch.from_numpy(np.array(lengthscale))
    kernel.outputscale = float(outputscale)
    model.mean_module.constant.data.fill_(float(mean))
    return model.double().eval()


def log_ei(model: Any, best_f: float, X: np.ndarray) -> np.ndarray:
    """The log expected improvement [k] at points X [k, d], as BoTorch computes it."""
    with torch.no_grad():
        return LogExpectedImprovement(model, best_f=best_f)(torch.from_numpy(X)[:, None, :]).numpy()
