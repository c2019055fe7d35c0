"""Trials side by side, in threads and in processes: order, time-outs, deaths, exceptions and interrupts."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
import warnings

import jax
import pytest
import worker_objectives as objectives
from study_probe import probe

import bojax
from bojax._errors import BojaxError, BojaxWarning
from bojax.space import Float, Int, Space
from bojax.study import Study, maximize, minimize
from bojax.study.asking import _asking
from bojax.study.running import _optimize, _workers

SPACE = Space(x=Float(0.0, 1.0), n=Int(0, 9))
HERE = pathlib.Path(__file__).parent
KINDS = pytest.mark.parametrize("worker", ["thread", "process"])


def random_search(space, q):
    return bojax.random_search(space, q=q)


def make(**kwargs):
    return Study(SPACE, **({"seed": 0, "algorithm": random_search} | kwargs))


def numbered(*numbers, **kwargs):
    """A study whose next trials have these `n`."""
    study = make(**kwargs)
    for n in numbers:
        study.enqueue({"x": n / 10, "n": n})
    return study


def states(study):
    return [trial.state for trial in study.trials]


def alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition, seconds=objectives.LIMIT):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


@KINDS
def test_trials_run_side_by_side(worker, tmp_path):
    study = numbered(0, 1, 2)
    study.optimize(objectives.Meets(tmp_path, 3), 3, num_workers=3, worker=worker, progress=False)
    assert [trial.value for trial in study.trials] == [0.0, 1.0, 2.0]
    pids = {path.read_text() for path in tmp_path.glob("at-*")}
    assert len(pids) == (3 if worker == "process" else 1) and (str(os.getpid()) in pids) == (worker == "thread")


@KINDS
def test_a_free_worker_does_not_wait_for_the_others_and_the_order_decides(worker, tmp_path, monkeypatch):
    """The first trial ends last; a study that is asked and told in the same order suggests the same."""
    happened, then = [], {1: 2, 2: 3, 3: 0}
    for n in (1, *range(4, 10)):
        (tmp_path / f"go-{n}").touch()

    def recorded_ask(core, request):
        trials = _asking.ask(core, request)
        happened.extend(("ask", trial) for trial in trials)
        return trials

    def callback(study, trial):
        assert threading.current_thread() is threading.main_thread()
        happened.append(("tell", trial))
        (tmp_path / f"go-{then.get(trial.params['n'], 9)}").touch()

    monkeypatch.setattr(_optimize, "ask", recorded_ask)
    study = numbered(0, 1, 2, 3, algorithm=probe)
    settings = {"num_workers": 2, "worker": worker, "callbacks": callback, "progress": False}
    study.optimize(objectives.Meets(tmp_path), 7, **settings)
    assert [trial.number for what, trial in happened if what == "tell"][:3] == [1, 2, 3]
    assert [what for what, _ in happened[:7]] == ["ask", "ask", "tell", "ask", "tell", "ask", "tell"]
    again = numbered(0, 1, 2, 3, algorithm=probe)
    for what, trial in happened:
        if what == "ask":
            assert again.ask()[0].params == trial.params
        else:
            again.tell(trial.number, trial.value)
    assert [trial.params for trial in again.trials] == [trial.params for trial in study.trials]


def test_a_batch_is_chosen_when_none_of_the_last_one_waits(tmp_path):
    study, told = make(), []

    def callback(study, trial):
        told.append(len(study.optuna.trials))
        if len(told) == 6:
            study.stop()

    study.optimize(objectives.value_of, 20, 4, num_workers=2, callbacks=callback, progress=False)
    assert told[:2] == [4, 4] and set(told) <= {4, 8}
    assert 6 <= len(study.trials) <= 8 and set(states(study)) == {"complete"}  # others had not begun


@KINDS
def test_trials_run_and_end_while_another_one_is_chosen(worker, tmp_path, monkeypatch):
    """The second `ask` returns only when the first trial has been evaluated."""
    asks = []

    def slow_ask(core, request):
        asks.append(request)
        if len(asks) == 2:
            (tmp_path / "go-0").touch()
            objectives.wait_for(tmp_path / "done-0")
        return _asking.ask(core, request)

    monkeypatch.setattr(_optimize, "ask", slow_ask)
    (tmp_path / "go-1").touch()
    study = numbered(0, 1)
    study.optimize(objectives.Meets(tmp_path), 2, num_workers=2, worker=worker, progress=False)
    assert states(study) == ["complete", "complete"]


def test_stop_lets_running_trials_end(tmp_path):
    study = numbered(0, 1)

    def callback(study, trial):
        study.stop()
        (tmp_path / "go-1").touch()

    (tmp_path / "go-0").touch()
    study.optimize(objectives.Meets(tmp_path), 9, num_workers=2, callbacks=callback, progress=False)
    assert states(study) == ["complete", "complete"]


def test_a_process_imports_no_more_than_its_objective():
    study = make()
    study.optimize(objectives.modules, 1, worker="process", progress=False)
    assert not {"bojax", "jax", "numpy", "optuna"} & set(study.trials[0].user_attrs["modules"])


def test_jax_works_in_a_process_with_the_settings_of_the_caller():
    study = make()
    with jax.enable_x64(True):
        study.optimize(objectives.with_jax, 1, worker="process", progress=False)
    trial = study.trials[0]
    assert trial.user_attrs == {"dtype": "float64", "array": [0, 1, 2]} and trial.value == trial.params["x"] + 1.0


def test_jax_settings_of_the_caller_hold_in_a_thread():
    study = make()
    with jax.enable_x64(True):
        study.optimize(objectives.with_jax, 2, num_workers=2, progress=False)
    assert {trial.user_attrs["dtype"] for trial in study.trials} == {"float64"}


def test_what_a_process_cannot_send():
    study = make()
    with pytest.warns(BojaxWarning, match="attribute 'unsent' of trial 0 is left out.*cannot be sent"):
        study.optimize(objectives.pair, 2, worker="process", progress=False)
    assert len({trial.user_attrs["pid"] for trial in study.trials}) == 1
    with pytest.raises(TypeError, match="no value of trial 2.*function, which cannot be sent from a worker process"):
        study.optimize(objectives.unsent, 2, worker="process", progress=False)
    with pytest.raises(TypeError, match="no value of trial 3: `value` must be a number, got \\["):
        study.optimize(objectives.array, 2, worker="process", progress=False)
    assert states(study) == ["complete", "complete", "fail", "fail"]


def test_a_process_that_hangs_is_killed_with_its_children(tmp_path):
    study = numbered(0, 1, 2, 3)
    with pytest.warns(BojaxWarning, match="trial 1 failed: TimeoutError: no result within 1 s, the `trial_timeout`"):
        study.optimize(objectives.Hangs(tmp_path), 4, num_workers=2, worker="process", trial_timeout=1, progress=False)
    assert states(study) == ["complete", "fail", "complete", "complete"]
    assert study.trials[1].error == "TimeoutError: no result within 1 s, the `trial_timeout`"
    for pid in (tmp_path / "pids").read_text().split():
        wait_until(lambda pid=pid: not alive(int(pid)))


def test_a_late_result_of_a_thread_is_dropped():
    study, late, ended = numbered(0, 1, 2), threading.Event(), threading.Event()

    def objective(params):
        if params["n"] == 0:
            assert late.wait(objectives.LIMIT)
            ended.set()
        return params["n"]

    with pytest.warns(BojaxWarning, match="`trial_timeout`; 1 such threads still run"):
        study.optimize(objective, 3, num_workers=1, trial_timeout=0.2, progress=False)
    assert states(study) == ["fail", "complete", "complete"]
    assert any(thread.name == "bojax-trial-0" for thread in threading.enumerate())
    late.set()
    assert ended.wait(objectives.LIMIT)
    wait_until(lambda: not any(thread.name == "bojax-trial-0" for thread in threading.enumerate()))
    assert states(study) == ["fail", "complete", "complete"]


def test_threads_that_never_end_are_not_collected_without_limit(monkeypatch):
    monkeypatch.setattr(_workers, "MAX_ABANDONED", 2)
    study, late = make(), threading.Event()
    settings = {"num_workers": 2, "trial_timeout": 0.05, "progress": False, "max_first_failures": None}
    with warnings.catch_warnings(), pytest.raises(BojaxError, match="3 evaluations .* still run in threads"):
        warnings.simplefilter("ignore")
        study.optimize(lambda params: late.wait(objectives.LIMIT), 50, **settings)
    late.set()
    assert len(study.trials) <= 5


def test_a_process_that_dies_fails_its_trial_and_is_replaced(tmp_path):
    study = numbered(0, 1, 2, 3, 4, 5)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        study.optimize(objectives.Dies(tmp_path), 6, num_workers=2, worker="process", progress=False)
    wait_until(lambda: not alive(int((tmp_path / "child").read_text())))
    assert states(study) == ["complete", "fail", "fail", "fail", "fail", "complete"]
    start = "ChildProcessError: the worker process "
    assert [trial.error for trial in study.trials[1:5]] == [
        start + "ended with exit code 3",
        start + "was killed by SIGKILL, as when memory runs out",
        start + "was killed by SIGSEGV",
        start + "ended with exit code 5",
    ]
    assert len([w for w in caught if issubclass(w.category, BojaxWarning)]) == 4
    assert not any("bojax:lost" in trial.user_attrs for trial in study.trials)


def test_an_idle_process_that_is_killed_is_replaced():
    study, pids = make(), []

    def callback(study, trial):
        pids.append(trial.user_attrs["pid"])
        os.kill(pids[-1], signal.SIGKILL)
        wait_until(lambda: not alive(pids[-1]))

    with pytest.warns(BojaxWarning, match="unsent"):
        study.optimize(objectives.pair, 3, worker="process", callbacks=callback, progress=False)
    assert states(study) == ["complete"] * 3 and len(set(pids)) == 3


@KINDS
def test_exceptions_follow_the_rules(worker):
    study = numbered(0, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study.optimize(objectives.raises, 2, num_workers=2, worker=worker, progress=False)
    assert [trial.error for trial in study.trials] == ["KeyError: 'typo'", "Fails: 1 and 2"]
    for trial in study.trials:
        assert trial.traceback is not None and 'worker_objectives.py", line' in trial.traceback
        assert "_worker.py" not in trial.traceback and "_optimize.py" not in trial.traceback
    with warnings.catch_warnings(), pytest.raises(BojaxError, match="first 2 .* KeyError: 'typo'") as caught:
        warnings.simplefilter("ignore")
        failing = numbered(0, 0, 0, 0)
        failing.optimize(objectives.raises, 4, worker=worker, max_first_failures=2, progress=False)
    assert isinstance(caught.value.__cause__, KeyError) and states(failing) == ["fail", "fail", "waiting", "waiting"]


@KINDS
@pytest.mark.parametrize(("n", "kind"), [(0, KeyError), (1, objectives.Fails), (2, KeyboardInterrupt), (3, SystemExit)])
def test_what_is_not_caught_ends_the_loop(worker, n, kind):
    study = numbered(n)
    unpicklable = worker == "process" and n == 1
    with pytest.raises(BojaxError if unpicklable else kind) as caught:
        study.optimize(objectives.raises, 3, worker=worker, catch=(), progress=False)
    if worker == "process":
        assert "worker_objectives.py" in caught.value.__notes__[0]
    # It was lost, and waits to be repeated.
    assert states(study) == ["fail", "waiting"] and "bojax:lost" in study.trials[0].user_attrs
    assert kind.__name__ in (study.trials[0].error or "")


@KINDS
def test_an_interrupt_keeps_what_has_ended_and_repeats_what_runs(worker, tmp_path, monkeypatch):
    """The callback of the first result interrupts, when the second has ended and the third runs."""
    study = numbered(0, 1, 2, 3)

    def release():
        wait_until(lambda: len(list(tmp_path.glob("at-*"))) == 3)
        (tmp_path / "go-0").touch()

    def callback(study, trial):
        (tmp_path / "go-1").touch()
        raise KeyboardInterrupt

    rescue = _workers.Workers.rescue

    def patient(workers):
        wait_until(lambda: any(worker.result == 1 for worker in workers.busy))
        rescue(workers)

    monkeypatch.setattr(_workers.Workers, "rescue", patient)
    threading.Thread(target=release, daemon=True).start()
    objective = objectives.Meets(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        study.optimize(objective, 4, num_workers=3, worker=worker, callbacks=callback, progress=False)
    (tmp_path / "go-2").touch()
    assert states(study) == ["complete", "complete", "fail", "waiting", "waiting"]
    lost = study.trials[2]
    assert lost.error == "KeyboardInterrupt" and lost.user_attrs["bojax:lost"]
    assert {trial.params["n"] for trial in study.trials[3:]} == {2, 3}
    if worker == "process":
        wait_until(lambda: not any(alive(int(path.read_text())) for path in tmp_path.glob("at-*")))
    (tmp_path / "go-3").touch()
    study.optimize(objective, 2, num_workers=2, worker=worker, progress=False)
    assert states(study) == ["complete", "complete", "fail", "complete", "complete"]


def test_an_objective_that_cannot_be_sent_is_named():
    def local(params):
        return 0.0

    study = make()
    for objective, name in ((local, "local"), (lambda params: 0.0, "lambda")):
        with pytest.raises(TypeError, match=f'`objective` must be picklable where worker="process", but .*{name}'):
            study.optimize(objective, 2, worker="process", progress=False)

    class LocalError(Exception):
        pass

    with pytest.raises(TypeError, match="`catch` must be picklable .*LocalError"):
        study.optimize(objectives.value_of, 2, worker="process", catch=LocalError, progress=False)
    assert study.optuna.trials == []


SCRIPT = """
if __name__ == "__main__":
    import json, signal, sys
    import bojax, worker_objectives
    from bojax.space import Float, Int

    def search(space, q):
        return bojax.random_search(space, q=q)

    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where tests run in the background
    folder, kind = sys.argv[1:]
    space = bojax.Space(x=Float(0.0, 1.0), n=Int(0, 9))
    study = bojax.Study(space, storage=f"sqlite:///{folder}/study.db", seed=0, algorithm=search)
    for n in range(3):
        study.enqueue({"x": 0.5, "n": n})
    try:
        study.optimize(worker_objectives.Meets(folder), 3, num_workers=2, worker=kind, progress=False)
    finally:
        print(json.dumps([trial.state for trial in study.trials]))
"""


@pytest.mark.long
@pytest.mark.parametrize(
    ("worker", "sign"),
    [
        ("thread", signal.SIGINT),
        ("process", signal.SIGINT),
        ("process", signal.SIGTERM),
        ("process", signal.SIGKILL),
    ],
)
def test_workers_end_with_their_parent_and_nothing_is_lost(worker, sign, tmp_path):
    """A signal as a terminal sends it, to the whole process group; afterwards the trials can be asked for again."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    environ = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])}
    process = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path), worker],
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True},
        env=environ,
        start_new_session=True,
    )
    try:
        wait_until(lambda: len(list(tmp_path.glob("at-*"))) == 2)
        (tmp_path / "go-0").touch()
        wait_until(lambda: (tmp_path / "at-2").exists())  # the result of 0 is told
        os.killpg(process.pid, sign)
        output, errors = process.communicate(timeout=objectives.LIMIT)
    finally:
        process.kill()
    pids = [int(path.read_text()) for path in tmp_path.glob("at-*")]
    wait_until(lambda: not any(map(alive, pids)))
    if sign == signal.SIGINT:
        assert json.loads(output) == ["complete", "fail", "fail", "waiting", "waiting"]
        assert "KeyboardInterrupt" in errors
    study = make(storage=f"sqlite:///{tmp_path}/study.db")
    assert {trial.params["n"] for trial in study.ask(2)} == {1, 2}
    assert [trial.state for trial in study.trials] == ["complete", "fail", "fail", "running", "running"]


@pytest.mark.long
def test_an_objective_that_a_process_cannot_load_is_named(tmp_path):
    code = "import bojax\ndef own(params):\n    return 0.0\n"
    code += "study = bojax.Study(bojax.Space(x=bojax.Float(0, 1)))\nstudy.optimize(own, 2, worker='process')"
    message = "`objective` must be loadable in a new process, but own is not: AttributeError"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, cwd=tmp_path)
    assert done.returncode == 1 and message in done.stderr.splitlines()[-1]


@pytest.mark.long
def test_a_script_without_a_guard_is_told_so(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.replace('if __name__ == "__main__":', "if True:"))
    environ = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, str(script), str(tmp_path), "process"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, env=environ)
    assert done.returncode == 1 and 'needs `if __name__ == "__main__":`' in done.stderr.splitlines()[-1]


@pytest.mark.unchecked
def test_bad_arguments():
    study = make()
    for kwargs, message in (
        ({"num_workers": 0}, "`num_workers` must be an integer of at least 1"),
        ({"num_workers": True}, "`num_workers` must be an integer"),
        ({"worker": "gpu"}, '`worker` must be "thread", "process" or None, got \'gpu\''),
        ({"trial_timeout": 0}, "`trial_timeout` must be more than 0 seconds"),
        ({"trial_timeout": float("nan")}, "`trial_timeout` must be more than 0"),
        ({"vectorized": True, "num_workers": 2}, "`vectorized` must be False"),
        ({"vectorized": True, "trial_timeout": 2}, "`vectorized` must be False"),
    ):
        with pytest.raises(ValueError, match=message):
            study.optimize(objectives.value_of, 2, **kwargs, progress=False)
    study.optimize(objectives.value_of, 0, num_workers=2, progress=False)
    study.optimize(objectives.value_of, 5, num_workers=2, timeout=0.0, progress=False)
    assert study.trials == []


def test_minimize_and_maximize_take_workers():
    for function, choose in ((minimize, min), (maximize, max)):
        settings = {"algorithm": random_search, "num_workers": 3, "progress": False}
        result = function(objectives.value_of, SPACE, 8, seed=0, **settings)
        assert len(result.trials) == 8 and result.best_value == choose(t.value for t in result.trials)


def test_a_used_up_space_ends_the_loop_with_one_warning():
    study = Study(Space(n=Int(0, 4)), seed=0, algorithm=random_search)
    with pytest.warns(BojaxWarning, match="stops early: all 5 points") as caught:
        study.optimize(lambda params: params["n"], 20, num_workers=3, progress=False)
    assert len(caught) == 1 and sorted(trial.value for trial in study.trials) == [0.0, 1.0, 2.0, 3.0, 4.0]
