"""Bayesian optimization for JAX.

Importing bojax imports JAX and NumPy and nothing heavier; the study (Optuna), hypergradients (optax), the GPJax adapter
and the plots load when they are first used. No global setting is changed.
"""

import importlib
from typing import TYPE_CHECKING, Any

from bojax import acquisition, data, loop, objectives, optim, space, surrogates
from bojax._errors import BojaxError, BojaxWarning, SpaceExhaustedError, Status, StudyError
from bojax._runtime import enable_compilation_cache, host_scope
from bojax.loop import (
    Algorithm,
    bayesopt,
    cma_es,
    differential_evolution,
    forest,
    genetic,
    gradient_bayesopt,
    grid_search,
    noisy_bayesopt,
    pso,
    random_search,
    run,
    run_many,
    sobol_search,
    thompson,
    tpe,
    turbo,
)
from bojax.space import Categorical, Float, Int, Ordinal, Space, linear

if TYPE_CHECKING:
    from bojax import hypergrad, integrations, multifidelity, study, testing
    from bojax.multifidelity import train_many
    from bojax.study import Study, maximize, minimize, tune, tune_nested

__version__ = "0.1.0"

_LAZY = {
    "Study": "bojax.study",
    "hypergrad": "bojax.hypergrad",
    "integrations": "bojax.integrations",
    "maximize": "bojax.study",
    "minimize": "bojax.study",
    "multifidelity": "bojax.multifidelity",
    "study": "bojax.study",
    "testing": "bojax.testing",
    "train_many": "bojax.multifidelity",
    "tune": "bojax.study",
    "tune_nested": "bojax.study",
}

__all__ = [
    "Algorithm",
    "BojaxError",
    "BojaxWarning",
    "Categorical",
    "Float",
    "Int",
    "Ordinal",
    "Space",
    "SpaceExhaustedError",
    "Status",
    "Study",
    "StudyError",
    "acquisition",
    "bayesopt",
    "cma_es",
    "data",
    "differential_evolution",
    "enable_compilation_cache",
    "forest",
    "genetic",
    "gradient_bayesopt",
    "grid_search",
    "host_scope",
    "hypergrad",
    "integrations",
    "linear",
    "loop",
    "maximize",
    "minimize",
    "multifidelity",
    "noisy_bayesopt",
    "objectives",
    "optim",
    "pso",
    "random_search",
    "run",
    "run_many",
    "sobol_search",
    "space",
    "study",
    "surrogates",
    "testing",
    "thompson",
    "tpe",
    "train_many",
    "tune",
    "tune_nested",
    "turbo",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'bojax' has no attribute {name!r}")
    module = importlib.import_module(_LAZY[name])
    return module if _LAZY[name] == f"bojax.{name}" else getattr(module, name)


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
