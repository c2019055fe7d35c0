"""The signatures of a surrogate's functions; hyperparameters are a tree of arrays of its own."""

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from jax.typing import DTypeLike

from bojax._types import Key
from bojax.data import Observations

if TYPE_CHECKING:
    from bojax.surrogates._base import FitInfo, Posterior, Surrogate


@runtime_checkable
class InitFn(Protocol):
    """Where the first fit starts."""

    def __call__(self, num_dims: int, dtype: DTypeLike, /) -> Any:
        """Hyperparameters before anything was seen.

        Args:
            num_dims: columns of the unit cube, >= 1.
            dtype: of the hyperparameters.

        Returns:
            A tree of arrays.
        """
        ...


@runtime_checkable
class FitFn(Protocol):
    """How hyperparameters are learned."""

    def __call__(self, key: Key, observations: Observations, params: Any, /) -> tuple[Any, "FitInfo"]:
        """Hyperparameters for n observations.

        Args:
            key: a random key.
            observations: X [n, d], y [n] and what else was told; masked rows do not count.
            params: those of the last fit, or `init`'s.

        Returns:
            Hyperparameters of the same structure, and diagnostics. If the fit is not finite, `params` as they were.
        """
        ...


@runtime_checkable
class PosteriorFn(Protocol):
    """How beliefs follow from observations."""

    def __call__(self, params: Any, observations: Observations, num_spare: int = 0, /) -> "Posterior":
        """The belief about the objective after n observations.

        Args:
            params: hyperparameters.
            observations: X [n, d], y [n] and what else was told; masked rows do not count.
            num_spare: rows that are kept free for `append`, >= 0; static.

        Returns:
            A posterior in the units of y.
        """
        ...


@runtime_checkable
class BindFn(Protocol):
    """How a surrogate learns which columns hold categories."""

    def __call__(self, inputs: Any, /) -> "Surrogate":
        """The surrogate for given columns.

        Args:
            inputs: which of the d columns hold categories.

        Returns:
            A surrogate that treats them as such.
        """
        ...


@runtime_checkable
class SeesFn(Protocol):
    """The output transforms of a surrogate."""

    def __call__(self, observations: Observations, /) -> Observations:
        """What the surrogate makes of the values before it learns from them.

        Args:
            observations: X [n, d], y [n] and what else was told.

        Returns:
            The same rows, with y and the columns in its units in transformed units.
        """
        ...
