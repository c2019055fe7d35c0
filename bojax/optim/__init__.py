"""Candidate optimizers: maximise any function on the unit cube. They know no surrogate."""

from bojax._bfgs import BfgsResult, minimize_lanes
from bojax._qmc import sobol
from bojax.optim._lattice import Lattice
from bojax.optim._multistart import CandidateInfo, CandidateOptimizer, Seen, multistart

__all__ = [
    "BfgsResult",
    "CandidateInfo",
    "CandidateOptimizer",
    "Lattice",
    "Seen",
    "minimize_lanes",
    "multistart",
    "sobol",
]
