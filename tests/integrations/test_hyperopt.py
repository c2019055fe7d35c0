"""Scripts written for Hyperopt run after their import line is changed, and keep what they record."""

import functools
import math
import pathlib
import pickle
import re

import jax.numpy as jnp
import numpy as np
import pytest

import bojax
from bojax import BojaxWarning
from bojax.integrations._hyperopt._beliefs import beliefs_of, log_density
from bojax.integrations._hyperopt._forms import forms_of
from bojax.integrations.hyperopt import (
    JOB_STATE_ERROR,
    STATUS_FAIL,
    STATUS_OK,
    AllTrialsFailed,
    BadSearchSpace,
    DuplicateLabel,
    InvalidLoss,
    InvalidResultStatus,
    InvalidTrial,
    Trials,
    anneal,
    fmin,
    generate_trials_to_calculate,
    hp,
    no_progress_loss,
    pyll,
    rand,
    scope,
    space_eval,
    space_from_hyperopt,
    tpe,
)

quiet = functools.partial(fmin, show_progressbar=False)
draws = functools.partial(quiet, algo=rand.suggest)


class TestFirstScripts:
    def test_a_parabola(self):
        best = quiet(lambda x: x**2, hp.uniform("x", -10, 10), max_evals=12)
        assert set(best) == {"x"} and abs(best["x"]) < 0.3

    @pytest.mark.long
    def test_two_cases_with_parameters_of_their_own(self):
        def objective(args):
            case, value = args
            return value + 5 if case == "case 1" else value**2

        space = hp.choice("a", [("case 1", 1 + hp.lognormal("c1", 0, 1)), ("case 2", hp.uniform("c2", -10, 10))])
        trials = Trials()
        best = quiet(objective, space, max_evals=15, trials=trials)
        assert best["a"] == 1 and set(best) == {"a", "c2"}
        assert space_eval(space, best) == ("case 2", best["c2"])
        for misc in trials.miscs:  # a trial has values of its own case only
            assert bool(misc["vals"]["c1"]) == (misc["vals"]["a"] == [0])
            assert bool(misc["vals"]["c2"]) == (misc["vals"]["a"] == [1])

    def test_results_with_more_than_a_loss(self):
        def objective(x):
            return {
                "loss": x**2,
                "status": STATUS_OK,
                "other": {"kind": None, "list": [0, 1]},
                "attachments": {"p": b"\0"},
            }

        trials = Trials()
        draws(objective, hp.uniform("x", -10, 10), max_evals=4, trials=trials)
        assert trials.results[2] == {
            "loss": trials.vals["x"][2] ** 2,
            "status": STATUS_OK,
            "other": {"kind": None, "list": [0, 1]},
        }
        attached = trials.trial_attachments(trials.trials[3])
        assert attached["p"] == b"\0" and "q" not in attached
        del attached["p"]
        assert "p" not in attached and "p" in trials.trial_attachments(trials.trials[2])

    @pytest.mark.long
    def test_nested_classifiers(self):
        space = hp.choice(
            "classifier_type",
            [
                {"type": "naive_bayes"},
                {
                    "type": "svm",
                    "C": hp.lognormal("svm_C", 0, 1),
                    "kernel": hp.choice(
                        "svm_kernel",
                        [{"ktype": "linear"}, {"ktype": "RBF", "width": hp.lognormal("svm_rbf_width", 0, 1)}],
                    ),
                },
                {
                    "type": "dtree",
                    "criterion": hp.choice("dtree_criterion", ["gini", "entropy"]),
                    "max_depth": hp.choice("dtree_depth", [None, hp.qlognormal("dtree_depth_int", 3, 1, 1)]),
                    "min_samples_split": hp.qlognormal("dtree_min_samples_split", 2, 1, 1),
                },
            ],
        )
        losses = {"naive_bayes": 3.0, "svm": 1.0, "dtree": 2.0}
        seen = []

        def objective(args):
            seen.append(args)
            kernel = args.get("kernel", {})
            return losses[args["type"]] + abs(math.log(kernel.get("width", 9.0)))

        trials = Trials()
        best = space_eval(space, quiet(objective, space, max_evals=14, trials=trials))
        assert best["type"] == "svm" and set(best) == {"type", "C", "kernel"}
        assert {point["type"] for point in seen} == set(losses)
        assert all(set(point["kernel"]) <= {"ktype", "width"} for point in seen if point["type"] == "svm")

    def test_a_random_point(self):
        space = [hp.normal("x", 0, 1), {"n": scope.int(hp.quniform("n", 2, 8, 2))}]
        x, rest = pyll.stochastic.sample(space, np.random.default_rng(0))
        assert isinstance(x, float) and rest["n"] in (2, 4, 6, 8) and isinstance(rest["n"], int)

    def test_functions_of_what_is_drawn(self):
        @scope.define
        def twice(a, plus=0):
            return 2 * a + plus

        assert twice(3) == 6
        x = hp.uniform("x", 0, 1)
        space = {"a": scope.twice(x, plus=1), "b": x}
        assert space_eval(space, {"x": 0.5}) == {"a": 2.0, "b": 0.5}
        with pytest.raises(BadSearchSpace, match="got 'thrice'.*scope.define"):
            scope.thrice(x)

    def test_arithmetic(self):
        x, n = hp.uniform("x", 0, 1), hp.randint("n", 5)
        space = [1 - x, x * 4 / 2, -(x**2), 2**n, (n + 1) // 2, 3 - n, 8 / (n + 1), n - 1]
        assert space_eval(space, {"x": 0.5, "n": 3}) == (0.5, 1.0, -0.25, 8, 2, 0, 2.0, 2)
        with pytest.raises(TypeError, match="cannot decide an `if`"):
            bool(x)

    def test_annotations_of_the_function(self):
        def objective(x: hp.uniform("x", 0, 1), n: hp.randint("m", 3)) -> float:
            return x + n

        assert set(draws(objective, "annotated", max_evals=2)) == {"x", "m"}


class TestSpaces:
    CASES = (
        (hp.uniform("x", -1, 2), bojax.Float(-1.0, 2.0)),
        (hp.loguniform("x", math.log(1e-5), 0), bojax.Float(math.exp(math.log(1e-5)), 1.0, log=True)),
        (hp.quniform("x", 0, 1, 0.1), bojax.Float(0.0, 1.0, step=0.1)),
        (hp.quniform("x", 1, 10, 4), bojax.Float(0.0, 8.0, step=4.0)),
        (hp.qloguniform("x", 0, math.log(100), 5), bojax.Float(1.25, 100.0, log=True)),
        (hp.qloguniform("x", math.log(5), math.log(100), 5), bojax.Float(5.0, 100.0, log=True, step=5.0)),
        (hp.uniformint("x", 1, 6), bojax.Int(1, 6)),
        (hp.randint("x", 4), bojax.Int(0, 3)),
        (hp.randint("x", 3, 9), bojax.Int(3, 8)),
        (hp.choice("x", ["a", "b", object()]), bojax.Categorical([0, 1, 2])),
        (hp.pchoice("x", [(0.2, "a"), (0.8, "b")]), bojax.Categorical([0, 1])),
    )

    @pytest.mark.parametrize(("node", "parameter"), CASES)
    def test_each_distribution_is_a_parameter(self, node, parameter):
        found = space_from_hyperopt({"key": node})["x"]
        assert type(found) is type(parameter)
        if isinstance(found, bojax.Float):
            assert (found.log, found.step) == (parameter.log, parameter.step)
            assert math.isclose(found.low, parameter.low) and math.isclose(found.high, parameter.high, rel_tol=1e-9)
        else:
            assert found == parameter

    def test_normal_draws_are_cut_at_one_in_a_million(self):
        from scipy.special import ndtr

        found = space_from_hyperopt(hp.normal("x", 3, 2))["x"]
        assert math.isclose(2 * ndtr((found.low - 3) / 2), 1e-6, rel_tol=1e-6) and found.low + found.high == 6
        found = space_from_hyperopt(hp.lognormal("x", 3, 2))["x"]
        assert found.log and math.isclose(math.log(found.low) + math.log(found.high), 6)
        found = space_from_hyperopt(hp.qnormal("x", 0, 1, 0.5))["x"]
        assert (found.low, found.high, found.step) == (-5.0, 5.0, 0.5)

    QUANTISED = (
        hp.quniform("x", -3, 3, 0.7),
        hp.qloguniform("x", -3, 3, 0.3),
        hp.qloguniform("x", 1, 4, 2),
        hp.qnormal("x", 0, 2, 0.25),
        hp.qlognormal("x", 0, 1, 1),
        hp.uniformint("x", 2, 9),
    )

    @pytest.mark.parametrize("node", QUANTISED, ids=lambda node: f"{node.prior.base}, {node.prior.q}, {node.prior.log}")
    def test_values_are_rounded_to_multiples_of_q_and_found_again(self, node):
        q, rng, space = node.prior.q, np.random.default_rng(0), space_from_hyperopt(node)
        for x in rng.uniform(size=(50, 1)):
            value = space_eval(node, space.to_params(x))
            assert value == np.round(value / q) * q
        known = Trials()
        for i in range(50):  # whatever is drawn can be told
            value = pyll.stochastic.sample(node, rng)
            assert value == np.round(value / q) * q
            doc = generate_trials_to_calculate([{"x": value}]).trials[0] | {"tid": i, "state": 2}
            known.insert_trial_docs([doc | {"result": {"loss": float(value), "status": "ok"}}])
        assert fmin(lambda x: x, node, max_evals=50, trials=known)["x"] == min(known.losses())

    def test_draws_have_hyperopts_distributions(self):
        rng = np.random.default_rng(0)

        def sample(node):
            return np.array([pyll.stochastic.sample(node, rng) for _ in range(1000)])

        assert abs(np.mean(sample(hp.pchoice("x", [(0.1, 1.0), (0.9, 0.0)]))) - 0.1) < 4 * math.sqrt(0.09 / 1000)
        values = sample(hp.lognormal("x", 1, 0.5))
        assert abs(np.mean(np.log(values)) - 1) < 4 * 0.5 / math.sqrt(1000)
        values = sample(hp.quniform("x", 0, 2, 1))  # the ends have half the weight
        assert abs(np.mean(values == 1) - 0.5) < 4 * 0.5 / math.sqrt(1000)
        assert set(sample(hp.randint("x", 2, 5))) == {2, 3, 4}

    def test_single_values_are_constants(self):
        space = {"a": hp.choice("a", ["only"]), "b": hp.randint("b", 1), "c": hp.quniform("c", 0, 0.2, 1)}
        with pytest.raises(ValueError, match="`hp_space` must have a hyperparameter with two values"):
            space_from_hyperopt(space)
        trials = Trials()
        assert quiet(lambda p: 1.0, space, max_evals=3, trials=trials) == {"a": 0, "b": 0, "c": 0.0}
        assert len(trials) == 3 and space_eval(space, trials.argmin) == {"a": "only", "b": 0, "c": 0.0}

    def test_lists_become_tuples_and_options_may_be_anything(self):
        kinds = [print, [1, {"n": hp.randint("n", 3)}], np.ones(2)]
        space = {1: hp.choice("k", kinds), "two": []}
        assert space_eval(space, {"k": 0}) == {1: print, "two": ()}
        assert space_eval(space, {"k": 1, "n": 2}) == {1: (1, {"n": 2}), "two": ()}
        assert space_eval(space, {"k": 2})[1] is kinds[2]
        with pytest.raises(ValueError, match="must have a value for 'n'"):
            space_eval(space, {"k": 1})
        with pytest.raises(ValueError, match="'k' must be the number of an option, 0..2, got 3"):
            space_eval(space, {"k": 3})

    def test_one_object_in_two_places_is_one_hyperparameter(self):
        x = hp.uniform("x", 0, 1)
        assert space_from_hyperopt([x, {"again": x}]).names == ("x",)
        with pytest.raises(DuplicateLabel, match="got two for 'x'"):
            space_from_hyperopt([x, hp.uniform("x", 0, 1)])

    WRONG = (
        (lambda: hp.uniform("x", 1, 0), ValueError, "`low` of 'x' must be less than `high`, got 1.0 and 0.0"),
        (lambda: hp.uniform(0, 1, 2), TypeError, "`label` must be a str that is not empty, got 0"),
        (lambda: hp.uniform("x", 0, hp.uniform("y", 0, 1)), BadSearchSpace, "`high` of 'x' must be a number"),
        (lambda: hp.uniform("x", 0, "1"), TypeError, "`high` of 'x' must be a number, got '1'"),
        (lambda: hp.uniform("x", 0, math.inf), ValueError, "`high` of 'x' must be finite"),
        (lambda: hp.quniform("x", 0, 1, 0), ValueError, "`q` of 'x' must be positive, got 0.0"),
        (lambda: hp.quniform("x", 0, 1, 1e-12), ValueError, "`q` of 'x' must leave at most"),
        (lambda: hp.uniformint("x", 0, 9, q=3), BadSearchSpace, "`q` of 'x' must be 1, got 3"),
        (lambda: hp.normal("x", 0, 0), ValueError, "`sigma` of 'x' must be positive"),
        (lambda: hp.loguniform("x", 1, 1e5), ValueError, "the logarithm of 'x' must stay within -700 and 700"),
        (lambda: hp.randint("x", 0), ValueError, "the range of 'x' must not be empty"),
        (lambda: hp.randint("x", 2**40), ValueError, "the values of 'x' must fit an int32"),
        (lambda: hp.randint("x", 1.5), BadSearchSpace, "the bounds of 'x' must be whole numbers"),
        (lambda: hp.choice("x", []), BadSearchSpace, "`options` of 'x' must not be empty"),
        (
            lambda: hp.pchoice("x", [(0.5, 1), (0.6, 2)]),
            BadSearchSpace,
            "probabilities of 'x' must not be negative and",
        ),
        (lambda: hp.pchoice("x", [0.5, 0.5]), TypeError, "not iterable"),
        (lambda: space_from_hyperopt({"x": 1}), BadSearchSpace, "`space` must have at least one hyperparameter"),
    )

    @pytest.mark.parametrize(("make", "error", "message"), WRONG, ids=[case[2][:40] for case in WRONG])
    def test_what_is_wrong_is_named(self, make, error, message):
        with pytest.raises(error, match=message):
            make()


class TestBranches:
    def test_labels_within_an_option_exist_only_with_it(self):
        inner = hp.choice("inner", [hp.uniform("a", 0, 1), hp.uniform("b", 0, 1), 3])
        space = space_from_hyperopt(hp.choice("outer", [inner, hp.uniform("c", 0, 1), "none"]))
        assert space.names == ("outer", "inner", "a", "b", "c")
        assert {name: dict(space[name].when) for name in space} == {
            "outer": {},
            "inner": {"outer": (0,)},
            "a": {"outer": (0,), "inner": (0,)},
            "b": {"outer": (0,), "inner": (1,)},
            "c": {"outer": (1,)},
        }

    def test_labels_of_several_options(self):
        x, y = hp.uniform("x", 0, 1), hp.uniform("y", 0, 1)
        first = hp.choice("first", [x, y, [x, y], 0])
        second = hp.choice("second", [x, 1])
        assert dict(space_from_hyperopt(first)["x"].when) == {"first": (0, 2)}
        assert not space_from_hyperopt([first, second])["x"].when  # no list of values says "one or the other"
        assert not space_from_hyperopt(hp.choice("k", [x, [x, y]]))["x"].when
        trials = Trials()
        draws(lambda p: 0.0, [first, second], max_evals=20, trials=trials)
        for misc in trials.miscs:
            vals = misc["vals"]
            assert bool(vals["x"]) == (vals["first"][0] in (0, 2) or vals["second"] == [0])

    def test_values_of_other_branches_are_left_out(self):
        space = hp.choice("k", [hp.uniform("x", 0, 1), hp.uniform("y", 0, 1)])
        trials = Trials()
        draws(lambda p: p, space, max_evals=0, points_to_evaluate=[{"k": 0, "x": 0.5, "y": 0.7}], trials=trials)
        assert trials.argmin == {"k": 0, "x": 0.5} and trials.vals["y"] == []
        with pytest.raises(ValueError, match=r"a value of 'y' only together with \['k'\]"):
            draws(lambda p: p, space, max_evals=1, points_to_evaluate=[{"y": 0.7}])


class TestTrials:
    def test_a_search_goes_on(self):
        trials, space = Trials(), {"x": hp.uniform("x", -1, 1), "n": hp.randint("n", 3)}
        first = draws(lambda p: p["x"] ** 2 + p["n"], space, max_evals=5, trials=trials)
        before = list(trials.losses())
        again = pickle.loads(pickle.dumps(trials))  # as scripts keep their trials
        best = quiet(lambda p: p["x"] ** 2 + p["n"], space, max_evals=9, trials=again)
        assert again.tids == list(range(9)) and again.losses()[:5] == before and len(trials) == 5
        assert min(before) >= again.best_trial["result"]["loss"] == best["x"] ** 2 + best["n"]
        assert trials.argmin == first and quiet(lambda p: 0.0, space, max_evals=5, trials=trials) == first

    def test_what_is_recorded_has_hyperopts_form(self):
        trials = Trials(exp_key="me")
        draws(lambda x: x, hp.choice("c", [1.0, hp.uniform("x", -3, -2)]), max_evals=8, trials=trials)
        trial = trials.trials[0]
        assert {"tid", "state", "spec", "result", "misc", "exp_key", "owner", "version"} <= set(trial)
        assert trial["exp_key"] == "me" and trial["book_time"] <= trial["refresh_time"] and trial["state"] == 2
        idxs, vals = trials.idxs_vals
        assert idxs["c"] == trials.tids == list(range(8)) and len(idxs["x"]) == len(vals["x"]) == sum(vals["c"])
        assert trials.idxs == idxs and trials.vals == vals and trials.specs == [None] * 8
        assert list(trials) == trials.trials and trials.count_by_state_unsynced(2) == 8
        assert trials.average_best_error() == min(trials.losses())
        trials.delete_all()
        assert len(trials) == 0 and trials.new_trial_ids(2) == [0, 1]

    def test_an_exception_ends_the_search_and_loses_nothing(self):
        trials, calls = Trials(), []

        def objective(x):
            calls.append(x)
            if len(calls) == 4:
                raise ZeroDivisionError("three are done")
            return x

        with pytest.raises(ZeroDivisionError, match="three are done"):
            draws(objective, hp.uniform("x", 0, 1), max_evals=9, trials=trials)
        assert len(trials) == 3 and trials.argmin["x"] == min(calls[:3])
        assert trials.failed[0]["state"] == JOB_STATE_ERROR and trials.failed[0]["misc"]["error"][1] == "three are done"
        draws(objective, hp.uniform("x", 0, 1), max_evals=9, trials=trials)
        assert len(trials) == 9 and len(calls) == 10 and len({*trials.tids, trials.failed[0]["tid"]}) == 10

    def test_caught_exceptions_end_only_their_trial(self):
        def objective(x):
            if x > 0:
                raise ValueError("too large")
            return -x

        trials = Trials()
        best = quiet(objective, hp.uniform("x", -1, 1), max_evals=10, trials=trials, catch_eval_exceptions=True)
        assert best["x"] <= 0 and len(trials) + len(trials.failed) == 10 and trials.failed
        assert "1 with exceptions" in repr(trials) or len(trials.failed) > 1

    def test_ctrl_c_leaves_no_running_trial(self):
        def objective(x):
            raise KeyboardInterrupt

        trials = Trials()
        with pytest.raises(KeyboardInterrupt):
            draws(objective, hp.uniform("x", 0, 1), max_evals=3, trials=trials)
        assert len(trials) == 0 and trials.failed[0]["state"] == 4

    def test_failed_results_and_nan_are_never_the_best(self):
        def objective(n):
            return [{"status": STATUS_FAIL, "why": "too small"}, {"status": STATUS_OK, "loss": math.nan}, 5.0, 4][n]

        trials = Trials()
        assert draws(objective, hp.randint("n", 4), max_evals=20, trials=trials) == {"n": 3}
        assert set(trials.statuses()) == {"ok", "fail"} and None in trials.losses()
        with pytest.raises(AllTrialsFailed, match="none of 2 trials has a loss"):
            draws(lambda x: {"status": STATUS_FAIL}, hp.uniform("x", 0, 1), max_evals=2)

    def test_noise_is_told_to_the_default_algorithm(self, monkeypatch):
        told = []
        tell = bojax.Study.tell
        monkeypatch.setattr(bojax.Study, "tell", lambda *args, **kwargs: told.append(kwargs) or tell(*args, **kwargs))
        result = {"loss": 1.0, "loss_variance": 0.25, "true_loss": 0.5, "status": STATUS_OK}
        trials = Trials()
        quiet(lambda x: dict(result), hp.uniform("x", 0, 1), max_evals=1, trials=trials)
        assert told == [{"value": 1.0, "noise_var": 0.25}] and trials.average_best_error() == 0.5

    def test_results_that_are_none_raise(self):
        def run(returned):
            draws(lambda x: returned, hp.uniform("x", 0, 1), max_evals=1)

        with pytest.raises(InvalidResultStatus, match="`status` must be one of .* got 'good'"):
            run({"status": "good", "loss": 1.0})
        with pytest.raises(InvalidLoss, match="`loss` must be a number where `status` is 'ok', got None"):
            run({"status": STATUS_OK})
        with pytest.raises(InvalidLoss, match="`fn` must return a number or a dict, got None"):
            run(None)
        with pytest.raises(InvalidLoss, match="`loss_variance` must be a number of at least 0, got -1"):
            run({"status": STATUS_OK, "loss": 1.0, "loss_variance": -1})
        run(np.float32(1.0))

    def test_given_points_come_first_and_are_evaluated_as_given(self):
        seen = []
        points = [{"x": 0.1, "n": 2.0}, {"x": 0.3}]
        space = {"x": hp.normal("x", 0, 1), "n": hp.qlognormal("n", 0, 1, 1)}
        trials = Trials()
        draws(lambda p: seen.append(p) or 1.0, space, max_evals=1, points_to_evaluate=points, trials=trials)
        assert len(seen) == 3 and seen[0] == {"x": 0.1, "n": 2.0} and seen[1]["x"] == 0.3
        assert trials.vals["x"][:2] == [0.1, 0.3]
        seen.clear()
        draws(lambda p: seen.append(p) or 1.0, space, max_evals=1, trials=generate_trials_to_calculate(points[:1]))
        assert len(seen) == 2 and seen[0] == points[0]

    def test_a_given_point_may_repeat_what_is_known(self):
        space, trials = [hp.choice("k", [0, 1]), hp.choice("m", [0, 1])], Trials()
        run = functools.partial(quiet, sum, space, trials=trials, algo=lambda space, q: bojax.random_search(space, q=q))
        with pytest.warns(BojaxWarning, match="fmin ends after 4"):
            run(max_evals=9)
        run(max_evals=0, points_to_evaluate=[{"k": 1}])
        assert len(trials) == 5 and trials.vals["k"][4] == 1 and trials.losses()[4] in (1.0, 2.0)
        with pytest.raises(ValueError, match="got one for 'k'"):  # trials of another space
            draws(abs, hp.uniform("x", 0, 1), max_evals=9, trials=trials)

    def test_points_outside_of_the_space_are_refused_before_any_work(self):
        run = functools.partial(draws, lambda x: pytest.fail("called"), hp.uniform("x", 0, 1), max_evals=1)
        with pytest.raises(ValueError, match="`x` must be in"):
            run(points_to_evaluate=[{"x": 2.0}])
        with pytest.raises(ValueError, match="got one for 'y'"):
            run(points_to_evaluate=[{"y": 2.0}])
        with pytest.raises(TypeError, match="`points_to_evaluate` must be a list of dicts"):
            run(points_to_evaluate={"x": 0.5})

    def test_documents_are_checked(self):
        trials = generate_trials_to_calculate([{"x": 1.0}])
        with pytest.raises(InvalidTrial, match="with a number that is taken"):
            trials.insert_trial_docs(trials.trials)
        with pytest.raises(InvalidTrial, match="without .*'misc'"):
            trials.insert_trial_docs([{"tid": 3}])


class TestTheEnd:
    SPACE = hp.uniform("x", 0, 1)

    def test_loss_threshold(self):
        trials = Trials()
        draws(lambda x: x, self.SPACE, max_evals=None, loss_threshold=0.5, trials=trials)
        assert trials.losses()[-1] < 0.5 and all(loss >= 0.5 for loss in trials.losses()[:-1])

    def test_timeout(self):
        trials = Trials()
        draws(lambda x: x, self.SPACE, max_evals=None, timeout=0.3, trials=trials)
        assert len(trials) >= 1

    def test_early_stop(self):
        trials = Trials()
        draws(lambda x: 1.0, self.SPACE, trials=trials, early_stop_fn=no_progress_loss(5))
        assert len(trials) == 5
        trials, losses = Trials(), iter([10.0, 8.0, 7.9, 7.8, 7.7])
        draws(lambda x: next(losses), self.SPACE, trials=trials, early_stop_fn=no_progress_loss(2, percent_increase=5))
        assert trials.losses() == [10.0, 8.0, 7.9, 7.8]
        with pytest.raises(ValueError, match="`iteration_stop_count` must be at least 1, got 0"):
            no_progress_loss(0)

    def test_a_finite_space_ends_with_a_warning(self):
        trials = Trials()
        with pytest.warns(BojaxWarning, match="fmin ends after 3 of 50 trials: all 3 points"):
            best = quiet(abs, hp.choice("x", [3, -1, 2]), trials=trials)
        assert best == {"x": 1} and sorted(trials.losses()) == [1.0, 2.0, 3.0]

    def test_the_best_point_instead_of_its_values(self):
        point = draws(lambda p: p["k"], {"k": hp.choice("k", [5, 4])}, max_evals=9, return_argmin=False)
        assert point == {"k": 4}
        assert draws(lambda x: x, self.SPACE, max_evals=0, return_argmin=False) is None
        with pytest.raises(AllTrialsFailed):
            draws(lambda x: x, self.SPACE, max_evals=0)

    def test_seeds(self):
        def values(**seed):
            trials = Trials()
            draws(lambda x: x, self.SPACE, max_evals=4, trials=trials, **seed)
            return trials.vals["x"]

        assert values() == values(seed=0) != values(seed=1)
        assert values(rstate=np.random.default_rng(3)) == values(rstate=np.random.default_rng(3)) != values()
        assert values(rstate=np.random.RandomState(3)) == values(rstate=np.random.RandomState(3))
        with pytest.raises(TypeError, match="`rstate` must be a NumPy generator, got 3.*use `seed`"):
            values(rstate=3)
        with pytest.raises(ValueError, match="`seed` must not be given together with `rstate`, got 1"):
            values(rstate=np.random.default_rng(3), seed=1)

    def test_progress(self, capsys):
        draws(lambda x: x, self.SPACE, max_evals=2, verbose=False, show_progressbar=True)
        assert not capsys.readouterr().err

        class Bar:
            def __init__(self, initial, total):
                self.sizes, self.count = (initial, total), 0
                bars.append(self)

            def __enter__(self):
                return self

            def __exit__(self, *args):
                pass

            def update(self, n):
                self.count += n

        bars = []
        draws(lambda x: x, self.SPACE, max_evals=2, show_progressbar=Bar, points_to_evaluate=[{"x": 0.5}])
        assert bars[0].sizes == (0, 3) and bars[0].count == 3

    WRONG = (
        ({"max_evals": -1}, ValueError, "`max_evals` must be a whole number"),
        ({"max_evals": 2.5}, ValueError, "`max_evals` must be a whole number"),
        ({"max_evals": None}, ValueError, "`max_evals` must be a number where nothing else ends the loop"),
        ({"timeout": 0}, ValueError, "`timeout` must be positive, got 0"),
        ({"loss_threshold": "low"}, TypeError, "`loss_threshold` must be a number or None"),
        ({"early_stop_fn": 3}, TypeError, "`early_stop_fn` must be a function"),
        ({"seed": -1}, ValueError, "`seed` must be a whole number from 0"),
        ({"max_queue_len": 0}, ValueError, "`max_queue_len` must be a whole number"),
        ({"trials": []}, TypeError, "`trials` must be a bojax.integrations.hyperopt.Trials, got list"),
        (
            {"algo": "tpe"},
            TypeError,
            r"`algo` must be one of \[tpe.suggest, rand.suggest, anneal.suggest\], or a function",
        ),
        ({"algo": functools.partial(rand.suggest, speed=1)}, TypeError, "rand.suggest must have no settings.*'speed'"),
        ({"space": "annotate"}, ValueError, "`space` must be made of hp.*, or be 'annotated'"),
        ({"fn": 3}, TypeError, "`fn` must be a function"),
    )

    @pytest.mark.parametrize(("given", "error", "message"), WRONG, ids=[str(case[0])[:40] for case in WRONG])
    def test_wrong_arguments_are_named_before_any_work(self, given, error, message):
        arguments = {"fn": lambda x: pytest.fail("called"), "space": self.SPACE, "algo": rand.suggest} | given
        with pytest.raises(error, match=message):
            fmin(**arguments)


class TestAlgorithms:
    def test_tpe(self):
        trials = Trials()
        algo = functools.partial(tpe.suggest, n_startup_jobs=6, n_EI_candidates=32)
        space = hp.choice("k", [{"x": hp.uniform("x", -3, 3)}, {"y": hp.normal("y", 0, 1)}, 9.0])

        def objective(point):
            return 9.0 if point == 9.0 else point.get("x", 3.0) ** 2 + point.get("y", 0.0) ** 2

        best = quiet(objective, space, algo=algo, max_evals=25, trials=trials)
        assert best["k"] == 0 and abs(best["x"]) < 1.0
        with pytest.raises(TypeError, match="tpe.suggest must have no settings but .*, got 'gamma'"):
            quiet(objective, space, algo=functools.partial(tpe.suggest, gamma=0.3))

    def test_several_trials_are_chosen_jointly(self):
        asked = []

        def algorithm(space, q):
            asked.append(q)
            return bojax.random_search(space, q=q)

        trials = Trials()
        quiet(lambda x: x, hp.uniform("x", 0, 1), algo=algorithm, max_evals=7, max_queue_len=3, trials=trials)
        assert {3, 1} <= set(asked) and len(trials) == 7

    def test_an_algorithm_of_bojax(self):
        best = quiet(lambda x: x, hp.uniform("x", 0, 1), algo=lambda space, q: bojax.random_search(space, q=q))
        assert best["x"] < 0.2

    def test_annealing_draws_near_good_trials(self):
        space = {
            "u": hp.uniform("u", -1, 1),
            "n": hp.lognormal("n", 0, 1),
            "r": hp.randint("r", 100),
            "k": hp.choice("k", [hp.qlognormal("q", 0, 1, 1), hp.quniform("s", 0, 50, 1)]),
        }

        def objective(p):
            return abs(p["u"] - 0.5) + abs(math.log(p["n"])) + abs(p["r"] - 70) / 30 + p["k"] / 10

        losses = {}
        for algo in (anneal.suggest, rand.suggest):
            trials = Trials()
            quiet(objective, space, algo=algo, max_evals=150, trials=trials)
            losses[algo] = np.mean(trials.losses()[-50:])
            for label, low, high in (("u", -1, 1), ("n", 0.007, 134), ("r", 0, 99), ("q", 0, 133), ("s", 0, 50)):
                assert all(low <= value <= high for value in trials.vals[label])
        assert losses[anneal.suggest] < 0.5 * losses[rand.suggest]
        with pytest.raises(ValueError, match="`avg_best_idx` must be at least 1"):
            quiet(objective, space, algo=functools.partial(anneal.suggest, avg_best_idx=0.5))

    def test_suggest_is_a_name_only(self):
        with pytest.raises(TypeError, match="rand.suggest must be given to `fmin` as `algo`"):
            rand.suggest([0], None, None, 1)

    def test_likely_values_come_first(self):
        """With a belief the design is drawn from it: with probability 1 - 1e-12 within 0.1 of the mean, in (-5, 5)."""
        trials = Trials()
        space = {"x": hp.normal("x", 5, 0.01), "k": hp.pchoice("k", [(0.0, "never"), (1.0, "always")])}
        quiet(lambda p: 0.0, space, max_evals=3, trials=trials)
        assert all(abs(x - 5) < 0.1 for x in trials.vals["x"]) and trials.vals["k"] == [1, 1, 1]


class TestBeliefs:
    SPACE = hp.pchoice(
        "k",
        [(0.25, hp.normal("x", 1, 2)), (0.75, [hp.qlognormal("n", 0, 1, 2), hp.choice("one", [hp.normal("y", 0, 1)])])],
    )

    def test_the_density_is_that_of_the_draws(self):
        """The mean of a function over draws is its mean over the cube, weighted by the density."""
        forms = forms_of(self.SPACE)
        assert forms.space is not None
        X = jnp.asarray(np.random.default_rng(0).uniform(size=(200_000, forms.space.num_dims)), jnp.float32)
        density = np.exp(np.asarray(log_density(beliefs_of(forms), forms.space, X), np.float64))
        values = {name: np.asarray(value) for name, value in forms.space.decode(X).items()}
        assert abs(np.mean(density) - 1) < 0.02
        for name, mean in (("x", 1.0), ("y", 0.0)):
            chosen = values["k"] == {"x": 0, "y": 1}[name]
            share = np.sum(density[chosen]) / np.sum(density)
            assert abs(share - (0.25 if name == "x" else 0.75)) < 0.02
            assert abs(np.average(values[name][chosen], weights=density[chosen]) - mean) < 0.06
            assert (
                abs(np.average((values[name][chosen] - mean) ** 2, weights=density[chosen]) - (4 if mean else 1)) < 0.1
            )

    def test_unlikely_branches_have_no_density_of_what_they_lack(self):
        forms = forms_of(self.SPACE)
        assert forms.space is not None and forms.space.names == ("k", "x", "n", "y")
        X = jnp.array([[0.2, 0.5, 0.1, 0.1], [0.2, 0.5, 0.9, 0.9]], jnp.float32)
        found = log_density(beliefs_of(forms), forms.space, X)
        assert float(found[0]) == float(found[1])

    def test_probability_zero_excludes_an_option(self):
        space = hp.pchoice("k", [(0.0, hp.normal("x", 0, 1)), (0.5, hp.normal("y", 0, 1)), (0.5, 2.0)])
        forms = forms_of(space)
        assert forms.space is not None and forms.space["k"] == bojax.Categorical([1, 2])
        belief = next(belief for belief in beliefs_of(forms) if belief.label == "y")
        assert belief.ways == ((("k", 0),),)  # the first position
        assert space_from_hyperopt(hp.pchoice("k", [(0, 1), (1, hp.uniform("x", 0, 1))])).names == ("x",)


class TestRealSpaces:
    """Spaces that were built with Hyperopt itself."""

    hyperopt = pytest.importorskip("hyperopt")

    def both(self, make):
        """The same space, of Hyperopt's `hp` and of ours."""
        return make(self.hyperopt.hp, self.hyperopt.pyll.scope), make(hp, scope)

    def test_all_distributions_are_read(self):
        def make(hp, scope):
            return {
                "a": [hp.uniform("u", 0, 1), hp.quniform("qu", 0, 10, q=2), hp.loguniform("lu", low=-3, high=0)],
                "b": (hp.qloguniform("qlu", 1, 4, 1), hp.normal("n", 0, 2), hp.qnormal("qn", 0, 2, 1)),
                "c": hp.choice("c", [{"x": hp.lognormal("ln", 0, 1)}, hp.qlognormal("qln", 0, 1, 1), "text"]),
                "d": hp.pchoice("p", [(0.25, 1), (0.75, [2, scope.int(hp.quniform("ui", 1, 5, 1))])]),
                "e": hp.randint("r", 7),
                "f": {1: hp.randint("s", 2, 9)},
                "g": scope.int(hp.quniform("qi", 1, 9, 2)),
            }

        theirs, ours = self.both(make)
        assert dict(space_from_hyperopt(theirs)) == dict(space_from_hyperopt(ours))
        rng = np.random.default_rng(0)
        labels = space_from_hyperopt(ours)
        for x in rng.uniform(size=(20, labels.num_dims)):
            vals = labels.to_params(x)
            known = self.hyperopt.space_eval(theirs, self._on_grid(vals))
            assert space_eval(theirs, vals) == space_eval(ours, vals) == known
            assert type(space_eval(ours, vals)["g"]) is int

    @staticmethod
    def _on_grid(vals):
        """What Hyperopt would have drawn: it rounds when it draws."""
        return vals | {label: float(np.round(vals[label])) for label in ("qln",) if label in vals}

    def test_uniformint_is_read_as_a_float_with_steps(self):
        space = self.hyperopt.hp.uniformint("n", 1, 5)  # a graph does not tell it from scope.int(hp.quniform(...))
        assert space_from_hyperopt(space)["n"] == bojax.Float(1.0, 5.0, step=1.0)
        assert repr(space_eval(space, {"n": 3.0})) == "3"

    def test_fmin_takes_them_and_agrees_on_the_best_point(self):
        theirs, _ = self.both(
            lambda hp, scope: {"x": hp.uniform("x", -1, 1), "k": hp.choice("k", [0.0, 1 + hp.normal("n", 0, 1)])}
        )
        trials = Trials()
        best = quiet(
            lambda p: p["x"] ** 2 + p["k"] ** 2, theirs, algo=self.hyperopt.rand.suggest, max_evals=9, trials=trials
        )
        point = self.hyperopt.space_eval(theirs, best)
        assert point["x"] ** 2 + point["k"] ** 2 == min(trials.losses())

    def test_trials_of_hyperopt_are_learned_from(self):
        old = self.hyperopt.Trials()
        space = self.hyperopt.hp.uniform("x", -1, 1)
        self.hyperopt.fmin(lambda x: x**2, space, self.hyperopt.rand.suggest, 4, trials=old, verbose=False)
        with pytest.raises(TypeError, match="`trials` must be a bojax"):
            quiet(lambda x: x**2, space, trials=old)
        trials = Trials()
        trials.insert_trial_docs(old.trials)
        quiet(lambda x: x**2, space, max_evals=6, trials=trials)
        assert trials.losses()[:4] == old.losses() and trials.tids == list(range(6))

    def test_what_cannot_be_read_is_named(self):
        real, functions = self.hyperopt.hp, self.hyperopt.pyll.scope
        with pytest.raises(BadSearchSpace, match="got the function 'log'"):
            space_from_hyperopt(functions.log(real.uniform("x", 1, 2)))
        with pytest.raises(BadSearchSpace, match="`high` of 'x' must be a number"):
            space_from_hyperopt(real.uniform("x", 0, real.uniform("y", 1, 2)))
        with pytest.raises(DuplicateLabel, match="got two for 'x'"):
            space_from_hyperopt([real.uniform("x", 0, 1), real.uniform("x", 0, 1)])
        with pytest.raises(TypeError, match="got hyperopt.atpe.suggest"):
            quiet(lambda x: x, real.uniform("x", 0, 1), algo=self.hyperopt.atpe.suggest)

    def test_graphs_inside_of_our_own_choices_are_read(self):
        space = hp.choice("k", [0.0, {"x": self.hyperopt.hp.uniform("x", 0, 1)}])
        assert space_eval(space, {"k": 1, "x": 0.5}) == {"x": 0.5}
        assert space_from_hyperopt(space).names == ("k", "x")

    @pytest.mark.parametrize("count", [1, 2, 4])
    def test_early_stop_agrees(self, count):
        from hyperopt.early_stop import no_progress_loss as theirs

        losses = [5.0, 4.0, 4.0, 3.9, 3.9, 3.9, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0]
        ours, known, trials = no_progress_loss(count, 1.0), theirs(count, 1.0), Trials()
        arguments = [[], []]
        for i, loss in enumerate(losses):
            doc = generate_trials_to_calculate([{}]).trials[0] | {"tid": i, "state": 2}
            trials.insert_trial_docs([doc | {"result": {"loss": loss, "status": "ok"}}])
            stops = []
            for j, stop in enumerate((ours, known)):
                ended, arguments[j] = stop(trials, *arguments[j])
                stops.append(ended)
            assert stops[0] == stops[1], i


@pytest.mark.long
def test_the_guide_runs(tmp_path, monkeypatch, capsys):
    guide = pathlib.Path(bojax.__file__).with_name("guide") / "coming_from_hyperopt.md"
    blocks = re.findall(r"```python\n(.*?)```", guide.read_text(), flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    namespace: dict = {}
    assert len(blocks) == 5
    for block in blocks:
        exec(compile(block, guide.name, "exec"), namespace)
    assert len(namespace["study"].trials) == 3 and "'kind'" in capsys.readouterr().out
