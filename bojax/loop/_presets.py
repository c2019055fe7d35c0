"""`bayesopt` preset for noisy objectives and for objectives with gradients."""

from typing import Any

from bojax.acquisition import AcquisitionFn, BatchAcquisition, as_batch, batch_log_ei, batch_log_nei
from bojax.loop._algorithm import Algorithm
from bojax.loop._bayesopt import bayesopt
from bojax.loop._defaults import default_gradient_surrogate
from bojax.space import Space


def noisy_bayesopt(
    space: Space, *, acquisition: AcquisitionFn | BatchAcquisition | None = None, **settings: Any
) -> Algorithm:
    """Bayesian optimization of objectives with substantial noise.

    `bayesopt` with noisy expected improvement, `batch_log_nei()`: the default surrogate expects a noise variance of
    about e^-4 of the values' variance, and points may be suggested again where that pays, so a finite space is never
    exhausted. Figures: benchmarks/results/algorithms.md.

    Args:
        space: the search space.
        acquisition: what the next points maximize, `batch_log_nei()` by default. Any other is treated as one for noisy
            objectives.
        **settings: other arguments of `bayesopt`, such as `q`, `surrogate` and `optimizer`.

    Returns:
        An `Algorithm` whose `ask` returns a `BayesoptInfo`.

    Raises:
        ValueError: see `bayesopt`.
        TypeError: see `bayesopt`.

    Example:
        >>> import bojax
        >>> bojax.noisy_bayesopt(bojax.Space(x=bojax.Float(0.0, 1.0)), q=4).repeats
        True
    """
    acquisition = batch_log_nei() if acquisition is None else as_batch(acquisition)._replace(noisy=True)
    return bayesopt(space, acquisition=acquisition, **settings)


def gradient_bayesopt(
    space: Space, *, acquisition: AcquisitionFn | BatchAcquisition | None = None, **settings: Any
) -> Algorithm:
    """Bayesian optimization with values and gradients of y.

    `bayesopt` with `bojax.loop.default_gradient_surrogate()`, which learns from gradients unless the values contradict
    them.

    Args:
        space: the search space.
        acquisition: what the next points maximize, `batch_log_ei()` by default; use `batch_log_nei()` if values and
            gradients are noisy.
        **settings: other arguments of `bayesopt`, such as `q` and `optimizer`. For another surrogate call `bayesopt`
            itself: `bayesopt(space, surrogate=gradient_gp())`.

    Returns:
        An `Algorithm` whose `ask` returns a `BayesoptInfo` and whose `tell` accepts `grad` [k, d].

    Raises:
        ValueError: see `bayesopt`.
        TypeError: see `bayesopt`.

    Example:
        >>> import jax, bojax
        >>> algorithm = bojax.gradient_bayesopt(bojax.Space(x=bojax.Float(0.0, 1.0)))
        >>> state = algorithm.tell(algorithm.init(jax.random.key(0)), [[0.25]], [1.0], grad=[[0.5]])
        >>> state.observations.columns["grad"][0].tolist()
        [0.5]
    """
    acquisition = batch_log_ei() if acquisition is None else as_batch(acquisition)
    surrogate = default_gradient_surrogate(noisy=acquisition.noisy)
    return bayesopt(space, surrogate=surrogate, acquisition=acquisition, **settings)
