"""Who still works on a trial, on this host and on others; waits that end; and that a trial in line has one taker."""

import contextlib
import os
import subprocess
import sys
import threading
import time

import optuna
import pytest

import bojax
from bojax.storage import claim, set_params
from bojax.study import Study
from bojax.study._study import core_of
from bojax.study.asking import _asking, _lost
from bojax.study.records import _leases, _storage
from tests.faults.forks import run_forked

SPACE = bojax.Space(x=bojax.Int(0, 9), y=bojax.Int(0, 9))
SMALL = bojax.Space(x=bojax.Int(0, 3))

pytestmark = pytest.mark.timeout(200)


def random_search(space, q):
    return bojax.random_search(space, q=q)


def make(storage=None, space=SPACE):
    return Study(space, storage=storage, seed=0, algorithm=random_search)


def url(tmp_path):
    return f"sqlite:///{tmp_path / 'study.db'}"


@pytest.fixture(scope="module")
def zombie():
    """The record of a worker that has ended, and whose parent has not asked how."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    record = _storage.worker() | {"pid": process.pid, "start": _storage._start_time(process.pid)}
    assert record["start"] is not None and not _storage.is_dead(record)
    process.kill()
    end = time.monotonic() + 60
    while not _is_zombie(process.pid) and time.monotonic() < end:
        time.sleep(0.01)
    os.kill(process.pid, 0)  # its number still exists
    yield record
    process.wait(60)
    process.stdin.close()


def _is_zombie(pid):
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] == "Z"


linux = pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="zombies are read from /proc")


def set_worker(study, number, **changes):
    trial = study.optuna.trials[number]
    worker = trial.user_attrs["bojax:worker"] | changes
    _storage.set_trial_attr(study.optuna, trial, "bojax:worker", worker)


@linux
def test_a_zombie_is_dead_and_its_trial_is_recorded_as_lost(zombie):
    assert _storage.is_dead(zombie)
    study = make()
    study.ask()
    set_worker(study, 0, **zombie)
    assert study.ask()[0].params == study.trials[0].params  # the retry
    assert [trial.state for trial in study.trials] == ["fail", "running"]


@linux
def test_a_worker_that_died_while_asking_holds_nobody_up(zombie):
    study = make()
    study.tell(study.ask()[0], 1.0)  # compiles
    core_of(study).sampler.asking = True
    study.optuna.ask()
    core_of(study).sampler.asking = False
    set_worker(study, 1, **zombie)
    begin = time.monotonic()
    study.ask()
    assert time.monotonic() - begin < 30
    assert [trial.number for trial in study.trials] == [0, 2]


@linux
@pytest.mark.parametrize("look", ["asks", "waits", "reads"])
def test_parameters_that_a_worker_wrote_right_before_its_death_count(zombie, look, monkeypatch):
    """It writes them, begins and dies after another worker has read the trials and before that one looks for it."""
    study = make()
    study.tell(study.ask()[0], 1.0)  # compiles
    core, params = core_of(study), {"x": 3, "y": 4}
    core.sampler.asking = True
    study.optuna.ask()
    core.sampler.asking = False
    set_worker(study, 1, **zombie)
    core.ledger.refresh()
    is_dead = core.ledger.watch.dead

    def dead(trials):
        trial = study.optuna.trials[1]
        if not trial.params:
            set_params(core.storage, trial._trial_id, params, core.distributions)
        return is_dead(trials)

    monkeypatch.setattr(core.ledger.watch, "dead", dead)
    if look == "waits":
        _asking._wait_for_earlier(core, 5)
        assert study.optuna.trials[1].state == optuna.trial.TrialState.RUNNING
    if look == "asks":
        assert study.ask()[0].params == params  # the retry
    lost = study.trials[1]
    assert lost.state == "fail" and lost.params == params and lost.user_attrs["bojax:lost"]


@pytest.mark.long
@linux
def test_points_that_a_dead_worker_did_not_begin_are_free_again(zombie):
    """Four points, three of them asked for by a worker that died in the first evaluation."""
    study, seen = make(space=SMALL), []
    trials = _asking.ask(core_of(study), _asking.Request(3, 3, later=True))
    assert _lost.begin(core_of(study), trials[0].number)
    for trial in trials:
        set_worker(study, trial.number, **zombie)
    with pytest.warns(bojax.BojaxWarning, match="stops early"):
        study.optimize(lambda params: seen.append(params["x"]) or 0.0, 9, progress=False)
    assert sorted(seen) == [0, 1, 2, 3] and seen[0] == trials[0].params["x"]
    states = [trial.state for trial in study.trials]
    assert states == ["fail"] + ["complete"] * 4


@pytest.mark.long
@linux
def test_reading_a_study_shows_losses_and_writes_nothing(zombie, tmp_path):
    study = make(url(tmp_path))
    study.ask(2)
    set_worker(study, 0, **zombie)
    before = (tmp_path / "study.db").read_bytes()
    reading = Study(storage=url(tmp_path))
    assert [(t.state, t.user_attrs.get("bojax:lost")) for t in reading.trials] == [("fail", True), ("running", None)]
    assert (tmp_path / "study.db").read_bytes() == before


def test_where_start_times_are_unknown_leases_tell_of_other_processes(monkeypatch):
    monkeypatch.setattr(_storage, "_stat", lambda pid: [])
    monkeypatch.setattr(_leases, "GRACE_SECONDS", 0.05)
    study = make()
    study.ask(2)
    set_worker(study, 1, pid=os.getppid(), id="another")
    assert study.trials[1].state == "running"
    time.sleep(0.1)
    assert [trial.state for trial in study.trials] == ["running", "fail"]  # this process itself certainly lives


def elsewhere(study, number=0, **changes):
    """Moves the worker of a trial to another host."""
    set_worker(study, number, host="elsewhere", **changes)


def test_a_worker_elsewhere_is_dead_when_its_signs_of_life_stop(monkeypatch):
    monkeypatch.setattr(_leases, "GRACE_SECONDS", 0.2)
    study = make()
    study.ask()
    elsewhere(study)
    trial = study.optuna.trials[0]
    for beat in range(1, 5):  # alive for longer than the grace
        _storage.set_trial_attr(study.optuna, trial, "bojax:lease", [beat, time.time()])
        assert study.trials[0].state == "running"
        time.sleep(0.1)
    time.sleep(0.3)
    assert study.trials[0].state == "fail"
    assert study.ask()[0].params == study.trials[0].params
    assert study.optuna.trials[0].user_attrs["bojax:lost"]


def test_old_signs_of_life_need_no_watching_and_clocks_may_differ_by_minutes():
    study = make()
    study.ask()
    elsewhere(study, time=time.time() - 300)
    assert study.trials[0].state == "running"
    elsewhere(study, time=time.time() + 300)
    assert study.trials[0].state == "running"
    elsewhere(study, time=time.time() - 700)
    assert study.trials[0].state == "fail"


def test_signs_of_life_count_for_all_trials_of_a_worker():
    study = make()
    study.ask(2)
    elsewhere(study, 0, time=time.time() - 3600)
    elsewhere(study, 1, time=time.time() - 3600)
    _storage.set_trial_attr(study.optuna, study.optuna.trials[0], "bojax:lease", [9, time.time()])
    study.tell(0, 1.0)  # the trial that carried them has ended
    assert study.trials[1].state == "running"


def test_workers_without_a_lease_elsewhere_count_as_alive():
    study = make()
    study.ask()
    _storage.set_trial_attr(
        study.optuna, study.optuna.trials[0], "bojax:worker", {"host": "elsewhere", "pid": 1, "start": 1}
    )
    assert study.trials[0].state == "running" and len(study.ask()) == 1


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "bojax-lease"]


@pytest.mark.parametrize("scheme", ["sqlite", "journal"])
def test_signs_of_life_are_given_while_trials_run(tmp_path, monkeypatch, scheme):
    monkeypatch.setattr(_leases, "BEAT_SECONDS", 0.02)
    study = make(f"{scheme}:///{tmp_path / 'study'}")
    first, second = study.ask(2)

    def beat(number):
        return study.optuna.trials[number].user_attrs.get("bojax:lease", [0])[0]

    def wait_until(done):
        end = time.monotonic() + 60
        while not done() and time.monotonic() < end:
            time.sleep(0.02)
        assert done()

    wait_until(lambda: beat(0) > 2)
    study.tell(first, 1.0)
    wait_until(lambda: beat(1) > beat(0))  # they move on to the next
    assert "bojax:lease" not in study.trials[1].user_attrs
    study.tell(second, 1.0)
    wait_until(lambda: core_of(study).lease._thread is None)  # nothing runs any more
    study.ask()
    wait_until(lambda: beat(2) > beat(1))


def test_a_study_in_memory_needs_no_signs_of_life():
    before = threads()
    make().ask()
    assert threads() == before


def test_a_wait_for_parameters_changes_what_it_waited_for(tmp_path, monkeypatch):
    """A worker that lives and hangs while it asks is waited for once."""
    first, second = make(url(tmp_path)), make(url(tmp_path))
    second.tell(second.ask()[0], 1.0)  # compiles
    core_of(first).sampler.asking = True
    hanging = first.optuna.ask()
    first.optuna.sampler = optuna.samplers.RandomSampler()
    monkeypatch.setattr(_asking, "_ASK_TIMEOUT", 0.5)
    second.tell(second.ask()[0], 1.0)
    assert hanging.number not in [trial.number for trial in second.trials]
    monkeypatch.setattr(_asking, "_ASK_TIMEOUT", 1000.0)
    second.tell(second.ask()[0], 1.0)


def test_who_was_given_up_while_asking_chooses_anew(monkeypatch):
    storage = optuna.storages.InMemoryStorage()
    slow, other = make(storage), make(storage)
    slow.enqueue({"x": 3, "y": 4})
    prepare, calls = _asking._prepare, []

    def interrupted(core, created, *args):
        prepared = prepare(core, created, *args)
        if not calls:
            _lost.give_up(core_of(other), {trial.trial_id for trial in created})
        calls.append(len(created))
        return prepared

    monkeypatch.setattr(_asking, "_prepare", interrupted)
    trials = slow.ask(2)
    assert calls == [2, 2]
    assert trials[0].params == {"x": 3, "y": 4} and trials[1].params != trials[0].params
    assert [trial.state for trial in other.trials] == ["running"] * 2
    for trial in trials:
        slow.tell(trial, 1.0)


@pytest.mark.long
def test_a_worker_taken_for_dead_may_tell_and_begins_nothing_that_others_have(tmp_path):
    study, other = make(url(tmp_path)), make(url(tmp_path))
    study.enqueue({"x": 3, "y": 4})
    seen = []

    def objective(params):
        if not seen:  # another process takes this one for dead
            running = [t for t in other.optuna.trials if t.state == optuna.trial.TrialState.RUNNING]
            for trial in running:
                _lost._end(core_of(other), trial, _lost.ENDED)
            _lost.recover(core_of(other))
        seen.append(tuple(params.values()))
        return float(params["x"])

    study.optimize(objective, 3, 3, progress=False)
    assert seen == [(3, 4)]
    assert [(t.state, t.value) for t in study.trials] == [("fail", None), ("complete", 3.0)]


@pytest.mark.parametrize("wrap", [False, True])
def test_one_of_two_workers_gets_the_trial_in_line(tmp_path, monkeypatch, wrap):
    """Both read that it waits before one of them writes: Optuna's own storage gives it to both."""
    from optuna.storages._rdb.models import TrialModel

    def opened():
        return optuna.storages.RDBStorage(url(tmp_path)) if wrap else url(tmp_path)

    studies = [make(opened()), make(opened())]
    studies[0].enqueue({"x": 3, "y": 4})
    barrier, find = threading.Barrier(2), TrialModel.find_or_raise_by_id.__func__

    def find_together(cls, trial_id, session, for_update=False):
        trial = find(cls, trial_id, session, for_update)
        if for_update and trial.state == optuna.trial.TrialState.WAITING:
            with contextlib.suppress(threading.BrokenBarrierError):
                barrier.wait(5)
        return trial

    monkeypatch.setattr(TrialModel, "find_or_raise_by_id", classmethod(find_together))
    taken = []

    def work(study):
        taken.append((study.optuna.ask() if not wrap else study.ask()[0]).number)

    workers = [threading.Thread(target=work, args=(study,)) for study in studies]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert sorted(taken) == [0, 1]


def test_a_claimed_trial_knows_when_it_began(tmp_path):
    study = make(url(tmp_path))
    study.enqueue({"x": 3, "y": 4})
    study.ask()
    assert _storage.is_new(study.optuna.trials[0])
    assert not claim(study.optuna._storage, study.optuna.trials[0]._trial_id)


RACE = """
def work():
    import time
    while not os.path.exists(log + ".go"):
        time.sleep(0.001)
    make().optimize(lambda params: note(params) or 0.0, 6, 2, progress=False)

study = make()
for i in range(24):
    study.enqueue({"x": i % 10, "y": i // 10})
study.optuna._storage.remove_session() if "sqlite" in storage else None
del study
workers = [fork(work) for _ in range(4)]
open(log + ".go", "w").close()
codes = [wait(worker) for worker in workers]
assert codes == [0] * 4, codes
"""


@pytest.mark.long
@pytest.mark.parametrize("scheme", ["sqlite", "journal"])
def test_what_is_queued_is_evaluated_once_by_several_processes(tmp_path, scheme):
    storage = f"{scheme}:///{tmp_path / 'study'}"
    notes = run_forked(RACE, storage, tmp_path / "log")
    assert sorted(notes) == sorted([i % 10, i // 10] for i in range(24))
    assert [trial.state for trial in make(storage).trials] == ["complete"] * 24


EXIT = """
_leases.BEAT_SECONDS = 0.001
study = make()
study.ask(2)
time.sleep(0.2)
assert study.optuna.trials[0].user_attrs["bojax:lease"][0] > 1
note({"x": 0, "y": 0})
"""


@pytest.mark.long
def test_signs_of_life_do_not_keep_a_process_from_ending(tmp_path):
    begin = time.monotonic()
    run_forked(EXIT, url(tmp_path), tmp_path / "log")
    assert time.monotonic() - begin < 60
    assert [trial.state for trial in make(url(tmp_path)).trials] == ["fail"] * 2
