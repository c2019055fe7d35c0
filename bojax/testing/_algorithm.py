"""Conformance check for algorithms."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from bojax._errors import Status
from bojax._types import Array
from bojax.loop import Algorithm
from bojax.testing import _checks as checks
from bojax.testing._checks import expect


def check_algorithm(
    algorithm: Algorithm,
    objective: Callable[[Array], Array] | None = None,
    *,
    num_rounds: int = 6,
    num_keys: int = 2,
    dtypes: Sequence[str] = checks.DTYPES,
    tolerance: float = 1e-3,
) -> None:
    """Check that an algorithm consists of pure functions that can be compiled, scanned and vmapped.

    In each dtype it checks:

    * State and Info have the required fields;
    * points are in the unit cube and representable;
    * points that were asked are pending until they are told;
    * results depend on the key alone;
    * `ask` and `tell` are traced once for all rounds, and agree with and without `jit`, in a loop and in a vmapped
      `lax.scan`;
    * failed observations (NaN, infinite) are masked and do not break the next `ask`.

    Args:
        algorithm: the `Algorithm` to check; its buffers must hold `(num_rounds + 1) * q` observations.
        objective: traceable function from points [q, d] to values [q]; a smooth bowl by default.
        num_rounds: number of rounds of ask and tell, enough to leave the initial design; 6 by default.
        num_keys: number of studies that run side by side, 2 by default.
        dtypes: which of "float32" and "float64" to check; both by default.
        tolerance: largest distance between the points of a vmapped study and those of a loop (in float32 only the first
            ones are compared), 1e-3 by default. Different programs round differently, and inner optimizers then stop at
            slightly different points.

    Raises:
        AssertionError: a check fails; the message says what is wrong.

    Example:
        >>> import bojax
        >>> algorithm = bojax.random_search(bojax.Space(x=bojax.Float(0.0, 1.0)))
        >>> check_algorithm(algorithm._replace(columns=()), dtypes=["float32"])
        Traceback (most recent call last):
        AssertionError: `Algorithm.columns` must name the columns that a State keeps, ['noise_var'], got [].
    """
    for dtype in dtypes:
        with checks.dtype_scope(dtype) as scope_dtype:
            _check(algorithm, objective or _bowl, num_rounds, num_keys, scope_dtype, tolerance)


def _bowl(X):
    """A bowl without symmetry, so that no acquisition has two equal maxima."""
    slopes = jnp.arange(1, X.shape[-1] + 1, dtype=X.dtype)[None, :]
    return -jnp.sum(slopes * (X - 0.3 - 0.02 * slopes) ** 2, axis=-1)


def _check(algorithm, objective, num_rounds, num_keys, dtype, tolerance):
    keys = jax.random.split(jax.random.key(0), num_keys)
    _check_init(algorithm, algorithm.init(keys[0]), keys[0], dtype)

    ask, tell, rounded = checks.Traced(algorithm.ask), checks.Traced(algorithm.tell), jax.jit(algorithm.space.round)
    value = jax.jit(lambda X: objective(X).astype(dtype))

    def study(key):
        key_init, key_steps = jax.random.split(key)
        state = algorithm.init(key_init)
        rows = []
        for step_key in jax.random.split(key_steps, num_rounds):
            before = state
            X, state, info = ask(step_key, before)
            _check_ask(rounded, before, X, state, info, dtype)
            rows.append((X, info))
            state = tell(state, X, value(X))
            _check_told(before, state, X)
        return state, rows[-1]

    finals = [study(key) for key in keys]
    expect(
        ask.count == 1, f"`ask` was traced {ask.count} times for one shape: a State changes shape, dtype or statics."
    )
    expect(tell.count == 1, f"`tell` was traced {tell.count} times for one shape.")
    checks.expect_equal(finals[0], study(keys[0]), "a study run twice with the same key")

    state = finals[0][0]
    compiled = ask(keys[1], state)
    checks.expect_equal(compiled, ask(keys[1], state), "`ask` called twice with the same key")
    checks.expect_close(algorithm.ask(keys[1], state), compiled, "`ask` without and with jit", tolerance=tolerance)
    X, asked, _ = compiled
    told = tell(asked, X, value(X))
    checks.expect_close(algorithm.tell(asked, X, value(X)), told, "`tell` without and with jit", tolerance=0.0)

    _check_scan(algorithm, value, keys, [final for final, _ in finals], num_rounds, tolerance)
    _check_failures(algorithm, rounded, ask, tell, state, X.shape[0], keys)


def _check_init(algorithm, state, key, dtype):
    checks.expect_fields(state, ("observations", "pending"), "the State")
    checks.expect_fields(state.observations, ("X", "y", "mask", "count"), "`State.observations`")
    checks.expect_fields(state.pending, ("X", "mask"), "`State.pending`")
    kept = sorted(state.observations.columns)
    expect(
        kept == sorted(algorithm.columns),
        f"`Algorithm.columns` must name the columns that a State keeps, {kept}, got {sorted(algorithm.columns)}.",
    )
    expect(int(state.observations.count) == 0, "`init` must give a State without observations.")
    expect(not np.any(state.observations.mask), "`init` must give a State whose observation mask is off.")
    expect(not np.any(state.pending.mask), "`init` must give a State with nothing pending.")
    checks.expect_dtype(state.observations, dtype, "`State.observations`")
    checks.expect_round_trip(state, "the State")
    checks.expect_equal(state, algorithm.init(key), "`init` called twice with the same key")


def _check_ask(rounded, before, X, state, info, dtype):
    checks.expect_same_type(before, state, "the State before and after `ask`")
    checks.expect_fields(info, ("status", "valid"), "the Info")
    status, valid, d = np.asarray(info.status), np.asarray(info.valid), before.observations.X.shape[-1]
    expect(status.shape == () and status.dtype == np.int32, f"`Info.status` must be one int32, got {status!r}.")
    expect(int(status) in set(Status), f"`Info.status` must be a `Status` code, got {int(status)}.")
    expect(X.ndim == 2 and X.shape[1] == d, f"`ask` must give X [q, {d}], got {X.shape}.")
    expect(valid.shape == X.shape[:1] and valid.dtype == bool, f"`Info.valid` must be bool [q], got {valid!r}.")
    checks.expect_dtype(X, dtype, "`X` from `ask`")
    checks.expect_finite(X, "`X` from `ask`")
    checks.expect_in_cube(X, "`X` from `ask`")
    checks.expect_equal(rounded(X), X, "`X` from `ask` against `space.round(X)`")
    expect(
        valid.all() == (int(status) != Status.EXHAUSTED) or int(status) == Status.OVERFLOW,
        f"`Info.valid` {valid} does not fit the status {Status(int(status)).name}.",
    )
    checks.expect_equal(before.observations, state.observations, "the observations before and after `ask`")
    for x in np.asarray(X)[valid]:
        pending = np.asarray(state.pending.X)[np.asarray(state.pending.mask)]
        expect((pending == x).all(axis=1).any(), f"the point {x} from `ask` is not among the pending ones:\n{pending}")


def _check_told(before, state, X):
    count = int(before.observations.count)
    checks.expect_same_type(before, state, "the State before `ask` and after `tell`")
    expect(int(state.observations.count) == count + X.shape[0], "`tell` must count every row it is told.")
    left = np.asarray(state.pending.mask) & ~np.asarray(before.pending.mask)
    expect(not left.any(), "what was asked and told must not stay pending after `tell`.")
    stored = np.asarray(state.observations.X)[count : count + X.shape[0]]
    checks.expect_equal(stored, X, "the rows that `tell` stored")


def _check_scan(algorithm, value, keys, finals, num_rounds, tolerance):
    def study(key):
        key_init, key_steps = jax.random.split(key)

        def step(state, key):
            X, state, _ = algorithm.ask(key, state)
            return algorithm.tell(state, X, value(X)), None

        return jax.lax.scan(step, algorithm.init(key_init), jax.random.split(key_steps, num_rounds))[0]

    together = jax.device_get(jax.jit(jax.vmap(study))(keys))
    for i, final in enumerate(finals):
        checks.expect_same_type(checks.take(together, i), final, "the State of a vmapped scan and of a loop")
        checks.expect_equal(
            together.observations.mask[i], final.observations.mask, "the masks of a vmapped scan and of a loop"
        )
        # Single precision rounds so much that two programs may choose different points; the first ones must agree.
        rows = len(final.observations.X) if final.observations.X.dtype == jnp.float64 else 1
        checks.expect_close(
            together.observations.X[i, :rows],
            final.observations.X[:rows],
            "the points of a vmapped scan and of a loop",
            tolerance=tolerance,
        )
        checks.expect_finite(together.observations.X[i], "the points of a vmapped scan")


def _check_failures(algorithm, rounded, ask, tell, state, q, keys):
    for bad in (np.nan, np.inf, -np.inf):
        X, asked, _ = ask(keys[0], state)
        failed = tell(asked, X, np.full(q, bad, X.dtype))
        expect(
            int(np.sum(failed.observations.mask)) == int(np.sum(state.observations.mask)),
            f"an observation of {bad} must be masked, or it becomes the incumbent.",
        )
        X, asked, info = ask(keys[1], failed)
        _check_ask(rounded, failed, X, asked, info, X.dtype)
    fresh = algorithm.init(keys[0])
    for key in jax.random.split(keys[0], 3):  # nothing but failures, past the initial design where that is short
        X, asked, info = ask(key, fresh)
        _check_ask(rounded, fresh, X, asked, info, X.dtype)
        fresh = tell(asked, X, np.full(q, np.nan, X.dtype))
    expect(not np.any(fresh.observations.mask), "failed observations must be masked.")
