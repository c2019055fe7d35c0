"""Population-based training in one compiled program (Jaderberg et al. 2017, arXiv:1711.09846).

Members train side by side. Periodically the worst copy parameters and hyperparameters from members among the best
(exploit) and perturb the hyperparameters (explore), so hyperparameters follow a schedule over a single run. The whole
run is one `lax.scan`, or one program per round if it is stored.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bojax._alike import Alike, alike
from bojax._runtime import as_key
from bojax._types import Key
from bojax.multifidelity import _checkpoint
from bojax.multifidelity._reads import check_reads
from bojax.multifidelity._store import RunStore
from bojax.multifidelity._stored_population import Kept, kept_in
from bojax.multifidelity._trainable import Program, Trainable
from bojax.space import Float, Space, to_space

NUM_PROGRAMS = 16
"""Number of compiled runs in the cache."""


class PBTResult(NamedTuple):
    """A run of population-based training, r rounds of n members.

    Attributes:
        X: [r, n, d] hyperparameters of the members in each round, in the unit cube.
        values: [r, n] the tuned metric at the end of each round, in the objective's own direction.
        parents: [r, n] whose state each member continues with after the round.
        best_params: hyperparameters of the best member in the last round, plain values.
        best_value: its value.
        best_metrics: all its metrics.
        schedule: the tuned hyperparameters of the best member's lineage over the rounds, arrays [r].
        total_steps: total steps of all members.
    """

    X: np.ndarray
    values: np.ndarray
    parents: np.ndarray
    best_params: dict[str, Any]
    best_value: float
    best_metrics: dict[str, float]
    schedule: dict[str, np.ndarray]
    total_steps: int


class Explore(NamedTuple):
    """How the tuned hyperparameters of a replaced member change.

    Attributes:
        step: change by plus or minus this fraction of the range (of its logarithm on a log scale); in [0, 1].
        resample: probability of redrawing one instead.
    """

    step: Any = 0.1
    resample: Any = 0.1


EXPLORE = Explore()


class Contest(NamedTuple):
    """The static half of a run.

    Attributes:
        space: the hyperparameters.
        metric: which metric is compared.
        sign: 1 if larger is better, otherwise -1.
        population: number of members.
        num_rounds: number of comparisons.
        num_replaced: members replaced in each round.
    """

    space: Space
    metric: str
    sign: float
    population: int
    num_rounds: int
    num_replaced: int


class Trace(NamedTuple):
    """The result of `run_pbt`, arrays with a leading axis of rounds; see `PBTResult`."""

    X: jax.Array
    metrics: dict[str, jax.Array]
    parents: jax.Array


def pbt(
    objective: Trainable,
    *,
    population: int = 16,
    num_rounds: int = 20,
    num_steps: int | None = None,
    tune: Sequence[str] | None = None,
    fixed: Mapping[str, Any] | None = None,
    share: float = 0.2,
    explore: Explore = EXPLORE,
    seed: int = 0,
    storage: Any = None,
) -> PBTResult:
    """Population-based training.

    Args:
        objective: the training run; all members have the same structure.
        population: number of members, >= 2.
        num_rounds: number of comparisons, >= 1.
        num_steps: total steps of a member, at least `num_rounds`; by default a full run of the objective. They are
            divided evenly among the rounds, rounded down.
        tune: hyperparameters to tune; by default all `Float` ones that are not fixed.
        fixed: plain values of the others; by default the middle of their range.
        share: fraction of the population that is replaced, and that replaces, in each round; in (0, 0.5].
        explore: how the hyperparameters of a replaced member change.
        seed: seed of all randomness.
        storage: where every member of every round is stored as a trial: an Optuna storage or its URL. The same call
            resumes an interrupted run with the result of an uninterrupted one. A member's state comes from several
            others, so without the checkpoint of a `RunStorage` earlier rounds are trained again.

    Returns:
        The trace and the best member.

    Raises:
        ValueError: a number is out of range.
        KeyError: a name is not in the space.
        StudyError: the storage holds another run of that name.

    Example:
        >>> import bojax
        >>> from bojax import multifidelity
        >>> bowl = multifidelity.from_functions(
        ...     bojax.Space(x=bojax.Float(-1.0, 1.0)),
        ...     init=lambda key, hparams: 0.0,
        ...     advance=lambda state, hparams, num_steps: state + num_steps,
        ...     evaluate=lambda state, hparams: {"loss": hparams["x"] ** 2 + 1.0 / state},
        ...     metric="loss", direction="minimize", num_steps=9)
        >>> result = multifidelity.pbt(bowl, population=4, num_rounds=3)
        >>> result.values.shape, result.total_steps
        ((3, 4), 36)
    """
    space = to_space(objective.space)
    if space.is_conditional:
        conditional = [name for name in space if space[name].when]
        raise ValueError(f"`objective.space` must have no parameters with `when` in `pbt`, got {conditional}.")
    if space.constraints:
        raise ValueError(
            f"`objective.space` must have no constraints in `pbt`, whose members move without them, got {space!r}. "
            "Make infeasible members fail in the objective instead."
        )
    floats = [name for name in space if isinstance(space[name], Float) and name not in (fixed or {})]
    names = floats if tune is None else list(tune)
    num_steps = objective.num_steps if num_steps is None else num_steps
    _check(space, names, fixed or {}, population, num_rounds, num_steps, share, explore)
    interval = num_steps // num_rounds
    params = space.to_params(np.full(space.num_dims, 0.5)) | dict(fixed or {})
    middle = np.asarray(space.from_params(params), float)
    tuned = np.array([name in names for name in space])
    program = objective.program(objective.structure(_row(space, middle)))
    check_reads(objective, _rows(space, middle), names)
    sign = 1.0 if objective.direction == "maximize" else -1.0
    contest = Contest(space, objective.metric, sign, population, num_rounds, max(1, int(share * population)))
    arrays = (jax.random.key(seed), jnp.asarray(middle, jnp.float32), jnp.asarray(tuned))
    settings = {"population": population, "num_rounds": num_rounds, "max_steps": interval * num_rounds, "tune": names}
    settings |= {"fixed": dict(fixed or {}), "share": share, **explore._asdict(), "seed": seed}
    kept = kept_in(storage, objective, "pbt", settings)
    if kept.store is None:
        trace = _compiled_run(alike(program), contest)(*arrays, interval, explore)
    else:
        trace = _stored_run(kept, _compiled_rounds(alike(program), contest), arrays, (interval, explore))
    return _result(jax.device_get(trace), space, names, objective.metric, sign, interval)


def run_pbt(
    key: Key,
    middle: jax.Array,
    tuned: jax.Array,
    interval: Any,
    explore: Explore,
    *,
    program: Program,
    contest: Contest,
) -> Trace:
    """The whole run as a pure function, to be jitted (and vmapped over `key`).

    Hyperparameters that are not `tuned` ([d] bool) stay at `middle` [d] in the unit cube. Members train for `interval`
    steps per round.
    """
    carry, keys = begin(key, middle, tuned, program=program, contest=contest)

    def turn(carry, key):
        return one_round(carry, key, tuned, interval, explore, program=program, contest=contest)

    return jax.lax.scan(turn, carry, keys)[1]


def begin(
    key: Key, middle: jax.Array, tuned: jax.Array, *, program: Program, contest: Contest
) -> tuple[tuple[jax.Array, Any], jax.Array]:
    """Hyperparameters [n, d] and states of the members before the first round, and the keys of the rounds."""
    draw_key, init_key, rounds_key = jax.random.split(key, 3)
    draw_key, rounds_key = as_key(draw_key), as_key(rounds_key)
    X = jnp.where(tuned, jax.random.uniform(draw_key, (contest.population, middle.shape[0]), middle.dtype), middle)
    state = jax.vmap(program.init)(jax.random.split(init_key, contest.population), contest.space.decode(X))
    return (X, state), jax.random.split(rounds_key, contest.num_rounds)


def one_round(
    carry: tuple[jax.Array, Any],
    key: Key,
    tuned: jax.Array,
    interval: Any,
    explore: Explore,
    *,
    program: Program,
    contest: Contest,
) -> tuple[tuple[jax.Array, Any], Trace]:
    """Training, comparison and the next hyperparameters; arguments as in `run_pbt`."""
    X, state = carry
    hparams = contest.space.decode(X)
    state = jax.vmap(program.advance, in_axes=(0, 0, None))(state, hparams, interval)
    metrics = jax.vmap(program.evaluate)(state, hparams)
    values = contest.sign * metrics[contest.metric]
    values = jnp.where(jnp.isfinite(values), values, -jnp.inf)
    parents = exploit(jax.random.fold_in(key, 0), values, contest.num_replaced)
    moved = explored(jax.random.fold_in(key, 1), X[parents], tuned, *explore)
    replaced = parents != jnp.arange(len(parents), dtype=parents.dtype)
    after = jnp.where(replaced[:, None], moved, X)
    return (after, jax.tree.map(lambda leaf: leaf[parents], state)), Trace(X, metrics, parents)


@functools.lru_cache(maxsize=NUM_PROGRAMS)
def _compiled_run(what: Alike, contest: Contest) -> Any:
    """`run_pbt`, shared by equivalent programs."""
    return jax.jit(functools.partial(run_pbt, program=what.value[0], contest=contest))


@functools.lru_cache(maxsize=NUM_PROGRAMS)
def _compiled_rounds(what: Alike, contest: Contest) -> tuple[Any, Any]:
    """`begin` and `one_round`, shared by equivalent programs."""
    begun, turn = (functools.partial(fn, program=what.value[0], contest=contest) for fn in (begin, one_round))
    return jax.jit(begun), jax.jit(turn)


def _stored_run(kept: Kept, functions: tuple[Any, Any], arrays: tuple, moves: tuple[int, Explore]) -> Trace:
    """The run round by round; each round is stored before the next one begins."""
    assert kept.store is not None, "there is a store"
    (start, turn), tuned = functions, arrays[2]
    carry, keys = start(*arrays)
    row = jax.eval_shape(turn, carry, keys[0], tuned, *moves)[1]
    trace = jax.tree.map(lambda leaf: np.zeros((len(keys), *leaf.shape), leaf.dtype), row)
    path = kept.path()
    loaded = None if path is None else _checkpoint.load(path, (carry, trace))
    first = 0
    if loaded is not None:
        (carry, trace), first = loaded
        trace = jax.tree.map(np.array, trace)
    for number in range(first):  # the last of them may not be stored
        _record_round(kept.store, trace, number, moves[0])
    for number in range(first, len(keys)):
        carry, row = turn(carry, keys[number], tuned, *moves)
        for buffer, leaf in zip(jax.tree.leaves(trace), jax.tree.leaves(jax.device_get(row)), strict=True):
            buffer[number] = leaf
        if path is not None:
            _checkpoint.save(path, (carry, trace), number + 1)
        _record_round(kept.store, trace, number, moves[0])
    return trace


def _record_round(store: RunStore, trace: Trace, number: int, interval: int) -> None:
    """Stores a round, each member as a trial; a stored member is only compared."""
    population = trace.X.shape[1]
    trials = range(number * population, (number + 1) * population)
    for member, trial in enumerate(trials):
        metrics = {name: float(column[number, member]) for name, column in trace.metrics.items()}
        store.record(trial, np.asarray(trace.X[number, member], float), (number + 1) * interval, metrics)
    store.finish(trials, 0)


def exploit(key: Key, values: jax.Array, num_replaced: int) -> jax.Array:
    """Truncation selection: [n] whose state each member takes. Each of the worst takes that of a random best one."""
    order = jnp.argsort(-values)
    best, worst = order[:num_replaced], order[-num_replaced:]
    chosen = best[jax.random.randint(key, (num_replaced,), 0, num_replaced, jnp.int32)]
    return jnp.arange(values.shape[0], dtype=order.dtype).at[worst].set(chosen)


def explored(key: Key, X: jax.Array, tuned: jax.Array, step: Any, resample: Any) -> jax.Array:
    """[n, d] points changed in the tuned columns: moved by plus or minus `step`, or redrawn."""
    sign_key, anew_key, draw_key = jax.random.split(key, 3)
    signs = jnp.where(jax.random.bernoulli(sign_key, jnp.asarray(0.5, X.dtype), X.shape), 1.0, -1.0).astype(X.dtype)
    moved = jnp.clip(X + step * signs, 0.0, 1.0)
    anew = jax.random.bernoulli(anew_key, jnp.asarray(resample, X.dtype), X.shape)
    return jnp.where(tuned, jnp.where(anew, jax.random.uniform(draw_key, X.shape, X.dtype), moved), X)


def _result(trace: Trace, space: Space, names: list[str], metric: str, sign: float, interval: int) -> PBTResult:
    values = np.asarray(trace.metrics[metric], float)
    last = np.where(np.isfinite(values[-1]), sign * values[-1], -np.inf)
    best = int(np.argmax(last))
    line, member = [], best
    for turn in range(len(values) - 1, -1, -1):
        member = member if turn == len(values) - 1 else int(trace.parents[turn][member])
        line.append(trace.X[turn][member])
    columns = [space.to_params(np.asarray(x, float)) for x in reversed(line)]
    return PBTResult(
        X=np.asarray(trace.X, float),
        values=values,
        parents=np.asarray(trace.parents),
        best_params=columns[-1],
        best_value=float(values[-1][best]),
        best_metrics={name: float(column[-1][best]) for name, column in trace.metrics.items()},
        schedule={name: np.array([params[name] for params in columns]) for name in names},
        total_steps=values.size * interval,
    )


def _row(space: Space, x: np.ndarray) -> dict[str, Any]:
    return {name: column[0] for name, column in _rows(space, x).items()}


def _rows(space: Space, x: np.ndarray) -> dict[str, np.ndarray]:
    """The native values of one point, arrays [1]."""
    return {name: np.asarray(column) for name, column in space.decode(jnp.asarray(x)[None]).items()}


def _check(space, names, fixed, population, num_rounds, num_steps, share, explore):
    step, resample = explore
    for name in (*names, *fixed):
        if name not in list(space):
            raise KeyError(f"the space has no hyperparameter {name!r}; it has {list(space)}.")
    if not names:
        raise ValueError("`tune` must name a hyperparameter; none of this space is a Float.")
    if population < 2 or num_rounds < 1:
        raise ValueError(
            f"`population` must be at least 2 and `num_rounds` at least 1, got {population} and {num_rounds}."
        )
    if num_steps < num_rounds:
        raise ValueError(f"`num_steps` must be at least `num_rounds` = {num_rounds}, got {num_steps}.")
    both = [name for name in names if name in fixed]
    if both:
        raise ValueError(f"`fixed` must not name what is tuned, got {both}.")
    if not 0 < share <= 0.5:
        raise ValueError(f"`share` must lie in (0, 0.5], got {share}.")
    if not (0 <= step <= 1 and 0 <= resample <= 1):
        raise ValueError(f"`step` and `resample` of `explore` must lie in [0, 1], got {step} and {resample}.")
