"""Candidate optimizers: maximize any function on the unit cube, independently of a surrogate."""

from bojax._bfgs import BfgsResult, minimize_lanes
from bojax._qmc import sobol
from bojax.optim._in_turn import Pool, first_pool, next_candidate
from bojax.optim._lattice import SAME, is_seen, nearby_unseen
from bojax.optim._multistart import (
    CandidateInfo,
    CandidateOptimizer,
    Seen,
    local_search,
    multistart,
    num_raw_bits,
    penalty,
    raw_points,
)
from bojax.space import Lattice

__all__ = [
    "SAME",
    "BfgsResult",
    "CandidateInfo",
    "CandidateOptimizer",
    "Lattice",
    "Pool",
    "Seen",
    "first_pool",
    "is_seen",
    "local_search",
    "minimize_lanes",
    "multistart",
    "nearby_unseen",
    "next_candidate",
    "num_raw_bits",
    "penalty",
    "raw_points",
    "sobol",
]
