"""Nested tuning: Bayesian optimization outside, hypergradient descent over the continuous hyperparameters inside.

Categorical, integer and architectural hyperparameters have no gradient, and hundreds of weight decays are too many for
a surrogate. So a trial chooses the former, and its value is the best outer loss that gradient descent over the latter
reaches.
"""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optuna

from bojax._errors import HypergradientError, StudyError
from bojax.space import Space
from bojax.study.asking._suggest import AlgorithmFactory
from bojax.study.records._trial import Trial
from bojax.study.running._arguments import check_count
from bojax.study.running._minimize import Result, minimize

if TYPE_CHECKING:
    from bojax.hypergrad import OptimizeResult

HPARAMS = "bojax:hparams"
"""User attribute with the tuned hyperparameters of a trial: one list of numbers, leaf by leaf."""

MAX_HPARAMS = 2_500
"""Largest number of tuned hyperparameters of a trial: as JSON in float64 they fit the 64 kB of a field in MySQL."""


class Nested(NamedTuple):
    """What one trial of `tune_nested` optimizes: the arguments of `hypergrad.optimize`.

    Attributes:
        fn: the result of `hypergrad.hypergradient`.
        hparams: start of the continuous hyperparameters; at most 2,500 numbers in total.
        inner_params: start of the first inner problem, arrays and not a function; or `hypergrad.ColdStart(params)`, the
            start of each of them, for hyperparameters of the training run itself.
        inner_data: as for `fn`.
        outer_data: as for `fn`.
        key: randomness of the inner solver, or None.
        num_steps: largest number of outer steps.
        optimizer: an optax optimizer; by default Adam with learning rate 0.05.
        bounds: (lower, upper) of the hyperparameters, or None; pass (0, 1) if `fn` was made with a `space`.
        stop: a `hypergrad.Plateau`, or None.
        score: `score(hparams, params) -> value`, smaller is better, evaluated at the best hyperparameters and the inner
            parameters found there, on data that neither loss saw. By default a trial's value is its best outer loss,
            which is optimistic, more so with more hyperparameters fitted to it.
    """

    fn: Any
    hparams: Any
    inner_params: Any
    inner_data: Any = None
    outer_data: Any = None
    key: Any = None
    num_steps: int = 100
    optimizer: Any = None
    bounds: tuple[Any, Any] | None = None
    stop: Any = None
    score: Callable[[Any, Any], Any] | None = None


def tune_nested(
    make: Callable[[dict[str, Any]], Nested],
    space: Space | Any,
    *,
    num_trials: int | None = 20,
    batch_size: int = 1,
    seed: int | None = 0,
    storage: str | optuna.storages.BaseStorage | None = None,
    name: str | None = None,
    algorithm: AlgorithmFactory | None = None,
    progress: bool = True,
    timeout: float | None = None,
) -> Result:
    """Minimizes over a space, where each trial tunes continuous hyperparameters of its own by hypergradients.

    It is `bojax.minimize(nested_objective(make), space, ...)`, which takes further arguments, for example `callbacks`
    and `catch`.

    Args:
        make: a function from plain values of the outer hyperparameters to a `Nested`; called on the host.
        space: the outer hyperparameters.
        num_trials: number of outer trials; None to continue until `timeout` or the size of the space ends it.
        batch_size: number of trials chosen jointly, >= 1; they run one after another.
        seed: seed of the study; None draws one.
        storage: URL of an Optuna storage, or a storage; None for memory.
        name: name of the study in its storage. A study of that name is resumed.
        algorithm: a function from (space, q) to an algorithm; by default `bojax.bayesopt`.
        progress: whether to show progress on stderr.
        timeout: seconds after which no further trial starts, >= 0; None for no limit.

    Returns:
        The result. `user_attrs` of its trials: see `nested_objective`.

    Raises:
        BojaxError: each of the first 5 trials raised, or each of fewer and the study has no value.
        TypeError: `make` is not a function, or another argument is wrong.
        ValueError: an argument is wrong.

    Example:
        >>> import bojax, jax.numpy as jnp
        >>> from bojax import hypergrad
        >>> def outer_loss(w, h, data):
        ...     return jnp.sum((w - data) ** 2)
        >>> def inner_loss(w, h, data):
        ...     return outer_loss(w, h, data) + jnp.sum(jnp.exp(h) * w**2)
        >>> fn = hypergrad.hypergradient(inner_loss, outer_loss)
        >>> def make(params):
        ...     start, data = jnp.zeros(3), float(params["n"]) * jnp.ones(3)
        ...     return bojax.study.Nested(fn, start, start, data, 0.5 * data, num_steps=20)
        >>> result = bojax.tune_nested(make, bojax.Space(n=bojax.Int(1, 4)), num_trials=3)
        >>> bojax.study.tuned_hparams(result.best_trial, jnp.zeros(3)).shape
        (3,)
    """
    return minimize(
        nested_objective(make),
        space,
        num_trials,
        batch_size,
        seed,
        storage=storage,
        name=name,
        algorithm=algorithm,
        progress=progress,
        timeout=timeout,
    )


def nested_objective(make: Callable[[dict[str, Any]], Nested]) -> Callable[[dict[str, Any]], Any]:
    """An objective whose value is the result of an inner optimization by hypergradients.

    Each call runs `hypergrad.optimize` on what `make` returns. A trial fails where the inner optimization reaches no
    finite value.

    The inner optimization is compiled once for each `fn`, `optimizer`, `stop` and shape of the arrays. So pass as data
    whatever only changes numbers, such as a mask of the units in use, and do not close over it.

    Args:
        make: a function from plain values of the outer hyperparameters to a `Nested`; called on the host.

    Returns:
        An objective for `minimize` and `Study.optimize`. The `user_attrs` of its trials hold `outer_loss` (the best),
        `outer_steps`, `hypergrad_status` (of the best step) and the tuned hyperparameters, which `tuned_hparams` reads,
        in any process.

    Raises:
        TypeError: `make` is not a function.

    Example:
        >>> import bojax, jax.numpy as jnp
        >>> from bojax import hypergrad
        >>> from bojax.study import Nested, nested_objective
        >>> def loss(w, h, data):
        ...     return jnp.sum((w - data) ** 2) + jnp.sum(jnp.exp(h) * w**2)
        >>> fn = hypergrad.hypergradient(loss, loss)
        >>> def make(params):
        ...     return Nested(fn, jnp.zeros(2), jnp.zeros(2), jnp.ones(2), jnp.ones(2), num_steps=params["steps"])
        >>> value, user_attrs = nested_objective(make)({"steps": 3})
        >>> user_attrs["outer_steps"]
        3
    """
    if not callable(make):
        raise TypeError(f"`make` must be a function of the outer hyperparameters, got {make!r}.")
    return functools.partial(_evaluate, make)


def tuned_hparams(trial: Trial, like: Any) -> Any:
    """The continuous hyperparameters that a trial of `tune_nested` found.

    Args:
        trial: a complete trial, for example `result.best_trial`.
        like: a tree of the same structure, for example `make(trial.params).hparams`.

    Returns:
        Arrays with the shapes and types of `like`.

    Raises:
        StudyError: the trial holds none.
        ValueError: `like` has another number of entries.
        TypeError: `like` has entries that are not floating.

    Example:
        >>> import jax.numpy as jnp
        >>> from bojax.study import Trial
        >>> trial = Trial(0, {}, "complete", 0.1, {"bojax:hparams": [1.0, 2.0, 3.0]})
        >>> hparams = tuned_hparams(trial, {"decay": jnp.zeros(2), "rate": jnp.zeros(())})
        >>> print(hparams["decay"], hparams["rate"])
        [1. 2.] 3.0
    """
    if HPARAMS not in trial.user_attrs:
        raise StudyError(
            f"trial {trial.number} holds no tuned hyperparameters: it failed, or is none of `tune_nested`."
        )
    numbers = np.asarray(trial.user_attrs[HPARAMS], float)
    leaves, form = jax.tree.flatten(like)
    sizes = [np.size(leaf) for leaf in leaves]
    for leaf in leaves:
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            raise TypeError(f"`like` must be floating, as hyperparameters are, got {jnp.result_type(leaf)}.")
    if sum(sizes) != len(numbers):
        raise ValueError(f"`like` must have {len(numbers)} entries, as trial {trial.number} has, got {sum(sizes)}.")
    parts = np.split(numbers, np.cumsum(sizes)[:-1])
    pairs = zip(parts, leaves, strict=True)
    arrays = [jnp.asarray(part.reshape(np.shape(leaf)), jnp.result_type(leaf)) for part, leaf in pairs]
    return jax.tree.unflatten(form, arrays)


def _evaluate(make: Callable[[dict[str, Any]], Nested], params: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The objective of the study: the value of a trial, and what is recorded with it."""
    from bojax.hypergrad import HypergradStatus

    nested = make(params)
    _check(nested)
    result = jax.block_until_ready(_search(nested))
    num_steps = int(result.num_steps)
    values, codes = np.asarray(result.history.value), np.asarray(result.history.status)
    if not np.isfinite(result.value):
        status = HypergradStatus(int(codes[num_steps - 1])).name.lower()
        raise HypergradientError(
            f"the inner optimization saw no finite value with a finite gradient: it ended after {num_steps} steps at "
            f"{values[num_steps - 1]}, status {status}. Start from other hyperparameters, or set bounds."
        )
    outer_loss = float(result.value)
    best = int(np.flatnonzero(values == np.asarray(result.value))[0])
    attrs = {
        "outer_loss": outer_loss,
        "outer_steps": num_steps,
        "hypergrad_status": HypergradStatus(int(codes[best])).name.lower(),
        HPARAMS: np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(result.hparams)]).astype(float).tolist(),
    }
    return outer_loss if nested.score is None else nested.score(result.hparams, result.params), attrs


def _check(nested: Any) -> None:
    if not isinstance(nested, Nested):
        raise TypeError(f"`make` must return a bojax.study.Nested, got {type(nested).__name__}.")
    if not callable(nested.fn):
        raise TypeError(f"`fn` must be what `hypergrad.hypergradient` returned, got {nested.fn!r}.")
    check_count("num_steps", nested.num_steps, 1)
    if nested.score is not None and not callable(nested.score):
        raise TypeError(f"`score` must be a function of (hparams, params) or None, got {nested.score!r}.")
    if nested.bounds is not None:
        _check_bounds(nested.bounds)
    if callable(nested.inner_params):
        raise TypeError("`inner_params` must be arrays, got a function. Pass what it returns for the first `hparams`.")
    size = sum(np.size(leaf) for leaf in jax.tree.leaves(nested.hparams))
    if size > MAX_HPARAMS:
        raise ValueError(
            f"`hparams` must have at most {MAX_HPARAMS} entries, to be stored with the trial, got {size}. Share them, "
            "say one for each unit and not for each weight."
        )


def _check_bounds(bounds: Any) -> None:
    if not (isinstance(bounds, tuple) and len(bounds) == 2):
        raise TypeError(f"`bounds` must be a pair (lower, upper) or None, got {bounds!r}.")
    lower, upper = ([np.asarray(leaf) for leaf in jax.tree.leaves(bound)] for bound in bounds)
    if len(lower) == len(upper) and any((low > high).any() for low, high in zip(lower, upper, strict=True)):
        raise ValueError(f"`bounds` must be (lower, upper), got a lower one that is above the upper one: {bounds}.")


def _search(nested: Nested) -> "OptimizeResult":
    from bojax.hypergrad import optimize

    arrays = (nested.hparams, nested.inner_params, nested.inner_data, nested.outer_data, nested.key)
    settings = {name: getattr(nested, name) for name in ("num_steps", "optimizer", "bounds", "stop")}
    return optimize(nested.fn, *arrays, **settings)
