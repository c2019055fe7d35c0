"""`Trials`: the record of what was evaluated, as documents of Hyperopt's form."""

import datetime
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from bojax.integrations._hyperopt._errors import AllTrialsFailed, InvalidTrial

STATUS_NEW, STATUS_RUNNING, STATUS_SUSPENDED = "new", "running", "suspended"
STATUS_OK, STATUS_FAIL = "ok", "fail"
STATUS_STRINGS = (STATUS_NEW, STATUS_RUNNING, STATUS_SUSPENDED, STATUS_OK, STATUS_FAIL)
"""What the `status` of a result may be."""

JOB_STATE_NEW, JOB_STATE_RUNNING, JOB_STATE_DONE, JOB_STATE_ERROR, JOB_STATE_CANCEL = range(5)
JOB_STATES = (JOB_STATE_NEW, JOB_STATE_RUNNING, JOB_STATE_DONE, JOB_STATE_ERROR, JOB_STATE_CANCEL)
"""What the `state` of a trial may be."""

_SHOWN = (JOB_STATE_NEW, JOB_STATE_RUNNING, JOB_STATE_DONE)

_KEYS = ("tid", "spec", "result", "misc", "state", "owner", "book_time", "refresh_time", "exp_key")


class Trials:
    """All trials of a search, in memory. It may be pickled, and given to `fmin` again to go on.

    A trial is a dict: `tid` is its number, `state` one of `JOB_STATES`, `result` what the objective returned,
    `misc["vals"]` the values of its labels, each in a list that is empty where the label is not used, and `book_time`
    and `refresh_time` when it began and ended.

    Args:
        exp_key: a name that all trials carry.

    Attributes:
        attachments: what objectives returned as "attachments"; see `trial_attachments`.

    Example:
        >>> from bojax.integrations.hyperopt import fmin, hp, rand
        >>> trials = Trials()
        >>> _ = fmin(abs, hp.uniform("x", -1, 1), rand.suggest, 3, trials=trials, show_progressbar=False)
        >>> trials.tids, trials.statuses(), min(trials.losses()) == abs(trials.argmin["x"])
        ([0, 1, 2], ['ok', 'ok', 'ok'], True)
    """

    asynchronous = False

    def __init__(self, exp_key: Any = None):
        self._exp_key = exp_key
        self._dynamic_trials: list[dict[str, Any]] = []
        self._next_tid = 0
        self.attachments: dict[str, Any] = {}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.trials)

    def __len__(self) -> int:
        return len(self.trials)

    def __repr__(self) -> str:
        return f"Trials({len(self)} trials, {len(self.failed)} with exceptions)"

    @property
    def trials(self) -> list[dict[str, Any]]:
        """The trials that are waiting, running or done."""
        return [trial for trial in self._dynamic_trials if trial["state"] in _SHOWN]

    @property
    def failed(self) -> list[dict[str, Any]]:
        """The trials that ended by an exception; `misc["error"]` has its type and text."""
        return [trial for trial in self._dynamic_trials if trial["state"] not in _SHOWN]

    @property
    def tids(self) -> list[int]:
        """The numbers of the trials."""
        return [trial["tid"] for trial in self.trials]

    @property
    def specs(self) -> list[Any]:
        """None for each trial, as in Hyperopt."""
        return [trial["spec"] for trial in self.trials]

    @property
    def results(self) -> list[dict[str, Any]]:
        """The results of the trials."""
        return [trial["result"] for trial in self.trials]

    @property
    def miscs(self) -> list[dict[str, Any]]:
        """What else is known of the trials: `vals`, `idxs`, `tid`."""
        return [trial["misc"] for trial in self.trials]

    @property
    def idxs_vals(self) -> tuple[dict[str, list[int]], dict[str, list[Any]]]:
        """By label, the numbers of the trials that use it, and its values in these trials."""
        labels = list(dict.fromkeys(label for misc in self.miscs for label in misc["vals"]))
        idxs: dict[str, list[int]] = {label: [] for label in labels}
        vals: dict[str, list[Any]] = {label: [] for label in labels}
        for misc in self.miscs:
            for label in labels:
                idxs[label] += misc["idxs"].get(label, [])
                vals[label] += misc["vals"].get(label, [])
        return idxs, vals

    @property
    def idxs(self) -> dict[str, list[int]]:
        """By label, the numbers of the trials that use it."""
        return self.idxs_vals[0]

    @property
    def vals(self) -> dict[str, list[Any]]:
        """By label, its values in the trials that use it."""
        return self.idxs_vals[1]

    def losses(self) -> list[float | None]:
        """The losses of the trials; None where there is none."""
        return [result.get("loss") for result in self.results]

    def statuses(self) -> list[str | None]:
        """The statuses of the results."""
        return [result.get("status") for result in self.results]

    @property
    def best_trial(self) -> dict[str, Any]:
        """The first trial with the smallest loss.

        Raises:
            AllTrialsFailed: no trial has a loss.
        """
        done = [trial for trial in self.trials if trial["result"].get("status") == STATUS_OK]
        done = [trial for trial in done if not math.isnan(trial["result"]["loss"])]
        if not done:
            raise AllTrialsFailed(f"none of {len(self._dynamic_trials)} trials has a loss, so none is the best.")
        return min(done, key=lambda trial: trial["result"]["loss"])

    @property
    def argmin(self) -> dict[str, Any]:
        """The values of the labels that the best trial uses."""
        return vals_of_trial(self.best_trial)

    def average_best_error(self) -> float:
        """The mean `true_loss`, or loss, over the trials, weighted by the probability that each is the best.

        Without any `loss_variance` it is that of the best trial. The probabilities are estimated from 1000 draws.

        Raises:
            AllTrialsFailed: no trial has a loss.
        """
        best = self.best_trial["result"]
        done = [r for r in self.results if r.get("status") == STATUS_OK and not math.isnan(r["loss"])]
        variances = [result.get("loss_variance", 0.0) for result in done]
        if not any(variances):
            return best.get("true_loss", best["loss"])
        losses = np.array([result["loss"] for result in done])
        drawn = np.random.default_rng(0).normal(losses, np.sqrt(variances), (1000, len(done)))
        weights = np.bincount(np.argmin(drawn, axis=1), minlength=len(done)) / len(drawn)
        return float(weights @ np.array([result.get("true_loss", result["loss"]) for result in done]))

    def trial_attachments(self, trial: Mapping[str, Any]) -> "Attachments":
        """What the objective returned as "attachments" for a trial, as a mapping that can be changed."""
        return Attachments(self.attachments, f"ATTACH::{trial['tid']}::")

    def refresh(self) -> None:
        """Nothing: trials in memory are always up to date."""

    def new_trial_ids(self, n: int) -> list[int]:
        """Reserves n numbers of trials."""
        first = self._next_tid
        self._next_tid += n
        return list(range(first, self._next_tid))

    def insert_trial_docs(self, docs: Iterable[Mapping[str, Any]]) -> list[int]:
        """Adds trials, for example those of another record; waiting ones are evaluated first by `fmin`.

        Args:
            docs: trials, with all keys of a trial and a number of their own.

        Returns:
            Their numbers.

        Raises:
            InvalidTrial: a key is missing, or a number is taken.
        """
        docs, taken = list(docs), {trial["tid"] for trial in self._dynamic_trials}
        for doc in docs:
            missing = [key for key in _KEYS if key not in doc]
            if missing or not {"tid", "idxs", "vals"} <= set(doc["misc"]) or doc["tid"] in taken:
                why = f"without {missing}" if missing else "with a number that is taken, or no `vals`"
                raise InvalidTrial(f"a trial must have the keys {list(_KEYS)} and its own `tid`, got one {why}.")
            taken.add(doc["tid"])
        self._dynamic_trials += [doc if isinstance(doc, dict) else dict(doc) for doc in docs]
        self._next_tid = max([self._next_tid, *(tid + 1 for tid in taken)])
        return [doc["tid"] for doc in docs]

    def count_by_state_unsynced(self, states: int | Sequence[int]) -> int:
        """The number of trials in one state, or in one of several."""
        wanted = (states,) if isinstance(states, int) else tuple(states)
        return sum(trial["state"] in wanted for trial in self._dynamic_trials)

    def delete_all(self) -> None:
        """Forgets all trials and attachments."""
        self._dynamic_trials, self.attachments, self._next_tid = [], {}, 0


class Attachments:
    """The attachments of one trial, by name.

    Args:
        stored: attachments of all trials.
        prefix: what the names of this trial's begin with.
    """

    def __init__(self, stored: dict[str, Any], prefix: str):
        self._stored, self._prefix = stored, prefix

    def __contains__(self, name: str) -> bool:
        return self._prefix + name in self._stored

    def __getitem__(self, name: str) -> Any:
        return self._stored[self._prefix + name]

    def __setitem__(self, name: str, value: Any) -> None:
        self._stored[self._prefix + name] = value

    def __delitem__(self, name: str) -> None:
        del self._stored[self._prefix + name]


def new_trial(tid: int, vals: Mapping[str, Any], labels: Iterable[str], exp_key: Any = None) -> dict[str, Any]:
    """A trial that waits; labels without a value are not used."""
    names = list(dict.fromkeys([*labels, *vals]))
    misc = {
        "tid": tid,
        "cmd": None,
        "workdir": None,
        "idxs": {label: [tid] if label in vals else [] for label in names},
        "vals": {label: [vals[label]] if label in vals else [] for label in names},
    }
    state = {"state": JOB_STATE_NEW, "tid": tid, "spec": None, "result": {"status": STATUS_NEW}, "misc": misc}
    return state | {"exp_key": exp_key, "owner": None, "version": 0, "book_time": None, "refresh_time": None}


def vals_of_trial(trial: Mapping[str, Any]) -> dict[str, Any]:
    """The values of the labels that a trial uses."""
    return {label: values[0] for label, values in trial["misc"]["vals"].items() if values}


def generate_trials_to_calculate(points: Sequence[Mapping[str, Any]]) -> Trials:
    """Trials that wait, for `fmin` to evaluate first.

    Args:
        points: values by label; of choices the number of the option.

    Returns:
        A record of these trials.

    Example:
        >>> generate_trials_to_calculate([{"x": 0.5}, {"x": 1.0}]).vals
        {'x': [0.5, 1.0]}
    """
    trials = Trials()
    tids = trials.new_trial_ids(len(points))
    trials.insert_trial_docs([new_trial(tid, point, ()) for tid, point in zip(tids, points, strict=True)])
    return trials


def utc_now() -> datetime.datetime:
    """The time, with its zone."""
    return datetime.datetime.now(datetime.UTC)
