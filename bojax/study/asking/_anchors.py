"""Fits from scratch at fixed numbers of trials, from which the fits between them go on.

    told[:128] --fit from scratch--> hyperparameters --fit that goes on from them alone--> those of 129, ..., 160 trials

A fit from scratch takes about 30 evaluations of the likelihood, one that goes on from a fit of most of the data 3 to 8.
The anchor is a function of the told data alone, and so is every suggestion: a resumed study makes the same as an
uninterrupted one.
"""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np

from bojax import data
from bojax._background import in_background
from bojax.data import Told
from bojax.study.asking._job import Params

FIRST = 128
"""The smallest anchor. With fewer trials fits from scratch take milliseconds."""
MAX_KEPT = 64
"""Anchors kept in a process; each is a few numbers."""

Fit = Callable[[Told], Params]


def anchor(count: int) -> int:
    """The number of trials whose fit is the start of that of `count` trials; 0 for none.

    Anchors are the capacities from 128 on: the program for `count` trials makes the fit of its anchor, too.
    """
    at = 0
    while max(at, FIRST) < count and (after := data.next_capacity(max(at + 1, FIRST))) < count:
        at = after
    return at


class Anchors:
    """The fits at anchors that this process has made, or is making in a thread."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Any, Params] = OrderedDict()
        self._making: dict[Any, threading.Event] = {}
        self._lock = threading.Lock()

    def get(self, what: Any, told: Told, fit: Fit) -> Params:
        """The hyperparameters fitted to these data, made by `fit` unless they are known.

        Args:
            what: the surrogate and the seed, something that can be hashed.
            told: the data up to the anchor, without pending points.
            fit: makes them.
        """
        key = what, _digest(told)
        with self._lock:
            making = self._making.get(key)
        if making is not None:
            making.wait()
        with self._lock:
            params = self._kept.get(key)
        return self._made(key, told, fit) if params is None else params

    def ahead(self, what: Any, told: Told, fit: Fit) -> None:
        """Make them in a thread, for `get`."""
        key, done = (what, _digest(told)), threading.Event()

        def forget():
            with self._lock:
                self._making.pop(key, None)
            done.set()

        def run():
            try:
                self._made(key, told, fit)
            finally:
                forget()

        with self._lock:
            if key in self._kept or key in self._making:
                return
            self._making[key] = done
        in_background(run, forget)

    def _made(self, key, told, fit):
        params = fit(told)
        with self._lock:
            self._kept[key] = params
            self._kept.move_to_end(key)
            while len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)
        return params


def _digest(told: Told) -> bytes:
    digest = hashlib.blake2b(str(len(told.y)).encode(), digest_size=16)
    for array in (told.X, told.y, *(told.columns[name] for name in sorted(told.columns))):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.digest()
