"""Which columns of the unit cube hold categories, and how surrogates get this information.

A surrogate or a kernel gets points of the unit cube, in which categories look like numbers. Before an algorithm uses
one on a space with categories, it *binds* it: `part.bind(inputs)` gives the part for these columns.

Columns are known exactly (`Inputs`); or they are padded: a program that serves many spaces gets them as arrays
(`PaddedInputs`). Only parts that accept padding are bound to those, as their factories made them. A part of which a
function was replaced is compiled for every space.
"""

from typing import Any, NamedTuple, TypeVar

import jax.numpy as jnp

from bojax._namespace import AnyArray
from bojax._types import Array, Bool, Int

PartT = TypeVar("PartT", bound=Any)


class Inputs(NamedTuple):
    """The columns of the unit cube.

    Attributes:
        num_values: [d] number of values of each column, 0 if it is continuous. Category i of k is at the center
            (i + 0.5) / k of one of k equal cells.
        is_categorical: [d] which columns hold categories, which have no order.
    """

    num_values: tuple[int, ...]
    is_categorical: tuple[bool, ...]

    @property
    def categorical_dims(self) -> tuple[int, ...]:
        """The columns that hold categories."""
        return tuple(i for i, is_categorical in enumerate(self.is_categorical) if is_categorical)


class PaddedInputs(NamedTuple):
    """Padded columns of the unit cube.

    Attributes:
        is_categorical: [d] which columns hold categories, which have no order.
        live: [d] which columns are no padding.
        has_categories: whether any column may hold categories.
    """

    is_categorical: Bool[AnyArray, "d"]
    live: Bool[AnyArray, "d"]
    has_categories: bool

    @property
    def num_live(self) -> Int[Array, ""]:
        """The number of columns that are no padding."""
        return jnp.sum(self.live, dtype=jnp.int32)  # type: ignore[arg-type]


def accept_padding(part: PartT) -> PartT:
    """Let a surrogate or kernel be bound to padded columns, as long as nothing of it is replaced.

    A study then shares programs among spaces; otherwise they are compiled for each space.

    Args:
        part: a `Surrogate` or a `Kernel` whose `bind` accepts `PaddedInputs`: a padding column changes no result.

    Returns:
        The part.

    Example:
        >>> from bojax.surrogates import matern52
        >>> kernel = matern52()  # accepts padding already
        >>> takes_padding(accept_padding(kernel))
        True
    """
    part.bind.accepts_padding_for = part
    return part


def takes_padding(part: Any) -> bool:
    """Whether a surrogate or kernel may be bound to padded columns.

    Args:
        part: a `Surrogate` or a `Kernel`.

    Returns:
        True if it is as its factory made it, and the factory accepts padding.

    Example:
        >>> from bojax.surrogates import matern52
        >>> kernel = matern52()
        >>> takes_padding(kernel), takes_padding(kernel._replace(bounds=lambda params: (params, params)))
        (True, False)
    """
    bind = getattr(part, "bind", None)
    return bind is not None and getattr(bind, "accepts_padding_for", None) == part


def bound(part: PartT, inputs: Inputs | PaddedInputs, name: str) -> PartT:
    """Bind a surrogate or kernel to the categorical columns of a space.

    Args:
        part: a `Surrogate` or a `Kernel`.
        inputs: the columns.
        name: name of the argument, "surrogate" or "kernel", for the error message.

    Returns:
        `part.bind(inputs)`, with the functions of `part` that were replaced since its factory made it; `part` itself
        if there are no categories and the columns are exact.

    Raises:
        ValueError: there are categories, and `part.bind` is None; or there is padding, which the part does not accept.

    Example:
        >>> from bojax.surrogates import Inputs, matern52
        >>> kernel = matern52()
        >>> bound(kernel, Inputs(num_values=(0, 3), is_categorical=(False, False)), "kernel") is kernel
        True
        >>> bound(kernel, Inputs(num_values=(0, 3), is_categorical=(False, True)), "kernel") is kernel
        False
    """
    bind = getattr(part, "bind", None)
    if isinstance(inputs, PaddedInputs):
        if not takes_padding(part):
            raise ValueError(f"`{name}` must accept padded columns, got one that needs its space. Give it a `Space`.")
        return bind(inputs)  # type: ignore[misc]
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
    made = getattr(bind, "accepts_padding_for", part)
    replaced = {field: new for field, new in part._asdict().items() if new is not getattr(made, field)}
    bound_part = bind(inputs)
    return bound_part._replace(**replaced) if replaced else bound_part
