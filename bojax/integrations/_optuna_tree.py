"""Under which values of others a parameter exists, learned from trials.

    trials --counts--> "`momentum` is there exactly where `optimizer` is 'sgd'" --Conditions--> `when` of a `Space`

A parameter p decides about a parameter c if c is there under some values of p, absent under others, and absent where p
is. Values of p that were not seen yet count as values without c; of an integer, beyond the largest (or below the
smallest) one with c, as values with c. Among several such p the one with the most evidence is taken. The next trial
that contradicts a condition ends it.
"""

import bisect
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.trial import FrozenTrial

MAX_PARENT_VALUES = 64
"""Parameters with more values decide about no others."""
MIN_EVIDENCE = 4
"""Trials beyond the first under each value of a parent that a condition needs: if presence were random, as many coins
would have to agree."""


class Condition(NamedTuple):
    """Under which values a parameter exists.

    Attributes:
        parent: the parameter that decides.
        values: its values: integers, or positions of choices, in order.
    """

    parent: str
    values: tuple[int, ...]


class _Seen:
    """The trials with one value of a parameter: their number, and that of those with each other parameter."""

    __slots__ = ("count", "present")

    def __init__(self) -> None:
        self.count = 0
        self.present: Counter[str] = Counter()


class Presence:
    """Which parameters trials have.

    Attributes:
        num_trials: number of trials.
        numbers: by parameter, the numbers of the trials that have it, in order.
    """

    def __init__(self) -> None:
        self.num_trials = 0
        self.numbers: dict[str, list[int]] = {}
        self._under: dict[str, dict[int, _Seen]] = {}

    def add(self, trial: FrozenTrial) -> None:
        """Counts a trial."""
        self.num_trials += 1
        names = list(trial.params)
        for name, distribution in trial.distributions.items():
            bisect.insort(self.numbers.setdefault(name, []), trial.number)
            if isinstance(distribution, CategoricalDistribution | IntDistribution):
                under = self._under.setdefault(name, {})
                if len(under) <= MAX_PARENT_VALUES:
                    seen = under.setdefault(int(distribution.to_internal_repr(trial.params[name])), _Seen())
                    seen.count += 1
                    seen.present.update(names)

    def is_always_there(self, name: str) -> bool:
        """Whether every trial has a parameter; true of one that no trial has, of which nothing is known."""
        return len(self.numbers.get(name, ())) in (0, self.num_trials)

    def conditions(self, distributions: Mapping[str, BaseDistribution]) -> dict[str, Condition]:
        """The conditions of parameters that some trials have and others do not.

        Args:
            distributions: the parameters to look at, by name.

        Returns:
            Conditions by name. A parameter that is neither here nor always there follows no rule that is known yet.
        """
        known = {name for name in distributions if self.is_always_there(name)}
        missing = sorted(set(distributions) - known)
        found: dict[str, Condition] = {}
        while missing:
            parents = sorted(known)
            new = {}
            for name in missing:
                options = [self._condition(name, parent, distributions[parent]) for parent in parents]
                best = max(options, key=lambda option: option[0], default=(0, None))[1]
                if best is not None:
                    new[name] = best
            if not new:
                break
            found |= new
            known |= set(new)
            missing = [name for name in missing if name not in new]
        return found

    def _condition(self, name: str, parent: str, distribution: BaseDistribution) -> tuple[int, Condition | None]:
        """The condition of a parameter on another one, and the evidence for it; 0 and None without."""
        under, domain = self._under.get(parent, {}), _domain(distribution)
        present = [value for value, seen in under.items() if seen.present[name] == seen.count]
        absent = [value for value, seen in under.items() if seen.present[name] == 0]
        follows = len(present) + len(absent) == len(under) and bool(present) and bool(absent)
        evidence = sum(seen.count for seen in under.values()) - len(under)
        everywhere = sum(seen.present[name] for seen in under.values()) == len(self.numbers[name])
        if not (follows and everywhere and evidence >= MIN_EVIDENCE and len(domain) <= MAX_PARENT_VALUES):
            return 0, None
        allowed = set(present)
        if isinstance(distribution, IntDistribution) and min(present) > max(absent):
            allowed |= {value for value in domain if value >= min(present)}
        if isinstance(distribution, IntDistribution) and max(present) < min(absent):
            allowed |= {value for value in domain if value <= max(present)}
        values = tuple(value for value in domain if value in allowed)
        return (evidence, Condition(parent, values)) if 0 < len(values) < len(domain) else (0, None)


def _domain(distribution: BaseDistribution) -> range:
    match distribution:
        case CategoricalDistribution(choices=choices):
            return range(len(choices))
        case IntDistribution(low=low, high=high, step=step):
            return range(low, high + 1, step)
    return range(0)
