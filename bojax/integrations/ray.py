"""A searcher for Ray Tune: `tune.TuneConfig(search_alg=BojaxSearch())`.

The trials that Ray runs are those of a `Study` in memory. So a suggestion depends on the seed, the results and the
running trials alone. The state is saved as JSON.
"""

import contextlib
import functools
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

try:
    from ray.tune.result import DEFAULT_METRIC
    from ray.tune.search import Searcher
except ImportError as error:
    raise ImportError('Ray Tune is needed: pip install "bojax[ray]"') from error

from bojax._errors import SpaceExhaustedError
from bojax.integrations import _ray_space
from bojax.integrations._ray_arguments import check_goal, check_settings, checked_points, reported
from bojax.integrations._ray_state import SavedSearch
from bojax.space import Space
from bojax.study import Study

__all__ = ["BojaxSearch"]

_log = logging.getLogger(__name__)

_TRIAL_ID = "ray_trial_id"


class BojaxSearch(SavedSearch, Searcher):
    """Bayesian optimization for Ray Tune.

    The space is usually `param_space` of the Tuner: dicts, lists and tuples, nested at will, that hold ranges of
    `ray.tune` (`uniform`, `loguniform`, `randint`, `lograndint`, and those with a step, `quniform` and so on),
    `tune.choice`, and constants. A choice among values that hold ranges themselves becomes a conditional space: the
    ranges of a value exist only where it is chosen, and are named by its position, "optimizer/0/lr".

    `tune.randn` is searched by its quantiles, within four standard deviations. `tune.qrandn`, `tune.sample_from` and
    `tune.grid_search` raise an error that names the parameter.

    A trial that a scheduler stops counts with its last value. A trial that raises, or whose value is not finite, counts
    as failed, and its configuration is not suggested again. A trial that fails and is restarted counts with the result
    of the restart.

    Args:
        space: the space, instead of `param_space`: such a dict, whose keys may be paths ("optimizer/lr"), or a
            `bojax.Space`. By default the Tuner gives it.
        metric: name of the reported value. By default the Tuner gives it.
        mode: "min" or "max". By default the Tuner gives it.
        points_to_evaluate: configurations to try first, complete or in part.
        evaluated_rewards: values of `points_to_evaluate`, which are then known results and not tried again.
        seed: 0 <= seed < 2**32; drawn by default.
        algorithm: a function from (space, q) to an algorithm; by default `bojax.bayesopt`.

    Raises:
        ValueError, TypeError: an argument is wrong, or the space holds what bojax cannot search.

    Example:
        >>> from ray import tune
        >>> from bojax.integrations.ray import BojaxSearch
        >>> space = {"optimizer": {"lr": tune.loguniform(1e-4, 1e-1)}, "epochs": 3}
        >>> search = BojaxSearch(space, metric="loss", mode="min", seed=0)
        >>> config = search.suggest("first")
        >>> config["epochs"], 1e-4 <= config["optimizer"]["lr"] <= 1e-1
        (3, True)
        >>> search.on_trial_complete("first", {"loss": 0.5})
        >>> search.study.best_value
        0.5
    """

    CKPT_FILE_TMPL = "searcher-state-{}.json"

    def __init__(
        self,
        space: Mapping[str, Any] | Space | None = None,
        metric: str | None = None,
        mode: str | None = None,
        points_to_evaluate: Sequence[Mapping[str, Any]] | None = None,
        evaluated_rewards: Sequence[float] | None = None,
        seed: int | None = None,
        *,
        algorithm: Callable[..., Any] | None = None,
    ):
        check_goal(metric, mode)
        check_settings(seed, algorithm)
        super().__init__(metric=metric, mode=mode)
        self._points = checked_points(points_to_evaluate, evaluated_rewards)
        self._rewards = None if evaluated_rewards is None else list(evaluated_rewards)
        self._seed, self._algorithm = None if seed is None else int(seed), algorithm
        self._space: Space | None = None
        self._tree: _ray_space.Node | None = None
        self._study: Study | None = None
        self._restored = False
        self._live_trial_mapping: dict[str, int] = {}  # numbers of running trials; the name is Ray's convention
        self._finished: dict[str, int] = {}
        self._last: dict[str, float] = {}
        if space is not None:
            self._set_space(space)

    @property
    def study(self) -> Study:
        """The study that holds the trials: `best_params`, `trials`, `predict`, plots.

        Raises:
            RuntimeError: the space or the mode is not known yet.
        """
        return self._ready()

    @staticmethod
    def convert_search_space(spec: Mapping[str, Any]) -> Space:
        """The `Space` of a search space of Ray Tune; the names of nested parameters are paths, "optimizer/lr".

        Args:
            spec: nested dicts, lists and tuples with domains of `ray.tune`, and constants, which are left out.

        Returns:
            The space.

        Raises:
            ValueError: nothing is to be tuned, or a domain has no counterpart in bojax; the message names it.

        Example:
            >>> from ray import tune
            >>> BojaxSearch.convert_search_space({"a": {"b": tune.randint(0, 8)}})
            Space({'a/b': Int(low=0, high=7, log=False, step=1)})
        """
        return _ray_space.convert(spec)[0]

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: Mapping[str, Any], **spec: Any
    ) -> bool:
        """Takes metric, mode and space of the Tuner; called by Ray.

        Args:
            metric: name of the reported value; None leaves it as it is.
            mode: "min" or "max"; None leaves it as it is.
            config: `param_space` of the Tuner.
            **spec: ignored.

        Returns:
            Whether all of it was taken. False if the searcher already has a space.

        Raises:
            ValueError: the space holds what bojax cannot search, or is not the one of the restored state.
        """
        check_goal(metric, mode)
        if self._restored and _ray_space.has_domains(config):
            space, tree = _ray_space.convert(config)
            self._check_restored(self._space, space)
            self._tree, self._restored = tree, False
            return True
        if self._space is not None:
            self._metric, self._mode = self._metric or metric, self._mode or mode
            self._begin()
            return False
        self._metric, self._mode = metric or self._metric, mode or self._mode
        self._set_space(config, paths=False)
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The configuration of a new trial.

        Args:
            trial_id: Ray's name of the trial.

        Returns:
            The configuration with all constants; `Searcher.FINISHED` once every point of a finite space is told
                or running.

        Raises:
            RuntimeError: space, metric or mode are not known yet.
        """
        study = self._ready()
        if trial_id in self._live_trial_mapping:
            number = self._live_trial_mapping[trial_id]
            return self._fill(next(trial.params for trial in study.trials if trial.number == number))
        try:
            trial = study.ask()[0]
        except SpaceExhaustedError:
            return Searcher.FINISHED
        self._live_trial_mapping[trial_id] = trial.number
        return self._fill(trial.params)

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """Notes a value of a running trial; it counts if the trial ends without another one.

        Args:
            trial_id: Ray's name of the trial. Others than running ones are ignored.
            result: the reported dict; the metric may be missing.
        """
        value = reported(result, self._metric)
        if trial_id in self._live_trial_mapping and value is not None:
            with contextlib.suppress(TypeError, ValueError):  # what is no number is not a value
                self._last[trial_id] = float(value)

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        """Records the result of a trial.

        Args:
            trial_id: Ray's name of the trial. A second result of a trial is ignored, unless it failed before. A trial
                that was not suggested is recorded if `result` holds its configuration: Ray restarts failed trials under
                a new name.
            result: the last reported dict. Without the metric in it the value reported before counts.
            error: whether the trial raised; it then counts as failed.
        """
        study, value = self._ready(), reported(result, self._metric)
        if trial_id in self._finished:
            self._correct(trial_id, None if error else value)
        elif trial_id not in self._live_trial_mapping:
            self._adopt(trial_id, result, None if error else value)
        else:
            last = self._last.get(trial_id)
            value = last if value is None else value
            attrs: dict[str, Any] = {_TRIAL_ID: str(trial_id)}
            number = self._live_trial_mapping[trial_id]
            if error or value is None:
                attrs["bojax:error"] = "the trial raised" if error else f"no value of {self._metric!r} was reported"
                study.tell(number, state="fail", user_attrs=attrs)
            else:
                study.tell(number, value, user_attrs=attrs)
            self._finished[trial_id] = self._live_trial_mapping.pop(trial_id)
            self._last.pop(trial_id, None)

    def add_evaluated_point(
        self,
        parameters: Mapping[str, Any],
        value: float | None,
        error: bool = False,
        pruned: bool = False,
        intermediate_values: Sequence[float] | None = None,
    ) -> None:
        """Adds a result from elsewhere.

        Args:
            parameters: a complete configuration, nested or with paths as keys; its constants are not compared.
            value: the value. If it is None, the last of `intermediate_values` counts.
            error: whether the trial raised; it then counts as failed.
            pruned: whether a scheduler stopped the trial; it counts with its last value like any other.
            intermediate_values: values before the last one.

        Raises:
            RuntimeError: space, metric or mode are not known yet.
            ValueError: the configuration does not belong to the space, or there is no value.
        """
        study = self._ready()
        params = self._read(parameters, strict=False)
        if value is None and intermediate_values:
            value = intermediate_values[-1]
        if error:
            study.add(params, state="fail")
        elif value is None:
            raise ValueError(f"`value` must be a number, got None for {dict(parameters)}. Say error=True if it failed.")
        else:
            study.add(params, value)

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        """Says that the searcher leaves the number of running trials to Ray's `ConcurrencyLimiter`.

        Args:
            max_concurrent: the limit, which `ConcurrencyLimiter` enforces.

        Returns:
            False.
        """
        return False

    def _set_space(self, space: Any, *, paths: bool = True) -> None:
        if not isinstance(space, Mapping):
            raise TypeError(f"`space` must be a dict with domains of ray.tune, or a bojax.Space, got {space!r}.")
        if isinstance(space, Space):
            self._space, self._tree = space, _ray_space.tree_of(space)
        else:
            self._space, self._tree = _ray_space.convert(_ray_space.nested(space) if paths else space)
        self._begin()

    def _begin(self) -> None:
        """Makes the study as soon as the space and the mode are known."""
        if self._study is not None or self._space is None or self._mode is None:
            return
        self._metric = self._metric or DEFAULT_METRIC
        study = self._new_study()
        points = [self._read(point, strict=True) for point in self._points]
        for i, params in enumerate(points):
            if self._rewards is None:
                study.enqueue(params)
            else:
                study.add(params, self._rewards[i])
        self._study = study

    def _new_study(self) -> Study:
        direction = {"min": "minimize", "max": "maximize"}[str(self._mode)]
        return Study(self._space, direction, seed=self._seed, algorithm=self._algorithm)

    def _ready(self) -> Study:
        if self._study is None:
            missing = [f"`{name}`" for name in ("space", "mode") if getattr(self, f"_{name}") is None]
            raise RuntimeError(
                f"BojaxSearch must have a space, a metric and a mode, got no {' and no '.join(missing)}. "
                "Give them to it, or `param_space`, `metric` and `mode` to the Tuner."
            )
        return self._study

    def _need_tree(self) -> _ray_space.Node:
        assert self._tree is not None
        return self._tree

    def _fill(self, params: Mapping[str, Any]) -> dict[str, Any]:
        return _ray_space.fill(self._need_tree(), params)

    def _read(self, config: Mapping[str, Any], *, strict: bool) -> dict[str, Any]:
        assert self._space is not None
        return _ray_space.read(self._need_tree(), config, self._space, strict=strict)

    def _correct(self, trial_id: str, value: Any) -> None:
        """A value replaces a failure; anything else that comes late is ignored."""
        study, number = self._ready(), self._finished[trial_id]
        failed = any(trial.number == number and trial.state == "fail" for trial in study.trials)
        if failed and value is not None and math.isfinite(value):
            self._finished[trial_id] = study.correct(number, value).number
        else:
            _log.info("a further result of trial %s is ignored", trial_id)

    def _adopt(self, trial_id: str, result: Mapping[str, Any] | None, value: Any) -> None:
        """Records a trial that was not suggested, from the configuration in its result."""
        config = {key.removeprefix("config/"): v for key, v in (result or {}).items() if key.startswith("config/")}
        config = config or (result or {}).get("config")
        if not config or value is None:
            _log.info("trial %s was not suggested and has no configuration or value: it is ignored", trial_id)
            return
        try:
            study, attrs = self._ready(), {_TRIAL_ID: str(trial_id)}
            params = self._read(config, strict=False)
            failed = next((t.number for t in study.trials if t.state == "fail" and t.params == params), None)
            add = functools.partial(study.add, params) if failed is None else functools.partial(study.correct, failed)
            self._finished[trial_id] = add(value, user_attrs=attrs).number
        except (TypeError, ValueError) as error:
            _log.warning("trial %s was not suggested and is ignored: %s", trial_id, error)
