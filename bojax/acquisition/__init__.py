"""Acquisition functions: `(posterior, X, best_f) -> utility`, larger is better, and batches of them."""

from bojax.acquisition._analytic import AcquisitionFn, ei, log_ei, log_pi, pi, posterior_mean, ucb
from bojax.acquisition._batch import BatchAcquisition, Context, believer
from bojax.acquisition._greedy import batch_log_ei, batch_log_nei, batch_log_pi, batch_simple_regret, batch_ucb
from bojax.acquisition._weighted import weighted

__all__ = [
    "AcquisitionFn",
    "BatchAcquisition",
    "Context",
    "batch_log_ei",
    "batch_log_nei",
    "batch_log_pi",
    "batch_simple_regret",
    "batch_ucb",
    "believer",
    "ei",
    "log_ei",
    "log_pi",
    "pi",
    "posterior_mean",
    "ucb",
    "weighted",
]
