"""Algorithms: whole studies as pure functions."""

from bojax.loop._algorithm import Algorithm, Host, Info, grow, restore, status_of, tell_state
from bojax.loop._bayesopt import BayesoptInfo, bayesopt
from bojax.loop._cma_es import cma_es
from bojax.loop._cost_aware import CostAwareInfo, cost_aware
from bojax.loop._defaults import default_gradient_surrogate, default_surrogate
from bojax.loop._design import replace_seen, seen_points
from bojax.loop._differential_evolution import differential_evolution
from bojax.loop._evolution import EvolutionInfo, EvolutionState
from bojax.loop._forest import ForestState, forest
from bojax.loop._genetic import genetic
from bojax.loop._grid_search import GridSearchState, grid_search
from bojax.loop._hybrid import HybridInfo, hybrid
from bojax.loop._model_based import (
    Asked,
    ModelState,
    Proposal,
    Rule,
    failures_as_worst,
    model_based,
    without_failures,
)
from bojax.loop._presets import gradient_bayesopt, noisy_bayesopt
from bojax.loop._pso import pso
from bojax.loop._random_search import RandomSearchState, random_search
from bojax.loop._run import run, run_many
from bojax.loop._sobol_search import SobolSearchState, sobol_search
from bojax.loop._thompson import thompson
from bojax.loop._tpe import tpe
from bojax.loop._turbo import TrustRegion, TurboInfo, turbo

__all__ = [
    "Algorithm",
    "Asked",
    "BayesoptInfo",
    "CostAwareInfo",
    "EvolutionInfo",
    "EvolutionState",
    "ForestState",
    "GridSearchState",
    "Host",
    "HybridInfo",
    "Info",
    "ModelState",
    "Proposal",
    "RandomSearchState",
    "Rule",
    "SobolSearchState",
    "TrustRegion",
    "TurboInfo",
    "bayesopt",
    "cma_es",
    "cost_aware",
    "default_gradient_surrogate",
    "default_surrogate",
    "differential_evolution",
    "failures_as_worst",
    "forest",
    "genetic",
    "gradient_bayesopt",
    "grid_search",
    "grow",
    "hybrid",
    "model_based",
    "noisy_bayesopt",
    "pso",
    "random_search",
    "replace_seen",
    "restore",
    "run",
    "run_many",
    "seen_points",
    "sobol_search",
    "status_of",
    "tell_state",
    "thompson",
    "tpe",
    "turbo",
    "without_failures",
]
