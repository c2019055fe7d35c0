"""Several processes on one study, and processes that are killed."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
from study_probe import SPACE, probe, value_of

from bojax._errors import StudyError
from bojax.storage import open_storage
from bojax.study import Study
from bojax.study._study import core_of
from bojax.study.asking import _asking
from bojax.study.records import _storage

HERE = pathlib.Path(__file__).parent
TIMEOUT = 100

PLAY = """
import json, sys
from bojax.study import Study
from study_probe import SPACE, probe, value_of
storage, name, steps, mode = sys.argv[1:]
algorithm = None if mode == "bayesopt" else probe
study = Study(SPACE, storage=storage, name=name, seed=0, algorithm=algorithm)
for q in json.loads(steps):
    trials = study.ask(q)
    print(json.dumps([[trial.number, trial.params] for trial in trials]), flush=True)
    if mode == "wait":
        sys.stdin.read()
    for trial in reversed(trials):
        study.tell(trial, value_of(trial.params))
"""


def start(*args, **kwargs):
    path = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
    environ = os.environ | {"PYTHONPATH": path, "PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", PLAY, *args], stdout=subprocess.PIPE, text=True, env=environ, **kwargs
    )


def play(*args):
    """What another process is asked, by trial number."""
    process = start(*args)
    try:
        output, _ = process.communicate(timeout=TIMEOUT)
    finally:
        process.kill()
    assert process.returncode == 0
    return {number: params for line in output.splitlines() for number, params in json.loads(line)}


def asked(study, q):
    trials = study.ask(q)
    for trial in trials:
        study.tell(trial, value_of(trial.params))
    return {trial.number: trial.params for trial in trials}


def make(storage, name="bojax", algorithm=probe):
    return Study(SPACE, storage=storage, name=name, seed=0, algorithm=algorithm)


@pytest.mark.long
def test_another_process_suggests_the_same_and_goes_on_the_same(tmp_path):
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    here = make(None)
    expected = asked(here, 2) | asked(here, 2) | asked(here, 2)
    assert play(storage, "there", "[2, 2, 2]", "") == expected
    assert asked(make(storage, "both"), 2) | play(storage, "both", "[2, 2]", "") == expected


@pytest.mark.slow
def test_bayesopt_is_the_same_in_another_process_and_after_a_resume(tmp_path):
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    here = make(None, algorithm=None)
    expected = {}
    for _ in range(6):
        expected |= asked(here, 3)
    assert play(storage, "there", "[3, 3, 3, 3, 3, 3]", "bayesopt") == expected
    first = play(storage, "parts", "[3, 3, 3, 3]", "bayesopt")
    assert first | play(storage, "parts", "[3, 3]", "bayesopt") == expected


@pytest.mark.long
def test_three_processes_on_one_sqlite_file_lose_and_repeat_nothing(tmp_path):
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    processes = [start(storage, "bojax", "[2, 2, 2, 2]", "") for _ in range(3)]
    try:
        outputs = [process.communicate(timeout=TIMEOUT)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0, 0]
    told = [entry for output in outputs for line in output.splitlines() for entry in json.loads(line)]
    assert sorted(number for number, _ in told) == list(range(24))
    trials = make(storage).trials
    assert [trial.state for trial in trials] == ["complete"] * 24
    assert {trial.number: trial.params for trial in trials} == {number: params for number, params in told}
    assert len({json.dumps(trial.params) for trial in trials}) == 24
    assert all(trial.value == value_of(trial.params) for trial in trials)


@pytest.mark.long
def test_trials_of_a_killed_process_are_suggested_again(tmp_path):
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    expected = asked(make(storage), 2)
    process = start(storage, "bojax", "[3]", "wait", stdin=subprocess.PIPE)
    try:
        assert process.stdout is not None
        lost = dict(json.loads(process.stdout.readline()))
        meanwhile = make(storage)
        assert [trial.state for trial in meanwhile.trials] == ["complete"] * 2 + ["running"] * 3
        process.send_signal(signal.SIGKILL)
        process.wait(TIMEOUT)
    finally:
        process.kill()
    study = make(storage)
    assert [trial.params for trial in study.trials] == list((expected | lost).values())
    assert [trial.user_attrs.get("bojax:lost") for trial in study.trials] == [None] * 2 + [True] * 3
    again = study.ask(3)
    assert [trial.number for trial in again] == [5, 6, 7]
    assert [trial.params for trial in again] == list(lost.values())


def test_workers_of_other_hosts_and_living_ones_are_not_taken_for_dead():
    me = _storage.worker()
    assert not _storage.is_dead(me)
    assert not _storage.is_dead(me | {"host": "elsewhere"})
    assert not _storage.is_dead(None) and not _storage.is_dead({})
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait(TIMEOUT)
    assert _storage.is_dead(me | {"pid": ended.pid, "start": 1})
    if me["start"] is not None:
        assert _storage.is_dead(me | {"start": me["start"] + 1})  # the process id was given away again


def test_asking_waits_for_the_parameters_of_earlier_trials(tmp_path):
    import threading

    storage = f"sqlite:///{tmp_path / 'study.db'}"
    first, second = make(storage), make(storage)
    second.tell(second.ask()[0], 1.0)  # compiles
    core = core_of(first)
    core.sampler.asking = True
    earlier = first.optuna.ask()  # created, parameters not chosen yet
    done = []
    thread = threading.Thread(target=lambda: done.append(second.ask()[0]))
    thread.start()
    time.sleep(0.5)
    assert not done
    core.ledger.refresh()
    suggested = _asking._suggest(core, earlier.number, {earlier.number}, [], 1, {})[0]
    params = _asking._fill(core, _asking._Created(earlier.number, earlier._trial_id, None), suggested).params
    thread.join(TIMEOUT)
    assert done and done[0].params != params


def test_a_slow_creator_of_a_study_is_waited_for(tmp_path):
    import threading

    import optuna

    storage = open_storage(f"sqlite:///{tmp_path / 'study.db'}")
    created = optuna.create_study(storage=storage, study_name="bojax", direction="minimize")
    timer = threading.Timer(0.5, lambda: _storage.write_attrs(created, SPACE.to_spec(), 11))
    timer.start()
    study = Study(SPACE, storage=storage, algorithm=probe)
    timer.join()
    assert study.seed == 11


@pytest.mark.long
def test_a_value_told_after_the_asking_process_ended_is_kept(tmp_path):
    storage = f"sqlite:///{tmp_path}/late.db"
    code = (
        "import bojax\n"
        f"study = bojax.Study(bojax.Space(x=bojax.Float(0.0, 1.0)), storage={storage!r}, seed=0)\n"
        "print(study.ask()[0].params['x'])\n"
    )
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=True)
    study = Study(storage=storage)
    told = study.tell(0, 1.5)
    assert told.value == 1.5 and told.params["x"] == float(asked.stdout)
    assert [trial.value for trial in study.trials] == [1.5]
    with pytest.raises(StudyError, match="told before"):
        study.tell(0, 2.5)
