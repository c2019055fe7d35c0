"""Commit before check: a study is compared with what is given before anything is written; reading writes nothing."""

import hashlib
import json
import pathlib
import subprocess
import sys

import optuna
import pytest

import bojax
from bojax import cli
from bojax._errors import StudyError
from bojax.study.records import _storage
from tests.faults.storages import PARAMS, SPACE, asked, make, random_search, url_of

FILES = ("sqlite", "journal")


def digest(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in pathlib.Path(folder).iterdir()}


def objective(trial):
    x = trial.suggest_float("x", 0.0, 10.0)
    trial.suggest_int("n", 1, 8)
    trial.suggest_categorical("act", ["relu", "tanh"])
    if trial.number == 1:
        raise optuna.TrialPruned
    return x


def foreign_study(kind, folder, direction="minimize"):
    """A study that Optuna made, with three trials that have parameters, and one that failed before it had any."""
    storage = optuna.storages.InMemoryStorage()
    if kind != "memory":
        storage = make(url_of(kind, folder), name="another").optuna._storage
    study = optuna.create_study(
        storage=storage, study_name="bojax", direction=direction, sampler=optuna.samplers.RandomSampler(seed=0)
    )
    study.optimize(objective, n_trials=3)
    study.tell(study.ask(), state=optuna.trial.TrialState.FAIL)
    return study


RIGHT = {"x": bojax.Float(0.0, 10.0), "n": bojax.Int(1, 8), "act": bojax.Categorical(["relu", "tanh"])}
WRONG = {
    "another name": ({"z": bojax.Float(0.0, 10.0)}, "a parameter 'x', which the space lacks"),
    "a name less": ({"x": RIGHT["x"], "n": RIGHT["n"]}, "a parameter 'act', which the space lacks"),
    "a name more": (RIGHT | {"z": bojax.Float(0.0, 1.0)}, "has no parameter 'z'"),
    "another range": (RIGHT | {"x": bojax.Float(0.0, 0.001)}, r"does not fit: `x` must be in \[0.0, 0.001\]"),
    "another scale": (RIGHT | {"n": bojax.Int(1, 8, log=True)}, "has 'n' as IntDistribution"),
    "another kind": (RIGHT | {"n": bojax.Float(1.0, 8.0)}, "has 'n' as IntDistribution"),
    "another step": (RIGHT | {"n": bojax.Int(1, 9, step=8)}, "`n` must be 1 plus a multiple of 8"),
    "other choices": (RIGHT | {"act": bojax.Categorical(["relu", "tanh", "gelu"])}, "has 'act' with the choices"),
    "another order": (RIGHT | {"act": bojax.Categorical(["tanh", "relu"])}, "has 'act' with the choices"),
}


@pytest.mark.parametrize("kind", ["memory", *FILES])
def test_a_study_of_optuna_is_never_bound_to_a_space_that_its_trials_contradict(kind, tmp_path):
    foreign = foreign_study(kind, tmp_path)
    storage, before = foreign._storage, digest(tmp_path)
    for space, reason in WRONG.values():
        with pytest.raises(StudyError, match=f"made with another space: trial . .*{reason}"):
            bojax.Study(space, storage=storage, algorithm=random_search)
    with pytest.raises(StudyError, match="another direction"):
        bojax.Study(RIGHT, "maximize", storage=storage)
    with pytest.raises(StudyError, match="not made by bojax"):
        bojax.Study(storage=storage)
    assert foreign.user_attrs == {} and digest(tmp_path) == before
    study = bojax.Study(RIGHT, storage=storage, seed=1, algorithm=random_search)
    assert study.space == bojax.Space(RIGHT) and study.best_value == foreign.best_value
    assert study.ask()[0].number == 4


def test_a_wider_space_takes_a_study_of_optuna_over():
    foreign = foreign_study("memory", None)
    wider = RIGHT | {"x": bojax.Float(-1.0, 100.0), "n": bojax.Int(1, 16)}
    assert bojax.Study(wider, storage=foreign._storage, algorithm=random_search).ask()[0].number == 4


def test_what_waits_in_line_must_fit_too():
    foreign = optuna.create_study(storage=optuna.storages.InMemoryStorage(), study_name="bojax")
    foreign.enqueue_trial({"x": 11.0})
    with pytest.raises(StudyError, match="trial 0 does not fit: `x` must be in"):
        bojax.Study(RIGHT, storage=foreign._storage)
    assert foreign.user_attrs == {}


@pytest.mark.parametrize("kind", FILES)
def test_a_mismatch_of_space_seed_or_direction_writes_nothing(kind, tmp_path):
    url = url_of(kind, tmp_path)
    make(url, direction="maximize")
    before = digest(tmp_path)
    for wrong in ({"seed": 1}, {"direction": "minimize"}, {"space": {"x": bojax.Float(0.0, 1.0)}}):
        with pytest.raises(StudyError, match="exists with another"):
            bojax.Study(**({"space": SPACE, "storage": url} | wrong))
    assert digest(tmp_path) == before


@pytest.fixture(scope="module")
def dead_worker():
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait(60)
    return _storage.worker() | {"pid": ended.pid, "start": 1}


@pytest.fixture(params=FILES)
def study_with_a_dead_trial(request, tmp_path, dead_worker):
    url = url_of(request.param, tmp_path)
    study = make(url)
    study.tell(asked(study), 1.5)
    trial = asked(study, n=3)
    frozen = study.optuna.get_trials(deepcopy=False)[trial.number]
    _storage.set_trial_attr(study.optuna, frozen, _storage.WORKER, dead_worker)
    return url


def test_reading_a_study_with_a_dead_trial_writes_nothing(study_with_a_dead_trial, tmp_path, capsys):
    before = digest(tmp_path)
    study = bojax.Study(storage=study_with_a_dead_trial)
    assert study.best_value == 1.5 and study.trials[0].state == "complete" and len(study.to_dataframe()) >= 1
    make(study_with_a_dead_trial)
    assert cli.run(["show", study_with_a_dead_trial, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["best"]["value"] == 1.5
    assert digest(tmp_path) == before


def test_the_first_ask_ends_the_trial_of_a_dead_process(study_with_a_dead_trial):
    study = bojax.Study(storage=study_with_a_dead_trial, algorithm=random_search)
    study.enqueue(PARAMS)
    study.ask()
    assert study.optuna.get_trials(deepcopy=False)[1].state == optuna.trial.TrialState.FAIL


def test_a_read_only_copy_with_a_dead_trial_opens_and_says_what_it_is_when_written_to(tmp_path, dead_worker, capsys):
    study = make(url_of("sqlite", tmp_path))
    study.tell(asked(study), 1.5)
    trial = asked(study, n=3)
    frozen = study.optuna.get_trials(deepcopy=False)[trial.number]
    _storage.set_trial_attr(study.optuna, frozen, _storage.WORKER, dead_worker)
    url = f"sqlite:///file:{tmp_path}/study.db?mode=ro&uri=true"
    for space in (None, SPACE):
        opened = bojax.Study(space, storage=url, algorithm=random_search)
        assert opened.best_value == 1.5 and opened.trials[0].params == PARAMS
    assert cli.run(["show", url]) == 0
    assert "best value 1.5" in capsys.readouterr().out
    for write in (lambda: opened.ask(), lambda: opened.tell(1, 2.0), lambda: opened.enqueue(PARAMS)):
        with pytest.raises(StudyError, match=r"study\.db' cannot be used: it is read-only\. Make the file"):
            write()


@pytest.mark.parametrize("kind", FILES)
def test_looking_for_a_study_makes_no_file(kind, tmp_path):
    url = url_of(kind, tmp_path)
    with pytest.raises(StudyError, match="there is no file .*study"):
        bojax.Study(storage=url)
    assert cli.run(["show", url]) == 1
    assert digest(tmp_path) == {}


def test_looking_for_a_study_in_an_empty_file_leaves_it_empty(tmp_path):
    (tmp_path / "study.db").touch()
    with pytest.raises(StudyError, match="holds no study"):
        bojax.Study(storage=url_of("sqlite", tmp_path))
    assert (tmp_path / "study.db").read_bytes() == b""
    assert make(url_of("sqlite", tmp_path)).trials == []
