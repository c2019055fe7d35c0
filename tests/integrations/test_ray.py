"""The searcher for Ray Tune, rule by rule, without a cluster."""

import copy
import functools
import json
import pickle

import numpy as np
import pytest
import scipy.stats

pytest.importorskip("ray")

from ray import tune
from ray.tune.search import ConcurrencyLimiter, Searcher
from ray.tune.search.sample import Categorical, Float, Uniform

import bojax
from bojax.integrations.ray import BojaxSearch

SPACE = {"optimizer": {"lr": tune.loguniform(1e-4, 1e-1), "name": tune.choice(["adam", "sgd"])}, "epochs": 3}


def random_search(space, q):
    return bojax.random_search(space, q=q)


def make(space=SPACE, **kwargs):
    settings = {"metric": "loss", "mode": "min", "seed": 0, "algorithm": random_search}
    return BojaxSearch(space, **(settings | kwargs))


def converted(domain):
    return BojaxSearch.convert_search_space({"x": domain})["x"]


def values(domain, count=200):
    search = make({"x": domain})
    return [search.suggest(str(i))["x"] for i in range(count)]


# The constructor and the properties that the Tuner sets.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "minimum"}, '`mode` must be "min" or "max"'),
        ({"metric": ["a", "b"], "mode": ["min", "max"]}, "`metric` must be one"),
        ({"metric": 3}, "`metric` must be a name"),
        ({"seed": -1}, "`seed` must be"),
        ({"seed": 1.5}, "`seed` must be"),
        ({"algorithm": 1}, "`algorithm` must be a function"),
        ({"space": 3}, "`space` must be a dict"),
        ({"space": {"a": 1}}, "must have something to tune"),
        ({"evaluated_rewards": [1.0]}, "must come with `points_to_evaluate`"),
        ({"points_to_evaluate": [{}], "evaluated_rewards": [1.0, 2.0]}, "must be a list of 1 numbers"),
        ({"points_to_evaluate": {"a": 1}}, "must be a list of configurations"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        BojaxSearch(**arguments)


def test_the_arguments_stand_in_the_order_of_other_searchers():
    point = {"x": 0.25}
    search = BojaxSearch({"x": tune.uniform(0, 1)}, "score", "max", [point], [3.0], 7)
    assert search.metric == "score" and search.mode == "max" and search.study.seed == 7
    assert search.study.direction == "maximize" and search.study.best_params == point


def test_the_tuner_gives_what_the_constructor_was_not_given_once():
    search = BojaxSearch(seed=0, algorithm=random_search)
    with pytest.raises(RuntimeError, match="got no `space` and no `mode`"):
        search.suggest("1")
    assert search.set_search_properties("loss", "max", SPACE, some_other_key=1)
    assert not search.set_search_properties("loss", "max", SPACE)
    assert search.suggest("1")["epochs"] == 3
    assert search.metric == "loss" and search.study.direction == "maximize"


def test_the_tuner_may_give_the_goal_of_a_space_that_is_given():
    search = BojaxSearch(SPACE, algorithm=random_search)
    with pytest.raises(RuntimeError, match="got no `mode`"):
        search.suggest("1")
    assert not search.set_search_properties("loss", "min", {"constant": 1})
    assert set(search.suggest("1")) == {"optimizer", "epochs"}
    assert search.metric == "loss"


def test_without_a_metric_the_anonymous_one_counts():
    search = make(metric=None)
    search.suggest("1")
    search.on_trial_complete("1", {"_metric": 2.0})
    assert search.study.best_value == 2.0


# Spaces.


@pytest.mark.parametrize(
    ("domain", "parameter"),
    [
        (tune.uniform(-1.0, 2.0), bojax.Float(-1.0, 2.0)),
        (tune.loguniform(1e-3, 1.0), bojax.Float(1e-3, 1.0, log=True)),
        (tune.quniform(0.0, 0.5, 0.1), bojax.Float(0.0, 0.5, step=0.1)),
        (tune.qloguniform(1.0, 8.0, 0.5), bojax.Float(1.0, 8.0, log=True, step=0.5)),
        (tune.randint(0, 8), bojax.Int(0, 7)),
        (tune.qrandint(4, 16, 4), bojax.Int(4, 16, step=4)),
        (tune.qrandint(3, 17, 4), bojax.Int(4, 16, step=4)),
        (tune.qrandint(0, 8, 1), bojax.Int(0, 7)),
        (tune.lograndint(1, 100), bojax.Int(1, 99, log=True)),
        (tune.qlograndint(2, 64, 2), bojax.Int(2, 64, log=True, step=2)),
        (tune.choice(["a", None, 3, True]), bojax.Categorical(["a", None, 3, True])),
        (tune.choice([(1, 2), (3,)]), bojax.Categorical([0, 1])),
        (tune.choice([1, 1.0]), bojax.Categorical([0, 1])),
        (bojax.Ordinal([1, 2, 4]), bojax.Ordinal([1, 2, 4])),
    ],
)
def test_domains_become_parameters(domain, parameter):
    assert converted(domain) == parameter


@pytest.mark.parametrize(
    "domain",
    [
        tune.quniform(0.0, 0.3, 0.1),
        tune.qloguniform(1.0, 4.0, 1.0),
        tune.randint(2, 5),
        tune.qrandint(0, 6, 2),
        tune.lograndint(1, 5),
        tune.qlograndint(2, 8, 2),
    ],
)
def test_the_values_are_those_that_ray_draws(domain):
    drawn = {round(value, 9) for value in domain.sample(size=2000, random_state=0)}
    search = make({"x": domain})
    suggested = []
    while (config := search.suggest(str(len(suggested)))) != Searcher.FINISHED:
        suggested.append(config["x"])
    assert sorted(suggested) == sorted(drawn)
    assert {type(value) for value in suggested} == {float if isinstance(domain, Float) else int}


def test_values_with_a_step_are_decimal_numbers():
    assert set(values(tune.quniform(0.0, 0.4, 0.1), 5)) == {0.0, 0.1, 0.2, 0.3, 0.4}


def test_randn_is_searched_by_its_quantiles_and_read_back():
    search = make({"x": tune.randn(10.0, 2.0)}, points_to_evaluate=[{"x": 12.5}])
    assert search.suggest("first")["x"] == pytest.approx(12.5, rel=1e-9)
    drawn = [search.suggest(str(i))["x"] for i in range(30)]
    quantiles = [trial.params["x"] for trial in search.study.trials][1:]
    assert drawn == pytest.approx(scipy.stats.norm(10.0, 2.0).ppf(quantiles), rel=1e-9)
    assert 0.0 < min(quantiles) < 0.1 and 0.9 < max(quantiles) < 1.0
    with pytest.raises(ValueError, match="`x` must be within 4 standard deviations"):
        search.add_evaluated_point({"x": 30.0}, 1.0)


class Triangular(Uniform.__mro__[1]):
    """A sampler of a user."""


def custom():
    domain = Categorical(["a", "b"])
    domain.set_sampler(Triangular())
    return domain


@pytest.mark.parametrize(
    ("domain", "message"),
    [
        (tune.grid_search([1, 2]), r"`b/x` is a grid search.*tune.choice\(\[1, 2\]\)"),
        (tune.sample_from(lambda config: 1), r"`b/x` is drawn by a function \(tune.sample_from\)"),
        ({"eval": "1 + 1"}, r"`b/x` is an expression"),
        (custom(), r"`b/x`, a Categorical .*Triangular.*bojax cannot search it"),
        (tune.qrandn(0.0, 1.0, 0.1), r"`b/x`, a Float .*Normal, q=0.1.*tune.quniform"),
        (Float(None, 1.0), r"`b/x`, a Float .*must be finite"),
        (tune.randint(5, 5), r"`b/x`, a Integer .*no values"),
        (tune.choice([{"y": tune.grid_search([1])}, 2]), r"`b/x/0/y` is a grid search"),
        (tune.choice([]), r"`b/x`, .*at least one choice"),
        (tune.randint(0, 2**40), r"`b/x`, .*int32"),
    ],
)
def test_what_cannot_be_searched_is_refused_by_name(domain, message):
    with pytest.raises(ValueError, match=message):
        BojaxSearch.convert_search_space({"a": tune.uniform(0, 1), "b": {"x": domain}})


def test_domains_with_one_value_are_constants():
    search = make({"a": tune.uniform(0, 1), "b": tune.randint(3, 4), "c": tune.choice(["x"]), "d": tune.uniform(2, 2)})
    assert list(search.study.space) == ["a"]
    config = search.suggest("1")
    assert (config["b"], config["c"], config["d"]) == (3, "x", 2.0)


def test_nested_parameters_have_paths_and_constants_survive():
    marker = object()
    space = {
        "model": {"layers": [tune.randint(1, 4), 8, {"drop": tune.uniform(0.0, 0.5)}], "tags": ("a", [1])},
        "data": marker,
        "paths": {"a/b": 1},
        "pair": (tune.choice([16, 32]), "fixed"),
    }
    search = make(space)
    assert list(search.study.space) == ["model/layers/0", "model/layers/2/drop", "pair/0"]
    config = search.suggest("1")
    assert config["data"] is marker and config["paths"] == {"a/b": 1}
    assert config["model"]["tags"] == ("a", [1]) and config["model"]["layers"][1] == 8
    assert config["pair"][0] in (16, 32) and config["pair"][1] == "fixed"
    search.add_evaluated_point(config, 0.5)
    assert search.study.trials[1].params == search.study.trials[0].params


def test_keys_with_a_slash_are_paths_of_a_given_space_and_refused_from_the_tuner():
    search = make({"optimizer/lr": tune.uniform(0.0, 1.0), "optimizer/steps": 10})
    assert search.suggest("1")["optimizer"]["steps"] == 10
    with pytest.raises(ValueError, match="must not hold '/'"):
        BojaxSearch().set_search_properties("loss", "min", {"optimizer/lr": tune.uniform(0.0, 1.0)})
    with pytest.raises(ValueError, match="must not lie in a value"):
        make({"a": 1, "a/b": tune.uniform(0.0, 1.0)})
    with pytest.raises(ValueError, match="twice"):
        make({"a": {"b": 1}, "a/b": tune.uniform(0.0, 1.0)})


def test_a_space_of_bojax_is_taken_with_paths_as_names():
    search = make(bojax.Space({"a/b": bojax.Int(1, 4), "c": bojax.Float(0.0, 1.0)}))
    config = search.suggest("1")
    assert set(config) == {"a", "c"} and config["a"]["b"] in (1, 2, 3, 4)


def test_choices_that_are_not_plain_come_back_as_they_were_given():
    first, second = object(), np.arange(3)
    search = make({"x": tune.choice([first, second])})
    found = [search.suggest(str(i))["x"] for i in range(2)]
    assert any(x is first for x in found) and any(x is second for x in found)
    search.add_evaluated_point({"x": second}, 1.0)
    assert search.study.trials[-1].params == {"x": 1}
    with pytest.raises(ValueError, match="`x` must be one of"):
        search.add_evaluated_point({"x": "third"}, 1.0)


BRANCHES = {
    "optimizer": tune.choice(
        [
            {"name": "adam", "lr": tune.loguniform(1e-4, 1e-2)},
            {"name": "sgd", "lr": tune.loguniform(1e-2, 1.0), "momentum": [tune.uniform(0.0, 0.9), "nesterov"]},
            "none",
            {"name": "nested", "inner": tune.choice([{"a": tune.randint(0, 4)}, {"b": tune.choice(["u", "v"])}, 7])},
        ]
    ),
    "seed": 3,
}


def test_a_choice_of_values_with_ranges_is_a_conditional_space():
    space = BojaxSearch.convert_search_space(BRANCHES)
    assert space == bojax.Space(
        {
            "optimizer": bojax.Categorical([0, 1, 2, 3]),
            "optimizer/0/lr": bojax.Float(1e-4, 1e-2, log=True, when={"optimizer": 0}),
            "optimizer/1/lr": bojax.Float(1e-2, 1.0, log=True, when={"optimizer": 1}),
            "optimizer/1/momentum/0": bojax.Float(0.0, 0.9, when={"optimizer": 1}),
            "optimizer/3/inner": bojax.Categorical([0, 1, 2], when={"optimizer": 3}),
            "optimizer/3/inner/0/a": bojax.Int(0, 3, when={"optimizer/3/inner": 0}),
            "optimizer/3/inner/1/b": bojax.Categorical(["u", "v"], when={"optimizer/3/inner": 1}),
        }
    )
    search, kinds = make(BRANCHES), set()
    for i in range(40):
        config = search.suggest(str(i))
        assert set(config) == {"optimizer", "seed"}
        optimizer = config["optimizer"]
        if optimizer == "none":
            kinds.add("none")
            continue
        kinds.add(optimizer["name"])
        if optimizer["name"] == "adam":
            assert set(optimizer) == {"name", "lr"} and 1e-4 <= optimizer["lr"] <= 1e-2
        elif optimizer["name"] == "sgd":
            assert 1e-2 <= optimizer["lr"] <= 1.0 and optimizer["momentum"][1] == "nesterov"
        else:
            inner = optimizer["inner"]
            assert inner == 7 or inner.get("a") in range(4) or inner.get("b") in ("u", "v")
            kinds.add(str(inner))
        search.add_evaluated_point(config, 1.0)  # reads back what was suggested
        asked, added = search.study.trials[-2:]
        assert asked.params == added.params
        search.on_trial_complete(str(i), {"loss": 1.0})
    assert {"none", "adam", "sgd", "nested", "7"} < kinds
    restored = BojaxSearch(algorithm=random_search)
    restored.set_state(json.loads(json.dumps(search.get_state())))
    assert restored.suggest("next") == search.suggest("next")


def test_points_of_a_conditional_space_name_their_choice():
    points = [{"optimizer": {"name": "sgd", "lr": 0.5}}, {"optimizer/name": "adam"}, {"optimizer": "none"}]
    search = make(BRANCHES, points_to_evaluate=points)
    first = search.suggest("1")["optimizer"]
    assert first["name"] == "sgd" and first["lr"] == 0.5 and 0.0 <= first["momentum"][0] <= 0.9
    assert search.suggest("2")["optimizer"]["name"] == "adam"
    assert search.suggest("3")["optimizer"] == "none"
    with pytest.raises(ValueError, match="`optimizer` must fit one of its 4 choices"):
        make(BRANCHES, points_to_evaluate=[{"optimizer": {"name": "adam", "lr": 0.5}}])


def test_a_choice_of_one_value_with_ranges_is_no_choice():
    space = BojaxSearch.convert_search_space({"a": tune.choice([{"x": tune.uniform(0, 1)}])})
    assert space == bojax.Space({"a/x": bojax.Float(0.0, 1.0)})


def test_conditions_of_bojax_leave_out_what_does_not_exist():
    kind, width = bojax.Categorical(["a", "b"]), bojax.Int(1, 4, when={"net/kind": "b"})
    for space in (bojax.Space({"net/kind": kind, "net/width": width}), {"net": {"kind": kind, "width": width}, "n": 1}):
        search = make(space)
        configs = [search.suggest(str(i))["net"] for i in range(5)]
        assert all(("width" in config) == (config["kind"] == "b") for config in configs)
        assert {config["kind"] for config in configs} == {"a", "b"}
    with pytest.raises(ValueError, match="a list cannot lack an entry"):
        make({"net": {"kind": kind}, "widths": [width]})


# Suggestions and results.


def test_a_finite_space_ends_and_the_limiter_makes_pauses():
    search = make({"x": tune.randint(0, 2)})
    limiter = ConcurrencyLimiter(search, max_concurrent=1)
    assert not search.set_max_concurrency(4)
    assert limiter.suggest("1")["x"] in (0, 1)
    assert limiter.suggest("2") is None
    limiter.on_trial_complete("1", {"loss": 1.0})
    assert limiter.suggest("2")["x"] in (0, 1)
    limiter.on_trial_complete("2", {"loss": 1.0})
    assert search.suggest("3") == Searcher.FINISHED


def test_a_trial_keeps_its_suggestion():
    search = make()
    assert search.suggest("1") == search.suggest("1")
    assert len(search.study.trials) == 1


@pytest.mark.parametrize(("mode", "best"), [("min", 1.0), ("max", 3.0)])
def test_the_mode_decides_what_is_best(mode, best):
    search = make(mode=mode)
    for value in (2.0, 1.0, 3.0):
        search.suggest(str(value))
        search.on_trial_complete(str(value), {"loss": value})
    assert search.study.best_value == best


def test_a_stopped_trial_counts_with_its_last_value_and_one_without_a_value_failed():
    search = make(metric="valid/loss")
    for trial_id in ("stopped", "flat", "silent", "raised", "text"):
        search.suggest(trial_id)
    search.on_trial_result("stopped", {"valid/loss": 3.0})
    search.on_trial_result("stopped", {"valid": {"loss": 2.0}})
    search.on_trial_result("stopped", {"other": 1.0})
    search.on_trial_complete("stopped")
    search.on_trial_complete("flat", {"valid/loss": np.float32(0.5)})
    search.on_trial_complete("silent", {"other": 1.0})
    search.on_trial_result("raised", {"valid/loss": 0.1})
    search.on_trial_complete("raised", error=True)
    search.on_trial_result("text", {"valid/loss": "none"})
    search.on_trial_complete("text")
    trials = search.study.trials
    assert [trial.value for trial in trials] == [2.0, 0.5, None, None, None]
    assert trials[2].error == "no value of 'valid/loss' was reported" and trials[3].error == "the trial raised"
    assert [trial.user_attrs["ray_trial_id"] for trial in trials[:2]] == ["stopped", "flat"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_value_that_is_not_finite_fails_its_trial_and_the_search_goes_on(value):
    search = make()
    search.suggest("1")
    search.on_trial_result("1", {"loss": value})
    with pytest.warns(bojax.BojaxWarning, match="not finite"):
        search.on_trial_complete("1", {"loss": value})
    assert search.study.trials[0].state == "fail"
    search.suggest("2")


def test_late_and_second_and_foreign_results_do_not_raise():
    search = make()
    search.suggest("1")
    search.on_trial_complete("1", {"loss": 1.0})
    search.on_trial_result("1", {"loss": 2.0})
    search.on_trial_complete("1", {"loss": 2.0})
    search.on_trial_complete("1", error=True)
    search.on_trial_result("unknown", {"loss": 2.0})
    search.on_trial_complete("unknown", {"loss": 2.0})
    search.on_trial_complete("unknown", {"loss": 2.0, "config/epochs": 3})
    search.on_trial_complete("unknown")
    assert [trial.value for trial in search.study.trials] == [1.0]


def test_a_restarted_trial_replaces_its_failure():
    search = make()
    config, other = search.suggest("1"), search.suggest("2")
    for trial_id in ("1", "2"):
        search.on_trial_complete(trial_id, error=True)
    search.on_trial_complete("1", {"loss": 1.0})  # under the same name
    flat = {"config/optimizer/lr": other["optimizer"]["lr"], "config/optimizer/name": other["optimizer"]["name"]}
    search.on_trial_complete("3", {"loss": 2.0, **flat, "config/epochs": 3})  # as Ray restarts it
    assert sorted(trial.value for trial in search.study.trials) == [1.0, 2.0]
    assert search.study.best_params["optimizer/lr"] == config["optimizer"]["lr"]


def test_evaluated_points_are_data():
    search = make()
    point = {"optimizer": {"lr": 0.01, "name": "sgd"}, "epochs": 99, "extra": 1}
    search.add_evaluated_point(point, 1.0, intermediate_values=[0.8, 0.9])
    search.add_evaluated_point({"optimizer/lr": 0.02, "optimizer/name": "sgd"}, 1.5, pruned=True)
    search.add_evaluated_point(point, None, intermediate_values=[0.8, 0.9])
    search.add_evaluated_point(point, 1.0, error=True)
    assert [trial.value for trial in search.study.trials] == [1.0, 1.5, 0.9, None]
    search.suggest("1")
    with pytest.raises(ValueError, match="`value` must be a number"):
        search.add_evaluated_point(point, None)
    with pytest.raises(ValueError, match="optimizer/name"):
        search.add_evaluated_point({"optimizer": {"lr": 0.01}}, 1.0)
    with pytest.raises(RuntimeError, match="must have a space"):
        BojaxSearch().add_evaluated_point(point, 1.0)


def test_points_to_evaluate_come_first_whole_or_in_part():
    points = [{"optimizer": {"lr": 0.05, "name": "sgd"}}, {"optimizer/lr": 0.002, "epochs": 3}]
    search = make(points_to_evaluate=points)
    assert search.suggest("1") == {"optimizer": {"lr": 0.05, "name": "sgd"}, "epochs": 3}
    assert search.suggest("2")["optimizer"]["lr"] == 0.002
    assert search.suggest("3")["optimizer"]["lr"] not in (0.05, 0.002)


@pytest.mark.parametrize(
    ("point", "message"),
    [
        ({"optimizer": {"lr": 3.0}}, "optimizer/lr"),
        ({"optimizer": {"rate": 0.1}}, "`optimizer/rate` must be in the search space"),
        ({"epochs": 4}, "`epochs` must be the constant 3"),
        ({"optimizer": 3}, "`optimizer` must be a dict"),
    ],
)
def test_a_point_outside_of_the_space_is_named(point, message):
    with pytest.raises(ValueError, match=message):
        make(points_to_evaluate=[point])


def test_points_with_rewards_are_known_results():
    point = {"optimizer": {"lr": 0.05, "name": "sgd"}}
    search = make(points_to_evaluate=[point, point], evaluated_rewards=[0.5, 0.25])
    assert [trial.value for trial in search.study.trials] == [0.5, 0.25]
    assert search.suggest("1")["optimizer"] != point["optimizer"]


# Saving.


def used(**kwargs):
    """A searcher with finished, failed, running and queued trials."""
    search = make(points_to_evaluate=[{"optimizer/lr": lr} for lr in (0.01, 0.02, 0.03)], **kwargs)
    for trial_id in ("1", "2"):
        search.suggest(trial_id)
    search.on_trial_complete("1", {"loss": 1.0})
    search.on_trial_result("2", {"loss": 2.0})
    search.add_evaluated_point({"optimizer": {"lr": 0.05, "name": "sgd"}}, 1.0, error=True)
    return search


def check_continued(search, restored):
    assert restored._live_trial_mapping.keys() == {"2"}
    assert [trial.state for trial in restored.study.trials] == ["complete", "running", "waiting", "fail"]
    for one in (search, restored):
        one.on_trial_complete("2")  # its last value was saved
        one.on_trial_complete("1", {"loss": 5.0})  # is known to be finished
    assert restored.study.trials[1].value == 2.0 and restored.study.trials[0].value == 1.0
    for trial_id in ("3", "4", "5"):
        assert restored.suggest(trial_id) == search.suggest(trial_id)


def test_the_state_is_json_and_restoring_needs_nothing_else(tmp_path):
    search, path = used(), tmp_path / "state.json"
    search.save(str(path))
    state = json.loads(path.read_text())
    assert state["live"] == {"2": 1} and state["seed"] == 0
    restored = BojaxSearch(algorithm=random_search)
    restored.restore(str(path))
    assert restored.metric == "loss" and restored.mode == "min"
    check_continued(search, restored)


@pytest.mark.long
def test_the_default_algorithm_continues_as_if_nothing_had_happened(tmp_path):
    search = make(algorithm=None)
    for i in range(3):
        search.suggest(str(i))
        search.on_trial_complete(str(i), {"loss": float(i)})
    search.suggest("running")
    search.save_to_dir(str(tmp_path))
    restored = BojaxSearch()
    restored.restore_from_dir(str(tmp_path))
    assert restored.suggest("next") == search.suggest("next")
    assert [file.suffix for file in tmp_path.iterdir()] == [".json"]


def test_states_go_through_wrappers_and_pickles():
    search = used()
    through = BojaxSearch(algorithm=random_search)
    through.set_state(json.loads(json.dumps(search.get_state())))
    limited = ConcurrencyLimiter(BojaxSearch(algorithm=random_search), max_concurrent=2)
    limited.set_state(ConcurrencyLimiter(search, max_concurrent=3).get_state())
    assert limited.max_concurrent == 3
    for restored in (through, pickle.loads(pickle.dumps(search)), copy.deepcopy(search)):
        check_continued(copy.deepcopy(search), restored)


def test_a_searcher_is_pickled_before_it_has_a_space():
    search = pickle.loads(pickle.dumps(BojaxSearch(seed=3, points_to_evaluate=[{"optimizer/lr": 0.01}])))
    assert search.set_search_properties("loss", "min", SPACE)
    assert search.suggest("1")["optimizer"]["lr"] == 0.01 and search.study.seed == 3


def test_objects_that_json_cannot_hold_come_from_the_space_given_again(tmp_path):
    space = {"x": tune.choice([print, len]), "y": tune.uniform(0, 1), "data": np.arange(2), "pair": (1, 2)}
    search, path = make(space), str(tmp_path / "state.json")
    search.suggest("1")
    search.save(path)
    bare = BojaxSearch(algorithm=random_search)
    bare.restore(path)
    with pytest.raises(RuntimeError, match="holds objects that the saved state could not hold"):
        bare.suggest("2")
    assert bare.set_search_properties("loss", "min", space)
    assert not bare.set_search_properties("loss", "min", space)
    again = make(space)
    again.restore(path)
    for restored in (bare, again):
        config = restored.suggest("3")
        assert config["x"] in (print, len) and config["data"] is space["data"] and config["pair"] == (1, 2)


def test_another_space_than_the_restored_one_is_an_error(tmp_path):
    path = str(tmp_path / "state.json")
    make().save(path)
    other = {"x": tune.uniform(0.0, 1.0)}
    with pytest.raises(ValueError, match="`space` must be that of the restored state"):
        make(other).restore(path)
    restored = BojaxSearch()
    restored.restore(path)
    with pytest.raises(ValueError, match="`space` must be that of the restored state"):
        restored.set_search_properties("loss", "min", other)
    assert not restored.set_search_properties("loss", "min", {"constant": 1})


@pytest.mark.parametrize("content", ["not json", json.dumps({"version": 0})])
def test_a_file_of_something_else_is_named(tmp_path, content):
    path = tmp_path / "state.json"
    path.write_text(content)
    with pytest.raises(ValueError, match="`save` wrote|version 1"):
        BojaxSearch().restore(str(path))


def test_running_trials_steer_away_what_is_suggested_next():
    search = make({"x": tune.randint(0, 3)}, algorithm=functools.partial(random_search))
    assert sorted(search.suggest(str(i))["x"] for i in range(3)) == [0, 1, 2]
