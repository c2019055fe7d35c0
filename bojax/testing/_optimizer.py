"""Conformance check for candidate optimizers."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from bojax.optim import CandidateOptimizer, Lattice, Seen
from bojax.space import Categorical, Float, Int, Ordinal, Space
from bojax.testing import _checks as checks
from bojax.testing._checks import expect

SPACES = {
    "continuous": Space(a=Float(0.0, 1.0), b=Float(0.0, 1.0)),
    "mixed": Space(a=Float(0.0, 1.0), b=Int(1, 9), c=Categorical(["u", "v", "w"])),
    "finite": Space(a=Int(1, 4), b=Ordinal([1, 10, 100]), c=Categorical(["u", "v"])),
}


def check_optimizer(
    optimizer: CandidateOptimizer,
    *,
    spaces: Sequence[str] = tuple(SPACES),
    dtypes: Sequence[str] = checks.DTYPES,
    tolerance: float = 1e-3,
) -> None:
    """Check that a candidate optimizer is pure, finds a simple maximum, and never repeats a point of a finite space.

    On each space and in each dtype it checks:

    * the candidate is a representable point of the unit cube, and its value is that of the function;
    * results depend on the key alone and agree with and without `jit`, `vmap` and `scan`; it is traced once;
    * a function that is NaN on a part of the cube, or everywhere, is handled;
    * on a finite space no seen point is proposed, and `valid` is False exactly if none is left.

    Args:
        optimizer: the `CandidateOptimizer` to check, such as `bojax.optim.multistart()`.
        spaces: which of "continuous", "mixed" and "finite" to check; all by default.
        dtypes: which of "float32" and "float64" to check; both by default.
        tolerance: largest difference between the value found and the maximum, 1e-3 by default.

    Raises:
        AssertionError: a check fails; the message says what is wrong.

    Example:
        >>> import jax.numpy as jnp
        >>> from bojax.optim import CandidateInfo
        >>> def one_column(key, lattice, fn, seen, center):
        ...     value = fn(center[None])[0]
        ...     return center[:1], CandidateInfo(value, valid=jnp.array(True), raw_value=value)
        >>> check_optimizer(one_column, spaces=["continuous"], dtypes=["float32"])
        Traceback (most recent call last):
        AssertionError: continuous space, float32: the candidate must have shape [2], got (1,).
    """
    for name in spaces:
        for dtype in dtypes:
            with checks.dtype_scope(dtype) as scope_dtype:
                _check(optimizer, SPACES[name], f"{name} space, {dtype}", scope_dtype, tolerance)


def _check(optimizer, space, where, dtype, tolerance):
    lattice, rounded = Lattice.of(space), jax.jit(space.round)
    d = space.num_dims
    peak = space.round(jnp.asarray([0.62, 0.2, 0.9][:d], dtype))
    center = space.round(jnp.full(d, 0.1, dtype))

    def maximize(key, seen, offset, cutoff):
        def fn(X):
            value = offset - jnp.sum((X - peak[None, :]) ** 2, axis=-1)
            return jnp.where(X[:, 0] < cutoff, jnp.nan, value)

        return optimizer(key, lattice, fn, seen, center)

    capacity = 32
    none = Seen(X=jnp.full((capacity, d), 0.5, dtype), mask=jnp.zeros(capacity, bool))
    keys = jax.random.split(jax.random.key(0), 3)
    offset, cutoff = jnp.zeros((), dtype), jnp.asarray(-1.0, dtype)
    compiled = checks.Traced(maximize)
    found = compiled(keys[0], none, offset, cutoff)
    _check_candidate(rounded, space.num_dims, found, dtype, where)
    x, info = found
    expect(info.valid, f"{where}: the candidate must be valid where nothing was seen.")
    expect(info.value >= -tolerance, f"{where}: the maximum is 0 at {peak}, found {info.value} at {x}.")
    actual = -np.sum(np.square(x - peak))
    checks.expect_close(info.value, actual, f"{where}: `value` against the function", tolerance=tolerance)

    checks.expect_equal(found, compiled(keys[0], none, offset, cutoff), f"{where}: two calls with the same key")
    eager = maximize(keys[0], none, offset, cutoff)
    checks.expect_close(eager, found, f"{where}: without and with jit", tolerance=tolerance**0.5)
    half = compiled(keys[1], none, offset, jnp.asarray(0.4, dtype))
    _check_candidate(rounded, space.num_dims, half, dtype, f"{where}, NaN on a part of the cube")
    expect(half[1].value >= -tolerance, f"{where}: a part of NaN hides the maximum, found {half[1].value}.")
    nowhere = compiled(keys[1], none, offset, jnp.asarray(2.0, dtype))
    checks.expect_finite(nowhere[0], f"{where}: the candidate of a function that is NaN everywhere")

    offsets = jnp.arange(3, dtype=dtype)
    loop = [compiled(key, none, offset, cutoff) for key, offset in zip(keys, offsets, strict=True)]

    def scanned(keys, offsets):
        step = jax.vmap(maximize, (0, None, 0, None))
        inputs = keys[None], offsets[None]
        return jax.lax.scan(lambda c, xs: (c, step(xs[0], none, xs[1], cutoff)), None, inputs)[1]

    together = checks.take(jax.jit(scanned)(keys, offsets), 0)
    for i, one in enumerate(loop):
        one_value, value = one[1].value, together[1].value[i]
        checks.expect_close(one_value, value, f"{where}: vmapped in a scan and looped", tolerance=tolerance)
    if space.cardinality is not None:
        _check_finite(space, compiled, none, keys, offset, cutoff, where)
    expect(compiled.count == 1, f"{where}: traced {compiled.count} times for one shape.")


def _check_candidate(rounded, d, found, dtype, where):
    x, info = found
    checks.expect_fields(info, ("value", "valid"), f"{where}: the CandidateInfo")
    expect(x.shape == (d,), f"{where}: the candidate must have shape [{d}], got {x.shape}.")
    checks.expect_dtype(found, dtype, f"{where}: the candidate")
    checks.expect_in_cube(x, f"{where}: the candidate")
    checks.expect_equal(rounded(x), x, f"{where}: the candidate against `space.round`")


def _check_finite(space, compiled, seen, keys, offset, cutoff, where):
    """Ask for every point, one after another, then once more."""
    X, mask = np.array(seen.X), np.array(seen.mask)
    for i in range(space.cardinality):
        seen = Seen(jnp.asarray(X), jnp.asarray(mask))
        x, info = compiled(jax.random.fold_in(keys[0], i), seen, offset, cutoff)
        old = X[mask]
        expect(info.valid, f"{where}: `valid` is false with {len(old)} of {space.cardinality} points seen.")
        expect(not (old == np.asarray(x)).all(axis=1).any(), f"{where}: the seen point {x} was proposed again.")
        X[i], mask[i] = x, True
    x, info = compiled(keys[0], Seen(jnp.asarray(X), jnp.asarray(mask)), offset, cutoff)
    expect(not info.valid, f"{where}: `valid` must be false when every point was seen.")
    checks.expect_finite(x, f"{where}: the candidate of an exhausted space")
