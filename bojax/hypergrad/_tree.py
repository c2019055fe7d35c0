"""Arithmetic on pytrees of floating arrays."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from bojax._types import Array


def dot(a: Any, b: Any) -> Array:
    """The inner product of two trees, in the full precision of their dtype."""
    products = jax.tree.map(lambda x, y: jnp.sum(x * y), a, b)
    return jnp.sum(jnp.stack(jax.tree.leaves(products)))


def norm(a: Any) -> Array:
    """The Euclidean norm of a tree."""
    return jnp.sqrt(dot(a, a))


def add(a: Any, scale: Any, b: Any) -> Any:
    """a + scale b, each leaf in the dtype of a."""
    return jax.tree.map(lambda x, y: x + (scale * y).astype(x.dtype), a, b)


def scaled(scale: Any, a: Any) -> Any:
    """scale a, each leaf in its own dtype."""
    return jax.tree.map(lambda x: (scale * x).astype(x.dtype), a)


def zeros_like(a: Any) -> Any:
    """A tree of zeros."""
    return jax.tree.map(jnp.zeros_like, a)


def where(flag: Any, a: Any, b: Any) -> Any:
    """a where the scalar flag holds, else b."""
    return jax.tree.map(lambda x, y: jnp.where(flag, x, y), a, b)


def all_finite(*trees: Any) -> Array:
    """Whether every entry of every leaf is finite."""
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(trees)]))


def size(a: Any) -> int:
    """The number of entries."""
    return sum(leaf.size for leaf in jax.tree.leaves(a))


def dtype(a: Any) -> Any:
    """The dtype that the leaves promote to."""
    return jnp.result_type(*jax.tree.leaves(a))


def on_flat(matvec: Callable[[Any], Any], like: Any) -> tuple[Callable[[Array], Array], Callable[[Array], Any]]:
    """A linear map of trees as a map of vectors [p], and the map from a vector to a tree like `like`."""
    from jax.flatten_util import ravel_pytree

    _, unravel = ravel_pytree(like)
    return lambda flat: ravel_pytree(matvec(unravel(flat)))[0], unravel
