"""Categories for kernels of numeric inputs: a factor that compares them by equality.

    k(x, z) = k_inner(x, z) exp(-sum_c [x_c != z_c] / lengthscale_c)

over the categorical columns c. The kernel inside gets 0.5 in these columns.
"""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from bojax._types import Array, Float
from bojax.surrogates._inputs import Inputs
from bojax.surrogates.parts._kernels import (
    LENGTHSCALE_BOUNDS,
    Kernel,
    categorical_factor,
    lengthscale_mode,
    log_lengthscale_prior,
)


class EqualityParams(NamedTuple):
    """Hyperparameters of a kernel with categories.

    Attributes:
        kernel: hyperparameters of the kernel inside.
        log_lengthscale: [c] logarithms, in units of inequality.
    """

    kernel: Any
    log_lengthscale: Float[Array, "c"]


def by_equality(kernel: Kernel, categorical_dims: tuple[int, ...] | None = None) -> Kernel:
    """Multiply a kernel of numeric inputs by a factor that compares categories by equality.

    The factor is exp(-sum_c [x_c != z_c] / lengthscale_c) over the categorical columns c.

    Args:
        kernel: any `Kernel`. It gets 0.5 in the categorical columns.
        categorical_dims: columns that hold categories; by default the algorithm fills in those of its space.

    Returns:
        A `Kernel` without random features and derivatives.

    Example:
        >>> import jax.numpy as jnp
        >>> from bojax.surrogates import rbf
        >>> kernel = by_equality(rbf(), (1,))
        >>> params = kernel.init(2, jnp.float32)
        >>> kernel.matrix(params, jnp.array([[0.5, 0.25]]), jnp.array([[0.5, 0.25], [0.5, 0.75]])).shape
        (1, 2)
    """

    def bind(inputs: Inputs) -> Kernel:
        return by_equality(kernel, inputs.categorical_dims) if categorical_dims is None else outer

    dims = np.asarray(sorted(categorical_dims or ()), int)

    def hidden(X):
        return X.at[:, dims].set(0.5)

    def init(num_dims, dtype):
        return EqualityParams(kernel.init(num_dims, dtype), jnp.full(dims.size, lengthscale_mode(num_dims), dtype))

    def matrix(params, X, Z):
        factor = categorical_factor(jnp.exp(-params.log_lengthscale), X, Z, dims)
        return kernel.matrix(params.kernel, hidden(X), hidden(Z)) * factor

    def diagonal(params, X):
        return kernel.diagonal(params.kernel, hidden(X))

    def log_prior(params):
        return kernel.log_prior(params.kernel) + log_lengthscale_prior(params.log_lengthscale, dims.size)

    def bounds(params):
        low, high = kernel.bounds(params.kernel)
        edges = [jnp.full_like(params.log_lengthscale, math.log(edge)) for edge in LENGTHSCALE_BOUNDS]
        return EqualityParams(low, edges[0]), EqualityParams(high, edges[1])

    def to_gpjax_by(convert):
        def to_gpjax(params):
            from bojax.surrogates.parts._gpjax_kernels import equality_to_gpjax

            return equality_to_gpjax(convert(params.kernel), dims.tolist(), jnp.exp(params.log_lengthscale))

        return to_gpjax

    to_gpjax = None if kernel.to_gpjax is None else to_gpjax_by(kernel.to_gpjax)
    outer = Kernel(init, matrix, diagonal, log_prior, bounds, to_gpjax, bind=bind)
    return outer
