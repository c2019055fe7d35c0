"""Defaults of algorithms: the size of the initial design, and the surrogate."""

from collections.abc import Sequence
from typing import Any

from bojax._namespace import namespace
from bojax.loop._arguments import check_surrogate
from bojax.space import Lattice, Space
from bojax.surrogates import (
    Inputs,
    PaddedInputs,
    Surrogate,
    bound,
    gp,
    gradient_gp,
    half_rank,
    learned_noise,
    log_tail,
    with_output_transform,
    with_row_limit,
)

NOISE = {"loc": -4.0, "std": 1.0}
"""Prior of the log noise variance where noise is expected, as in BoTorch (benchmarks/results/algorithms.md)."""
INITIAL_RANGE = (3, 16)
"""Bounds of the default size of the initial design."""
NUM_INITIAL_GRADIENTS = 3
"""Size of the initial design with gradients, each of which is worth d values (benchmarks/results/algorithms.md)."""


def default_num_initial(num_dims: Any, columns: Sequence[str] = ()) -> Any:
    """Size of the initial design when none is given.

    Args:
        num_dims: dimension of the cube; an integer, or an array [] of one.
        columns: the columns reported beside the values.

    Returns:
        d + 1, between 3 and 16; 3 with gradients (benchmarks/results/algorithms.md).

    Example:
        >>> default_num_initial(6), default_num_initial(6, ["grad"])
        (7, 3)
    """
    if "grad" in columns:
        return NUM_INITIAL_GRADIENTS
    smallest, largest = INITIAL_RANGE
    if isinstance(num_dims, int):
        return min(max(smallest, num_dims + 1), largest)
    return namespace(num_dims).clip(num_dims + 1, smallest, largest)


def bound_surrogate(space: Space | Lattice, surrogate: Surrogate, name: str = "surrogate") -> Surrogate:
    """The surrogate given as the argument `name`, informed of the categorical columns of the space.

    Raises:
        TypeError: it is not a surrogate.
        ValueError: the space has categories, and the surrogate or its kernel does not define how it treats them.
    """
    check_surrogate(surrogate, name)
    return bound(surrogate, inputs_of(Lattice.of(space)), name)


def inputs_of(lattice: Lattice) -> Inputs | PaddedInputs:
    """What surrogates know of the columns: exactly as tuples, or padded as arrays."""
    if lattice.space is not None:
        return Inputs(lattice.space.num_values, lattice.space.is_categorical)
    return PaddedInputs(lattice.is_categorical, lattice.live, lattice.has_discrete)


def default_surrogate(*, noisy: bool = False) -> Surrogate:
    """The default surrogate.

    A Gaussian process with a Matern-5/2 kernel, which compares categories by equality. It sees only the ranks of values
    worse than the median (`half_rank`), which suits objectives that are very bad in places. Beyond 768 observations it
    sees that number of them, the best ones and others spread over the cube (`with_row_limit`), so the cost of an `ask`
    stops growing with their number cubed.

    Args:
        noisy: whether to expect a noise variance of about e^-4 of the values' variance, rather than almost none.

    Returns:
        A `Surrogate`.

    Example:
        >>> import bojax
        >>> surrogate = bojax.loop.default_surrogate(noisy=True)
        >>> bojax.bayesopt(bojax.Space(x=bojax.Float(0.0, 1.0)), surrogate=surrogate).columns
        ('noise_var',)
    """
    model = with_row_limit(gp(noise=learned_noise(**NOISE) if noisy else None))
    return with_output_transform(model, half_rank)


def default_gradient_surrogate(*, noisy: bool = False) -> Surrogate:
    """The default surrogate of algorithms that use gradients.

    A Gaussian process of values and gradients with warped numeric inputs. Values worse than the median are compressed
    (`log_tail`) if the gradients are trusted, and replaced by their ranks (`half_rank`) if not.

    Args:
        noisy: whether to expect a noise variance of about e^-4 of the values' variance, rather than almost none.

    Returns:
        A `Surrogate` whose `columns` are `noise_var` and `grad`.

    Example:
        >>> default_gradient_surrogate().columns
        ('noise_var', 'grad')
    """
    noise = learned_noise(**NOISE) if noisy else None
    # `half_rank` gives the same result after `log_tail`, which keeps the order and the better half.
    return with_output_transform(gradient_gp(noise=noise, fallback_transform=half_rank), log_tail)
