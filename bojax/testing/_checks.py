"""Helpers of the conformance checks: comparing pytrees, counting traces, looping over dtypes."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

DTYPES = ("float32", "float64")


@contextlib.contextmanager
def dtype_scope(dtype: str) -> Iterator[Any]:
    """A scope in which `dtype` is JAX's default floating type; yields the dtype."""
    expect(dtype in DTYPES, f"`dtypes` must be among {DTYPES}, got {dtype!r}.")
    with jax.enable_x64(dtype == "float64"):
        yield jnp.dtype(dtype)


class Traced:
    """A jitted function that counts how often it was traced.

    Attributes:
        count: traces so far.
    """

    def __init__(self, fn: Callable) -> None:
        def counted(*args):
            self.count += 1
            return fn(*args)

        self.count = 0
        self._jitted = jax.jit(counted)

    def __call__(self, *args: Any) -> Any:
        """Call the compiled function."""
        return self._jitted(*args)


def expect(condition: Any, message: str) -> None:
    """Raise AssertionError with `message` unless `condition` holds; `python -O` removes plain asserts."""
    if not bool(condition):
        raise AssertionError(message)


def expect_equal(a: Any, b: Any, what: str) -> None:
    """Two pytrees are equal bit for bit; NaN equals NaN."""
    expect_close(a, b, what, tolerance=0.0)


def expect_close(a: Any, b: Any, what: str, *, tolerance: float) -> None:
    """Two pytrees have the same structure, shapes and dtypes, and values within `tolerance`, absolute and relative."""
    expect_same_type(a, b, what)
    for (path, x), y in zip(jax.tree.leaves_with_path(a), jax.tree.leaves(b), strict=True):
        x, y = _plain(x), _plain(y)
        if x.dtype.kind != "f":
            good = np.array_equal(x, y)
        else:
            good = np.allclose(x, y, rtol=tolerance, atol=tolerance, equal_nan=True)
        expect(good, f"{what}: the leaf {_name(path)} differs:\n{x}\nagainst\n{y}")


def expect_same_type(a: Any, b: Any, what: str) -> None:
    """Two pytrees have the same structure, and leaves of the same shape and dtype."""
    one, other = jax.tree.structure(a), jax.tree.structure(b)
    expect(one == other, f"{what}: the pytree structure differs: {one} against {other}.")
    for (path, x), y in zip(jax.tree.leaves_with_path(a), jax.tree.leaves(b), strict=True):
        kinds = [f"{jnp.result_type(leaf)}{list(np.shape(leaf))}" for leaf in (x, y)]
        expect(kinds[0] == kinds[1], f"{what}: the leaf {_name(path)} is {kinds[0]} against {kinds[1]}.")


def expect_round_trip(tree: Any, what: str) -> None:
    """A pytree survives flattening, and all its leaves are arrays."""
    leaves, structure = jax.tree.flatten(tree)
    for path, leaf in jax.tree.leaves_with_path(tree):
        expect(isinstance(leaf, (jax.Array, np.ndarray, np.generic)), f"{what}: {_name(path)} is {type(leaf)}.")
    again = jax.tree.unflatten(structure, leaves)
    expect(type(again) is type(tree), f"{what} comes back from a pytree round trip as {type(again)}.")
    expect_equal(tree, again, f"{what} after a pytree round trip")
    hash(structure)  # static parts must be hashable, or jit cannot cache


def expect_finite(tree: Any, what: str) -> None:
    """All floating leaves are finite."""
    for path, leaf in jax.tree.leaves_with_path(tree):
        if jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            expect(np.isfinite(leaf).all(), f"{what}: {_name(path)} is not finite:\n{leaf}")


def expect_dtype(tree: Any, dtype: Any, what: str) -> None:
    """All floating leaves have `dtype`."""
    for path, leaf in jax.tree.leaves_with_path(tree):
        found = jnp.result_type(leaf)
        if jnp.issubdtype(found, jnp.floating):
            expect(found == dtype, f"{what}: {_name(path)} has dtype {found}, expected {dtype}.")


def expect_fields(tree: Any, fields: tuple[str, ...], what: str) -> None:
    """An object has all of these attributes."""
    missing = [field for field in fields if not hasattr(tree, field)]
    expect(not missing, f"{what} ({type(tree).__name__}) must have the fields {list(fields)}. Missing: {missing}.")


def expect_in_cube(X: Any, what: str) -> None:
    """All coordinates lie in [0, 1]."""
    X = np.asarray(X)
    expect(((X >= 0) & (X <= 1)).all(), f"{what} must lie in the unit cube, got\n{X}")


def take(tree: Any, i: int) -> Any:
    """Entry i of every leaf."""
    return jax.tree.map(lambda leaf: leaf[i], tree)


def _plain(leaf: Any) -> np.ndarray:
    if jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return np.asarray(leaf)


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path) or "itself"
