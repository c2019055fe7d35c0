"""Acquisition functions: `(posterior, X, best_f) -> utility`, larger is better."""

from bojax.acquisition._analytic import AcquisitionFn, ei, log_ei, log_pi, pi, posterior_mean, ucb

__all__ = ["AcquisitionFn", "ei", "log_ei", "log_pi", "pi", "posterior_mean", "ucb"]
