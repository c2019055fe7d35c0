"""Which columns of the unit cube hold categories, and how surrogates get this information.

A surrogate or a kernel gets points of the unit cube, in which categories look like numbers. Before an algorithm uses
one on a space with categories, it *binds* it: `part.bind(inputs)` gives the part for these columns.

Columns are known exactly, as tuples of Python numbers; or they are *padded*: a program that serves many spaces gets
them as arrays. Only parts that say so (`padded`) are bound to padded columns.
"""

from typing import Any, NamedTuple, TypeVar

import jax.numpy as jnp

from bojax._namespace import AnyArray
from bojax._types import Bool, Int

PartT = TypeVar("PartT", bound=Any)


class Inputs(NamedTuple):
    """The columns of the unit cube.

    Attributes:
        num_values: [d] number of values of each column, 0 if it is continuous. Category i of k is at the center
            (i + 0.5) / k of one of k equal cells.
        is_categorical: [d] which columns hold categories, which have no order.
        live: [d] which columns are no padding, for padded columns; None if all columns are known exactly.
        has_categories: whether padded columns may hold categories.
    """

    num_values: tuple[int, ...] | Int[AnyArray, "d"]
    is_categorical: tuple[bool, ...] | Bool[AnyArray, "d"]
    live: Bool[AnyArray, "d"] | None = None
    has_categories: bool = True

    @property
    def categorical_dims(self) -> tuple[int, ...]:
        """The columns that hold categories, if they are known exactly.

        Raises:
            ValueError: the columns are padded.
        """
        if self.live is not None:
            raise ValueError("`inputs` must be exact for `categorical_dims`, got padded columns: use `is_categorical`.")
        return tuple(i for i, is_categorical in enumerate(self.is_categorical) if is_categorical)

    @property
    def num_live(self) -> Any:
        """The number of columns that are no padding; an array [] if the columns are padded."""
        return len(self.is_categorical) if self.live is None else jnp.sum(self.live, dtype=jnp.int32)  # type: ignore[arg-type]


def bound(part: PartT, inputs: Inputs, name: str) -> PartT:
    """Bind a surrogate or kernel to the categorical columns of a space.

    Args:
        part: a `Surrogate` or a `Kernel`.
        inputs: the columns.
        name: name of the argument, "surrogate" or "kernel", for the error message.

    Returns:
        `part.bind(inputs)`; `part` itself if there are no categories and the columns are exact.

    Raises:
        ValueError: there are categories or padding, and `part.bind` is None.

    Example:
        >>> from bojax.surrogates import Inputs, matern52
        >>> kernel = matern52()
        >>> bound(kernel, Inputs(num_values=(0, 3), is_categorical=(False, False)), "kernel") is kernel
        True
        >>> bound(kernel, Inputs(num_values=(0, 3), is_categorical=(False, True)), "kernel") is kernel
        False
    """
    bind = getattr(part, "bind", None)
    if inputs.live is not None and bind is not None:
        return bind(inputs)
    if not inputs.categorical_dims:
        return part
    if bind is None:
        way_out = "wrap it, bojax.surrogates.by_equality(kernel), or " if name == "kernel" else ""
        raise ValueError(
            f"`{name}` must say how it treats categories, which columns {list(inputs.categorical_dims)} of this space "
            f"hold, got one without `bind`. To have them compared by equality {way_out}give it "
            f"`bind(inputs)`, a function that returns the {name} for these columns. If it treats them well as it is: "
            f"{name}._replace(bind=lambda inputs: {name})."
        )
    return bind(inputs)
