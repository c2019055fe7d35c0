"""The state of a searcher for Ray Tune as data for JSON, and back."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

from bojax.integrations import _ray_space
from bojax.space import Space
from bojax.study import Study

_VERSION = 1
"""Version of the saved state."""

_ERROR = "bojax:error"


class SavedSearch:
    """The part of `BojaxSearch` that saves and restores it. It is pickled through the same state."""

    _metric: str | None
    _mode: str | None
    _seed: int | None
    _space: Space | None
    _tree: _ray_space.Node | None
    _study: Study | None
    _restored: bool
    _live_trial_mapping: dict[str, int]
    _finished: dict[str, int]
    _last: dict[str, float]

    def get_state(self) -> dict[str, Any]:
        """The whole state as data that fits into JSON: settings, space, trials and which of them are running.

        Constants and choices that are not plain are left out; the space of a restored searcher gives them.

        Returns:
            The state.
        """
        state: dict[str, Any] = {"version": _VERSION, "metric": self._metric, "mode": self._mode, "seed": self._seed}
        if self._study is None or self._tree is None:
            return state
        records, position = _to_records(self._study)
        return state | {
            "seed": self._study.seed,
            "space": self._study.space.to_spec(),
            "tree": _ray_space.to_json(self._tree),
            "trials": records,
            "live": {key: position[number] for key, number in self._live_trial_mapping.items()},
            "finished": {key: position[n] for key, n in self._finished.items() if n in position},
            "last": {key: value if math.isfinite(value) else None for key, value in self._last.items()},
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continues from a state of `get_state`.

        Args:
            state: the state. Its metric, mode, seed and space replace those of the searcher; the algorithm stays.

        Raises:
            ValueError: the state is of another version, or the searcher was given another space.
        """
        if state.get("version") != _VERSION:
            raise ValueError(
                f"`state` must be of version {_VERSION}, got {state.get('version')!r}. Was it saved by bojax?"
            )
        if "space" in state:
            space = Space.from_spec(state["space"])
            if self._space is None:
                self._tree, self._restored = _ray_space.from_json(state["tree"]), True
            else:
                self._check_restored(space, self._space)
            self._space = space
        self._metric, self._mode, self._seed = state["metric"], state["mode"], state["seed"]
        self._study = None
        self._live_trial_mapping, self._finished, self._last = {}, {}, {}
        if "space" in state:
            self._rebuild(state)
        else:
            self._begin()

    def save(self, checkpoint_path: str) -> None:
        """Writes the state to a file, as JSON.

        Args:
            checkpoint_path: path of the file, which is replaced at once.
        """
        temporary = f"{checkpoint_path}.tmp{os.getpid()}"
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(self.get_state(), file)
        os.replace(temporary, checkpoint_path)

    def restore(self, checkpoint_path: str) -> None:
        """Continues from a file that `save` wrote, with trials that were running then still running.

        Args:
            checkpoint_path: path of the file.

        Raises:
            ValueError: the file holds no state of this class, or the searcher was given another space.
        """
        with open(checkpoint_path, encoding="utf-8") as file:
            try:
                state = json.load(file)
            except ValueError as error:
                raise ValueError(
                    f"`checkpoint_path` must be a file that `save` wrote, got {checkpoint_path!r}."
                ) from error
        self.set_state(state)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_study": None, "_saved": self.get_state()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        saved = state.pop("_saved")
        self.__dict__.update(state)
        restored = self._restored
        if "trials" in saved:
            self.set_state(saved)
        self._restored = restored

    def _rebuild(self, state: Mapping[str, Any]) -> None:
        study = self._new_study()
        numbers = _from_records(study, state["trials"])
        self._study = study
        self._live_trial_mapping = {key: numbers[i] for key, i in state["live"].items()}
        self._finished = {key: numbers[i] for key, i in state["finished"].items()}
        self._last = {key: math.nan if value is None else value for key, value in state["last"].items()}

    def _check_restored(self, saved: Space | None, given: Space | None) -> None:
        if saved != given:
            raise ValueError(
                f"`space` must be that of the restored state, {saved}, got {given}. Give the same one, or begin anew."
            )

    def _begin(self) -> None:
        raise NotImplementedError

    def _new_study(self) -> Study:
        raise NotImplementedError


def _to_records(study: Study) -> tuple[list[dict[str, Any]], dict[int, int]]:
    """The trials as data for JSON, and the position in them of each trial, by its number."""
    queued = {t.number: t.system_attrs.get("fixed_params", {}) for t in study.optuna.get_trials(deepcopy=False)}
    records, positions = [], {}
    for trial in study.trials:
        positions[trial.number] = len(records)
        attrs = {k: v for k, v in trial.user_attrs.items() if k == _ERROR or not k.startswith("bojax:")}
        params = queued[trial.number] if trial.state == "waiting" else trial.params
        records.append({"params": dict(params), "state": trial.state, "value": trial.value, "attrs": attrs})
    return records, positions


def _from_records(study: Study, records: Sequence[Mapping[str, Any]]) -> dict[int, int]:
    """Adds the trials to an empty study, in their order.

    Returns:
        The number of each finished or running trial, by its position in `records`.
    """
    numbers: dict[int, int] = {}
    running = [i for i, record in enumerate(records) if record["state"] == "running"]
    for i, record in enumerate(records):
        if record["state"] in ("running", "waiting"):
            study.enqueue(record["params"])
        else:
            state = "fail" if record["value"] is None else None
            numbers[i] = study.add(record["params"], record["value"], state=state, user_attrs=record["attrs"]).number
    # The queue is served in order, so those that were running stand before those that wait.
    asked = study.ask(len(running)) if running else []
    return numbers | {i: trial.number for i, trial in zip(running, asked, strict=True)}
