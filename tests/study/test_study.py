"""Asking and telling: values, errors, directions, suggestions as a pure function, and Optuna code on the same study."""

import math
import warnings

import jax.numpy as jnp
import numpy as np
import optuna
import pytest
from study_probe import SPACE, probe, value_of

from bojax import loop
from bojax._errors import BojaxWarning, SpaceExhaustedError, Status, StudyError
from bojax.space import Categorical, Float, Int, Ordinal, Space
from bojax.storage import hide_password
from bojax.study import Study
from bojax.study._study import core_of


def make(space=SPACE, **kwargs):
    return Study(space, **({"seed": 0, "algorithm": probe} | kwargs))


def random_search(space, q):
    return loop.random_search(space, q=q)


def url(tmp_path, name="study.db"):
    return f"sqlite:///{tmp_path / name}"


def test_ask_gives_plain_python_values_of_the_space():
    trials = make().ask(4)
    assert [trial.number for trial in trials] == [0, 1, 2, 3]
    for trial in trials:
        assert trial.state == "running" and trial.value is None
        assert list(trial.params) == list(SPACE.names)
        assert type(trial.params["learning_rate"]) is float
        assert type(trial.params["width"]) is int
        assert trial.params["activation"] in ("relu", None, 3)
        SPACE.from_params(trial.params)


def test_ask_without_argument_gives_a_list_of_one():
    assert len(make().ask()) == 1


@pytest.mark.unchecked
@pytest.mark.parametrize("q", [0, -1, 1.0, True, "2", None])
def test_ask_refuses_what_is_no_count(q):
    study = make()
    with pytest.raises(ValueError, match="`q` must be an integer"):
        study.ask(q)
    assert study.trials == []


@pytest.mark.parametrize(
    "value", [1, 1.5, np.float32(1.5), np.int64(2), np.array(1.5), jnp.float32(1.5), jnp.asarray(2)]
)
def test_tell_accepts_numbers(value):
    study = make()
    told = study.tell(study.ask()[0], value)
    assert told.state == "complete" and told.value == float(value) and type(told.value) is float


@pytest.mark.parametrize(
    "value", [None, "1.0", True, np.bool_(True), 1j, [1.0], np.zeros(1), np.zeros(2), np.array("3"), {}, object()]
)
def test_tell_refuses_what_is_no_number_and_records_nothing(value):
    study = make()
    trial = study.ask()[0]
    with pytest.raises(TypeError, match="`value` must be"):
        study.tell(trial, value)
    assert study.trials[0].state == "running"
    study.tell(trial, 1.0)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float32(np.nan)])
def test_a_value_that_is_not_finite_fails_the_trial_with_one_warning(value):
    study = make()
    trial = study.ask()[0]
    with pytest.warns(BojaxWarning, match="trial 0 .* counts as failed") as caught:
        told = study.tell(trial, value)
    assert len(caught) == 1
    assert told.state == "fail" and told.value is None
    assert told.user_attrs["bojax:told"] == repr(float(value))


@pytest.mark.unchecked
def test_tell_refuses_wrong_states():
    study = make()
    trial = study.ask()[0]
    for state in ("failed", "running", 1, True):
        with pytest.raises(ValueError, match="`state` must be"):
            study.tell(trial, state=state)
    with pytest.raises(ValueError, match="has no value"):
        study.tell(trial, 1.0, state="fail")
    assert study.trials[0].state == "running"


def test_tell_twice_names_what_was_told_before():
    study = make()
    first, second = study.ask(2)
    study.tell(first, 2.5)
    with pytest.raises(StudyError, match=r"trial 0 was told before: 2\.5"):
        study.tell(first, 3.0)
    study.tell(second, state="fail")
    with pytest.raises(StudyError, match='trial 1 was told before: state="fail"'):
        study.tell(1, 3.0)
    assert study.best_value == 2.5


@pytest.mark.unchecked
def test_tell_unknown_trials():
    study = make()
    study.ask()
    for number in (1, 99, -1):
        with pytest.raises(StudyError, match=f"no trial {number}"):
            study.tell(number, 1.0)
    for wrong in (True, "0", None, 0.0):
        with pytest.raises(TypeError, match="`trial` must be"):
            study.tell(wrong, 1.0)
    other = make(seed=1).ask()[0]
    with pytest.raises(StudyError, match="wrong study"):
        study.tell(other, 1.0)


def test_tell_by_number_and_user_attrs():
    study = make()
    study.ask()
    told = study.tell(np.int64(0), 1.0, user_attrs={"accuracy": 0.5, "note": "a"})
    assert told.user_attrs == {"accuracy": 0.5, "note": "a"} and study.trials == [told]
    study.ask()
    with pytest.raises(TypeError, match="must fit into JSON"):
        study.tell(1, 1.0, user_attrs={"bad": object()})
    assert study.trials[1].state == "running"


@pytest.mark.parametrize(("direction", "best"), [("minimize", 1), ("maximize", 0)])
def test_best_trial_follows_the_direction_and_never_is_a_failed_one(direction, best):
    study = make(direction=direction)
    with pytest.raises(StudyError, match="no complete trial"):
        _ = study.best_trial
    trials = study.ask(4)
    for trial, value in zip(trials, (3.0, -1.0, 3.0), strict=False):
        study.tell(trial, value)
    study.tell(trials[3], state="fail")
    assert study.best_trial.number == best  # the earliest of equals
    assert study.best_value == study.best_trial.value and study.best_params == study.trials[best].params


def test_the_surrogate_sees_values_to_be_maximised_and_failures_as_nan():
    for direction, sign in (("minimize", -1.0), ("maximize", 1.0)):
        study = make(direction=direction)
        trials = study.ask(4)
        study.tell(trials[2], 2.0)
        study.tell(trials[0], 5.0)
        study.tell(trials[1], state="fail")
        X, y, pending, _ = core_of(study).ledger.refresh().told()
        np.testing.assert_array_equal(y, [sign * 5.0, np.nan, sign * 2.0])
        rows = [SPACE.from_params(trial.params) for trial in trials]
        np.testing.assert_array_equal(X, rows[:3])
        np.testing.assert_array_equal(pending, rows[3:])


def test_same_seed_same_suggestions_and_another_seed_others():
    def suggestions(seed):
        study = make(seed=seed)
        asked = []
        for q in (1, 3, 2):
            for trial in study.ask(q):
                asked.append(trial.params)
                study.tell(trial, value_of(trial.params))
        return asked

    assert suggestions(0) == suggestions(0)
    assert suggestions(0) != suggestions(1)


def test_the_order_of_telling_does_not_matter():
    def next_params(order):
        study = make()
        trials = study.ask(4)
        for i in order:
            study.tell(trials[i], value_of(trials[i].params))
        return study.ask()[0].params

    assert next_params([0, 1, 2, 3]) == next_params([3, 1, 0, 2])


@pytest.mark.long
def test_a_study_resumes_at_any_point_as_if_never_closed(tmp_path):
    def play(reopen_after):
        storage = url(tmp_path, f"{reopen_after}.db")
        study, asked, step = make(storage=storage), [], 0
        for q in (2, 1, 3):
            trials = study.ask(q)
            asked += [trial.params for trial in trials]
            for trial in trials:
                if step == reopen_after:
                    study = make(SPACE if step % 2 else None, storage=storage)
                study.tell(trial.number, value_of(trial.params))
                step += 1
        return asked

    expected = play(None)
    for step in (0, 1, 2, 5):
        assert play(step) == expected, step


def test_pending_points_change_the_suggestion():
    a, b = make(), make()
    a.tell(a.ask()[0], 1.0)
    b.ask()
    assert a.ask()[0].params != b.ask()[0].params


def test_opening_an_existing_study_checks_space_direction_and_seed(tmp_path):
    storage = url(tmp_path)
    make(storage=storage, direction="maximize", seed=3)
    opened = Study(storage=storage)
    assert (opened.space, opened.direction, opened.seed) == (SPACE, "maximize", 3)
    with pytest.raises(StudyError, match="another direction: stored 'maximize', given 'minimize'"):
        make(storage=storage, direction="minimize", seed=3)
    with pytest.raises(StudyError, match="another seed: stored 3, given 4"):
        make(storage=storage, seed=4)
    with pytest.raises(StudyError, match="another space"):
        make(Space(x=Float(0.0, 1.0)), storage=storage, seed=None)
    with pytest.raises(StudyError, match="no study 'other'"):
        Study(storage=storage, name="other")
    assert make(storage=storage, name="other", seed=4).seed == 4


def test_a_new_study_without_a_seed_draws_one_and_keeps_it(tmp_path):
    storage = url(tmp_path)
    seed = make(storage=storage, seed=None).seed
    assert make(storage=storage, seed=None).seed == seed
    assert make(seed=None).seed != make(seed=None).seed


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("kwargs", "error"),
    [
        ({"direction": "up"}, ValueError),
        ({"seed": -1}, ValueError),
        ({"seed": 2**32}, ValueError),
        ({"seed": 1.0}, TypeError),
        ({"seed": True}, TypeError),
        ({"name": ""}, ValueError),
        ({"storage": "study.db"}, ValueError),
        ({"storage": 3}, TypeError),
        ({"storage": "sqlite:////no/such/folder/study.db"}, StudyError),
        ({"storage": "nosuchdatabase://host/x"}, StudyError),
        ({"algorithm": "bayesopt"}, TypeError),
        ({"space": 3}, TypeError),
        ({"space": {}}, ValueError),
    ],
)
def test_bad_arguments(kwargs, error):
    with pytest.raises(error):
        make(**kwargs)


def test_an_algorithm_of_the_wrong_shape_is_named():
    study = make(algorithm=lambda space, q: probe(space, q + 1))
    with pytest.raises(ValueError, match=r"function of \(space, q\)"):
        study.ask(2)
    assert study.trials == []  # what had been created was given up


def altered(**changes):
    """The probe with another Info."""

    def algorithm(space, q):
        inner = probe(space, q)

        def ask(key, state):
            X, state, info = inner.ask(key, state)
            return X, state, info._replace(**{name: jnp.asarray(value) for name, value in changes.items()})

        return inner._replace(ask=ask)

    return algorithm


@pytest.mark.long
def test_only_valid_points_are_given_and_none_is_an_error():
    study = make(algorithm=altered(status=int(Status.EXHAUSTED), valid=[True, False, True]))
    trials = study.ask(3)
    assert len(trials) == len(study.trials) == 2 and trials[0].params != trials[1].params
    study = make(algorithm=altered(status=int(Status.EXHAUSTED), valid=[False, False]))
    with pytest.raises(SpaceExhaustedError):
        study.ask(2)
    assert study.trials == []


@pytest.mark.long
def test_a_fallback_is_one_warning():
    study = make(algorithm=altered(status=int(Status.FALLBACK)))
    with pytest.warns(BojaxWarning, match="the surrogate was not finite") as caught:
        study.ask(), study.ask()
    assert len(caught) == 1


def test_another_sampler_on_the_optuna_study_changes_nothing_for_ask():
    study, plain = make(), make()
    study.optuna.sampler = optuna.samplers.RandomSampler()
    assert study.ask(2) == plain.ask(2)
    assert isinstance(study.optuna.sampler, optuna.samplers.RandomSampler)


def test_the_space_may_be_plain_data_or_a_mapping():
    spec = {"x": {"type": "float", "low": 0.0, "high": 1.0}}
    assert make(spec).space == make({"x": Float(0.0, 1.0)}).space == Space(x=Float(0.0, 1.0))


def test_journal_storage(tmp_path):
    storage = f"journal:///{tmp_path / 'study.log'}"
    study = make(storage=storage)
    study.tell(study.ask(2)[1], 1.0)
    reopened = make(storage=storage)
    assert [trial.state for trial in reopened.trials] == ["running", "complete"]
    assert reopened.ask()[0].params == study.ask()[0].params or len(study.trials) == 4


@pytest.mark.long
def test_a_finite_space_is_used_up_without_repetition():
    space = Space(a=Categorical(["x", "y", "z"]), b=Int(0, 1), c=Ordinal([5]))
    study = make(space, algorithm=random_search)
    points = []
    while True:
        try:
            trials = study.ask(4)
        except SpaceExhaustedError as error:
            assert "all 6 points" in str(error)
            break
        points += [tuple(trial.params.values()) for trial in trials]
        for trial in trials[::2]:
            study.tell(trial, state="fail")
    assert len(points) == len(set(points)) == 6
    assert len(study.trials) == 6


def test_enqueued_trials_come_first_and_are_checked():
    study = make()
    params = {"learning_rate": 1e-3, "width": 16, "activation": None, "quality": 4}
    study.enqueue(params)
    with pytest.raises(StudyError, match="waits in line"):
        study.tell(0, 1.0)
    first, second = study.ask(2)
    assert (first.number, first.params) == (0, params) and second.params != params
    with pytest.raises(ValueError):
        study.enqueue({**params, "width": 3})
    study.optuna.enqueue_trial({"width": 32})  # Optuna also takes a part of the parameters
    with pytest.warns(BojaxWarning, match="takes no `held`"):
        trial = study.ask()[0]
    assert trial.params["width"] == 32 and set(trial.params) == set(SPACE.names)


def test_optuna_code_on_the_same_study():
    study = make()
    study.tell(study.ask()[0], 1.0)

    def objective(trial):
        x = trial.suggest_float("learning_rate", 1e-5, 1e-1, log=True)
        trial.suggest_int("width", 16, 512, log=True)
        trial.suggest_categorical("activation", ["relu", None, 3])
        trial.suggest_categorical("quality", [1, 2, 4, 8])
        extra = trial.suggest_float("not in the space", 0.0, 1.0)
        if trial.number == 2:
            raise optuna.TrialPruned
        return x + extra

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        study.optuna.optimize(objective, n_trials=3)
    assert [trial.state for trial in study.trials] == ["complete", "complete", "pruned", "complete"]
    assert study.ask()[0].number == 4

    again = make()
    again.tell(again.ask()[0], 1.0)
    again.optuna.optimize(objective, n_trials=3)
    assert [t.params for t in again.trials] == [t.params for t in study.trials][:4]


def test_an_optuna_study_made_elsewhere_can_be_taken_over(tmp_path):
    storage = url(tmp_path)
    foreign = optuna.create_study(storage=storage, study_name="bojax", direction="maximize")
    foreign.optimize(lambda trial: trial.suggest_float("x", 0.0, 2.0), n_trials=3)
    with pytest.raises(StudyError, match="not made by bojax"):
        Study(storage=storage)
    study = make(Space(x=Float(0.0, 2.0)), storage=storage)
    assert study.direction == "maximize" and study.best_value == foreign.best_value
    assert study.ask()[0].number == 3


def test_trials_with_parameters_outside_the_space_are_left_out_with_one_warning():
    study = make(Space(x=Float(0.0, 1.0)))
    study.optuna.sampler = optuna.samplers.RandomSampler(seed=0)
    study.optuna.optimize(lambda trial: trial.suggest_float("x", 5.0, 6.0), n_trials=2)
    with pytest.warns(BojaxWarning, match="do not belong to the space") as caught:
        study.ask()
    assert len(caught) == 1


def test_several_objectives_are_refused():
    storage = optuna.storages.InMemoryStorage()
    optuna.create_study(storage=storage, study_name="bojax", directions=["minimize", "minimize"])
    with pytest.raises(StudyError, match="several objectives"):
        make(storage=storage)


def test_bojax_calls_leave_optunas_log_and_verbosity_alone(caplog):
    before = optuna.logging.get_verbosity()
    study = make()
    study.tell(study.ask()[0], 1.0)
    assert optuna.logging.get_verbosity() == before
    assert "new study" not in caplog.text
    optuna.create_study()
    assert "new study" in caplog.text


def test_studies_of_one_process_share_compiled_programs():
    traced = []

    def counted(space, q):
        traced.append((space, q))
        return probe(space, q)

    for seed in range(3):
        study = make(seed=seed, algorithm=counted)
        study.ask(2), study.ask(2)
    assert traced == [(SPACE, 2)]


def test_passwords_are_not_shown():
    assert hide_password("mysql://me:secret@host/db") == "mysql://me:***@host/db"
    assert hide_password("sqlite:///a.db") == "sqlite:///a.db"


def test_dataframe_keeps_types():
    study = make()
    trials = study.ask(4)
    for trial in trials[:3]:
        study.tell(trial, value_of(trial.params), user_attrs={"metric": 1.0})
    frame = study.to_dataframe()
    assert list(frame.columns[:4]) == ["number", "state", "value", "params_learning_rate"]
    assert frame["params_activation"].tolist() == [trial.params["activation"] for trial in trials]
    assert frame["value"].isna().tolist() == [False, False, False, True]
    assert frame["user_attrs_metric"].dtype == np.float64
    assert frame["user_attrs_metric"].fillna(-1.0).tolist() == [1.0, 1.0, 1.0, -1.0]


def test_plot_trajectory(tmp_path):
    from bojax.study import plot_trajectory

    study = make()
    plot_trajectory(study, tmp_path / "empty.png")
    for i, trial in enumerate(study.ask(4)):
        study.tell(trial, **({"state": "fail"} if i == 2 else {"value": float(-i)}))
    plot_trajectory(study, tmp_path / "study.png")
    assert (tmp_path / "study.png").read_bytes()[:4] == b"\x89PNG"
    axes = plot_trajectory(study)
    best = next(line for line in axes.get_lines() if line.get_label() == "best so far")
    np.testing.assert_array_equal(best.get_ydata(), [0.0, -1.0, -3.0])
    assert plot_trajectory(study, axes) is axes


@pytest.mark.long
def test_plot_slices(tmp_path):
    from bojax.study import plot_slices

    study = make()
    with pytest.raises(StudyError, match="no complete trial"):
        plot_slices(study)
    trials = study.ask(9)
    study.tell(trials[0], 1.0)
    with pytest.raises(StudyError, match="fewer than two complete trials"):
        plot_slices(study)
    for trial in trials[1:]:
        study.tell(trial, math.log10(trial.params["learning_rate"]))
    axes = plot_slices(study, tmp_path / "slices.png")
    assert (tmp_path / "slices.png").read_bytes()[:4] == b"\x89PNG"
    assert [a.get_xlabel() for a in axes] == list(SPACE.names)
    line = axes[0].get_lines()[0]
    assert axes[0].get_xscale() == "log" and line.get_ydata()[0] < line.get_ydata()[-1]


def test_an_algorithm_that_cannot_be_made_leaves_no_trials():
    def missing(space, q):
        raise ImportError("it is needed: pip install it")

    study = Study({"x": Float(0.0, 1.0)}, seed=0, algorithm=missing)
    with pytest.raises(ImportError, match="it is needed"):
        study.ask(2)
    assert not study.optuna.trials
