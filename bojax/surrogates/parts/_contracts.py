"""The signatures of what kernels, mean functions, noise models and random features are made of.

Hyperparameters `params` are a tree of arrays of each part's own, in standardized units of y.
"""

from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

from jax.typing import DTypeLike

from bojax._types import Array, Float, Key
from bojax.surrogates.outputs._standardize import Scale

if TYPE_CHECKING:
    from bojax.surrogates.parts._kernels import LinearRows

PartT_co = TypeVar("PartT_co", covariant=True)


@runtime_checkable
class InitFn(Protocol):
    """The start of a part that reads points."""

    def __call__(self, num_dims: int, dtype: DTypeLike, /) -> Any:
        """Hyperparameters at the mode of their prior.

        Args:
            num_dims: columns of the unit cube, >= 1.
            dtype: of the hyperparameters.

        Returns:
            A tree of arrays.
        """
        ...


@runtime_checkable
class InitNoiseFn(Protocol):
    """The start of a noise model."""

    def __call__(self, dtype: DTypeLike, /) -> Any:
        """Hyperparameters at the mode of their prior.

        Args:
            dtype: of the hyperparameters.

        Returns:
            A tree of arrays.
        """
        ...


@runtime_checkable
class MatrixFn(Protocol):
    """Covariances of a kernel."""

    def __call__(self, params: Any, X: Float[Array, "n d"], Z: Float[Array, "m d"], /) -> Float[Array, "n m"]:
        """The covariance between two sets of points.

        Args:
            params: hyperparameters.
            X: [n, d] points of the unit cube.
            Z: [m, d] points of the unit cube.

        Returns:
            [n, m] covariances; positive semidefinite for X = Z.
        """
        ...


@runtime_checkable
class AtPointsFn(Protocol):
    """A number at each point: the prior variance of a kernel, or the value of a mean function."""

    def __call__(self, params: Any, X: Float[Array, "n d"], /) -> Float[Array, "n"]:
        """The number at each of n points.

        Args:
            params: hyperparameters.
            X: [n, d] points of the unit cube.

        Returns:
            [n] numbers, in standardized units (of variance, for a kernel).
        """
        ...


@runtime_checkable
class LogPriorFn(Protocol):
    """The prior of hyperparameters."""

    def __call__(self, params: Any, /) -> Float[Array, ""]:
        """The logarithm of their prior density, up to a constant.

        Args:
            params: hyperparameters.

        Returns:
            A scalar.
        """
        ...


@runtime_checkable
class BoundsFn(Protocol):
    """The box in which hyperparameters are searched."""

    def __call__(self, params: Any, /) -> tuple[Any, Any]:
        """The ends of the box.

        Args:
            params: hyperparameters, read for their structure, shapes and dtypes.

        Returns:
            Lower and upper bounds, trees like `params`.
        """
        ...


@runtime_checkable
class ToGpjaxFn(Protocol):
    """A part's equal in GPJax."""

    def __call__(self, params: Any, /) -> Any:
        """The object of GPJax with the same values.

        Args:
            params: hyperparameters.

        Returns:
            A kernel or a mean function of GPJax.
        """
        ...


@runtime_checkable
class DerivativesFn(Protocol):
    """Covariances of values and derivatives."""

    def __call__(self, params: Any, A: "LinearRows", B: "LinearRows", /) -> Float[Array, "n m"]:
        """The covariance between two sets of values and directional derivatives.

        Args:
            params: hyperparameters.
            A: n rows, each a value, a directional derivative, or a sum of both.
            B: m such rows.

        Returns:
            [n, m] covariances.
        """
        ...


@runtime_checkable
class VarianceFn(Protocol):
    """The noise of one observation."""

    def __call__(self, params: Any, scale: Scale, /) -> Float[Array, ""]:
        """The variance of the noise.

        Args:
            params: hyperparameters.
            scale: location and scale of y, for noise that is known in units of y.

        Returns:
            A scalar > 0, in standardized units.
        """
        ...


@runtime_checkable
class DrawFn(Protocol):
    """What is random in random features."""

    def __call__(self, key: Key, num_dims: int, num_features: int, dtype: DTypeLike, /) -> Any:
        """Random numbers that do not depend on hyperparameters.

        Args:
            key: a random key.
            num_dims: columns of the unit cube, >= 1.
            num_features: how many features f, >= 1.
            dtype: of floating numbers.

        Returns:
            A tree of arrays.
        """
        ...


@runtime_checkable
class ApplyFn(Protocol):
    """The values of random features."""

    def __call__(self, params: Any, draws: Any, X: Float[Array, "n d"], /) -> Float[Array, "n f"]:
        """Each feature at each of n points.

        Args:
            params: hyperparameters.
            draws: what was drawn.
            X: [n, d] points of the unit cube.

        Returns:
            [n, f] values, whose products have the kernel as their mean.
        """
        ...


@runtime_checkable
class BindFn(Protocol[PartT_co]):
    """How a part learns which columns hold categories."""

    def __call__(self, inputs: Any, /) -> PartT_co:
        """The part for given columns.

        Args:
            inputs: which of the d columns hold categories.

        Returns:
            A part of the same kind that treats them as such.
        """
        ...
