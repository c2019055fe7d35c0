"""Scripts of GPyOpt, with suggestions by bojax: change the import line.

    import bojax.integrations.gpyopt as GPyOpt
    from bojax.integrations.gpyopt.methods import BayesianOptimization

GPyOpt itself is not needed. `methods` and `objective_examples` have the names that its scripts use;
`space_from_gpyopt` gives a `bojax.Space` for everything else of bojax.
"""

from typing import Any

from bojax.integrations.gpyopt import methods, objective_examples
from bojax.integrations.gpyopt._domain import space_from_gpyopt
from bojax.integrations.gpyopt.methods import BayesianOptimization

fmodels = objective_examples

__all__ = ["BayesianOptimization", "fmodels", "methods", "objective_examples", "space_from_gpyopt"]


def __getattr__(name: str) -> Any:
    raise AttributeError(
        f"bojax.integrations.gpyopt has no {name!r}, but {__all__}. Instead of parts of GPyOpt, such as "
        "Design_space or models, give the arguments of BayesianOptimization, or use bojax.Study."
    )
