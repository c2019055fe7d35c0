"""State in other processes.

Studies travel by pickle, refuse to hang in forks, and programs are neither made anew nor kept for ever.
"""

import copy
import functools
import gc
import multiprocessing
import os
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import bojax
from bojax import hypergrad, multifidelity
from bojax._alike import Alike
from bojax._errors import StudyError
from bojax.study.asking import _job
from tests.helpers import run_python, small_bayesopt

SPACE = bojax.Space(x=bojax.Float(0.0, 1.0), c=bojax.Categorical(["u", "v"]))


def search(space, q):
    return bojax.random_search(space, q=q)


def objective(params):
    return (params["x"] - 0.3) ** 2


def told(study):
    return [(t.number, t.state, t.params, t.value, t.user_attrs) for t in study.trials]


@pytest.fixture(params=["memory", "sqlite", "journal"])
def storage(request, tmp_path):
    return {
        "memory": None,
        "sqlite": f"sqlite:///{tmp_path}/study.db",
        "journal": f"journal:///{tmp_path}/study.log",
    }[request.param]


@pytest.mark.long
def test_a_study_travels_by_pickle_with_its_trials(storage):
    study = bojax.Study(SPACE, "maximize", storage, "mine", seed=5, algorithm=search)
    study.optimize(objective, num_trials=3, progress=False)
    other = pickle.loads(pickle.dumps(study))
    assert (other.name, other.seed, other.direction, other.space) == ("mine", 5, "maximize", SPACE)
    assert told(other) == told(study)
    # Both go on in the same way, whichever is asked.
    trial = other.ask()[0]
    if storage is None:
        assert study.ask()[0].params == trial.params
        assert len(other.trials) == len(study.trials) == 4
    else:
        assert study.trials[-1].params == trial.params
        study.tell(trial, 1.0)
        assert other.best_value == 1.0


def test_a_result_and_copies_travel(storage):
    result = bojax.minimize(objective, SPACE, 3, seed=1, storage=storage, algorithm=search, progress=False)
    for other in (pickle.loads(pickle.dumps(result)), copy.deepcopy(result)):
        assert other.best_params == result.best_params
        assert other.num_compilations == result.num_compilations
        assert told(other.study) == told(result.study)


def test_a_copy_of_a_study_in_memory_is_a_copy():
    study = bojax.Study(SPACE, seed=5, algorithm=search)
    other = pickle.loads(pickle.dumps(study))
    other.optimize(objective, num_trials=2, progress=False)
    assert len(study.trials) == 0


def test_an_algorithm_that_pickle_cannot_find_is_named():
    study = bojax.Study(SPACE, algorithm=lambda space, q: bojax.random_search(space, q=q))
    with pytest.raises(StudyError, match="lambda.*top level"):
        pickle.dumps(study)
    pickle.dumps(bojax.Study(SPACE, algorithm=functools.partial(search)))


def _in_fork(function, *args):
    """What a forked process says: the result of the function, or its error; "hangs" after half a minute."""
    receiver, sender = multiprocessing.get_context("fork").Pipe(duplex=False)

    def work():
        try:
            sender.send(("result", function(*args)))
        except BaseException as error:
            sender.send((type(error).__name__, str(error)))

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    try:
        return receiver.recv() if receiver.poll(30) else ("hangs", "")
    finally:
        process.kill()
        process.join()


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::DeprecationWarning")  # JAX warns of forks, too
def test_a_used_study_says_at_once_that_it_does_not_work_in_a_fork(storage):
    jnp.zeros(1).block_until_ready()
    study = bojax.Study(SPACE, storage=storage, seed=0, algorithm=search)
    trial = study.ask()[0]
    kind, text = _in_fork(study.ask)
    assert kind == "StudyError" and "forked" in text and ("spawn" in text or "sqlite:///" in text)
    assert len(study.trials) == 1, "a trial was made by a process that cannot use it"
    kind, text = _in_fork(lambda: study.tell(trial, 1.0).value)
    if storage is None:
        assert kind == "StudyError" and "would be lost" in text
    else:
        assert (kind, text) == ("result", 1.0)
    if storage is not None:
        kind, text = _in_fork(lambda: bojax.Study(storage=storage, algorithm=search).ask())
        assert kind == "StudyError" and "spawn" in text
        assert len(study.trials) == 1, "a trial was made by a process that cannot use it"
    key = jax.random.key(0)
    kind, text = _in_fork(lambda: bojax.run(key, bojax.random_search(SPACE), lambda p: p["x"], 2))
    assert kind == "StudyError" and "forked" in text


@pytest.mark.long
def test_a_study_works_in_forks_that_were_made_before_anything_was_computed(tmp_path):
    code = f"""
import multiprocessing, warnings, bojax

SPACE = bojax.Space(x=bojax.Float(0.0, 1.0))

def search(space, q):
    return bojax.random_search(space, q=q)

def objective(params):
    return params["x"]

def work(seed):
    study = bojax.Study(storage="sqlite:///{tmp_path}/study.db", algorithm=search)
    study.optimize(objective, num_trials=2, progress=False)

if __name__ == "__main__":
    bojax.Study(SPACE, storage="sqlite:///{tmp_path}/study.db", seed=0)
    workers = [multiprocessing.get_context("fork").Process(target=work, args=(i,)) for i in range(2)]
    for worker in workers: worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0, worker.exitcode
    print(len(bojax.Study(storage="sqlite:///{tmp_path}/study.db").trials))
"""
    assert run_python(code, timeout=120).stdout.split()[-1] == "4"


# Functions that are alike.


def test_what_is_made_of_the_same_parts_is_alike():
    def make(number, array):
        return lambda x: x * number + array.sum()

    one = np.ones(3)
    assert Alike(make(2, one)) == Alike(make(2, np.ones(3)))
    for other in (make(3, one), make(2, np.zeros(3)), make(2.0, one), make(2, one.astype(np.float32))):
        assert Alike(make(2, one)) != Alike(other)
    same = [optax.adam(0.1), optax.adam(0.1)]
    assert Alike(same[0]) == Alike(same[1]) != Alike(optax.adam(0.2))
    assert Alike(functools.partial(make, 2)) == Alike(functools.partial(make, 2)) != Alike(functools.partial(make, 3))
    assert Alike(0.0) != Alike(-0.0) and Alike(1) != Alike(True) and Alike(float("nan")) == Alike(float("nan"))


FACTOR = 2.0


def test_a_global_name_that_changes_makes_a_function_another_one(monkeypatch):
    def scaled(x):
        return FACTOR * x

    before = Alike(scaled)
    assert Alike(scaled) == before
    monkeypatch.setitem(globals(), "FACTOR", 3.0)
    assert Alike(scaled) != before


def test_an_object_that_changes_makes_a_function_another_one():
    class Settings:
        rate = 0.1

    settings, rates = Settings(), [0.1]
    functions = lambda: settings.rate, lambda: rates[0]
    before = [Alike(fn) for fn in functions]
    assert [Alike(fn) for fn in functions] == before
    settings.rate, rates[0] = 0.2, 0.2
    assert all(Alike(fn) != old for fn, old in zip(functions, before, strict=True))


def test_values_that_contain_themselves_can_be_compared():
    def ring():
        items = {"n": 1}
        items["self"] = items
        return items

    assert Alike(ring()) == Alike(ring())


def test_lists_are_there_to_be_filled_and_alike_only_to_themselves():
    def recorder(seen):
        return lambda x: seen.append(x)

    seen = []
    assert Alike(recorder(seen)) == Alike(recorder(seen)) != Alike(recorder([]))


ALGORITHMS = {
    "random_search": lambda: bojax.random_search(SPACE, q=2),
    "bayesopt": lambda: bojax.bayesopt(SPACE, q=2),
    "noisy": lambda: bojax.noisy_bayesopt(SPACE, q=2),
    "gradients": lambda: bojax.gradient_bayesopt(SPACE),
    "thompson": lambda: bojax.thompson(SPACE),
    "turbo": lambda: bojax.turbo(SPACE),
    "cost_aware": lambda: bojax.loop.cost_aware(SPACE, cost=lambda params: 1.0 + params["x"]),
    "hybrid": lambda: bojax.loop.hybrid(SPACE),
}


@pytest.mark.unchecked
def test_algorithms_made_twice_are_alike_and_others_are_not():
    first, second = ([Alike(make()) for make in ALGORITHMS.values()] for _ in range(2))
    for i, one in enumerate(first):
        assert [one == other for other in second] == [i == j for j in range(len(second))], list(ALGORITHMS)[i]


# Programs.


def _study(factory):
    study = bojax.Study(SPACE, seed=0, algorithm=factory)
    for _ in range(3):
        trial = study.ask()[0]
        study.tell(trial, objective(trial.params))
    return [trial.params for trial in study.trials]


def program(factory, space, q):
    return _job.job_of(factory, space, q).ask


@pytest.mark.long
def test_an_algorithm_that_is_written_anew_compiles_nothing(compiled):
    def fresh(num_restarts=2):
        return lambda space, q: small_bayesopt(space, q=q, num_initial=2, num_restarts=num_restarts)

    first = _study(fresh())
    compiled.clear()
    assert _study(fresh()) == first
    assert not compiled
    assert program(fresh(), SPACE, 1) is program(fresh(), SPACE, 1)
    assert program(fresh(3), SPACE, 1) is not program(fresh(), SPACE, 1)


def test_an_algorithm_whose_settings_changed_is_another_one():
    settings = {"capacity": 8}

    def factory():
        return lambda space, q: bojax.random_search(space, q=q, **settings)

    before = program(factory(), SPACE, 1)
    settings["capacity"] = 16
    assert program(factory(), SPACE, 1) is not before


def test_programs_are_not_kept_for_ever():
    for capacity in range(1, _job.NUM_PROGRAMS + 10):
        program(functools.partial(_with_capacity, capacity), SPACE, 1)
    assert _job._programs.cache_info().currsize == _job.NUM_PROGRAMS


def _with_capacity(capacity, space, q):
    return bojax.random_search(space, q=q, capacity=capacity)


@pytest.mark.long
def test_run_with_an_algorithm_and_an_objective_made_anew_compiles_nothing(compiled):
    def run():
        return bojax.run(jax.random.key(0), bojax.random_search(SPACE), lambda params: -params["x"], 3).observations.X

    first = run()
    compiled.clear()
    np.testing.assert_array_equal(run(), first)
    assert not compiled


def test_a_population_of_functions_made_anew_compiles_nothing(compiled):
    def train():
        trainable = multifidelity.from_functions(
            SPACE,
            init=lambda key, h: jnp.zeros_like(h["x"]),
            advance=lambda state, h, n: state + h["x"] + h["c"],
            evaluate=lambda state, h: {"value": state},
            metric="value",
            num_steps=2,
        )
        return multifidelity.successive_halving(trainable, num_members=4, num_workers=1).best_value

    first = train()
    compiled.clear()
    assert train() == first
    assert not compiled


def inner_loss(w, h, data):
    return jnp.sum((w - data) ** 2) + jnp.exp(h["log_l2"]) * jnp.sum(w**2)


def outer_loss(w, h, data):
    return jnp.sum((w - data) ** 2)


TRAIN, VALID, START = jnp.ones(2), 0.3 * jnp.ones(2), jnp.zeros(2)
METHODS = {
    "implicit": {},
    "unrolled": {"method": hypergrad.Unrolled(optax.sgd(0.1), 4)},
    "forward": {"method": hypergrad.Forward(optax.sgd(0.1), 4)},
    "one_step": {"method": hypergrad.OneStep()},
}


@pytest.mark.long
@pytest.mark.parametrize("name", METHODS)
def test_a_hypergradient_that_is_called_again_compiles_nothing(name, compiled):
    def call(strength):
        # Made anew, as in a notebook whose cell is run again.
        fn = hypergrad.hypergradient(inner_loss, outer_loss, **METHODS[name])
        return fn({"log_l2": strength}, START, TRAIN, VALID)

    first = call(0.0)
    call(0.5)
    compiled.clear()
    again, other = call(0.0), call(0.5)
    assert not compiled
    assert float(again.grad["log_l2"]) == float(first.grad["log_l2"]) != float(other.grad["log_l2"])
    jitted = jax.jit(hypergrad.hypergradient(inner_loss, outer_loss, **METHODS[name]))(
        {"log_l2": 0.0}, START, TRAIN, VALID
    )
    np.testing.assert_allclose(first.grad["log_l2"], jitted.grad["log_l2"], rtol=1e-5)


@pytest.mark.long
def test_optimize_and_check_that_are_called_again_compile_nothing(compiled):
    fn = hypergrad.hypergradient(inner_loss, outer_loss)

    def run(strength):
        result = hypergrad.optimize(fn, {"log_l2": strength}, START, TRAIN, VALID, num_steps=3)
        hypergrad.check_hypergradient(fn, {"log_l2": strength}, START, TRAIN, VALID)
        return float(result.value)

    first = run(0.0)
    compiled.clear()
    assert run(0.0) == first != run(1.0)
    assert not compiled


@pytest.mark.long
def test_the_memory_of_repeated_hypergradients_is_flat():
    fn = hypergrad.hypergradient(inner_loss, outer_loss)
    fn({"log_l2": 0.0}, START, TRAIN, VALID)

    def resident():
        gc.collect()
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    if not os.path.exists("/proc/self/statm"):
        pytest.skip("no Linux")
    before = resident()
    for i in range(30):
        fn({"log_l2": 0.01 * i}, START, TRAIN, VALID)
    assert resident() - before < 20 * 2**20  # 7 MB a call before


SCALE = 1.0


@pytest.mark.long
def test_a_loss_that_reads_a_changed_global_name_is_computed_anew(monkeypatch):
    def scaled_loss(w, h, data):
        return SCALE * outer_loss(w, h, data)

    fn = hypergrad.hypergradient(inner_loss, scaled_loss)
    one = fn({"log_l2": 0.0}, START, TRAIN, VALID).value
    monkeypatch.setitem(globals(), "SCALE", 2.0)
    np.testing.assert_allclose(fn({"log_l2": 0.0}, START, TRAIN, VALID).value, 2.0 * one, rtol=1e-6)


@pytest.mark.long
def test_data_that_decide_on_control_flow_or_are_no_arrays_still_work():
    def choosing(w, h, data):
        X, kind = data
        return jnp.sum((w - X) ** 2) if kind == "square" and X[0] > 0 else jnp.sum(jnp.abs(w - X))

    fn = hypergrad.hypergradient(inner_loss, choosing)
    plain = hypergrad.hypergradient(inner_loss, outer_loss)({"log_l2": 0.0}, START, TRAIN, VALID)
    for _ in range(2):
        result = fn({"log_l2": 0.0}, START, TRAIN, (np.asarray(VALID), "square"))
        np.testing.assert_allclose(result.value, plain.value, rtol=1e-6)


def test_an_error_is_still_raised_by_its_own_kind():
    fn = hypergrad.hypergradient(inner_loss, outer_loss, inner_solver=hypergrad.Descent(optax.sgd(0.01), 1), throw=True)
    for _ in range(2):
        with pytest.raises(hypergrad.HypergradientError):
            fn({"log_l2": 0.0}, START, TRAIN, VALID)
