"""Hypergradients: the gradient of an outer loss through an inner optimization.

`hypergradient(inner_loss, outer_loss, method=...)` returns a pure function of the hyperparameters that computes the
outer loss, its gradient and diagnostics. Choose the method:

* `Implicit` if the inner problem is solved accurately and the hyperparameters are part of its loss. Cost and memory do
  not depend on how it was solved.
* `Unrolled` for hyperparameters of the optimizer, schedules and starting points, and for runs that stop early.
* `Forward` for the same with few hyperparameters and any number of steps.
* `OneStep` for a cheap direction only.

`optimize` is the outer loop around such a function, `check_hypergradient` compares it with finite differences. Two
algorithms move hyperparameters and inner parameters together: `online` during a single training run, `soba` on
minibatches.

Building blocks for other problems: `ift_vjp` and `root` differentiate solutions of an optimality condition, `unroll` is
a loop with checkpoints, and `mixflow_grad` is a gradient that is cheap to differentiate. `l2`, `Schedule`, `positive`,
`simplex` and `from_unit` express hyperparameters in useful coordinates.

`Implicit` accepts lineax solvers; everything that trains accepts optax optimizers.
"""

from bojax._errors import HypergradientError, InertHyperparameterError, NonDifferentiableHyperparameterError
from bojax.hypergrad._check import CheckResult, check_hypergradient
from bojax.hypergrad._forward import Forward
from bojax.hypergrad._hypergradient import hypergradient
from bojax.hypergrad._implicit import Implicit
from bojax.hypergrad._mixflow import mixflow_grad
from bojax.hypergrad._one_step import OneStep
from bojax.hypergrad._online import Online, OnlineInfo, OnlineState, online
from bojax.hypergrad._optimize import ColdStart, OptimizeHistory, OptimizeResult, Plateau, optimize
from bojax.hypergrad._problem import InnerResult, Solution
from bojax.hypergrad._result import Hypergrad, HypergradInfo, HypergradStatus, raise_for_status
from bojax.hypergrad._root import Pullback, ift_vjp, root
from bojax.hypergrad._scan import unroll
from bojax.hypergrad._soba import Soba, SobaInfo, SobaState, soba
from bojax.hypergrad._transform import Schedule, from_unit, l2, positive, simplex
from bojax.hypergrad._unrolled import Unrolled
from bojax.hypergrad.solvers import CG, Descent, Direct, GaussNewton, Neumann, Newton, Nystrom

__all__ = [
    "CG",
    "CheckResult",
    "ColdStart",
    "Descent",
    "Direct",
    "Forward",
    "GaussNewton",
    "Hypergrad",
    "HypergradInfo",
    "HypergradStatus",
    "HypergradientError",
    "Implicit",
    "InertHyperparameterError",
    "InnerResult",
    "Neumann",
    "Newton",
    "NonDifferentiableHyperparameterError",
    "Nystrom",
    "OneStep",
    "Online",
    "OnlineInfo",
    "OnlineState",
    "OptimizeHistory",
    "OptimizeResult",
    "Plateau",
    "Pullback",
    "Schedule",
    "Soba",
    "SobaInfo",
    "SobaState",
    "Solution",
    "Unrolled",
    "check_hypergradient",
    "from_unit",
    "hypergradient",
    "ift_vjp",
    "l2",
    "mixflow_grad",
    "online",
    "optimize",
    "positive",
    "raise_for_status",
    "root",
    "simplex",
    "soba",
    "unroll",
]
