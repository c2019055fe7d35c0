"""Signatures of the functions of an algorithm and of a rule.

States, infos and the results of `prepare` belong to the algorithm and are opaque here. Their required fields are listed
in `bojax/loop/_algorithm.py`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from jax.typing import DTypeLike
from numpy.typing import ArrayLike

from bojax._types import Array, Bool, Float, Int, Key

if TYPE_CHECKING:
    from bojax.data import Told
    from bojax.loop._algorithm import Algorithm
    from bojax.loop._model_based import Asked, ModelState, Proposal
    from bojax.space import Lattice


@runtime_checkable
class InitFn(Protocol):
    """How a study starts."""

    def __call__(self, key: Key, /) -> Any:
        """The state without observations.

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
            state: the present state.
            held: [d] fixed coordinates of all points in the unit cube, NaN where they are free; None if all are free.

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
            state: the present state.
            X: [k, d] points of the unit cube.
            y: [k] values, larger is better; not finite where the evaluation failed.
            **columns: those of `bojax.data.COLUMNS` that the algorithm uses, [k] or [k, d]; None means unknown.

        Returns:
            The state with these observations, and with their points no longer pending.
        """
        ...


@runtime_checkable
class PredictFn(Protocol):
    """What an algorithm's surrogate predicts."""

    def __call__(self, key: Key, state: Any, X: Float[Array, "k d"], /) -> tuple[Float[Array, "k"], Float[Array, "k"]]:
        """The prediction of the noise-free objective.

        Args:
            key: a random key, for the fit.
            state: the present state.
            X: [k, d] points of the unit cube.

        Returns:
            [k] means and [k] standard deviations, in the units of y.
        """
        ...


@runtime_checkable
class BeginFn(Protocol):
    """How a study begins: its initial design, on the host."""

    def __call__(
        self, shift: np.ndarray, told: "Told", /, held: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """The next points of the initial design.

        Args:
            shift: [d] random integers, uint32, the same in the whole study.
            told: the data, and the pending points.
            held: [d] fixed coordinates of all points, NaN where they are free; None if all are free.

        Returns:
            [q, d] points and [q] which of them are suggestions; None once the data are enough to choose by.
        """
        ...


@runtime_checkable
class HostAskFn(Protocol):
    """How the next points are chosen on the host."""

    def __call__(
        self, words: Sequence[int], shift: np.ndarray, told: "Told", /, held: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray, int]:
        """The next q points.

        Args:
            words: random integers, not negative, others in each `ask`; the same ones give the same points.
            shift: [d] random integers, uint32, the same in the whole study.
            told: the data, and the pending points.
            held: [d] fixed coordinates of all points, NaN where they are free; None if all are free.

        Returns:
            [q, d] points of the unit cube, [q] which of them are suggestions, and a `Status` code.
        """
        ...


@runtime_checkable
class HostPredictFn(Protocol):
    """What an algorithm's surrogate predicts, on the host."""

    def __call__(self, words: Sequence[int], told: "Told", X: np.ndarray, /) -> tuple[np.ndarray, np.ndarray]:
        """The prediction of the noise-free objective.

        Args:
            words: random integers, not negative, for the fit.
            told: the data.
            X: [k, d] points of the unit cube.

        Returns:
            [k] means and [k] standard deviations, in the units of y.
        """
        ...


@runtime_checkable
class OnFn(Protocol):
    """The algorithm for columns that are data."""

    def __call__(self, lattice: "Lattice", /) -> "Algorithm":
        """The same algorithm, for other columns.

        Args:
            lattice: the columns, possibly padded and traced.

        Returns:
            An algorithm whose points have as many columns as the lattice.
        """
        ...


@runtime_checkable
class ProposeFn(Protocol):
    """How a rule proposes points."""

    def __call__(self, key: Key, asked: "Asked", /) -> "Proposal":
        """The next q points, once there are data.

        Args:
            key: a random key.
            asked: the state, the held coordinates, and the design points [q, d] to fall back on.

        Returns:
            Points [q, d] on the lattice, and whether they are usable.
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
            asked: the rule's input.
            X: [q, d] the suggested points.
            status: a `Status` code.
            valid: [q] which points are suggestions.
            details: those of the proposal, or the result of `no_details`.

        Returns:
            A NamedTuple with at least `status` and `valid`.
        """
        ...


@runtime_checkable
class DetailsFn(Protocol):
    """Placeholder for the details or hyperparameters of a proposal before there is one."""

    def __call__(self, dtype: DTypeLike, /) -> Any:
        """A tree with the proposal's structure.

        Args:
            dtype: dtype of its floating-point arrays.

        Returns:
            Arrays of the same shapes and dtypes as those of a proposal.
        """
        ...


@runtime_checkable
class PrepareFn(Protocol):
    """What a rule derives from the state."""

    def __call__(self, key: Key, state: "ModelState", /) -> Any:
        """Values that are needed in the initial design too.

        Args:
            key: a random key.
            state: the present state.

        Returns:
            Anything, functions included; stored in `Asked.prepared`.
        """
        ...


@runtime_checkable
class InDesignFn(Protocol):
    """Whether a rule is still in its initial design."""

    def __call__(self, state: "ModelState", prepared: Any, /) -> Bool[Array, ""]:
        """Whether the next points belong to the initial design.

        Args:
            state: the present state.
            prepared: the result of the rule's `prepare`.

        Returns:
            A boolean.
        """
        ...
