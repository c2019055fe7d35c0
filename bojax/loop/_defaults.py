"""What an algorithm does where nothing else is asked for: the size of its initial design, and its surrogate."""

from bojax.loop._arguments import check_surrogate
from bojax.space import Space
from bojax.surrogates import (
    Inputs,
    OutputTransform,
    Surrogate,
    bound,
    gp,
    gradient_gp,
    half_rank,
    learned_noise,
    matern52,
    warped,
)

NOISE = {"loc": -4.0, "std": 1.0}
"""Prior of the logarithm of the noise variance where noise is expected, as in BoTorch
(benchmarks/results/algorithms.md)."""
NUM_INITIAL_GRADIENTS = 3
"""Size of the initial design with gradients, each of which says as much as d values
(benchmarks/results/algorithms.md)."""


def default_num_initial(num_dims: int) -> int:
    """Size of the initial design when none is given: d + 1, between 3 and 16 (benchmarks/results/algorithms.md)."""
    return min(max(3, num_dims + 1), 16)


def surrogate_for(space: Space, surrogate: Surrogate | None, name: str = "surrogate") -> Surrogate:
    """The surrogate given as the argument `name`, which is told the categorical columns of the space; or the default.

    Raises:
        TypeError: what is given is no surrogate.
        ValueError: the space has categories, and the surrogate or its kernel does not say how it treats them.
    """
    if surrogate is None:
        return default_surrogate(space)
    check_surrogate(surrogate, name)
    return bound(surrogate, Inputs(space.num_values, space.is_categorical), name)


def default_surrogate(space: Space, *, noisy: bool = False) -> Surrogate:
    """A Gaussian process with a Matern-5/2 kernel; categories are compared by equality."""
    kernel = matern52(categorical_dims=tuple(i for i, c in enumerate(space.is_categorical) if c))
    return gp(kernel, noise=learned_noise(**NOISE) if noisy else None)


def default_gradient_surrogate(
    space: Space, *, noisy: bool = False, fallback_transform: OutputTransform | None = half_rank
) -> Surrogate:
    """The same for values and gradients, its numeric inputs warped."""
    categorical = tuple(i for i, c in enumerate(space.is_categorical) if c)
    kernel = warped(matern52(categorical_dims=categorical), fixed_dims=categorical)
    noise = learned_noise(**NOISE) if noisy else None
    return gradient_gp(kernel, noise=noise, fallback_transform=fallback_transform)
