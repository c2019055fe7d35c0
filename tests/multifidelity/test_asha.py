"""Asynchronous successive halving: who may be promoted, and a whole run against the algorithm written out."""

import functools
import math
from fractions import Fraction

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_runs import SPACE, TwoStructures, score
from toy_runs import toy as new_toy

from bojax.multifidelity import Population, asha, halving, num_steps_of
from bojax.multifidelity import _stored_population as module
from bojax.multifidelity._asha import promotable

toy = functools.cache(new_toy)  # so that its programs are compiled once
ETAS = [1.5, 2.0, 2.5, 3.0, 4.0]


def next_job(finished, promoted, eta):
    """Algorithm 2 of Li et al. (2020), lines 12 to 20: (member, rung it finished), or None for a new configuration.

    Equal values are ranked by number; members without a finite value are never promoted.
    """
    for rung in reversed(range(len(finished) - 1)):
        done = finished[rung]
        room = math.floor(Fraction(len(done)) / Fraction(eta))
        rank = {m: sum((-done[o], o) < (-done[m], m) for o in done) for m in done}
        open_ = [m for m in done if rank[m] < room and m not in promoted[rung] and math.isfinite(done[m])]
        if open_:
            return min(open_, key=rank.__getitem__), rung
    return None


values = st.sampled_from([-math.inf, -1.0, 0.0, 0.5, 1.0, 2.0]) | st.floats(-10, 10)
ladders = st.lists(st.dictionaries(st.integers(0, 30), values, max_size=14), min_size=1, max_size=4)


@given(ladders, st.data(), st.sampled_from(ETAS))
def test_promotable_is_algorithm_2(finished, data, eta):
    promoted = [
        set(data.draw(st.lists(st.sampled_from(sorted(rung)), max_size=5))) if rung else set() for rung in finished
    ]
    member, rung = promotable(finished, promoted, eta)
    assert (None if member is None else (member, rung)) == next_job(finished, promoted, eta)


@pytest.mark.parametrize(
    "finished, promoted, expected",
    [
        ([{}, {}], [set(), set()], None),
        ([{0: 1.0, 1: 2.0}, {}], [set(), set()], None),  # fewer than eta
        ([{0: 1.0, 1: 2.0, 2: 0.0}, {}], [set(), set()], (1, 0)),
        ([{0: 1.0, 1: 2.0, 2: 0.0}, {}], [{1}, set()], None),
        ([{m: -float(m) for m in range(9)}, {0: 1.0, 1: 2.0, 2: 3.0}, {}], [{0, 1}, set(), set()], (2, 1)),
        ([{m: -float(m) for m in range(9)}, {0: 1.0, 1: 2.0, 2: 3.0}, {}], [{0, 1}, {2}, set()], (2, 0)),
        ([{0: 1.0, 1: 1.0, 2: 1.0}], [set()], None),  # the last rung is the end
        ([{0: -math.inf, 1: -math.inf, 2: -math.inf}, {}], [set(), set()], None),
    ],
)
def test_promotable_by_hand(finished, promoted, expected):
    assert promotable(finished, promoted, 3.0) == (expected or (None, 0))


class Spy(Population):
    """A population that notes which members it advances, and by how many steps."""

    calls: list[tuple[int, list[int]]]

    def advance(self, num_steps, members=None):
        self.calls.append((num_steps, self.members.tolist() if members is None else list(members)))
        super().advance(num_steps, members)


@pytest.fixture
def calls(monkeypatch):
    """What `asha` asks of its population."""
    found = []
    monkeypatch.setattr(Spy, "calls", found, raising=False)
    monkeypatch.setattr(module, "Population", Spy)
    return found


def written_out(history, rungs, eta, population, budget):
    """The steps and the members that train at each turn, from the values of a history alone."""
    value = {(m, s): v for m, s, v in zip(history.members, history.steps, history.values, strict=True)}
    finished, promoted = [{} for _ in rungs], [set() for _ in rungs]
    steps, goal, turns = {}, {}, []
    while True:
        for _ in range(population - len(goal)):
            if sum(steps.values()) >= budget:
                break
            job = next_job(finished, promoted, eta)
            if job is None:
                goal[len(steps)] = 0
                steps[len(steps)] = 0
            else:
                promoted[job[1]].add(job[0])
                goal[job[0]] = job[1] + 1
        if not goal:
            return turns, sum(steps.values())
        tick = min(rungs[goal[member]] - steps[member] for member in goal)
        turns.append((tick, sorted(goal)))
        for member in sorted(goal):
            steps[member] += tick
            if steps[member] == rungs[goal[member]]:
                finished[goal.pop(member)][member] = value[member, steps[member]]


RUNS = {
    "one at a time": ({"population": 1, "budget_steps": 60}, [1, 3, 9, 27]),
    "a few": ({"population": 4, "budget_steps": 200}, [1, 3, 9, 27]),
    "many": ({"population": 8, "budget_steps": 100, "seed": 5}, [1, 3, 9, 27]),
    "halves": ({"population": 3, "budget_steps": 120, "eta": 2.0, "max_steps": 16}, [1, 2, 4, 8, 16]),
    "later": ({"population": 3, "budget_steps": 300, "min_steps": 3}, [3, 9, 27]),
    "cut": ({"population": 2, "budget_steps": 150, "min_steps": 2, "max_steps": 13}, [2, 6, 13]),
    "uneven": ({"population": 2, "budget_steps": 400, "eta": 1.2, "min_steps": 2, "max_steps": 7}, [2, 3, 4, 5, 6, 7]),
    "no rungs": ({"population": 4, "budget_steps": 50, "min_steps": 7, "max_steps": 7}, [7]),
    "tiny budget": ({"population": 3, "budget_steps": 1}, [1, 3, 9, 27]),
}


@pytest.mark.parametrize("arguments, rungs", RUNS.values(), ids=RUNS)
def test_a_run_is_the_algorithm_written_out(calls, arguments, rungs):
    history = asha(toy(diverging=0.9), num_workers=1, **arguments)
    eta, population, budget = arguments.get("eta", 3.0), arguments["population"], arguments["budget_steps"]
    turns, total = written_out(history, rungs, eta, population, budget)
    assert calls == turns
    assert history.total_steps == total == sum(tick * len(members) for tick, members in turns)
    assert max(len(members) for _, members in turns) <= population
    assert set(history.steps) <= set(rungs)
    # Whoever was under way when the budget was spent still ends its rung.
    longest = max(b - a for a, b in zip([0, *rungs], rungs, strict=False))
    assert budget <= history.total_steps < budget + population * longest


@pytest.fixture(scope="module")
def history():
    return asha(toy(noise=1.0), budget_steps=300, population=4, seed=2, num_workers=1)


def test_members_climb_one_rung_at_a_time(history):
    tops = []
    for member in range(history.num_members):
        steps, _ = history.curve(member)
        assert steps.tolist() == [1, 3, 9, 27][: len(steps)]
        tops.append(steps[-1])
    assert {1, 27} <= set(tops) <= {1, 3, 9, 27} and history.total_steps == sum(tops)


def test_members_train_as_they_would_straight_through(history):
    straight = asha(toy(noise=1.0), budget_steps=27 * history.num_members, min_steps=27, seed=2, num_workers=1)
    np.testing.assert_array_equal(straight.X[: history.num_members], history.X)
    alone = dict(zip(straight.members.tolist(), straight.values.tolist(), strict=True))
    last = history.steps == 27
    np.testing.assert_allclose(history.values[last], [alone[m] for m in history.members[last]], rtol=2e-5)


def test_values_are_those_of_the_configurations():
    history = asha(toy("minimize"), budget_steps=100, population=4, num_workers=1)
    hparams = {name: np.asarray(c)[history.members] for name, c in SPACE.decode(jnp.asarray(history.X)).items()}
    np.testing.assert_allclose(-history.values, score(hparams, history.steps), atol=2e-5)
    assert history.best_value == history.values[history.steps == history.steps.max()].min()
    assert history.best_params == SPACE.to_params(history.X[history.best_member])


def test_the_seed_decides_everything(history):
    objective = toy(noise=1.0)
    again, other = (asha(objective, budget_steps=300, population=4, seed=seed, num_workers=1) for seed in (2, 3))
    for a, b in zip(again[:4], history[:4], strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.isin(other.X, history.X).any() and not np.isin(other.values, history.values).any()


def test_a_configuration_does_not_depend_on_how_many_train(history):
    single = asha(toy(noise=1.0), budget_steps=60, population=1, seed=2, num_workers=1)
    n = min(single.num_members, history.num_members)
    assert n > 9
    np.testing.assert_array_equal(single.X[:n], history.X[:n])
    first = {m: v for m, s, v in zip(*history[1:4], strict=True) if s == 1}
    at_once = [(first[m], v) for m, s, v in zip(*single[1:4], strict=True) if s == 1 and m < n]
    np.testing.assert_allclose(*np.transpose(at_once), rtol=2e-5)


def test_minimising_is_maximising_the_negative():
    high, low = (asha(toy(d), budget_steps=80, population=4, num_workers=1) for d in ("maximize", "minimize"))
    np.testing.assert_array_equal(low.members, high.members)
    np.testing.assert_array_equal(low.values, -high.values)
    assert low.best_member == high.best_member


def test_diverged_members_are_not_promoted():
    history = asha(toy(diverging=0.3), budget_steps=150, population=4, min_steps=3, num_workers=1)
    diverged = history.X[:, 0] >= 0.3
    assert diverged.sum() > history.num_members / 3
    assert (history.steps[diverged[history.members]] == 3).all()
    np.testing.assert_array_equal(np.isfinite(history.values), ~diverged[history.members])
    assert history.steps.max() == 27 and np.isfinite(history.best_value)


@pytest.mark.parametrize("direction, worst", [("maximize", -np.inf), ("minimize", np.inf)])
def test_all_fail(direction, worst):
    history = asha(toy(direction, diverging=0.0), budget_steps=30, population=4, min_steps=3, num_workers=1)
    assert (history.values == worst).all() and history.best_value == worst
    assert set(history.steps) == {3} and history.num_members == 12 and history.total_steps == 36


def test_structures_train_side_by_side():
    history = asha(TwoStructures(), budget_steps=40, population=2, min_steps=3, num_workers=1)
    layers = np.asarray(TwoStructures.space.decode(jnp.asarray(history.X))["layers"])
    assert set(layers.tolist()) == {1, 2} and history.steps.max() == 9


@pytest.mark.parametrize("eta", [1.1, 12.0])
def test_any_eta_leads_to_a_full_run(eta):
    history = asha(toy(num_steps=100), budget_steps=4000, eta=eta, min_steps=3, num_workers=1)
    assert history.steps.min() == 3 and history.steps.max() == 100


def test_it_tries_more_configurations_than_the_synchronous_form_with_as_many_steps():
    history = asha(toy(), budget_steps=num_steps_of(halving(27, 1, 27)), population=4, num_workers=1)
    assert history.num_members > 27


@pytest.mark.parametrize(
    "arguments, name",
    [
        ({"budget_steps": 0}, "budget_steps"),
        ({"population": 0}, "population"),
        ({"eta": 1.0}, "eta"),
        ({"min_steps": 0}, "min_steps"),
        ({"min_steps": 28}, "min_steps"),
        ({"max_steps": 0}, "max_steps"),
    ],
)
def test_bad_numbers_are_named(arguments, name):
    with pytest.raises(ValueError, match=f"`{name}`"):
        asha(toy(), **({"budget_steps": 10} | arguments))
