"""The same Gaussian process in bojax, and its numbers as plain data for another library."""

import jax.numpy as jnp
import numpy as np

from bojax import data, surrogates
from bojax.surrogates import GPParams
from bojax.surrogates._gp import condition, gp_model
from bojax.surrogates.parts._kernels import KernelParams

NUM_SPARE = 8


def hyperparameters(seed: int, num_dims: int = 3, num_points: int = 12) -> dict:
    """Points, standardised values and hyperparameters of one case."""
    rng = np.random.default_rng(seed)
    X = rng.random((num_points, num_dims))
    y = np.sin(6.0 * X).sum(axis=1) + 0.3 * rng.normal(size=num_points)
    return {
        "X": X.tolist(),
        "y": ((y - y.mean()) / y.std(ddof=1)).tolist(),
        "lengthscale": rng.uniform(0.3, 1.2, num_dims).tolist(),
        "outputscale": float(rng.uniform(0.5, 2.0)),
        "noise_var": float(10.0 ** rng.uniform(-4, -1)),
        "mean": float(rng.normal() * 0.2),
    }


def posterior_of(case: dict):
    """The posterior of a case (enter a float64 scope first), with room for a few more observations."""
    X, y = (np.asarray(case[name]) for name in ("X", "y"))
    model = gp_model(noise=surrogates.fixed_noise(case["noise_var"]))
    params = GPParams(
        kernel=KernelParams(jnp.log(jnp.asarray(case["lengthscale"])), jnp.log(jnp.asarray(case["outputscale"]))),
        mean=jnp.asarray(case["mean"]),
        log_noise_var=(),
    )
    observations = data.from_numpy(X, y, len(y), np.float64)
    return condition(model, params, observations, NUM_SPARE, rescale=False)
