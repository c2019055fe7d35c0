"""Populations: what a member gives does not depend on who trains beside it, and few programs are compiled."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy_runs import TwoStructures, some_hparams, some_keys, toy

from bojax.multifidelity import Population, train_many
from bojax.multifidelity._population import chunk_size

WORKERS = [1, 2, 4]


def make(n=7, num_workers=1, objective=None):
    objective = objective or toy(noise=1.0)
    return Population(objective, some_keys(n), some_hparams(n, objective.space), num_workers=num_workers)


def alone(objective, n, num_steps):
    """Scores of n members, each trained without the others and without any population."""
    hparams, scores = some_hparams(n, objective.space), []
    for i, key in enumerate(some_keys(n)):
        row = {name: jnp.asarray(column[i]) for name, column in hparams.items()}
        program = objective.program(objective.structure(row))
        state = program.advance(program.init(key, row), row, num_steps)
        scores.append(float(program.evaluate(state, row)["score"]))
    return scores


def assert_close(a, b):
    np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)


@pytest.mark.long
@pytest.mark.parametrize("num_workers", WORKERS)
@pytest.mark.parametrize("n", [1, 3, 8, 13])
def test_members_train_as_if_alone(n, num_workers):
    objective = toy(noise=1.0)
    runs = make(n, num_workers, objective)
    runs.advance(5)
    metrics = runs.evaluate()
    assert_close(metrics["score"], alone(objective, n, 5))
    assert np.array_equal(metrics["count"], np.full(n, 5))
    assert len(set(metrics["score"].tolist())) == n


@pytest.mark.long
@pytest.mark.parametrize("num_workers", WORKERS)
def test_structures_train_in_programs_of_their_own(num_workers):
    objective = TwoStructures()
    runs = make(11, num_workers, objective)
    runs.advance(6)
    assert len(set(some_hparams(11, objective.space)["layers"].tolist())) == 2
    assert_close(runs.evaluate()["score"], alone(objective, 11, 6))
    assert {structure for _, structure, _ in runs.programs} == {1, 2}
    assert len({size for _, _, size in runs.programs}) == 1


@pytest.mark.parametrize("num_workers", WORKERS)
def test_cut_rested_and_resumed(num_workers):
    whole, cut = make(7, num_workers), make(7, num_workers)
    whole.advance(9)
    cut.advance(2)
    cut.advance(3, members=[5, 1])
    cut.advance(4, members=[1, 2, 6])
    cut.advance(7, members=[0, 2, 3, 4, 6])
    cut.advance(4, members=[5])
    assert cut.steps == [9, 9, 13, 9, 9, 9, 13]
    assert cut.total_steps == 71 and whole.total_steps == 63
    same = [0, 1, 3, 4, 5]
    assert_close(cut.evaluate(same)["score"], whole.evaluate(same)["score"])
    whole.advance(4, members=[2, 6])
    assert_close(cut.evaluate()["score"], whole.evaluate()["score"])


def test_members_are_evaluated_in_the_order_they_are_named():
    runs = make(6)
    runs.advance(2)
    everything = runs.evaluate()["score"]
    for wanted in ([3], [4, 0, 5], np.array([5, 4, 3, 2, 1, 0])):
        assert_close(runs.evaluate(wanted)["score"], everything[np.asarray(wanted)])


def test_a_member_named_twice_is_trained_once():
    runs, expected = make(4), make(4)
    runs.advance(3, members=[2, 2, 1])
    expected.advance(3, members=[1, 2])
    assert runs.steps == expected.steps == [0, 3, 3, 0]
    assert_close(runs.evaluate([2, 2])["score"], expected.evaluate([2, 2])["score"])


def test_dropping_members_leaves_the_others_as_they_were():
    runs, whole = make(7), make(7)
    whole.advance(8)
    runs.advance(3)
    runs.keep([6, 1, 2])
    assert runs.members.tolist() == [1, 2, 6]
    runs.advance(5)
    assert_close(runs.evaluate()["score"], whole.evaluate([1, 2, 6])["score"])
    assert runs.steps == [3, 8, 8, 3, 3, 3, 8] and runs.total_steps == 36
    for call in (runs.evaluate, runs.keep, lambda members: runs.advance(1, members)):
        with pytest.raises(ValueError, match=r"not dropped, got \[0, 7\]"):
            call([1, 0, 7])
    assert runs.total_steps == 36


def test_added_members_are_numbered_and_start_at_zero():
    runs = make(3)
    runs.advance(4)
    runs.keep([0, 2])
    hparams = some_hparams(2, seed=5)
    assert runs.add(some_keys(2, seed=6), hparams).tolist() == [3, 4]
    assert runs.members.tolist() == [0, 2, 3, 4] and runs.steps == [4, 4, 4, 0, 0]
    runs.advance(2)
    assert runs.evaluate()["count"].tolist() == [6, 6, 2, 2]
    assert_close(runs.evaluate()["x"][2:], hparams["x"])


def test_hyperparameters_of_the_wrong_shape_are_named():
    hparams = some_hparams(3)
    with pytest.raises(ValueError, match=r"`hparams\['rate'\]` must have the shape \[3\], got \[2\]"):
        Population(toy(), some_keys(3), hparams | {"rate": hparams["rate"][:2]})
    with pytest.raises(ValueError, match=r"got \[3, 1\]"):
        Population(toy(), some_keys(3), hparams | {"x": hparams["x"][:, None]})


def test_compilations_grow_with_the_logarithm_of_the_members():
    trace = []
    objective, programs = toy(trace=trace), set()
    for n in range(1, 17):
        runs = make(n, 1, objective)
        runs.advance(1)
        runs.evaluate()
        assert runs.num_compilations == 3  # three functions, one size
        programs |= runs.programs
    # Once to look at what is read, and once for each size.
    assert {name: trace.count(name) for name in set(trace)} == {"init": 3, "advance": 3, "evaluate": 3}
    assert {size for _, _, size in programs} == {1, 4}


def test_a_shrinking_population_compiles_with_the_logarithm():
    trace = []
    runs = make(32, 1, toy(trace=trace))
    for left in range(32, 0, -1):
        runs.keep(range(left))
        runs.advance(left)
    assert trace.count("advance") == 3  # a look, 4 and 1, whatever the number of steps
    assert runs.num_compilations == 3


@pytest.mark.parametrize("num_workers", [1, 2, 4])
@pytest.mark.parametrize("num_members", [1, 5, 16, 63, 64, 255, 256])
def test_chunks_are_as_many_as_keep_the_workers_busy(num_members, num_workers):
    size = chunk_size(num_members, 1, num_workers)
    assert size in (1, 4, 16, 64)
    assert size == 1 or num_members // size >= 4 * num_workers
    assert num_members // (4 * size) < 4 * num_workers


@pytest.mark.parametrize("num_structures", [1, 3])
def test_an_accelerator_has_a_chunk_for_a_structure(num_structures, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert [chunk_size(n * num_structures, num_structures, 1) for n in (1, 2, 3, 16, 17)] == [1, 2, 4, 16, 32]


@pytest.mark.long
@pytest.mark.parametrize("num_workers", [1, 2])
def test_workers_compute_in_the_precision_of_the_caller(num_workers, x64):
    objective = toy(noise=1.0)
    runs = make(6, num_workers, objective)
    runs.advance(5)
    scores = runs.evaluate()["score"]
    assert some_hparams(6)["x"].dtype == scores.dtype == np.float64
    np.testing.assert_allclose(scores, alone(objective, 6, 5), rtol=1e-13)


def test_diverged_members_have_no_value():
    hparams = {"x": np.array([0.1, 0.9, 0.2]), "rate": np.full(3, 0.5)}
    runs = Population(toy("minimize", diverging=0.8), some_keys(3), hparams, num_workers=1)
    runs.advance(3)
    assert np.isnan(runs.evaluate()["score"]).tolist() == [False, True, False]
    values = runs.values()
    assert values[1] == -np.inf
    assert_close(values[[0, 2]], -runs.evaluate([0, 2])["score"])


def test_an_objective_without_its_metric_is_named():
    objective = toy()._replace(metric="accuracy")
    with pytest.raises(KeyError, match="'accuracy'.*'score'"):
        make(2, objective=objective).values()


@pytest.mark.long
@pytest.mark.parametrize("num_workers", WORKERS)
def test_train_many(num_workers):
    objective = TwoStructures()
    hparams = some_hparams(9, objective.space)
    metrics = train_many(objective, some_keys(9), hparams, num_workers=num_workers)
    assert_close(metrics["score"], alone(objective, 9, objective.num_steps))
    assert np.array_equal(metrics["x"], hparams["x"])
    short = train_many(objective, some_keys(9), hparams, num_steps=2, num_workers=num_workers)
    assert short["count"].tolist() == [2] * 9


def test_a_bad_number_of_steps_or_direction_is_named():
    with pytest.raises(ValueError, match="`direction`.*'up'"):
        toy("up")
    with pytest.raises(ValueError, match="`num_steps`.*got 0"):
        toy(num_steps=0)
