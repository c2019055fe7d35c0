"""Whole studies as one compiled program, one or many."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import PartitionSpec

from bojax._alike import Alike, alike
from bojax._runtime import UserSettings, as_key, as_user, host_scope, own_settings, user_settings
from bojax._types import Array, Float, Key, Shaped
from bojax.data import empty_pending, resize
from bojax.loop._algorithm import Algorithm
from bojax.space import Lattice, Space, check_choices

Objective = Callable[..., Any]
PARALLEL = ("auto", "vmap", "map", "shard")


def run(key: Key, algorithm: Algorithm, f: Objective, num_steps: int, *, state: Any = None) -> Any:
    """Run a study of `num_steps` rounds of ask, evaluate, tell under `lax.scan`.

    The study uses float64 (float32 on TPU) regardless of JAX's global setting; `f` is traced under the caller's setting
    and sees floats of that type.

    Args:
        key: random key.
        algorithm: the algorithm, such as `bayesopt(space)`.
        f: the objective, traceable, larger is better. It takes a dict of arrays as `space.decode` returns them (floats,
            integers, positions of ordinals and categories). It either maps arrays of shape [q] to [q], or scalars to a
            scalar; the latter is vmapped.
        num_steps: rounds, >= 1; each evaluates q points.
        state: a state to continue from; by default a new one.

    Returns:
        The final state, with NumPy arrays (or tracers, when called inside a compiled function). Its buffer has exactly
        the rows the study needs; to continue, `grow` it, in a `host_scope` to stay in float64. Diagnostics of the steps
        are not kept.

    Raises:
        ValueError: when `num_steps` is below 1 or `f` does not return one value per point.
        TypeError: when `algorithm` is not an `Algorithm`.

    Example:
        >>> import jax, bojax
        >>> algorithm = bojax.random_search(bojax.Space(x=bojax.Float(0.0, 1.0)))
        >>> final = run(jax.random.key(0), algorithm, lambda params: -((params["x"] - 0.3) ** 2), num_steps=50)
        >>> best = final.observations.X[final.observations.y.argmax()]
        >>> round(float(best[0]), 1)
        0.3
    """
    _check(algorithm, num_steps)
    num_new = num_steps * algorithm.q
    user, key = user_settings(), as_key(key)
    if isinstance(key, Tracer):
        with own_settings():
            state = state if state is None else _with_room(state, num_new)
            return _study(key, state, algorithm, f, num_steps, user)
    with host_scope():
        state = state if state is None else _with_room(state, num_new)
        return jax.device_get(_run_compiled(alike(algorithm, f), num_steps, user)(key, state))


def run_many(
    keys: Shaped[Array, "..."],
    algorithm: Algorithm | Callable[[Any], Algorithm],
    f: Objective,
    num_steps: int,
    *,
    settings: Any = None,
    parallel: str = "auto",
) -> Any:
    """Run one study per key, side by side.

    Args:
        keys: [b] random keys, as `jax.random.split` returns them.
        algorithm: the algorithm, such as `bayesopt(space)`; with `settings`, a function from the settings of one study
            to its algorithm.
        f: the objective, as for `run`. With `settings` it may take those of its study as a second argument. An
            algorithm for a `Lattice`, which has no names, gives it points [q, d] (or [d]) of the cube.
        num_steps: rounds of each study, >= 1.
        settings: numeric settings of the studies, a pytree of arrays whose first axis has length b. All studies share
            one program. Numbers such as the constants of priors, noise variances and `beta` may differ between them;
            settings that change the program (`q`, `num_initial`, the kernel) may not. Spaces may differ as well:
            `bojax.space.Lattice.stack(spaces)`, with the algorithm `bojax.bayesopt`.
        parallel: "vmap" runs all studies in step, which suits accelerators; "map" runs one after another in one
            program, which is 1.7 times faster on one CPU device; "shard" divides them among JAX's devices; "auto"
            shards if there are several devices, otherwise vmaps on accelerators and maps on CPU.

    Returns:
        The final states, stacked along a first axis of length b, with NumPy arrays.

    Raises:
        ValueError: when `num_steps` is below 1, `keys` is not a vector, an array of `settings` does not have one row
            per key, or `parallel` is not one of these.
        TypeError: when `algorithm` is not an `Algorithm`, or with `settings` not a function that returns one.

    Example:
        Random search with two keys, and the upper confidence bound with two weights of the variance:

        >>> import jax, numpy as np, bojax
        >>> space = bojax.Space(x=bojax.Float(0.0, 1.0))
        >>> keys = jax.random.split(jax.random.key(0), 2)
        >>> finals = run_many(keys, bojax.random_search(space), lambda params: params["x"], num_steps=3)
        >>> finals.observations.y.shape
        (2, 3)
        >>> def algorithm(settings):
        ...     return bojax.bayesopt(space, acquisition=bojax.acquisition.ucb(settings["beta"]), num_initial=2)
        >>> settings = {"beta": np.array([0.0, 4.0])}
        >>> finals = run_many(keys, algorithm, lambda params: params["x"], num_steps=2, settings=settings)
        >>> finals.observations.y.shape
        (2, 2)
    """
    keys = as_key(keys)
    if jnp.ndim(keys) != 1:
        raise ValueError(f"`keys` must be a vector of keys, got the shape {list(jnp.shape(keys))}.")
    if parallel not in PARALLEL:
        raise ValueError(f"`parallel` must be 'auto', 'vmap', 'map' or 'shard', got {parallel!r}.")
    if settings is None:
        _check(algorithm, num_steps)
    else:
        settings = _checked_settings(settings, algorithm, num_steps, keys.shape[0])
    user = user_settings()
    if parallel == "auto":
        several = jax.local_device_count() > 1
        parallel = "shard" if several else "map" if jax.default_backend() == "cpu" else "vmap"
    if any(isinstance(leaf, Tracer) for leaf in (keys, *jax.tree.leaves(settings))):
        with own_settings():
            return _many(keys, settings, algorithm, f, num_steps, user, parallel)
    with host_scope():
        return jax.device_get(_run_many_compiled(alike(algorithm, f), num_steps, user, parallel)(keys, settings))


def _checked_settings(settings, make, num_steps, num_studies):
    """The settings as arrays with one row per study."""
    settings = jax.tree.map(lambda leaf: leaf if isinstance(leaf, Tracer) else np.asarray(leaf), settings)
    for path, leaf in jax.tree_util.tree_leaves_with_path(settings):
        if leaf.ndim < 1 or leaf.shape[0] != num_studies:
            raise ValueError(
                f"`settings` must hold arrays with one row for each of the {num_studies} keys, got the shape "
                f"{list(leaf.shape)} at settings{jax.tree_util.keystr(path)}."
            )
    if isinstance(make, Algorithm) or not callable(make):
        raise TypeError(
            "`algorithm` must be a function from the settings of one study to its Algorithm where `settings` are "
            f"given, got {type(make).__name__}."
        )
    _check(make(jax.tree.map(lambda leaf: leaf[0], settings)), num_steps)
    return settings


def _check(algorithm, num_steps):
    if not isinstance(algorithm, Algorithm):
        raise TypeError(
            f"`algorithm` must be an Algorithm, such as bojax.bayesopt(space), got {type(algorithm).__name__}."
        )
    if num_steps < 1:
        raise ValueError(f"`num_steps` must be at least 1, got {num_steps}.")


NUM_PROGRAMS = 16
"""Number of programs in the cache. Equivalent algorithms and objectives share a program."""


@functools.lru_cache(maxsize=NUM_PROGRAMS)
def _run_compiled(what: Alike, num_steps: int, user: UserSettings) -> Callable[..., Any]:
    algorithm, f = what.value
    return jax.jit(lambda key, state: _study(key, state, algorithm, f, num_steps, user))


@functools.lru_cache(maxsize=NUM_PROGRAMS)
def _run_many_compiled(what: Alike, num_steps: int, user: UserSettings, parallel: str) -> Callable[..., Any]:
    algorithm, f = what.value
    return jax.jit(lambda keys, settings: _many(keys, settings, algorithm, f, num_steps, user, parallel))


def _many(keys, settings, algorithm, f, num_steps, user, parallel):
    def study(row):
        key, setting = row
        if setting is None:
            return _study(key, None, algorithm, f, num_steps, user)
        objective = functools.partial(_with_setting, f, _in_precision(setting, user)) if _takes_setting(f) else f
        return _study(key, None, algorithm(setting), objective, num_steps, user)

    rows = keys, settings
    if parallel == "vmap":
        return jax.vmap(study)(rows)
    if parallel == "map":
        return jax.lax.map(study, rows)
    num_devices = jax.local_device_count()
    inner = (lambda rows: jax.lax.map(study, rows)) if jax.default_backend() == "cpu" else jax.vmap(study)
    num_studies = keys.shape[0]
    wrapped = jnp.arange(-(-num_studies // num_devices) * num_devices) % num_studies
    padded = jax.tree.map(lambda leaf: jnp.asarray(leaf)[wrapped], rows)
    axis_types = (jax.sharding.AxisType.Auto,)
    mesh = jax.make_mesh((num_devices,), ("studies",), axis_types=axis_types, devices=jax.local_devices())
    spec = PartitionSpec("studies")
    finals = jax.shard_map(inner, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)(padded)
    return jax.tree.map(lambda leaf: leaf[:num_studies], finals)


def _in_precision(tree, user):
    """Arrays in the caller's precision."""
    if user.enable_x64:
        return tree
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float32) if leaf.dtype == jnp.float64 else leaf, tree)


def _with_setting(f, setting, params):
    return f(params, setting)


def _takes_setting(f: Callable) -> bool:
    """Whether an objective has a second positional argument without a default."""
    try:
        parameters = list(inspect.signature(f).parameters.values())
    except (TypeError, ValueError):  # not every callable has a signature
        return False
    places = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return len([p for p in parameters if p.kind in places and p.default is p.empty]) == 2


def _study(key, state, algorithm, f, num_steps, user):
    key_init, key_steps = jax.random.split(key)
    q = algorithm.q
    slots = None
    if state is None:
        state = algorithm.init(key_init)
        slots = state.pending
        dtype = state.observations.X.dtype
        # Each `ask` is followed by its `tell`, so no slots for pending points are needed.
        state = state._replace(
            observations=resize(state.observations, num_steps * q),
            pending=empty_pending(algorithm.space.num_dims, 0, dtype),
        )
    dtype = state.observations.X.dtype
    evaluate = _evaluator(algorithm.space, f, q, dtype, user)

    def step(state, key):
        X, state, _ = algorithm.ask(key, state)
        return algorithm.tell(state, X, evaluate(X)), None

    final = jax.lax.scan(step, state, jax.random.split(key_steps, num_steps))[0]
    return final if slots is None else final._replace(pending=slots)


def _with_room(state, num_new):
    """Room for exactly the rows of the study: the cost of a factorization depends on capacity, not count."""
    count = state.observations.count
    told = state.observations.capacity if isinstance(count, Tracer) else int(count)
    return state._replace(observations=resize(state.observations, told + num_new))


def _evaluator(space, f, q, dtype, user) -> Callable[[Float[Array, "q d"]], Float[Array, "q"]]:
    """`f` as a function of X in the caller's precision, vmapped if it takes scalars."""

    def decode(X):
        return _in_precision(X if isinstance(space, Lattice) else space.decode(X), user)

    def shape_of(function, num_points):
        shape = (num_points, space.num_dims) if num_points else (space.num_dims,)
        params = jax.eval_shape(decode, jax.ShapeDtypeStruct(shape, dtype))
        with as_user(user):
            return jax.eval_shape(function, params)

    point = jax.eval_shape(decode, jax.ShapeDtypeStruct((space.num_dims,), dtype))
    if isinstance(space, Space):
        with as_user(user):
            check_choices(space, f, point)
    function = f
    if not _gives(shape_of, f, q, (q,)):
        if not _gives(shape_of, f, 0, ()):
            got = shape_of(f, q)
            raise ValueError(
                f"`f` must return one value a point: shape [{q}] for a dict of [{q}] arrays, or a scalar for a dict of "
                f"scalars; got {got}."
            )
        function = jax.vmap(f)

    def evaluate(X):
        params = decode(X)
        with as_user(user):
            y = function(params)
        return y.astype(dtype)

    return evaluate


def _gives(shape_of, f, num_points, wanted) -> bool:
    """Whether `f` can be traced at this shape and returns the wanted one. Its error is shown if both shapes fail."""
    try:
        out = shape_of(f, num_points)
    except Exception:
        return False
    return getattr(out, "shape", None) == wanted
