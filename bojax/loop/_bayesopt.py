"""Bayesian optimization as one compiled `ask`.

    observations --fit--> hyperparameters --condition--> posterior --maximise acquisition--> x --add--> next x

The first `num_initial` points fill the space evenly, and so do the next ones as long as all values are equal: a
surrogate fitted to equal values knows of no better place and is most uncertain in the corners. After that each `ask`
fits the surrogate, begins a batch acquisition on its posterior, which takes account of what is pending, and chooses its
q points one after another, each in the light of those before it. No place is evaluated twice, unless the objective is
said to be noisy. Failed evaluations are no data of the surrogate: a second model learns from them where
evaluations succeed, and its probability weighs the acquisition.

Before, failures counted as the worst value seen, which bends the surrogate. Over 48 studies each, failures and the
geometric mean of the regret, then and now: a quadratic whose optimum lies in the failing third of a square (25
evaluations) 3.3 and 1.4e-3, 9.3 and 2.7e-4 (the optimum of what succeeds is on the boundary, which has to be found); in
the other part, 2.5 and 0.8e-7, 1.9 and 1.3e-7; Branin (25) with a failing half 3.4 and 1.6e-4, 2.5 and 1.5e-4; with a
fifth of 37 x 37 cells failing 5.0 and 0.29, 6.9 and 0.007; Hartmann-6 (40) with a failing half 5.0 and 0.034, 4.4 and
0.017; with failures by chance, the likelier the larger an input is, 7.8 and 0.34, 6.9 and 0.038. Weighing and the
worst value together were hardly better than the worst value alone.
"""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from bojax import data
from bojax._bfgs import minimize_lanes
from bojax._errors import Status
from bojax._qmc import random_shift
from bojax._types import Array, Bool, Float, Int
from bojax.acquisition import (
    AcquisitionFn,
    BatchAcquisition,
    Context,
    batch_log_ei,
    batch_log_nei,
    kriging_believer,
    log_ei,
    log_pi,
    with_success,
)
from bojax.loop._algorithm import MIN_PENDING, Algorithm, compiled_ask, keyed_init, lattice_of, status_of, tell_state
from bojax.loop._arguments import check_parts
from bojax.loop._defaults import (
    NUM_INITIAL_GRADIENTS,
    default_gradient_surrogate,
    default_num_initial,
    default_surrogate,
    surrogate_for,
)
from bojax.loop._design import design, mark_seen, replace_seen, seen_points
from bojax.loop._predict import predictor
from bojax.optim import CandidateOptimizer, Lattice, Seen, is_seen, multistart
from bojax.space import Space
from bojax.surrogates import (
    OutputTransform,
    Surrogate,
    fit_success,
    half_rank,
    is_constant,
    log_tail,
    standardize,
    told_noise,
    transformed,
)

POLISH_EVALS = 30
"""Evaluations of the joint polish. At n = 100, d = 6, q = 8 it adds 15 ms to 105 and lifts the batch above BoTorch's
sequential greedy one on 10 of 10 Gaussian processes (by 0.007 in log joint expected improvement), where the greedy
batch alone was above on 4."""
BYTE_BUDGET = 2**28
"""256 MiB: nothing is divided at ordinary sizes (a row of n = 1,000 with 64 samples takes 54 kB)."""


class BayesoptState(NamedTuple):
    """What the next `ask` needs.

    Attributes:
        observations: what was seen.
        pending: what was asked for and not yet told.
        params: the surrogate's hyperparameters, where the next fit starts.
        shift: [d] the random shift of the initial design.
        failures: () where told rows may have failed. None, which only `restore` writes, says that none did: an `ask`
            then compiles in about four fifths of the time, without the model of success.
    """

    observations: data.Observations
    pending: data.Pending
    params: Any
    shift: Int[Array, "d"]
    failures: tuple | None = ()


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
    max_pending = max(q, MIN_PENDING) if max_pending is None else max_pending
    lattice = lattice_of(space)
    if num_initial is None:
        num_initial = NUM_INITIAL_GRADIENTS if gradients else default_num_initial(space.num_dims)
    for name, value, least in (
        ("q", q, 1),
        ("capacity", capacity, 1),
        ("num_initial", num_initial, 1),
        ("byte_budget", 1 if byte_budget is None else byte_budget, 1),
    ):
        if value < least:
            raise ValueError(f"`{name}` must be at least {least}, got {value}.")
    if max_pending < q:
        raise ValueError(f"`max_pending` must hold the {q} points of one `ask`, got {max_pending}.")
    sizes = {"num_restarts": num_restarts, "raw_samples": raw_samples, "byte_budget": byte_budget, "mesh": mesh}
    check_parts(space, surrogate, acquisition, optimizer, gradients=gradients, sizes=sizes)
    if output_transform == "auto":
        output_transform = log_tail if gradients else half_rank
        fallback_transform = half_rank  # sees the same after log_tail, which keeps the order and the better half
    else:
        fallback_transform = None
    if surrogate is not None:
        surrogate = surrogate_for(space, surrogate)
    elif gradients:
        surrogate = default_gradient_surrogate(space, noisy=noisy, fallback_transform=fallback_transform)
    else:
        surrogate = default_surrogate(space, noisy=noisy)
    if acquisition is None:
        acquisition = batch_log_nei() if noisy else batch_log_ei()
    elif not isinstance(acquisition, BatchAcquisition):
        acquisition = kriging_believer(acquisition, in_logs=acquisition in (log_ei, log_pi))
    joint = joint and q > 1 and acquisition.joint is not None and lattice.cardinality is None

    def optimizer_for(lattice, capacity, dtype):
        if optimizer is not None:
            return optimizer
        # Covariances, their products with the factor, and samples; their gradients hold as much again.
        row_bytes = 2 * jnp.finfo(dtype).bits // 8 * (3 * capacity + 6 * acquisition.num_samples)
        max_rows = max(1, (BYTE_BUDGET if byte_budget is None else byte_budget) // row_bytes)
        given = {"num_restarts": num_restarts, "raw_samples": raw_samples}
        sizes = {name: value for name, value in given.items() if value is not None}
        return multistart(lattice, **sizes, max_rows=max_rows, mesh=mesh)

    columns = ("noise_var", "grad") if gradients else ("noise_var",)
    optimizer_for(lattice, capacity, jnp.float32)  # complains about bad numbers now

    @keyed_init
    def init(key):
        observations = data.empty(space.num_dims, capacity, columns=columns)
        dtype = observations.X.dtype
        return BayesoptState(
            observations=observations,
            pending=data.empty_pending(space.num_dims, max_pending, dtype),
            params=surrogate.init(space.num_dims, dtype),
            shift=random_shift(key, space.num_dims),
        )

    @compiled_ask
    def ask(key, state, held=None):
        here = lattice.hold(held)
        chosen_optimizer = optimizer_for(here, state.observations.capacity, state.observations.X.dtype)
        settings = {"output_transform": output_transform, "joint": joint, "repeats": noisy}

        def model_based(design):
            return _suggest(key, here, surrogate, acquisition, chosen_optimizer, state, design, **settings)

        X, params, info = space_filling(here, state, q, num_initial, model_based)
        if noisy:
            info = info._replace(valid=jnp.ones(q, bool))
        status = status_of(info.status, state, info.valid)
        state = state._replace(params=params, pending=data.add_pending(state.pending, X, info.valid))
        return X, state, info._replace(status=status)

    def tell(state, X, y, **columns):
        return tell_state(space, state, X, y, **columns)

    predict = predictor(surrogate, lambda told: seen_by_surrogate(told, output_transform))
    return Algorithm(init, ask, tell, space, q, repeats=noisy, predict=predict, columns=columns)


def space_filling(lattice: Lattice, state: BayesoptState, q: int, num_initial: int, model_based):
    """The points of an `ask`: the design until `num_initial` points are told or pending and values differ, then the
    model's.

    Args:
        lattice: the columns of the cube.
        state: what was seen.
        q: how many points.
        num_initial: size of the design.
        model_based: from the design's next (points, validity), for a fallback, to (X, params, BayesoptInfo).
    """
    observations, pending = state.observations, state.pending
    seen = seen_points(observations, pending, q)
    filling = design(lattice, state.shift, seen, q, num_initial, observations.X.dtype)
    num_told = observations.count + jnp.sum(pending.mask, dtype=jnp.int32)
    says_nothing = is_constant(observations.y, observations.mask)

    def initial(design):
        nan = jnp.full(q, jnp.nan, observations.X.dtype)
        info = BayesoptInfo(jnp.int32(Status.INITIAL), design[1], nan, nan[0], jnp.int32(0))
        return design[0], state.params, info

    return jax.lax.cond((num_told < num_initial) | says_nothing, initial, model_based, filling)


def seen_by_surrogate(observations: data.Observations, transform: OutputTransform | None) -> data.Observations:
    """The observations with finite padding, their values and gradients transformed."""
    seen = _finite(observations)
    return seen if transform is None else transformed(seen, transform)


def observed(observations: data.Observations, transform: OutputTransform | None) -> data.Observations:
    """What the surrogate sees of the observations: failures as the worst value, all values transformed."""
    seen = _with_failures(observations)
    return seen if transform is None else transformed(seen, transform)


def _suggest(key, lattice, surrogate, acquisition, optimizer, state, design, *, output_transform, joint, repeats):
    """Fit, condition, and choose q points one after another; the design's where that is not finite."""
    q = design[0].shape[0]
    keys = jax.random.split(key, q + 2)
    observations, pending = state.observations, state.pending
    data_seen = seen_by_surrogate(observations, output_transform)
    params, fit = surrogate.fit(keys[q], data_seen, state.params)
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
        if joint:
            polished = _polish(lattice, acquisition, chosen, X)
            X = polished if repeats else keep_apart(lattice, polished, X, seen)
    if lattice.cardinality is None and not repeats:
        X, _ = replace_seen(lattice, X, seen, design[0])

    ok = fit.ok & jnp.all(jnp.isfinite(X)) & jnp.isfinite(best_f)
    info = BayesoptInfo(
        status=jnp.where(ok, Status.OK, Status.FALLBACK).astype(jnp.int32),
        valid=jnp.where(ok, valid, design[1]),
        acquisition=values,
        fit_loss=fit.loss,
        fit_evals=fit.num_evals,
    )
    return jnp.where(ok, X, design[0]), params, info


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


def _finite(observations):
    """The observations with finite padding: what failed is none of the surrogate's business."""
    X = jnp.where(jnp.all(jnp.isfinite(observations.X), axis=-1)[:, None], observations.X, 0.5)
    return observations._replace(X=X, y=jnp.where(observations.mask, observations.y, 0.0))


def _with_failures(observations):
    """Failed evaluations as if they had given the worst value seen, so that their neighbourhood is left.

    Without them a promising corner that fails would be proposed for ever. The fit sees them too: on two quadratics of
    which a third of the square fails (25 evaluations, 16 seeds) the median regret was 0.006 and 1.5e-5, against 0.021
    and 4.6e-4 when only the posterior saw them.
    """
    finite_X = jnp.all(jnp.isfinite(observations.X), axis=-1)
    failed = observations.told & ~observations.mask & finite_X
    worst = jnp.min(jnp.where(observations.mask, observations.y, jnp.inf))
    X = jnp.where(finite_X[:, None], observations.X, 0.5)
    return observations._replace(X=X, y=jnp.where(failed, worst, observations.y), mask=observations.mask | failed)


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
