"""The signatures of an algorithm's functions, and of those of a rule.

States, infos and what a rule prepares are trees of arrays of the algorithm's own: here they are opaque. What they hold
at least stands in `bojax/loop/_algorithm.py`.
"""

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from jax.typing import DTypeLike
from numpy.typing import ArrayLike

from bojax._types import Array, Bool, Float, Int, Key

if TYPE_CHECKING:
    from bojax.loop._model_based import Asked, ModelState, Proposal


@runtime_checkable
class InitFn(Protocol):
    """How a study starts."""

    def __call__(self, key: Key, /) -> Any:
        """The state before anything was told.

        Args:
            key: a random key.

        Returns:
            A NamedTuple with at least `observations` and `pending`.
        """
        ...


@runtime_checkable
class AskFn(Protocol):
    """How the next points are chosen."""

    def __call__(
        self, key: Key, state: Any, /, held: Float[Array, "d"] | None = None
    ) -> tuple[Float[Array, "q d"], Any, Any]:
        """The next q points.

        Args:
            key: a random key; the same one gives the same points.
            state: what was told and asked before.
            held: [d] coordinates in the unit cube that all points shall have, NaN where they are free; None if all are.

        Returns:
            [q, d] points of the unit cube; the state in which they are pending; a NamedTuple of diagnostics with at
            least `status` (int32) and `valid` ([q] bool).
        """
        ...


@runtime_checkable
class TellFn(Protocol):
    """How values are stored."""

    def __call__(
        self,
        state: Any,
        X: Float[Array, "k d"] | ArrayLike,
        y: Float[Array, "k"] | ArrayLike,
        /,
        **columns: Float[Array, "k"] | Float[Array, "k d"] | ArrayLike | None,
    ) -> Any:
        """The state after k evaluations.

        Args:
            state: what was told and asked before.
            X: [k, d] points of the unit cube.
            y: [k] values, larger is better; not finite where the evaluation failed.
            **columns: those of `bojax.data.COLUMNS` that the algorithm keeps, [k] or [k, d]; None says nothing.

        Returns:
            The state with these observations, and without the points among the pending ones.
        """
        ...


@runtime_checkable
class PredictFn(Protocol):
    """What an algorithm's surrogate believes."""

    def __call__(self, key: Key, state: Any, X: Float[Array, "k d"], /) -> tuple[Float[Array, "k"], Float[Array, "k"]]:
        """The belief about the noise-free objective.

        Args:
            key: a random key, for the fit.
            state: what was told.
            X: [k, d] points of the unit cube.

        Returns:
            [k] means and [k] standard deviations, in the units of y.
        """
        ...


@runtime_checkable
class ProposeFn(Protocol):
    """How a rule proposes points."""

    def __call__(self, key: Key, asked: "Asked", /) -> "Proposal":
        """The next q points, once there are data.

        Args:
            key: a random key.
            asked: what was told, what is held, and the points [q, d] of the design to fall back on.

        Returns:
            Points [q, d] on the lattice, and whether they are to be trusted.
        """
        ...


@runtime_checkable
class DescribeFn(Protocol):
    """How a rule reports an `ask`."""

    def __call__(
        self, asked: "Asked", X: Float[Array, "q d"], status: Int[Array, ""], valid: Bool[Array, "q"], details: Any, /
    ) -> Any:
        """The diagnostics of an `ask`.

        Args:
            asked: what the rule was asked on.
            X: [q, d] the points that are suggested.
            status: a `Status` code.
            valid: [q] which points are suggestions.
            details: those of the proposal, or what `no_details` gives.

        Returns:
            A NamedTuple with at least `status` and `valid`.
        """
        ...


@runtime_checkable
class DetailsFn(Protocol):
    """What stands for the details of a proposal, or for its hyperparameters, before there is one."""

    def __call__(self, dtype: DTypeLike, /) -> Any:
        """A tree of the proposal's structure.

        Args:
            dtype: of its floating arrays.

        Returns:
            Arrays of the same shapes and dtypes as those of a proposal.
        """
        ...


@runtime_checkable
class PrepareFn(Protocol):
    """What a rule derives from what was told."""

    def __call__(self, key: Key, state: "ModelState", /) -> Any:
        """What is needed in the initial design too.

        Args:
            key: a random key.
            state: what was told and asked before.

        Returns:
            Anything, functions included; it stands in `Asked.prepared`.
        """
        ...


@runtime_checkable
class InDesignFn(Protocol):
    """Whether a rule is still in its initial design."""

    def __call__(self, state: "ModelState", prepared: Any, /) -> Bool[Array, ""]:
        """Whether the next points belong to the initial design.

        Args:
            state: what was told and asked before.
            prepared: what the rule's `prepare` gave.

        Returns:
            A boolean.
        """
        ...
