"""The races: ranks by hand, held-out instances, resuming, and a tiny race."""

import json

import numpy as np
import pytest

import bojax
from benchmarks import regret
from benchmarks._methods import METHODS, bojax_method, missing


def run_of(problem, instance, method, final, q=1):
    names = {"dim": 2, "q": q, "seed": instance, "budget": 2, "seconds": 0.1, "last_seconds": 0.01}
    return names | {"problem": problem, "instance": instance, "method": method, "trace": [1.0, final]}


def test_ranks_average_ties():
    assert regret.ranks({"a": 0.1, "b": 0.3, "c": 0.1, "d": 2.0}) == {"a": 1.5, "b": 3.0, "c": 1.5, "d": 4.0}


def test_only_rounds_that_all_have_finished_count():
    runs = [run_of("f1", i, "bojax", 10.0**-i) for i in (11, 12, 13)]
    runs += [run_of("f1", i, "random", 1.0) for i in (11, 12)]
    runs += [run_of("f2", 11, "bojax", 0.0)]
    found = regret.medians(runs, ["bojax", "random"])
    assert set(found) == {"f1"}
    assert found["f1"] == {"bojax": -8.0, "random": 0.0}  # regrets below 1e-8 count as 1e-8
    assert regret.medians(runs, ["bojax"])["f2"]["bojax"] == -8.0


def test_the_table_names_who_is_behind_random():
    runs = [run_of(p, 11, m, v) for p, m, v in (("f1", "bojax", 0.1), ("f1", "random", 1.0))]
    runs += [run_of(p, 11, m, v) for p, m, v in (("f6", "bojax", 2.0), ("f6", "random", 1.0))]
    table = regret.report(runs)
    row = next(line for line in table.splitlines() if line.startswith("| bojax"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells == ["bojax", "1.50", "1.00", "2.00", "-0.35", "f6", "0.01"]


def test_held_out_instances_are_refused():
    for instance in (1, 10, 16):
        with pytest.raises(ValueError, match="held out"):
            regret.bbob(1, instance, 2)


@pytest.fixture
def square(monkeypatch):
    space = bojax.Space(a=bojax.Float(0.0, 1.0), n=bojax.Int(1, 4))
    case = regret.Case("square", 11, space, lambda X: np.sum((X - 0.4) ** 2, axis=1))
    monkeypatch.setattr(regret, "cases", lambda args: [case])
    monkeypatch.setitem(METHODS, "bojax", bojax_method(lambda space, q: bojax.random_search(space, q=q)))
    return case


@pytest.mark.long
def test_a_tiny_race_is_recorded_and_resumed(square, tmp_path, capsys):
    out = tmp_path / "race.jsonl"
    arguments = ["--budget", "6", "--q", "2", "--methods", "bojax", "random", "--out", str(out)]
    regret.main(arguments)
    runs = [json.loads(line) for line in out.read_text().splitlines()]
    assert [run["method"] for run in runs] == ["bojax", "random"]
    for run in runs:
        assert len(run["trace"]) == 6 and np.all(np.diff(run["trace"]) <= 0) and run["trace"][-1] >= 0
    regret.main(arguments)
    assert len(out.read_text().splitlines()) == 2
    assert "| random" in capsys.readouterr().out


@pytest.mark.parametrize("method", ["tpe", "cma"])
@pytest.mark.parametrize("q", [1, 3])
def test_peers_keep_the_contract(square, method, q):
    if missing(method):
        pytest.skip(f"{method} needs {missing(method)}")
    run = regret.race(square, method, budget=12, q=q, seed=0)
    assert len(run["trace"]) == 12 and run["trace"][-1] < 0.2


@pytest.mark.long
def test_made_problems_have_their_optimum():
    case = regret.ackley_mixed(11)
    X = np.asarray(case.space.round(np.random.default_rng(0).random((50, 20))))
    assert np.all(case.regret(X) > 0.5)
    inner = regret.embedded("branin", 11, dim=10)
    assert inner.space.num_dims == 10 and np.all(inner.regret(np.random.default_rng(0).random((50, 10))) > 0)
