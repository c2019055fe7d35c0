"""What a study consists of. The functions of this package take it, and `Study` is a facade over it."""

import dataclasses
import functools
import os
import threading
import warnings
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage
from optuna.study import Study as OptunaStudy
from optuna.trial import FrozenTrial

from bojax._errors import BojaxWarning
from bojax.space import Space
from bojax.storage import to_distributions
from bojax.study.asking._sampler import StudySampler
from bojax.study.asking._suggest import AlgorithmFactory
from bojax.study.records._leases import Lease
from bojax.study.records._ledger import Ledger
from bojax.study.records._trial import Trial
from bojax.study.records._view import view


@dataclasses.dataclass(eq=False)
class Core:
    """The parts of a study.

    Attributes:
        name: name that opens the study.
        optuna: the Optuna study that holds the trials.
        space: the search space.
        seed: seed of all randomness of the study.
        algorithm: a function from (space, q) to an algorithm.
        sampler: passes bojax's suggestions to Optuna's own code; set by the first `ask`.
        stopping: whether a running loop should end.
        lock: held while parameters are chosen.
        process: id of the process that opened the study.
        warned: kinds of warnings issued so far.
    """

    name: str
    optuna: OptunaStudy
    space: Space
    seed: int
    algorithm: AlgorithmFactory
    sampler: StudySampler = dataclasses.field(init=False)
    stopping: bool = False
    lock: Any = dataclasses.field(default_factory=threading.RLock)
    process: int = dataclasses.field(default_factory=os.getpid)
    warned: set[str] = dataclasses.field(default_factory=set)

    @functools.cached_property
    def distributions(self) -> dict[str, BaseDistribution]:
        """The space as Optuna describes it."""
        return to_distributions(self.space)

    @functools.cached_property
    def ledger(self) -> Ledger:
        """The trials as arrays."""
        return Ledger(self.optuna, self.space, self.warn_once)

    @functools.cached_property
    def lease(self) -> Lease:
        """This process's lease on the trials that it asked for."""
        return Lease(self.storage, self.optuna._study_id)

    @property
    def direction(self) -> str:
        """The direction: "minimize" or "maximize"."""
        return "maximize" if self.ledger.sign > 0 else "minimize"

    @property
    def storage(self) -> BaseStorage:
        """Where the trials are stored."""
        return self.optuna._storage

    def view(self, trial: FrozenTrial) -> Trial:
        """An Optuna trial as the user sees it, with the parameters in the order of the space."""
        return view(trial, self.space.names)

    def warn_once(self, kind: str, text: str) -> None:
        """A warning, the first time of its kind."""
        if kind not in self.warned:
            self.warned.add(kind)
            warnings.warn(f"{text}. Further warnings of this kind are left out.", BojaxWarning, stacklevel=2)
