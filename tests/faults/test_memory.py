"""Failed and finished evaluations hold no memory: not their exceptions, not the frames of these, not their results."""

import gc
import json
import os
import weakref

import numpy as np
import pytest

import bojax
from bojax._errors import BojaxError, BojaxWarning
from tests.helpers import run_python

pytestmark = pytest.mark.filterwarnings("ignore::bojax._errors.BojaxWarning")

SPACE = bojax.Space(x=bojax.Float(0.0, 1.0))

RESIDENT = '''
import os, threading, warnings
import numpy as np
import bojax

warnings.simplefilter("ignore")
SPACE = bojax.Space(x=bojax.Float(0.0, 1.0))
MIB = 2**20

def at_random(space, q):
    return bojax.random_search(space, q=q)

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / MIB

peak = 0.0

def data():
    global peak
    made = np.ones(50 * MIB // 8)
    peak = max(peak, resident())
    return made

def fails(params):
    held = data()
    try:
        raise RuntimeError("out of memory")
    except RuntimeError as error:
        kept = error  # a cycle of the frame and the exception
        raise ValueError("no value") from kept

def after_one(objective):
    """The objective after one evaluation that is none of its own: not a broken one."""
    calls = []
    def late(params):
        calls.append(None)
        return 1.0 if len(calls) == 1 else objective(params)
    return late

def holds(params):
    raise RuntimeError("argument", data())

def gives(params):
    return data()[:1].reshape(()), {"number": 1}

def grows(run):
    global peak
    before = peak = resident()
    run()
    return peak - before

def study():
    return bojax.Study(SPACE, seed=0, algorithm=at_random)

def in_threads():
    studies = [study(), study()]
    threads = [threading.Thread(target=s.optimize, args=(after_one(fails), 10), kwargs=SHOWN) for s in studies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [[trial.state for trial in s.trials].count("fail") for s in studies] == [9, 9]

NONE = dict(progress=False, max_first_failures=None)
SHOWN = dict(progress=False)
'''


def resident_growth(runs: str) -> dict[str, float]:
    """Most MiB that the resident memory of a fresh process grows while evaluations of 50 MiB each run."""
    env = os.environ | {"JAX_PLATFORMS": "cpu"}
    done = run_python(f"{RESIDENT}\nimport json\nprint(json.dumps({runs}))", timeout=250, env=env)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.long
def test_the_resident_memory_of_a_study_does_not_grow_with_its_failures():
    growth = resident_growth(
        """{
    "warm": grows(lambda: study().optimize(gives, 2, **SHOWN)),
    "singly": grows(lambda: study().optimize(after_one(fails), 14, **SHOWN)),
    "batches": grows(lambda: study().optimize(fails, 12, 4, **NONE)),
    "arguments": grows(lambda: study().optimize(holds, 12, **NONE)),
    "vectorized": grows(lambda: study().optimize(fails, 24, 2, vectorized=True, **NONE)),
    "results": grows(lambda: study().optimize(gives, 12, 4, **SHOWN)),
    "nested": grows(lambda: study().optimize(bojax.study.nested_objective(fails), 12, **NONE)),
    }"""
    )
    growth.pop("warm")
    # One evaluation's own 50 MiB, perhaps those of the last exception's arguments, and what Python itself takes.
    assert {name for name, mib in growth.items() if mib > 130} == set(), growth


@pytest.mark.long
def test_studies_in_threads_hold_nothing_either():
    growth = resident_growth('{"threads": grows(in_threads)}')
    assert growth["threads"] < 230, growth


class Held:
    """Something that only the frame of an objective refers to."""


def frames_alive(run) -> list[int]:
    """How many objects of earlier evaluations are alive when an evaluation starts, without the collector's help."""
    held: list[weakref.ref] = []
    alive: list[int] = []

    def objective(params):
        alive.append(sum(ref() is not None for ref in held))
        mine = Held()
        held.append(weakref.ref(mine))
        kept = None
        try:
            raise KeyError("inner")
        except KeyError as error:
            kept = error
        raise ExceptionGroup("several", [RuntimeError("one"), kept]) from kept

    gc.collect()
    gc.disable()
    try:
        run(objective)
    finally:
        gc.enable()
    return alive


def at_random(space, q):
    return bojax.random_search(space, q=q)


@pytest.mark.long
@pytest.mark.parametrize("vectorized", [False, True])
def test_no_frame_of_an_earlier_evaluation_is_alive_when_the_next_starts(vectorized):
    study = bojax.Study(SPACE, seed=0, algorithm=at_random)
    alive = frames_alive(
        lambda objective: study.optimize(
            objective, 8, 2, vectorized=vectorized, progress=False, max_first_failures=None
        )
    )
    assert alive == [0] * len(alive) and len(alive) >= 4


def test_the_error_that_ends_a_study_chains_the_last_exception_only():
    seen = []

    def objective(params):
        mine = Held()
        seen.append(weakref.ref(mine))
        raise RuntimeError(f"number {len(seen)}")

    study = bojax.Study(SPACE, seed=0, algorithm=at_random)
    with pytest.raises(BojaxError, match="first 5 evaluations .* RuntimeError: number 5") as caught:
        study.optimize(objective, 20, progress=False)
    cause = caught.value.__cause__
    assert isinstance(cause, RuntimeError) and str(cause) == "number 5"
    assert cause.__traceback__ is not None and cause.__context__ is None
    assert [ref() for ref in seen] == [None] * 5


def test_a_failed_trial_keeps_its_traceback_as_text():
    def deep(n):
        if n == 0:
            raise ValueError("é" * 10_000)
        deep(n - 1)

    study = bojax.Study(SPACE, seed=0, algorithm=at_random)
    with pytest.warns(BojaxWarning, match=r"failed: ValueError: .*test_memory\.py:\d+, in deep"):
        study.optimize(lambda params: deep(500), 1, progress=False)
    attrs = study.trials[0].user_attrs
    assert attrs["bojax:error"].startswith("ValueError: éé") and len(attrs["bojax:error"]) == 500
    assert len(attrs["bojax:traceback"]) <= 4000
    with pytest.warns(BojaxWarning):
        study.optimize(lambda params: params["y"], 1, progress=False)
    text = study.trials[1].user_attrs["bojax:traceback"]
    assert text.splitlines()[0].startswith("Traceback") and text.splitlines()[-1] == "KeyError: 'y'"
    assert "test_memory.py" in text and "_loop.py" not in text


class Unspeakable(Exception):
    def __str__(self):
        raise RuntimeError("no text")


def test_an_exception_whose_text_or_place_cannot_be_had_is_a_failed_trial_too(tmp_path, monkeypatch):
    def objective(params):
        raise Unspeakable

    monkeypatch.chdir(tmp_path)
    study = bojax.Study(SPACE, seed=0, algorithm=at_random)
    study.optimize(objective, 1, progress=False)
    tmp_path.rmdir()
    study.optimize(objective, 1, progress=False)
    assert [trial.state for trial in study.trials] == ["fail", "fail"]
    assert "Unspeakable" in study.trials[0].user_attrs["bojax:error"]


def test_a_value_that_is_a_view_does_not_keep_what_it_looks_at():
    held: list[weakref.ref] = []
    alive: list[int] = []

    class Big(np.ndarray):
        pass

    def objective(params):
        alive.append(sum(ref() is not None for ref in held))
        big = np.ones(4).view(Big)
        held.append(weakref.ref(big))
        return big[:1].reshape(())

    study = bojax.Study(SPACE, seed=0, algorithm=at_random)
    study.optimize(objective, 4, 2, progress=False)
    assert alive == [0, 0, 0, 0]
