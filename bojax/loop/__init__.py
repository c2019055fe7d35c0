"""Algorithms: whole studies as pure functions."""

from bojax.loop._algorithm import Algorithm, Info, grow, restore
from bojax.loop._bayesopt import BayesoptInfo, bayesopt
from bojax.loop._cost_aware import CostAwareInfo, cost_aware
from bojax.loop._hybrid import HybridInfo, hybrid
from bojax.loop._model_based import ModelState
from bojax.loop._random_search import RandomSearchState, random_search
from bojax.loop._run import run, run_many
from bojax.loop._thompson import thompson
from bojax.loop._turbo import turbo

__all__ = [
    "Algorithm",
    "BayesoptInfo",
    "CostAwareInfo",
    "HybridInfo",
    "Info",
    "ModelState",
    "RandomSearchState",
    "bayesopt",
    "cost_aware",
    "grow",
    "hybrid",
    "random_search",
    "restore",
    "run",
    "run_many",
    "thompson",
    "turbo",
]
