"""Runs of many fidelities go on from a storage: what was evaluated is not trained again, and nothing changes."""

import functools
import signal
import subprocess
import sys

import numpy as np
import optuna
import pytest

from bojax import BojaxWarning, Float, Space, StudyError
from bojax.multifidelity import (
    RunStorage,
    _checkpoint,
    asha,
    bohb,
    freeze_thaw,
    from_functions,
    hyperband,
    pbt,
    successive_halving,
)
from bojax.multifidelity._store import RunStore
from tests.multifidelity.toy_runs import functions, toy

SPACE = Space(x=Float(0.0, 1.0), rate=Float(0.05, 0.5, log=True))
TOY = toy(num_steps=9, space=SPACE, noise=0.1, diverging=0.8)
RUNS = {
    "successive_halving": functools.partial(successive_halving, TOY, num_members=9, min_steps=1),
    "hyperband": functools.partial(hyperband, TOY, min_steps=1),
    "asha": functools.partial(asha, TOY, budget_steps=60, population=3, min_steps=1),
}
MODELS = {
    "bohb": functools.partial(bohb, TOY, min_steps=1),
    "freeze_thaw": functools.partial(freeze_thaw, TOY, budget_steps=60, population=3),
}


class Ended(Exception):
    """Stands for whatever ends a process."""


def ended_after(monkeypatch, num_records):
    """From now on the storage takes so many further evaluations and then ends the run."""
    left, record = [num_records], RunStore.record

    def counted(self, member, x, steps, metrics):
        if self.metrics(member, steps) is None:
            if left[0] == 0:
                raise Ended
            left[0] -= 1
        record(self, member, x, steps, metrics)

    monkeypatch.setattr(RunStore, "record", counted)


def assert_same(one, other):
    for field in one._fields:
        got, expected = getattr(one, field), getattr(other, field)
        if isinstance(expected, np.ndarray):
            np.testing.assert_array_equal(got, expected)
        elif field == "schedule":
            for name in expected:
                np.testing.assert_array_equal(got[name], expected[name])
        elif field == "best_metrics":
            assert repr(got) == repr(expected)
        else:
            assert got == expected, field


def check(run, url, monkeypatch, stops, **settings):
    whole = run(storage=optuna.storages.InMemoryStorage())
    for num_records in stops:
        with monkeypatch.context() as patch, pytest.raises(Ended):
            ended_after(patch, num_records)
            run(storage=RunStorage(url, "r"), **settings)
    assert_same(run(storage=RunStorage(url, "r"), **settings), whole)
    with monkeypatch.context() as patch:  # a run that is over trains nothing
        patch.setattr("bojax.multifidelity._stored_population.Population", None)
        assert_same(run(storage=RunStorage(url, "r"), **settings), whole)
    return whole


@pytest.mark.long
@pytest.mark.parametrize("scheme", ["sqlite:///{}.db", "journal:///{}.log"])
@pytest.mark.parametrize("name", list(RUNS))
def test_a_run_that_was_ended_goes_on_as_if_it_had_not_been(tmp_path, monkeypatch, name, scheme):
    url = scheme.format(tmp_path / "run")
    whole = check(RUNS[name], url, monkeypatch, stops=(4, 7))
    plain = RUNS[name]()  # without a storage members share programs, which may round otherwise
    np.testing.assert_array_equal(plain.members, whole.members)
    np.testing.assert_allclose(plain.values, whole.values, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(MODELS))
def test_a_run_with_a_model_that_was_ended_goes_on_as_if_it_had_not_been(tmp_path, monkeypatch, name):
    check(MODELS[name], f"sqlite:///{tmp_path}/run.db", monkeypatch, stops=(5, 9))


@functools.cache
def counting():
    """A toy that counts the steps that were really taken, and its counter."""
    import jax

    taken = []
    init, advance, evaluate = functions(noise=0.1)

    def counted(state, hparams, num_steps):
        jax.debug.callback(lambda n: taken.append(int(n)), num_steps)
        return advance(state, hparams, num_steps)

    return from_functions(
        SPACE, init=init, advance=counted, evaluate=evaluate, metric="score", num_steps=9, name="toy"
    ), taken


def steps_taken(taken, run):
    import jax

    taken.clear()
    result = run()
    jax.effects_barrier()
    return result, sum(taken)


def test_with_checkpoints_no_step_is_taken_twice(tmp_path, monkeypatch):
    objective, taken = counting()
    run = functools.partial(successive_halving, objective, num_members=9, min_steps=1)
    whole, all_steps = steps_taken(taken, lambda: run(storage=optuna.storages.InMemoryStorage()))
    assert all_steps == whole.total_steps
    kept = {"storage": RunStorage(f"sqlite:///{tmp_path}/run.db", "a/b", tmp_path / "states")}
    with monkeypatch.context() as patch, pytest.raises(Ended):
        ended_after(patch, 12)  # the first rung of nine and the second of three
        run(**kept)
    files = sorted(path.name for path in (tmp_path / "states").iterdir())
    assert files and all(name.startswith("a%2Fb-") and name.endswith(".npz") for name in files)
    resumed, left = steps_taken(taken, lambda: run(**kept))
    assert_same(resumed, whole)
    assert left == 9 - 3  # the last rung only
    assert not list((tmp_path / "states").iterdir())


def test_without_checkpoints_only_members_that_go_on_are_trained_again(tmp_path, monkeypatch):
    objective, taken = counting()
    run = functools.partial(successive_halving, objective, num_members=9, min_steps=1)
    with monkeypatch.context() as patch, pytest.raises(Ended):
        ended_after(patch, 12)
        run(storage=f"sqlite:///{tmp_path}/run.db")
    _, left = steps_taken(taken, lambda: run(storage=f"sqlite:///{tmp_path}/run.db"))
    assert left == 9


def test_a_damaged_checkpoint_is_said_and_the_member_trained_again(tmp_path, monkeypatch):
    kept = {"storage": RunStorage(f"sqlite:///{tmp_path}/run.db", checkpoint=tmp_path)}
    with monkeypatch.context() as patch, pytest.raises(Ended):
        ended_after(patch, 9)
        RUNS["successive_halving"](**kept)
    for path in tmp_path.glob("*.npz"):
        path.write_bytes(b"PK nothing")
    with pytest.warns(BojaxWarning, match="no checkpoint of this run"):
        resumed = RUNS["successive_halving"](**kept)
    assert_same(resumed, RUNS["successive_halving"](storage=optuna.storages.InMemoryStorage()))


KILLED = """
import os, signal
from bojax.multifidelity._store import RunStore
from tests.faults.test_resumed_runs import RUNS
record, count = RunStore.record, []
def counted(self, *evaluation):
    record(self, *evaluation)
    count.append(0)
    if len(count) == 11:
        os.kill(os.getpid(), signal.SIGKILL)
RunStore.record = counted
RUNS["hyperband"](storage={url!r})
"""


@pytest.mark.long
def test_a_run_whose_process_was_killed_goes_on(tmp_path):
    url = f"sqlite:///{tmp_path}/run.db"
    killed = subprocess.run([sys.executable, "-c", KILLED.format(url=url)], timeout=240, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert sum(len(t.intermediate_values) for t in optuna.load_study(study_name="bojax", storage=url).trials) == 11
    assert_same(RUNS["hyperband"](storage=url), RUNS["hyperband"](storage=optuna.storages.InMemoryStorage()))


@pytest.mark.long
def test_a_finished_asha_goes_on_with_a_larger_budget(tmp_path):
    url, smaller = f"sqlite:///{tmp_path}/run.db", functools.partial(asha, TOY, population=3, min_steps=1)
    smaller(budget_steps=30, storage=url)
    whole = smaller(budget_steps=60, storage=optuna.storages.InMemoryStorage())
    assert_same(smaller(budget_steps=60, storage=url), whole)


@pytest.mark.long
@pytest.mark.parametrize("with_checkpoint", [True, False])
def test_population_based_training_that_was_ended_goes_on(tmp_path, monkeypatch, with_checkpoint):
    run = functools.partial(pbt, TOY, population=4, num_rounds=3, num_steps=9)
    url = f"sqlite:///{tmp_path}/run.db"
    kept = {"storage": RunStorage(url, checkpoint=tmp_path if with_checkpoint else None)}
    whole = run(storage=optuna.storages.InMemoryStorage())
    with monkeypatch.context() as patch, pytest.raises(Ended):
        ended_after(patch, 6)  # in the second round
        run(**kept)
    with monkeypatch.context() as patch:
        rounds, save = [], _checkpoint.save
        patch.setattr(_checkpoint, "save", lambda *args: (rounds.append(args[2]), save(*args)))
        assert_same(run(**kept), whole)
    assert rounds == ([3] if with_checkpoint else [])
    np.testing.assert_allclose(run().values, whole.values, rtol=1e-5)
    trials = optuna.load_study(study_name="bojax", storage=url).trials
    assert len(trials) == 12 and [t.value for t in trials if t.state.name == "COMPLETE"] == [
        value for value in whole.values.ravel().tolist() if np.isfinite(value)
    ]


def test_optuna_reads_the_curves_and_what_became_of_the_members():
    storage = optuna.storages.InMemoryStorage()
    history = RUNS["successive_halving"](storage=RunStorage(storage, "r"))
    study = optuna.load_study(study_name="r", storage=storage)
    assert study.direction.name == "MAXIMIZE" and len(study.trials) == history.num_members == 9
    for trial in study.trials:
        member = trial.user_attrs["bojax:member"]
        steps, values = history.curve(member)
        finite = np.isfinite(values)
        assert list(trial.intermediate_values) == steps.tolist()
        np.testing.assert_array_equal(np.array(list(trial.intermediate_values.values()))[finite], values[finite])
        expected = "FAIL" if not finite[-1] else "COMPLETE" if steps[-1] == 9 else "PRUNED"
        assert trial.state.name == expected
    best = max((t for t in study.trials if t.state.name == "COMPLETE"), key=lambda t: t.value)
    assert best.params == history.best_params and best.value == history.best_value


def test_a_run_goes_on_with_the_same_settings_only():
    storage = optuna.storages.InMemoryStorage()
    RUNS["successive_halving"](storage=RunStorage(storage, "r"))
    with pytest.raises(StudyError, match="another seed: stored 0, given 1. Go on with the same, or choose another"):
        RUNS["successive_halving"](storage=RunStorage(storage, "r"), seed=1)
    with pytest.raises(StudyError, match="another method: stored 'successive_halving', given 'hyperband'"):
        RUNS["hyperband"](storage=RunStorage(storage, "r"))
    optuna.create_study(study_name="other", storage=storage).add_trial(optuna.trial.create_trial(value=1.0))
    with pytest.raises(StudyError, match="'other' exists and is no hyperband run"):
        RUNS["hyperband"](storage=RunStorage(storage, "other"))
    with pytest.raises(ValueError, match='"sqlite:///run.db"'):
        RUNS["hyperband"](storage="run.db")
    with pytest.raises(ValueError, match="`storage` of a `RunStorage` must be an Optuna storage"):
        RUNS["hyperband"](storage=RunStorage(None, name="x"))
