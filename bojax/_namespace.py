"""NumPy or JAX: code that serves both the host and compiled programs."""

from typing import Any, TypeAlias

import jax.numpy as jnp
import numpy as np

from bojax._types import Array

AnyArray: TypeAlias = Array | np.ndarray
"""An array of JAX or of NumPy."""


def namespace(*arrays: Any) -> Any:
    """`numpy` if all arrays are NumPy's, otherwise `jax.numpy`."""
    return np if all(isinstance(array, (np.ndarray, np.generic)) for array in arrays) else jnp
