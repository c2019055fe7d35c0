"""Acquisition functions: `(posterior, X, best_f) -> utility`, larger is better, and batches of them."""

from bojax.acquisition._analytic import AcquisitionFn, ei, in_logs, log_ei, log_pi, pi, posterior_mean, ucb
from bojax.acquisition._batch import BatchAcquisition, Context, kriging_believer
from bojax.acquisition._checks import check_acquisition, is_log_improvement
from bojax.acquisition._cost import cooled, per_cost
from bojax.acquisition._greedy import batch_log_ei, batch_log_nei, batch_log_pi, batch_simple_regret, batch_ucb
from bojax.acquisition._joint_entropy import jes, joint_entropy
from bojax.acquisition._knowledge_gradient import discrete_kg, knowledge_gradient, one_shot_kg
from bojax.acquisition._max_value import Optima, gibbon, gibbon_information, max_value_entropy, mes
from bojax.acquisition._monte_carlo import q_log_ei, q_log_nei, q_pi, q_simple_regret, q_ucb
from bojax.acquisition._prior import gaussian_prior, on_params, with_prior
from bojax.acquisition._weighted import FAILURE_AVERSION, LogWeight, as_batch, weighted, with_success

__all__ = [
    "FAILURE_AVERSION",
    "AcquisitionFn",
    "BatchAcquisition",
    "Context",
    "LogWeight",
    "Optima",
    "as_batch",
    "batch_log_ei",
    "batch_log_nei",
    "batch_log_pi",
    "batch_simple_regret",
    "batch_ucb",
    "check_acquisition",
    "cooled",
    "discrete_kg",
    "ei",
    "gaussian_prior",
    "gibbon",
    "gibbon_information",
    "in_logs",
    "is_log_improvement",
    "jes",
    "joint_entropy",
    "knowledge_gradient",
    "kriging_believer",
    "log_ei",
    "log_pi",
    "max_value_entropy",
    "mes",
    "on_params",
    "one_shot_kg",
    "per_cost",
    "pi",
    "posterior_mean",
    "q_log_ei",
    "q_log_nei",
    "q_pi",
    "q_simple_regret",
    "q_ucb",
    "ucb",
    "weighted",
    "with_prior",
    "with_success",
]
