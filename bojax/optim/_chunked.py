"""Evaluate rows in pieces: a few at a time to bound memory, or divided among devices.

Both return what the function returns on all rows at once, up to rounding.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from bojax._types import Array


def chunked(fn: Callable[[Array], Array], max_rows: int) -> Callable[[Array], Array]:
    """A function of rows X [k, ...] -> [k, ...] that sees at most `max_rows` of them at a time.

    Args:
        fn: maps each row independently.
        max_rows: >= 1.

    Raises:
        ValueError: when `max_rows` is below 1.
    """
    if max_rows < 1:
        raise ValueError(f"`max_rows` must be at least 1, got {max_rows}.")

    def evaluate(X):
        k = X.shape[0]
        if k <= max_rows:
            return fn(X)
        num_chunks = -(-k // max_rows)
        rows = -(-k // num_chunks)  # equal chunks waste the least
        padded = _pad(X, num_chunks * rows)
        values = jax.lax.map(fn, padded.reshape(num_chunks, rows, *X.shape[1:]))
        return values.reshape(-1, *values.shape[2:])[:k]

    return evaluate


def sharded(fn: Callable[[Array], Any], mesh: Mesh | None) -> Callable[[Array], Any]:
    """A function of rows X [k, ...] whose rows are divided among the devices of a mesh; each device loops separately.

    Args:
        fn: maps each row independently to a pytree of arrays with leading axis k. Arrays that it closes over are copied
            to every device.
        mesh: devices along one axis; None leaves `fn` as it is.
    """
    if mesh is None or mesh.size == 1:
        return fn
    # A user's mesh may require explicit shardings everywhere; inside a program JAX chooses them.
    (axis,), size, devices = mesh.axis_names, mesh.size, Mesh(mesh.devices, mesh.axis_names)

    def evaluate(X):
        k = X.shape[0]
        padded = _pad(X, -(-k // size) * size)
        spec = PartitionSpec(axis)
        out = jax.shard_map(fn, mesh=devices, in_specs=spec, out_specs=spec, check_vma=False)(padded)
        return jax.tree.map(lambda leaf: leaf[:k], out)

    return evaluate


def check_mesh(mesh: Mesh | None) -> None:
    """Raises TypeError or ValueError unless `mesh` is a mesh with one axis."""
    if mesh is None:
        return
    if not isinstance(mesh, Mesh):
        raise TypeError(f"`mesh` must be a jax.sharding.Mesh, got {type(mesh).__name__}.")
    if len(mesh.axis_names) != 1:
        raise ValueError(
            f"`mesh` must have one axis, got {mesh.axis_names}. "
            "Make one with jax.make_mesh((jax.device_count(),), ('restarts',))."
        )


def _pad(X, rows):
    """X with its last row repeated up to `rows`."""
    return jnp.concatenate([X, jnp.broadcast_to(X[-1:], (rows - X.shape[0], *X.shape[1:]))])
