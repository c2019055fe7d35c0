"""`BojaxSampler` learns which parameters exist under which values of others."""

import random

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import create_trial

import bojax
from bojax.integrations._optuna_tree import Condition, Presence
from bojax.integrations.optuna import BojaxSampler
from tests.helpers import small_bayesopt

KINDS = {
    "optimizer": CategoricalDistribution(["adam", "sgd", "lion"]),
    "nesterov": CategoricalDistribution([True, False]),
    "layers": IntDistribution(1, 5),
    "rate": FloatDistribution(0.0, 1.0),
    "momentum": FloatDistribution(0.0, 1.0),
    "decay": FloatDistribution(0.0, 1.0),
    "third": FloatDistribution(0.0, 1.0),
}


@pytest.fixture(autouse=True)
def quiet():
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(before)


def names_at(values):
    """An objective with branches within branches, and one that opens from a number of layers on."""
    names = ["optimizer", "layers", "rate"]
    if values["optimizer"] == "sgd":
        names.append("nesterov")
        if values["nesterov"]:
            names.append("momentum")
    if values["layers"] >= 3:
        names.append("third")
    return names


def draw(count, seed=0, names_at=names_at):
    """Random trials of that objective."""
    source = random.Random(seed)
    trials = []
    for number in range(count):
        values = {
            "optimizer": source.choice(["adam", "sgd", "lion"]),
            "nesterov": source.choice([True, False]),
            "layers": source.randint(1, 5),
            **{name: source.random() for name in ("rate", "momentum", "decay", "third")},
        }
        params = {name: values[name] for name in names_at(values)}
        kinds = {name: KINDS[name] for name in params}
        trial = create_trial(params=params, distributions=kinds, value=sum(map(float, map(hash, params))) % 7)
        trial.number = number
        trials.append(trial)
    return trials


def learned(trials):
    presence = Presence()
    for trial in trials:
        presence.add(trial)
    seen = {name: KINDS[name] for name in presence.numbers}
    return presence.conditions(seen)


def test_branches_within_branches_are_learned():
    assert learned(draw(40)) == {
        "momentum": Condition("nesterov", (0,)),
        "nesterov": Condition("optimizer", (1,)),
        "third": Condition("layers", (3, 4, 5)),
    }


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_trials_does_not_matter(seed):
    trials = draw(30)
    random.Random(seed).shuffle(trials)
    assert learned(trials) == learned(draw(30))


def test_values_of_an_integer_that_were_not_seen_follow_the_others():
    trials = [t for t in draw(60) if t.params["layers"] != 5]
    assert learned(trials)["third"] == Condition("layers", (3, 4, 5))
    trials = draw(60, names_at=lambda v: ["layers", "rate"] + ["third"] * (v["layers"] in (2, 4)))
    assert learned(trials)["third"] == Condition("layers", (2, 4))


def test_choices_that_were_not_seen_have_no_branch():
    trials = [t for t in draw(60) if t.params["optimizer"] != "lion"]
    assert learned(trials)["nesterov"] == Condition("optimizer", (1,))


def test_no_rule_is_learned_from_few_trials_nor_where_there_is_none():
    assert learned(draw(4)) == {}
    assert "decay" not in learned(draw(40, names_at=lambda v: ["optimizer", "layers"] + ["decay"] * (v["rate"] < 0.5)))


def test_a_trial_that_contradicts_ends_a_rule():
    trials = draw(40)
    odd = create_trial(
        params={"optimizer": "adam", "layers": 1, "rate": 0.5, "nesterov": True},
        distributions={name: KINDS[name] for name in ("optimizer", "layers", "rate", "nesterov")},
        value=0.0,
    )
    odd.number = 40
    assert learned([*trials, odd]) == {"third": Condition("layers", (3, 4, 5))}


def test_a_sibling_does_not_decide():
    """Both parameters of a branch hang on the choice, not on each other."""

    def names(values):
        return ["optimizer", "rate"] + ["nesterov", "momentum"] * (values["optimizer"] == "sgd")

    assert learned(draw(40, names_at=names)) == {
        "momentum": Condition("optimizer", (1,)),
        "nesterov": Condition("optimizer", (1,)),
    }


def study_of(trials, **settings):
    study = optuna.create_study(sampler=BojaxSampler(**{"seed": 0, **settings}))
    study.add_trials(trials)
    return study


def suggested(study):
    """What the sampler chooses for the next trial, and the space it sees."""
    trial = study._storage.get_trial(study._storage.create_new_trial(study._study_id))
    space = study.sampler.infer_relative_search_space(study, trial)
    return study.sampler.sample_relative(study, trial, space), space


def test_only_parameters_that_exist_are_suggested():
    study = study_of(draw(60), n_startup_trials=100)
    branches = set()
    for _ in range(30):
        params, space = suggested(study)
        assert set(space) == {"optimizer", "layers", "rate", "nesterov", "momentum", "third"}
        assert set(params) == set(names_at(params))
        branches.add((params["optimizer"], params["layers"] >= 3))
    assert len(branches) > 3


def test_the_space_has_the_conditions_and_all_trials_as_data():
    study = study_of(draw(60))
    trials = study.sampler._of(study).refresh(study._storage, study._study_id)
    table = trials.table(trials.relative_space())
    assert table.space.space["momentum"] == bojax.Float(0.0, 1.0, when={"nesterov": 0})
    assert table.space.space["third"] == bojax.Float(0.0, 1.0, when={"layers": [3, 4, 5]})
    assert len(trials.told(table, own=-1).y) == 60


def test_a_branch_whose_parent_is_fixed_elsewhere_is_sampled_independently():
    study = study_of(draw(60), n_startup_trials=100)
    space = {name: KINDS[name] for name in ("rate", "layers", "momentum", "third")}
    trial = study._storage.get_trial(study._storage.create_new_trial(study._study_id))
    params = study.sampler.sample_relative(study, trial, space)
    assert {"rate", "layers"} <= set(params) <= {"rate", "layers", "third"}


def test_an_enqueued_choice_decides_about_its_branch():
    study = study_of(draw(60), n_startup_trials=100)
    study.enqueue_trial({"optimizer": "sgd", "nesterov": True, "momentum": 0.25})
    trial = study.ask()
    assert trial.suggest_float("rate", 0.0, 1.0) != 0.25
    assert trial.suggest_float("momentum", 0.0, 1.0) == 0.25
    assert set(trial.relative_params) - {"third"} == {"optimizer", "layers", "rate", "nesterov", "momentum"}
    assert trial.relative_params["optimizer"] == "sgd" and trial.relative_params["nesterov"] is True


@pytest.mark.long
def test_a_branch_is_searched_by_the_model():
    """The best branch has a parameter of its own, of which a fifth of random values would be near the optimum."""

    def objective(trial):
        kind = trial.suggest_categorical("kind", ["flat", "deep"])
        x = trial.suggest_float("x", 0.0, 1.0)
        if kind == "flat":
            return 1.0 + (x - 0.5) ** 2
        return (x - 0.3) ** 2 + (trial.suggest_float("y", 0.0, 1.0) - 0.7) ** 2

    def model(space, q):
        return small_bayesopt(space, q=q, num_restarts=8, raw_samples=128)

    study = optuna.create_study(sampler=BojaxSampler(seed=1, algorithm=model))
    study.optimize(objective, n_trials=35)
    late = [trial.params for trial in study.trials[20:]]
    assert study.best_value < 1e-4
    assert sum(params["kind"] == "deep" and abs(params["y"] - 0.7) < 0.1 for params in late) > 6


def test_a_branch_that_is_not_known_yet_exhausts_nothing(caplog):
    def objective(trial):
        if trial.suggest_categorical("model", ["a", "b"]) == "a":
            return trial.suggest_float("x", 0.0, 1.0)
        return trial.suggest_float("y", 0.0, 1.0)

    optuna.logging.enable_propagation()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(sampler=BojaxSampler(seed=0))
        study.optimize(objective, n_trials=5)
    finally:
        optuna.logging.disable_propagation()
    assert "every point" not in caplog.text
