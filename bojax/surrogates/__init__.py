"""Surrogates: statistical models of the objective on the unit cube."""

from bojax.surrogates._base import Fantasies, FitInfo, Posterior, Surrogate
from bojax.surrogates._deep_ensemble import deep_ensemble
from bojax.surrogates._fully_bayesian import fully_bayesian_gp, saas
from bojax.surrogates._gp import GPParams, gp
from bojax.surrogates._gpjax import from_gpjax, to_gpjax
from bojax.surrogates._gradient_gp import GradientGPParams, gradient_gp
from bojax.surrogates._inputs import Inputs, PaddedInputs, accept_padding, bound, takes_padding
from bojax.surrogates._map_ensemble import map_ensemble
from bojax.surrogates._row_limit import with_row_limit
from bojax.surrogates._sparse_gp import sparse_gp
from bojax.surrogates._success import SuccessModel, fit_success
from bojax.surrogates.outputs._half_rank import half_rank
from bojax.surrogates.outputs._output import (
    OutputTransform,
    bilog,
    compose,
    log_output,
    log_tail,
    power,
    transformed,
    unwrapped,
    with_output_transform,
)
from bojax.surrogates.outputs._standardize import Scale, is_constant, standardize
from bojax.surrogates.parts._equality import by_equality
from bojax.surrogates.parts._kernels import Kernel, KernelPrior, matern52, rbf
from bojax.surrogates.parts._means import Mean, constant_mean, zero_mean
from bojax.surrogates.parts._noise import Noise, fixed_noise, known_noise, learned_noise, told_noise
from bojax.surrogates.parts._warping import warped
from bojax.surrogates.posteriors._leave_one_out import leave_one_out
from bojax.surrogates.posteriors._mixture import MixtureFantasies, MixturePosterior
from bojax.surrogates.posteriors._pathwise import SamplePaths, sample_paths
from bojax.surrogates.posteriors._posterior import GPFantasies, GPLaw, GPPosterior, Law, from_law

__all__ = [
    "Fantasies",
    "FitInfo",
    "GPFantasies",
    "GPLaw",
    "GPParams",
    "GPPosterior",
    "GradientGPParams",
    "Inputs",
    "Kernel",
    "KernelPrior",
    "Law",
    "Mean",
    "MixtureFantasies",
    "MixturePosterior",
    "Noise",
    "OutputTransform",
    "PaddedInputs",
    "Posterior",
    "SamplePaths",
    "Scale",
    "SuccessModel",
    "Surrogate",
    "accept_padding",
    "bilog",
    "bound",
    "by_equality",
    "compose",
    "constant_mean",
    "deep_ensemble",
    "fit_success",
    "fixed_noise",
    "from_gpjax",
    "from_law",
    "fully_bayesian_gp",
    "gp",
    "gradient_gp",
    "half_rank",
    "is_constant",
    "known_noise",
    "learned_noise",
    "leave_one_out",
    "log_output",
    "log_tail",
    "map_ensemble",
    "matern52",
    "power",
    "rbf",
    "saas",
    "sample_paths",
    "sparse_gp",
    "standardize",
    "takes_padding",
    "to_gpjax",
    "told_noise",
    "transformed",
    "unwrapped",
    "warped",
    "with_output_transform",
    "with_row_limit",
    "zero_mean",
]
