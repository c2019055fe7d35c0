"""The bridge to Optuna: bojax's suggestions reach an Optuna study through a sampler.

Optuna asks a sampler for one trial at a time, whereas bojax chooses q points jointly. So the study prepares the
parameters of its trials, and the sampler hands them out. An unprepared trial (the user calls `study.optuna.optimize`)
gets its own suggestion.
"""

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial, TrialState

from bojax.study.records import _storage
from bojax.study.records._leases import Lease


class StudySampler(BaseSampler):
    """Hands out prepared suggestions, and makes one if none is prepared.

    Args:
        distributions: the space as Optuna describes it.
        suggest: a function from the number of a running trial to its parameters.
        seed: seed of parameters that are not in the space, which are drawn at random.
        lease: this process's lease on the trials it evaluates.
    """

    def __init__(
        self,
        distributions: Mapping[str, BaseDistribution],
        suggest: Callable[[int], dict[str, Any]],
        seed: int,
        lease: Lease,
    ):
        self.prepared: dict[int, dict[str, Any]] = {}
        self.asking, self.later = False, False
        self._distributions = dict(distributions)
        self._suggest = suggest
        self._seed = seed
        self._lease = lease

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Records which process evaluates the trial, before anything else can go wrong."""
        if trial.state == TrialState.RUNNING:
            if not self._lease.owns(trial.user_attrs.get(_storage.WORKER)):
                _storage.set_trial_attr(study, trial, _storage.WORKER, self._lease.worker(self.asking, self.later))
            self._lease.hold(trial._trial_id)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The whole space."""
        return dict(self._distributions)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The prepared parameters of this trial, or one suggestion."""
        prepared = self.prepared.pop(trial.number, None)
        if prepared is None:
            prepared = self._suggest(trial.number)
            # The objective may end the process before it has requested all of them.
            _storage.set_trial_attr(study, trial, _storage.SUGGESTED, prepared)
        return prepared

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A random value for a parameter that is not in the space, determined by seed, trial and name."""
        seed = zlib.crc32(f"{self._seed}:{trial.number}:{param_name}".encode())
        return RandomSampler(seed=seed).sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Drops prepared parameters that were never requested."""
        self.prepared.pop(trial.number, None)
