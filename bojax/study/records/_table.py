"""Arrays with a row per trial of a study."""

import numpy as np

from bojax.data import COLUMNS

FIRST_CAPACITY = 64


class Table:
    """Rows by trial number, in arrays that double in size as needed.

    Attributes:
        X: [m, d] points in the unit cube; NaN until they are known.
        y: [m] values, larger is better; NaN if there is none.
        columns: columns of `bojax.data.COLUMNS`, [m] or [m, d].
        ids: [m] equal for equal points; -1 until the point is known.
        counts: [m] whether the trial counts: it was not given up, and no other trial replaces it.
        is_data: [m] whether the trial is finished, has a point, and no other trial reports the same evaluation.
    """

    X: np.ndarray
    y: np.ndarray
    ids: np.ndarray
    counts: np.ndarray
    is_data: np.ndarray

    def __init__(self, num_dims: int):
        self._points: dict[bytes, int] = {}
        self._fills = {"X": np.nan, "y": np.nan, "ids": -1, "counts": True, "is_data": False}
        widths = {"X": (num_dims,)}
        for name, fill in self._fills.items():
            setattr(self, name, np.full((FIRST_CAPACITY, *widths.get(name, ())), fill))
        self.columns = {
            name: np.full((FIRST_CAPACITY, num_dims) if column.per_dim else FIRST_CAPACITY, column.fill)
            for name, column in COLUMNS.items()
        }

    def grow(self, num_trials: int) -> None:
        """Makes room for `num_trials` trials."""
        while num_trials > len(self.y):
            for name, fill in self._fills.items():
                setattr(self, name, _doubled(getattr(self, name), fill))
            self.columns = {name: _doubled(array, COLUMNS[name].fill) for name, array in self.columns.items()}

    def has_point(self, number: int) -> bool:
        """Whether the point of a trial is known."""
        return bool(self.ids[number] >= 0)

    def set_point(self, number: int, row: np.ndarray) -> None:
        """Sets the point of a trial."""
        self.X[number] = row
        self.ids[number] = self.id_of(row)

    def id_of(self, row: np.ndarray) -> int:
        """The id of a point."""
        return self._points.setdefault(row.tobytes(), len(self._points))


def _doubled(array: np.ndarray, fill: float) -> np.ndarray:
    return np.concatenate([array, np.full_like(array, fill)])
