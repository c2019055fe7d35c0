"""Training states on disk: one file of plain arrays (npz, nothing pickled), replaced atomically."""

import contextlib
import os
import pathlib
import warnings
import zipfile
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bojax._errors import BojaxWarning

STEPS = "steps"


def save(path: pathlib.Path, state: Any, steps: int) -> None:
    """Writes a tree of arrays and its number of steps; an older file stays until the new one is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {f"leaf{i}": _bytes(leaf) for i, leaf in enumerate(jax.tree.leaves(state))}
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with open(part, "wb") as file:
            np.savez(file, allow_pickle=False, **{STEPS: np.int64(steps)}, **arrays)
        os.replace(part, path)
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


def load(path: pathlib.Path, template: Any) -> tuple[Any, int] | None:
    """The tree and its steps; None if there is no file, or (with a warning) none that fits.

    Args:
        path: where it was saved.
        template: a tree of the same shapes and types, for example from `jax.eval_shape`.
    """
    if not path.exists():
        return None
    leaves, treedef = jax.tree.flatten(template)
    try:
        with np.load(path, allow_pickle=False) as file:
            steps, restored = int(file[STEPS]), [_leaf(file[f"leaf{i}"], leaf) for i, leaf in enumerate(leaves)]
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        problem = f"{path} is no checkpoint of this run ({error}): the member is trained again from its first step."
        warnings.warn(problem, BojaxWarning, stacklevel=2)
        return None
    return jax.tree.unflatten(treedef, restored), steps


def _bytes(leaf: Any) -> np.ndarray:
    """A leaf as bytes: NumPy's files support neither keys nor bfloat16."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return np.frombuffer(np.ascontiguousarray(np.asarray(leaf)).tobytes(), np.uint8)


def _leaf(raw: np.ndarray, template: Any) -> Any:
    if jnp.issubdtype(template.dtype, jax.dtypes.prng_key):
        data = jax.eval_shape(jax.random.key_data, template)
        return jax.random.wrap_key_data(_array(raw, data), impl=jax.random.key_impl(template))
    return _array(raw, template)


def _array(raw: np.ndarray, template: Any) -> jax.Array:
    return jnp.asarray(np.frombuffer(raw.tobytes(), template.dtype).reshape(template.shape))
