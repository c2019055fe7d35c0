"""The signatures of a batch acquisition's functions; its state is a tree of arrays of its own."""

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from bojax._types import Array, Float, Key
from bojax.surrogates import Posterior

if TYPE_CHECKING:
    from bojax.acquisition._batch import Context


@runtime_checkable
class BeginFn(Protocol):
    """How a batch begins."""

    def __call__(self, key: Key, posterior: Posterior, context: "Context", q: int, /) -> Any:
        """What stays fixed while a batch is chosen.

        Args:
            key: a random key.
            posterior: the belief about the objective, standardized, with p + q spare rows.
            context: incumbent, observed points and the p pending ones.
            q: how many points are to be chosen, >= 1.

        Returns:
            The state before the first point.
        """
        ...


@runtime_checkable
class ValueFn(Protocol):
    """The utility of one more point."""

    def __call__(self, state: Any, X: Float[Array, "k d"], /) -> Float[Array, "k"]:
        """The utility of adding each of k points to the batch.

        Args:
            state: what was drawn, and the points chosen so far.
            X: [k, d] points of the unit cube.

        Returns:
            [k] utilities; larger is better. Finite, and differentiable in X.
        """
        ...


@runtime_checkable
class AddFn(Protocol):
    """How a point joins the batch."""

    def __call__(self, state: Any, x: Float[Array, "d"], /) -> Any:
        """The state after a point was chosen.

        Args:
            state: what was drawn, and the points chosen so far.
            x: [d] a point of the unit cube.

        Returns:
            A state of the same structure.
        """
        ...


@runtime_checkable
class JointFn(Protocol):
    """The utility of q points at once."""

    def __call__(self, state: Any, X: Float[Array, "b q d"], /) -> Float[Array, "b"]:
        """The utility of each of b batches.

        Args:
            state: what `begin` drew.
            X: [b, q, d] batches of q points.

        Returns:
            [b] utilities; larger is better.
        """
        ...
