"""Four workers on one study, one of them killed in an evaluation: no trial is lost and none is evaluated twice.

The command for both servers: `python -m pytest tests/faults/test_many_workers.py`.
"""

import collections
import threading
from concurrent import futures

import pytest

from bojax.storage import open_storage
from bojax.study import Study
from tests.faults.forks import run_forked
from tests.faults.servers import postgres

LIMIT = 240
"""Seconds for all workers together: ten times what they take on two free cores."""

pytestmark = [pytest.mark.long, pytest.mark.timeout(400)]

WORK = """
from optuna.trial import TrialState

space = bojax.Space(x=bojax.Int(0, 99), y=bojax.Int(0, 9))

def work(dies_at):
    study, count = make(), 0
    while len(study.optuna.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))) < NUM_TRIALS:
        trial, count = study.ask()[0], count + 1
        note(trial.params, trial.number, os.getpid())
        if count == dies_at:
            kill()
        study.tell(trial, trial.params["x"] + 1000 * trial.params["y"])

workers = [fork(work, dies_at) for dies_at in (DIES_AT, None, None, None)]
codes = [wait(worker) for worker in workers]
assert codes == [-9, 0, 0, 0], codes
"""


def check_workers(storage, folder, num_trials, dies_at):
    """Runs the workers and compares what they noted with what is stored."""
    code = WORK.replace("NUM_TRIALS", str(num_trials)).replace("DIES_AT", str(dies_at))
    notes = run_forked(code, storage, folder / "log", limit=LIMIT)
    trials = {trial.number: trial for trial in Study(storage=storage).trials}
    # Whoever asked before the last result came evaluates to the end.
    assert num_trials <= sum(trial.state == "complete" for trial in trials.values()) <= num_trials + 2
    assert {trial.state for trial in trials.values()} == {"complete", "fail"}
    # Every evaluation has a trial of its own with its parameters and its value, and every trial an evaluation.
    assert sorted(number for _, _, number, _ in notes) == sorted(trials)
    lost = [trial for trial in trials.values() if trial.state == "fail"]
    for x, y, number, _ in notes:
        assert trials[number].params == {"x": x, "y": y}
        assert trials[number].value == (None if trials[number] in lost else x + 1000 * y)
    # The killed evaluation is recorded, and it alone is repeated.
    [trial] = lost
    assert trial.user_attrs["bojax:lost"] and "killed" in str(trial.error)
    times = collections.Counter((x, y) for x, y, *_ in notes)
    repeated = [point for point, count in times.items() if count > 1]
    assert repeated == [(trial.params["x"], trial.params["y"])] and times[repeated[0]] == 2
    [retry] = [other for other in trials.values() if other.user_attrs.get("bojax:retry_of") == trial.number]
    assert retry.params == trial.params and retry.state == "complete"
    # All of them worked.
    workers = collections.Counter(pid for *_, pid in notes)
    assert len(workers) == 4 and min(workers.values()) >= min(dies_at, num_trials // 20)


def open_at_once(url, barrier):
    barrier.wait(60)
    return open_storage(url)


def test_workers_that_open_an_empty_postgresql_at_once_make_its_tables_once():
    psycopg2 = pytest.importorskip("psycopg2")
    barrier = threading.Barrier(4)
    with postgres() as url:
        address = url.replace("+psycopg2", "")
        for i in range(3):
            connection = psycopg2.connect(address)
            connection.autocommit = True
            connection.cursor().execute(f"CREATE DATABASE empty_{i}")
            connection.close()
            with futures.ThreadPoolExecutor(4) as pool:
                tasks = [
                    pool.submit(open_at_once, f"{url.removesuffix('postgres')}empty_{i}", barrier) for _ in range(4)
                ]
            storages = [task.result() for task in tasks]
            assert [storage.get_all_studies() for storage in storages] == [[]] * 4
            for storage in storages:
                storage.engine.dispose()


def test_four_workers_on_postgresql(tmp_path):
    with postgres() as url:
        check_workers(url, tmp_path, num_trials=40, dies_at=4)


def test_four_workers_on_a_sqlite_file_evaluate_two_hundred_trials(tmp_path):
    check_workers(f"sqlite:///{tmp_path / 'study.db'}", tmp_path, num_trials=200, dies_at=20)
