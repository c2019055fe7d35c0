"""Bayesian optimization as one compiled `ask`.

    observations --fit--> hyperparameters --condition--> posterior --maximise acquisition--> x --add--> next x

After the initial design (`_model_based`) each `ask` fits the surrogate, begins a batch acquisition on its posterior,
which takes account of what is pending, and chooses its q points one after another, each given those before it. No place
is evaluated twice, unless the objective is noisy. Failed evaluations are masked from the surrogate: a second model
learns from them where evaluations succeed, and its probability weighs the acquisition (benchmarks/results/failures.md).
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from bojax import data
from bojax._bfgs import minimize_lanes
from bojax._types import Array, Bool, Float, Int
from bojax.acquisition import (
    AcquisitionFn,
    BatchAcquisition,
    Context,
    batch_log_ei,
    batch_log_nei,
    kriging_believer,
    with_success,
)
from bojax.loop._algorithm import Algorithm, lattice_of
from bojax.loop._arguments import check_parts
from bojax.loop._defaults import (
    NUM_INITIAL_GRADIENTS,
    default_gradient_surrogate,
    default_surrogate,
    surrogate_for,
)
from bojax.loop._design import mark_seen, replace_seen, seen_points
from bojax.loop._model_based import Asked, Proposal, Rule, check_counts, model_based, seeing, without_failures
from bojax.optim import CandidateOptimizer, Lattice, Seen, is_seen, multistart
from bojax.space import Space
from bojax.surrogates import (
    OutputTransform,
    Surrogate,
    fit_success,
    half_rank,
    log_tail,
    standardize,
    told_noise,
)

POLISH_EVALS = 30
"""Evaluations of the joint polish (benchmarks/results/algorithms.md)."""
BYTE_BUDGET = 2**28
"""256 MiB: nothing is divided at ordinary sizes (a row of n = 1,000 with 64 samples takes 54 kB)."""


class BayesoptInfo(NamedTuple):
    """How an `ask` went.

    Attributes:
        status: a `Status` code.
        valid: [q] which points are suggestions; all of them unless a finite space is exhausted.
        acquisition: [q] the acquisition at each point when it was chosen; NaN in the initial design.
        fit_loss: negative log posterior of the hyperparameters; NaN in the initial design.
        fit_evals: evaluations the fit took.
    """

    status: Int[Array, ""]
    valid: Bool[Array, "q"]
    acquisition: Float[Array, "q"]
    fit_loss: Float[Array, ""]
    fit_evals: Int[Array, ""]


def bayesopt(
    space: Space,
    *,
    q: int = 1,
    capacity: int = 64,
    num_initial: int | None = None,
    surrogate: Surrogate | None = None,
    acquisition: AcquisitionFn | BatchAcquisition | None = None,
    optimizer: CandidateOptimizer | None = None,
    num_restarts: int | None = None,
    raw_samples: int | None = None,
    output_transform: OutputTransform | None | Literal["auto"] = "auto",
    noisy: bool = False,
    gradients: bool = False,
    joint: bool = True,
    max_pending: int | None = None,
    byte_budget: int | None = None,
    mesh: Mesh | None = None,
) -> Algorithm:
    """Bayesian optimization of a space.

    Args:
        space: what to search.
        q: how many points each `ask` gives, >= 1.
        capacity: room for so many observations; `bojax.loop.grow` enlarges a state.
        num_initial: points of the quasi-random initial design, >= 1; by default d + 1, between 3 and 16, and 3 with
            gradients.
        surrogate: the statistical model; a Gaussian process with a Matern-5/2 kernel by default. It is told which
            columns hold categories; one that does not say how it treats them is refused on spaces that have some.
        acquisition: what the next points should maximise: a `BatchAcquisition` such as `batch_log_nei()`, or a function
            `(posterior, X, best_f) -> [k]` in standardised units of y, whose batches imagine chosen and pending points
            at their mean (`kriging_believer`). `batch_log_ei()` by default, `batch_log_nei()` for noisy objectives.
        optimizer: how it is maximised; `multistart` by default.
        num_restarts: starts of the default optimizer, 10 by default.
        raw_samples: raw samples of the default optimizer, 512 by default.
        output_transform: a monotone map of the values that the surrogate sees, or None; what is stored and told stays
            as it is. By default values worse than the median count by their rank only (`surrogates.half_rank`), which
            suits objectives that are very bad in places; with gradients they are compressed (`surrogates.log_tail`)
            while gradients are believed.
        noisy: whether evaluations of one point differ by more than a little. Then the default acquisition is noisy
            expected improvement, the default surrogate expects a noise variance of about e^-4 of the values', and
            points may be asked for again where that pays, so that a finite space is never exhausted. Figures in
            `loop._defaults`.
        gradients: whether `tell` takes gradients of y, which the default surrogate (`gradient_gp` with warped inputs)
            learns from as long as the values do not contradict them. An `output_transform` changes gradients by its
            slope; where that is 0, they are left out.
        joint: whether the q points, chosen one after another, are then moved together along the gradient of their joint
            utility, where the acquisition has one. Figures in `POLISH_EVALS`.
        max_pending: room for so many points asked for and not yet told; 8, or q if that is more, by default.
        byte_budget: about how many bytes the default optimizer may hold while it evaluates points, 256 MiB by default;
            more points than fit are evaluated in turn.
        mesh: devices (a `jax.sharding.Mesh` of one axis) among which the default optimizer divides its restarts and raw
            samples.

    Returns:
        An `Algorithm` whose `ask` gives a `BayesoptInfo`. It works in the float type that JAX has when `init` is
        called: float64 inside `bojax.run` and `Study`, or in a scope `with jax.enable_x64(True)`.

    Raises:
        ValueError: when a number is out of range, or an argument would have no effect: `num_restarts`, `raw_samples`,
            `byte_budget` or `mesh` beside `optimizer`, `gradients` beside a surrogate that does not learn from them.
        TypeError: when surrogate, acquisition or optimizer is none.

    Example:
        >>> import jax, bojax
        >>> algorithm = bojax.bayesopt(bojax.Space(x=bojax.Float(0.0, 1.0)))
        >>> state = algorithm.init(jax.random.key(0))
        >>> X, state, info = algorithm.ask(jax.random.key(1), state)
        >>> X.shape
        (1, 1)
    """
    parts, frame = assemble(
        space,
        q=q,
        capacity=capacity,
        num_initial=num_initial,
        surrogate=surrogate,
        acquisition=acquisition,
        optimizer=optimizer,
        num_restarts=num_restarts,
        raw_samples=raw_samples,
        output_transform=output_transform,
        noisy=noisy,
        gradients=gradients,
        joint=joint,
        max_pending=max_pending,
        byte_budget=byte_budget,
        mesh=mesh,
    )

    def propose(key, asked):
        return greedy(key, asked, parts)[0]

    def describe(asked, X, status, valid, details):
        del asked, X
        return BayesoptInfo(status, valid, *details)

    rule = Rule(propose, describe, no_details=lambda dtype: no_details(q, dtype))
    return model_based(space, rule, **frame)


class Parts(NamedTuple):
    """What a greedy proposal is made of.

    Attributes:
        surrogate: the model, bound to the space.
        acquisition: what the points maximise.
        optimizer_for: `optimizer_for(lattice, capacity, dtype)` gives the candidate optimizer.
        joint: whether the points are moved together in the end.
        repeats: whether points may be asked for again.
        seen: what the surrogate sees of what was told.
    """

    surrogate: Surrogate
    acquisition: BatchAcquisition
    optimizer_for: Callable[..., CandidateOptimizer]
    joint: bool
    repeats: bool
    seen: Callable[[data.Observations], data.Observations]


class Fitted(NamedTuple):
    """The model on which a proposal was made: hyperparameters, and the standardised posterior."""

    params: Any
    posterior: Any


def assemble(
    space: Space,
    *,
    q: int = 1,
    capacity: int = 64,
    surrogate: Surrogate | None = None,
    acquisition: AcquisitionFn | BatchAcquisition | None = None,
    optimizer: CandidateOptimizer | None = None,
    output_transform: OutputTransform | None | Literal["auto"] = "auto",
    noisy: bool = False,
    gradients: bool = False,
    **others: Any,
) -> tuple[Parts, dict[str, Any]]:
    """The parts of `bayesopt`, and the arguments of `model_based`, from the arguments of `bayesopt`."""
    lattice = lattice_of(space)
    sizes = {name: others.pop(name, None) for name in ("num_restarts", "raw_samples", "byte_budget", "mesh")}
    joint = others.pop("joint", True)
    unknown = set(others) - {"num_initial", "max_pending"}
    if unknown:
        raise TypeError(f"`{'`, `'.join(sorted(unknown))}` is no argument of bayesopt.")
    if gradients and others.get("num_initial") is None:
        others["num_initial"] = NUM_INITIAL_GRADIENTS
    check_counts(q=q, capacity=capacity, byte_budget=1 if sizes["byte_budget"] is None else sizes["byte_budget"])
    check_parts(space, surrogate, acquisition, optimizer, gradients=gradients, sizes=sizes)
    fallback_transform = None
    if output_transform == "auto":
        # `half_rank` sees the same after `log_tail`, which keeps the order and the better half.
        output_transform, fallback_transform = (log_tail, half_rank) if gradients else (half_rank, None)
    if surrogate is not None:
        surrogate = surrogate_for(space, surrogate)
    elif gradients:
        surrogate = default_gradient_surrogate(space, noisy=noisy, fallback_transform=fallback_transform)
    else:
        surrogate = default_surrogate(space, noisy=noisy)
    if acquisition is None:
        acquisition = batch_log_nei() if noisy else batch_log_ei()
    elif not isinstance(acquisition, BatchAcquisition):
        acquisition = kriging_believer(acquisition)
    optimizer_for = _optimizer_factory(optimizer, acquisition.num_samples, sizes)
    optimizer_for(lattice, capacity, jnp.float32)  # complains about bad numbers now
    seen = seeing(without_failures, output_transform)
    joint = joint and q > 1 and acquisition.joint is not None and lattice.cardinality is None
    parts = Parts(surrogate, acquisition, optimizer_for, joint, noisy, seen)
    columns = ("noise_var", "grad") if gradients else ("noise_var",)
    frame = {"surrogate": surrogate, "seen": seen, "q": q, "capacity": capacity, "repeats": noisy, "columns": columns}
    return parts, frame | others


def _optimizer_factory(optimizer, num_samples, sizes):
    """`optimizer_for` of `Parts`: the given one, or `multistart` with as many points at a time as memory allows."""
    settings = {name: sizes[name] for name in ("num_restarts", "raw_samples") if sizes[name] is not None}
    byte_budget = BYTE_BUDGET if sizes["byte_budget"] is None else sizes["byte_budget"]

    def optimizer_for(lattice, capacity, dtype):
        if optimizer is not None:
            return optimizer
        # Covariances, their products with the factor, and samples; their gradients hold as much again.
        row_bytes = 2 * jnp.finfo(dtype).bits // 8 * (3 * capacity + 6 * num_samples)
        return multistart(lattice, **settings, max_rows=max(1, byte_budget // row_bytes), mesh=sizes["mesh"])

    return optimizer_for


def no_details(q: int, dtype) -> tuple[Array, ...]:
    """The last three fields of a `BayesoptInfo` in the initial design."""
    nan = jnp.full(q, jnp.nan, dtype)
    return nan, nan[0], jnp.int32(0)


def greedy(
    key, asked: Asked, parts: Parts, *, params: Any = None, acquisition: BatchAcquisition | None = None
) -> tuple[Proposal, Fitted]:
    """Fit, condition, and choose q points one after another.

    Args:
        key: random key.
        asked: what the frame gives.
        parts: what the proposal is made of.
        params: where the fit starts; by default `asked.state.params`.
        acquisition: in place of that of the parts.

    Returns:
        The proposal, its details the acquisition at each point, the loss of the fit and its evaluations; and the model.
    """
    lattice, state, (others, _) = asked.lattice, asked.state, asked.design
    surrogate, repeats = parts.surrogate, parts.repeats
    acquisition = parts.acquisition if acquisition is None else acquisition
    q = others.shape[0]
    keys = jax.random.split(key, q + 2)
    observations, pending = state.observations, state.pending
    optimizer = parts.optimizer_for(lattice, observations.capacity, observations.X.dtype)
    data_seen = parts.seen(observations)
    params, fit = surrogate.fit(keys[q], data_seen, state.params if params is None else params)
    num_slots = pending.X.shape[0]
    posterior = surrogate.posterior(params, data_seen, num_slots + q - 1).standardized()
    best_f, center = incumbent(posterior, observations)
    context = Context(best_f, data_seen.X, data_seen.mask, pending.X, pending.mask, typical_noise(data_seen))
    if state.failures is not None:
        categories = tuple(i for i, categorical in enumerate(lattice.is_categorical) if categorical)
        acquisition = with_success(acquisition, fit_success(observations, categorical_dims=categories))
    chosen = acquisition.begin(keys[q + 1], posterior, context, q)
    seen = seen_points(observations, pending, q)
    avoided = Seen(seen.X, jnp.zeros_like(seen.mask)) if repeats else seen

    def choose(key, chosen, seen):
        x, candidate = optimizer(key, lambda X: acquisition.value(chosen, lattice.pin(X)), seen, lattice.pin(center))
        usable = jnp.isfinite(candidate.raw_value)  # an acquisition that is NaN everywhere counts as -inf
        return jnp.where(usable, lattice.snap(x), jnp.nan), candidate.value, candidate.valid

    if q == 1:
        X, values, valid = jax.tree.map(lambda leaf: leaf[None], choose(keys[0], chosen, avoided))
    else:
        X, values, valid = _choose_greedily(choose, acquisition, keys[:q], chosen, avoided, repeats=repeats)
        if parts.joint:
            polished = _polish(lattice, acquisition, chosen, X)
            X = polished if repeats else keep_apart(lattice, polished, X, seen)
    if lattice.cardinality is None and not repeats:
        X, _ = replace_seen(lattice, X, seen, others)
    ok = fit.ok & jnp.isfinite(best_f)
    return Proposal(X, valid, ok, params, (values, fit.loss, fit.num_evals)), Fitted(params, posterior)


def _choose_greedily(choose, acquisition, keys, chosen, seen, *, repeats):
    """Choose points one after another, each in the light of those before it."""
    q = keys.shape[0]
    first_spare = seen.X.shape[0] - q

    def step(carry, item):
        chosen, seen = carry
        i, key = item
        x, value, valid = choose(key, chosen, seen)
        after = seen if repeats else mark_seen(seen, first_spare + i, x)
        return (acquisition.add(chosen, x), after), (x, value, valid)

    return jax.lax.scan(step, (chosen, seen), (jnp.arange(q, dtype=jnp.int32), keys))[1]


def keep_apart(lattice: Lattice, moved: Float[Array, "q d"], X: Float[Array, "q d"], seen: Seen) -> Float[Array, "q d"]:
    """The moved points, but where one came to a seen place or to an earlier one of them, where it was before."""
    q = X.shape[0]
    first_spare = seen.X.shape[0] - q

    def place(seen, item):
        i, x, before = item
        x = jnp.where(is_seen(lattice, x[None], seen.X, seen.mask)[0], before, x)
        return mark_seen(seen, first_spare + i, x), x

    return jax.lax.scan(place, seen, (jnp.arange(q, dtype=jnp.int32), moved, X))[1]


def _polish(lattice, acquisition, chosen, X):
    """Move all points of a batch together along the gradient of their joint utility; discrete columns stay."""
    q, d = X.shape
    fixed = np.zeros(d, bool)
    fixed[list(lattice.discrete)] = True

    def value_and_grad(flat, active):
        del active
        value, pullback = jax.vjp(lambda flat: acquisition.joint(chosen, lattice.pin(flat.reshape(-1, q, d))), flat)
        return -value, -pullback(jnp.ones_like(value))[0]

    start = X.reshape(1, q * d)
    held = np.tile(fixed, q)[None, :]
    lower, upper = jnp.where(held, start, 0.0), jnp.where(held, start, 1.0)
    float64 = jnp.finfo(X.dtype).bits >= 64
    gtol, ftol = (1e-5, 1e-6) if float64 else (1e-3, 1e-5)
    result = minimize_lanes(value_and_grad, start, lower, upper, max_evals=POLISH_EVALS, gtol=gtol, ftol=ftol)
    better = jnp.isfinite(result.f[0]) & jnp.all(jnp.isfinite(result.x))
    return jnp.where(better, lattice.snap(result.x[0].reshape(q, d)), X)


def typical_noise(observations):
    """Mean of the noise variances that were told, in squared standard deviations of y; 0 where none was."""
    _, scale = standardize(observations.y, observations.mask)
    told = told_noise(observations, scale)
    known = observations.mask & ~jnp.isnan(told)
    return jnp.sum(jnp.where(known, told, 0.0)) / jnp.maximum(jnp.sum(known), 1)


def incumbent(posterior, observations):
    """The largest posterior mean among the observed points, and where it is.

    The mean rather than the observed value: with noise the largest observation is mostly a lucky one.
    """
    means = jnp.where(observations.mask, posterior.mean(observations.X), -jnp.inf)
    return jnp.max(means), observations.X[jnp.argmax(means)]
