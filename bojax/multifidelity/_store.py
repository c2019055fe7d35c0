"""Storage of the evaluations of a run in an Optuna study, opened by URL, so that an interrupted run can be resumed.

Every member is a trial: its hyperparameters, the tuned metric by steps as intermediate values, and all metrics as the
attributes `bojax:metrics:STEPS`. The study's attribute `bojax:run` describes the run. The trials alone are enough to
resume: a run depends only on its seed and evaluations, so it is repeated from the start with the stored evaluations.
Weights are not stored here; see `_stored_population`.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bojax._errors import StudyError
from bojax._plain import plain_json
from bojax.multifidelity._trainable import Trainable
from bojax.space import to_space

if TYPE_CHECKING:
    import optuna

RUN, MEMBER, METRICS = "bojax:run", "bojax:member", "bojax:metrics:"
DEFAULT_NAME = "bojax"


class RunStore:
    """The evaluations of one run, in an Optuna study.

    Args:
        storage: an Optuna storage or its URL: `sqlite:///run.db`, `journal:///run.log`, or any other that Optuna opens.
        name: name of the study in its storage; an existing run of that name is resumed.
        objective: the training run.
        method: the method, such as "hyperband".
        settings: its arguments, plain data; a run resumes only with the same ones.

    Raises:
        StudyError: a study of that name is not such a run, or was made with other settings.
    """

    def __init__(
        self, storage: Any, name: str | None, objective: Trainable, method: str, settings: Mapping[str, Any]
    ) -> None:
        space = to_space(objective.space)
        self.name, self.space, self.metric = name or DEFAULT_NAME, space, objective.metric
        tuned = {"objective": objective.name, "metric": objective.metric, "direction": objective.direction}
        run = plain_json({"method": method, **tuned, "space": space.to_spec(), **settings})
        self._study = _opened(storage, self.name, objective.direction, run)
        self._trials: dict[int, optuna.trial.FrozenTrial] = {}  # the last trial of each member
        self._metrics: dict[tuple[int, int], dict[str, float]] = {}
        for trial in sorted(self._study.get_trials(deepcopy=False), key=lambda trial: trial.number):
            self._read(trial)

    def metrics(self, member: int, steps: int) -> dict[str, float] | None:
        """All metrics of a member after `steps` steps; None if they are not stored."""
        return self._metrics.get((member, steps))

    def record(self, member: int, x: Any, steps: int, metrics: Mapping[str, float]) -> None:
        """Stores one evaluation; a stored one must have the same hyperparameters.

        Raises:
            StudyError: the stored member has other hyperparameters.
        """
        params = self.space.to_params(x)
        trial = self._trials.get(member)
        if trial is not None and any(trial.params.get(name) != value for name, value in params.items()):
            raise StudyError(
                f"member {member} of the stored run {self.name!r} has the hyperparameters {trial.params}, and now "
                f"{params}: another algorithm, or another version of bojax. Choose another `name`."
            )
        if (member, steps) in self._metrics:
            return
        if trial is None or trial.state.is_finished():
            trial = self._add(member, params)
        storage, value = self._study._storage, float(metrics[self.metric])
        plain = {name: _to_json(float(number)) for name, number in metrics.items()}
        # The attribute is written first, so that a stored value implies complete metrics.
        storage.set_trial_user_attr(trial._trial_id, f"{METRICS}{steps}", plain)
        storage.set_trial_intermediate_value(trial._trial_id, steps, value)
        self._metrics[member, steps] = {name: float(number) for name, number in metrics.items()}

    def finish(self, members: Any, max_steps: int) -> None:
        """Ends the trials of members: complete after `max_steps`, pruned before, failed without a value."""
        import optuna

        for member in members:
            trial = self._trials.get(int(member))
            if trial is None or trial.state.is_finished():
                continue
            trial = self._study._storage.get_trial(trial._trial_id)
            steps = max(trial.intermediate_values, default=0)
            value = trial.intermediate_values.get(steps, math.nan)
            state = optuna.trial.TrialState.COMPLETE if steps >= max_steps else optuna.trial.TrialState.PRUNED
            if not math.isfinite(value):
                state, value = optuna.trial.TrialState.FAIL, None
            self._study._storage.set_trial_state_values(trial._trial_id, state, None if value is None else [value])
            self._trials[int(member)] = self._study._storage.get_trial(trial._trial_id)

    def close(self, max_steps: int) -> None:
        """Ends all remaining trials when the run is over."""
        self.finish(list(self._trials), max_steps)

    def _add(self, member, params):
        import optuna

        from bojax.storage import to_distributions

        template = optuna.trial.create_trial(
            state=optuna.trial.TrialState.RUNNING,
            params=params,
            distributions=to_distributions(self.space, params),
            user_attrs={MEMBER: member},
        )
        number = self._study._storage.create_new_trial(self._study._study_id, template_trial=template)
        self._trials[member] = self._study._storage.get_trial(number)
        return self._trials[member]

    def _read(self, trial):
        member = trial.user_attrs.get(MEMBER)
        if member is None:
            return
        self._trials[member] = trial
        for key, metrics in trial.user_attrs.items():
            if key.startswith(METRICS):
                steps = int(key.removeprefix(METRICS))
                self._metrics[member, steps] = {name: float(number) for name, number in metrics.items()}


def _opened(storage: Any, name: str, direction: str, run: dict[str, Any]) -> "optuna.Study":
    """The new or stored study whose attribute describes this run."""
    import optuna

    from bojax.storage import open_storage

    studies = open_storage(storage)
    try:
        study = optuna.load_study(study_name=name, storage=studies)
    except KeyError:
        way = optuna.study.StudyDirection[direction.upper()]
        study = optuna.create_study(study_name=name, storage=studies, direction=way)
    stored = study.user_attrs.get(RUN)
    if stored is None:
        if study.get_trials(deepcopy=False) or study.user_attrs:
            raise StudyError(f"the study {name!r} exists and is no {run['method']} run. Choose another `name`.")
        study.set_user_attr(RUN, run)
        return study
    for setting in {**stored, **run}:
        if stored.get(setting) != run.get(setting):
            raise StudyError(
                f"the run {name!r} exists with another {setting}: stored {stored.get(setting)!r}, given "
                f"{run.get(setting)!r}. Go on with the same, or choose another `name`."
            )
    return study


def _to_json(number: float) -> float | str:
    """A number for JSON, which has no non-finite numbers; `float` reads it back."""
    return number if math.isfinite(number) else repr(number)
