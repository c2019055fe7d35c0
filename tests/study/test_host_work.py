"""The work of a trial on the host, counted: it does not grow with the number of trials."""

import itertools

import pytest
from sqlalchemy import event

import bojax
from bojax.storage import _claims, _database
from bojax.study.records._ledger import Ledger

SPACE = bojax.Space({"x": bojax.Float(0.0, 1.0), "n": bojax.Int(1, 8)})


def random_search(space, q):
    return bojax.random_search(space, q=q)


def tell(study, trial):
    return study.tell(trial, 0.5, noise_var=0.1, user_attrs={"seconds": 3, "note": "a"})


@pytest.fixture
def study(tmp_path):
    return bojax.Study(SPACE, storage=f"sqlite:///{tmp_path}/study.db", seed=0, algorithm=random_search)


@pytest.fixture
def log(study, monkeypatch):
    """The kinds of statements, the commits, and the trials that the ledger takes in, as they come."""
    entries = []
    engine = study.optuna._storage._backend.engine
    event.listen(engine, "before_cursor_execute", lambda *args: entries.append(args[2].split()[0]))
    event.listen(engine, "commit", lambda connection: entries.append("COMMIT"))
    enter, close = Ledger._enter, Ledger._close
    monkeypatch.setattr(Ledger, "_enter", lambda self, trial: (entries.append("enter"), enter(self, trial)))
    monkeypatch.setattr(Ledger, "_close", lambda self, trial: (entries.append("close"), close(self, trial)))
    return entries


def num_writes(log):
    """How many commits store something."""
    is_write = [entry in ("INSERT", "UPDATE") for entry in log if entry != "SELECT"]
    return sum(writes for writes, _ in itertools.groupby(is_write))


@pytest.mark.long
def test_a_trial_costs_the_same_work_whatever_was_told(study, log):
    work = []
    for num_trials in (3, 30):
        for i in range(len(study.trials), num_trials):
            study.add({"x": i / 100, "n": 1}, float(i))
        tell(study, study.ask()[0])  # which takes in what was added
        log.clear()
        tell(study, study.ask()[0])
        work.append(list(log))
    assert work[0] == work[1]
    assert (work[0].count("enter"), work[0].count("close")) == (1, 1)
    assert num_writes(work[0]) == 3, "its creation, its parameters, what is told"


def test_what_is_told_is_stored_at_once_and_given_as_it_is_stored(study, log):
    (trial,) = study.ask()
    log.clear()
    told = tell(study, trial)
    assert num_writes(log) == 1
    assert told == study.trials[0]
    assert told.datetime_complete == study.trials[0].datetime_complete
    assert told.user_attrs == {"seconds": 3, "note": "a", "bojax:noise_var": 0.1}


@pytest.mark.long
def test_a_database_with_unknown_tables_is_used_through_public_calls(study, monkeypatch):
    """Optuna's tables may change; a study then goes on with Optuna's own calls."""
    for module in (_database, _claims):
        monkeypatch.setattr(module, "tables", lambda: None)
    study.optuna.enqueue_trial({"x": 0.5, "n": 3})
    for trial in [*study.ask(2)]:
        tell(study, trial)
    assert [trial.value for trial in study.trials] == [0.5, 0.5]
    assert study.trials[0].params == {"x": 0.5, "n": 3} and study.trials[1].user_attrs["seconds"] == 3


def test_the_tables_of_the_installed_optuna_are_known(study):
    assert _database.database_of(study.optuna._storage) is not None
