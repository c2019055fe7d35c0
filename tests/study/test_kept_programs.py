"""What a study compiles is kept, and compiled before it is needed; suggestions do not depend on it."""

import os
import threading

import jax
import pytest
from jax._src import compilation_cache

import bojax
from bojax import _programs
from bojax.study.asking import _job
from tests.helpers import idle, run_python, small_bayesopt

SPACE = bojax.Space(a=bojax.Float(0.0, 1.0), b=bojax.Float(0.1, 10.0, log=True))
OTHER = bojax.Space(x=bojax.Float(-5.0, 5.0), y=bojax.Float(0.0, 2.0), z=bojax.Float(1.0, 2.0))
TREE = bojax.Space(depth=bojax.Int(1, 3), a=bojax.Float(0.0, 1.0), b=bojax.Float(0.0, 1.0, when={"depth": [2, 3]}))
OTHER_TREE = bojax.Space(
    kind=bojax.Categorical([0, 1]),
    x=bojax.Float(-5.0, 5.0, when={"kind": 0}),
    y=bojax.Int(0, 5, when={"kind": 1}),
    z=bojax.Float(1.0, 2.0, when={"kind": 1, "y": [2, 4]}),
)


def algorithm(space, q):
    return small_bayesopt(space, q=q)


def forget():
    """As a process that has just started, but for what was imported."""
    _job.job_of.cache_clear()
    _job._programs.cache_clear()
    _programs.drop_programs()


@pytest.fixture
def compiled(monkeypatch):
    """A list that gains the thread of each compilation of a program that is kept."""
    monkeypatch.delenv("BOJAX_COMPILE_AHEAD", raising=False)
    monkeypatch.setattr(compilation_cache, "is_cache_used", lambda backend: False)
    threads, active = [], [True]

    def listen(name, duration, **about):
        if active[0] and name == "/jax/core/compile/backend_compile_duration" and "program" in about["fun_name"]:
            threads.append(threading.current_thread())

    idle()  # what tests before this one left behind
    jax.monitoring.register_event_duration_secs_listener(listen)
    forget()
    yield threads
    active[0] = False
    idle()
    forget()


def suggestions(space, num_trials, wait=idle, **settings):
    study = bojax.Study(space, seed=0, algorithm=algorithm, **settings)
    for _ in range(num_trials):
        trial = study.ask()[0]
        wait()
        study.tell(trial, sum((value - 0.3) ** 2 for value in trial.params.values()))
    return [tuple(trial.params.values()) for trial in study.trials]


@pytest.mark.long
def test_what_was_compiled_once_is_loaded_for_every_space_of_its_class(tmp_path, monkeypatch, compiled):
    monkeypatch.setenv("BOJAX_CACHE", str(tmp_path))
    first = suggestions(SPACE, 6)
    assert len(compiled) == 1
    forget()
    assert suggestions(SPACE, 6) == first
    suggestions(OTHER, 6)
    assert len(compiled) == 1


@pytest.mark.long
def test_trees_of_a_class_share_a_program(compiled):
    suggestions(TREE, 6)
    assert len(compiled) == 1
    suggestions(OTHER_TREE, 6)
    assert len(compiled) == 1


@pytest.mark.slow
def test_suggestions_do_not_depend_on_when_and_where_a_program_is_compiled(tmp_path, monkeypatch, compiled):
    first = suggestions(SPACE, 6, wait=lambda: None)
    monkeypatch.setenv("BOJAX_CACHE", str(tmp_path))
    monkeypatch.setenv("BOJAX_COMPILE_AHEAD", "off")
    forget()
    assert suggestions(SPACE, 6) == first
    assert threading.main_thread() in compiled


@pytest.mark.slow
def test_where_the_objective_takes_its_time_no_ask_compiles(compiled):
    suggestions(SPACE, _job.capacity_for(1) + 4)
    assert len(compiled) == 2  # of this capacity and of the next one
    assert threading.main_thread() not in compiled


CODE = """
import jax, sys
import bojax
events = []
jax.monitoring.register_event_duration_secs_listener(lambda name, *_, **__: events.append(name))
study = bojax.Study(bojax.Space({space}), seed=3)
for _ in range(14):
    trial = study.ask()[0]
    study.tell(trial, sum((value - 0.3) ** 2 for value in trial.params.values()))
print([[value.hex() for value in trial.params.values()] for trial in study.trials])
print(events.count("/jax/core/compile/backend_compile_duration"), file=sys.stderr)
"""


@pytest.mark.slow
def test_another_process_compiles_nothing_and_suggests_the_same(tmp_path):
    env = {key: value for key, value in os.environ.items() if not key.startswith(("JAX_", "BOJAX_"))}
    env["BOJAX_CACHE"] = str(tmp_path)
    space = "a=bojax.Float(0.0, 1.0), b=bojax.Float(0.0, 2.0)"
    first, second, other = (
        run_python(CODE.format(space=text), timeout=300, env=env)
        for text in (
            space,
            space,
            "u=bojax.Float(0.0, 1e3), v=bojax.Float(0.1, 2.0, log=True), w=bojax.Float(-1.0, 1.0)",
        )
    )
    assert first.stdout == second.stdout
    assert [done.stderr.split()[-1] for done in (first, second, other)] == ["1", "0", "0"]
