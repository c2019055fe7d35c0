"""What a surrogate may know of the columns of the cube, and how it is told.

A surrogate or a kernel sees points of the unit cube, in which categories look like numbers. Before an algorithm uses
one on a space with categories, it *binds* it: `part.bind(inputs)` gives the part that knows which columns these are.
"""

from typing import Any, NamedTuple, TypeVar

PartT = TypeVar("PartT", bound=Any)


class Inputs(NamedTuple):
    """The columns of the unit cube.

    Attributes:
        num_values: [d] how many values each column has, at the centers (i + 0.5) / k of k equal cells where it holds
            categories; 0 for a continuous one.
        is_categorical: [d] which columns hold categories, whose positions have no order.
    """

    num_values: tuple[int, ...]
    is_categorical: tuple[bool, ...]

    @property
    def categorical_dims(self) -> tuple[int, ...]:
        """The columns that hold categories."""
        return tuple(i for i, is_categorical in enumerate(self.is_categorical) if is_categorical)


def bound(part: PartT, inputs: Inputs, name: str) -> PartT:
    """A surrogate or kernel that knows the categorical columns; the same object where there are none.

    Args:
        part: a `Surrogate` or a `Kernel`.
        inputs: the columns.
        name: the argument it came by, for the message.

    Raises:
        ValueError: there are categories, and the part does not say how it treats them.
    """
    if not inputs.categorical_dims:
        return part
    bind = getattr(part, "bind", None)
    if bind is None:
        way_out = "wrap it, bojax.surrogates.by_equality(kernel), or " if name == "kernel" else ""
        raise ValueError(
            f"`{name}` must say how it treats categories, which columns {list(inputs.categorical_dims)} of this space "
            f"hold, got one without `bind`. To have them compared by equality {way_out}give it "
            f"`bind(inputs)`, a function that returns the {name} for these columns. If it treats them well as it is: "
            f"{name}._replace(bind=lambda inputs: {name})."
        )
    return bind(inputs)
