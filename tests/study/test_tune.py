"""`bojax.tune`: functions, Trainables and the zoo; repeats and their noise, failures, resuming, ends."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bojax
from bojax import Categorical, Float, Int, Space
from bojax._errors import BojaxWarning, Status
from bojax.loop import Algorithm, Info
from bojax.models import digits_mlp
from bojax.multifidelity import from_functions
from bojax.study import Training

SPACE = Space(x=Float(0.0, 1.0), kind=Categorical(["a", "b"]))
# Most objectives here are about `x` only.
pytestmark = pytest.mark.filterwarnings("ignore:the tuned metric does not depend on")


def at_random(space, q):
    return bojax.random_search(space, q=q)


def echo(space, q):
    """Asks for the told variances of the noise, newest first; in a column of ones where there are none."""
    cold = bojax.random_search(space, q=q)

    def ask(key, state):
        seen = state.observations
        rows = seen.count - 1 - jnp.arange(q)
        told = jnp.where(rows >= 0, seen.columns["noise_var"][jnp.maximum(rows, 0)], 1.0)
        return told[:, None], state, Info(jnp.int32(Status.OK), jnp.ones(q, bool))

    return Algorithm(cold.init, ask, cold.tell, space, q)


def tune(objective, *args, **kwargs):
    return bojax.tune(objective, *args, **({"algorithm": at_random, "progress": False} | kwargs))


def square(key, hparams):
    return (hparams["x"] - 0.3) ** 2 + hparams["kind"]


def square_of(params):
    return (params["x"] - 0.3) ** 2 + (params["kind"] == "b")


def noisy(key, hparams):
    noise = jax.random.normal(key)
    return {"loss": hparams["x"] + noise, "noise": noise, "x": hparams["x"]}


def nan_where_small(key, hparams):
    return {"loss": jnp.where(hparams["x"] < 0.5, jnp.nan, hparams["x"]), "x": hparams["x"]}


def trainable(direction="maximize"):
    return from_functions(
        SPACE,
        init=lambda key, hparams: jax.random.normal(key),
        advance=lambda state, hparams, num_steps: state + num_steps * hparams["x"],
        evaluate=lambda state, hparams: {"score": state, "kind": hparams["kind"]},
        metric="score",
        num_steps=5,
        direction=direction,
    )


def values_of(result):
    return [trial.value for trial in result.trials]


def params_of(result):
    return [trial.params for trial in result.trials]


def silently(function, *args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BojaxWarning)
        return function(*args, **kwargs)


@pytest.mark.long
def test_a_plain_function_is_minimised():
    result = tune(square, SPACE, num_trials=6, batch_size=2)
    assert [trial.number for trial in result.trials] == list(range(6))
    assert {trial.state for trial in result.trials} == {"complete"}
    np.testing.assert_allclose(values_of(result), [square_of(p) for p in params_of(result)], rtol=1e-5)
    assert {params["kind"] for params in params_of(result)} == {"a", "b"}
    assert result.study.direction == "minimize" and result.best_value == min(values_of(result))
    assert result.trials[0].user_attrs == {"value": result.trials[0].value}


@pytest.mark.long
def test_a_function_of_a_dict_needs_the_name_of_its_metric():
    low = tune(noisy, {"x": Float(0.0, 1.0)}, metric="loss", num_trials=3, batch_size=3)
    high = tune(noisy, Space(x=Float(0.0, 1.0)), metric="x", direction="maximize", num_trials=3, batch_size=3)
    assert low.study.direction == "minimize" and high.study.direction == "maximize"
    for trial in low.trials:
        assert set(trial.user_attrs) == {"loss", "noise", "x"} and trial.value == trial.user_attrs["loss"]
        assert trial.user_attrs["x"] == pytest.approx(trial.params["x"], rel=1e-6)
    assert high.best_value == max(values_of(high)) == pytest.approx(high.best_params["x"], rel=1e-6)
    for result in (low, high):
        assert len({trial.user_attrs["noise"] for trial in result.trials}) == 1  # one key for all trials


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_a_trainable_brings_space_metric_and_direction(direction):
    result = tune(trainable(direction), num_trials=4, batch_size=2)
    assert result.study.space == SPACE and result.study.direction == direction
    assert result.num_compilations == 3  # `init`, `advance` and `evaluate`, of one size
    values, xs = np.array(values_of(result)), np.array([params["x"] for params in params_of(result)])
    np.testing.assert_allclose(np.diff(values - 5 * xs), 0.0, atol=1e-5)  # the same noise in each
    for trial in result.trials:
        assert trial.user_attrs == {"score": trial.value, "kind": float(trial.params["kind"] == "b")}
    assert result.best_value == (max if direction == "maximize" else min)(values)


@pytest.mark.long
def test_what_is_given_goes_before_what_the_objective_brings():
    narrow = Space(x=Float(0.0, 0.1), kind=Categorical(["a", "b", "c"]))
    result = tune(trainable(), narrow, metric="kind", direction="minimize", num_trials=3, batch_size=3)
    assert result.study.direction == "minimize" and result.study.space == narrow
    assert values_of(result) == [float("abc".index(params["kind"])) for params in params_of(result)]
    assert all(params["x"] <= 0.1 for params in params_of(result))


def test_an_objective_with_a_method_train():
    class Objective:
        space, metric, direction = SPACE, "loss", "minimize"

        def train(self, key, hparams):
            return {"loss": square(key, hparams)}

    result = tune(Objective(), num_trials=2, batch_size=2)
    np.testing.assert_allclose(values_of(result), [square_of(p) for p in params_of(result)], rtol=1e-5)


@pytest.mark.long
def test_the_zoo():
    objective = digits_mlp.with_num_steps(3)
    result = tune(objective, num_trials=4, batch_size=2)
    assert result.study.direction == "maximize" and list(result.best_params) == list(objective.space)
    for trial in result.trials:
        assert trial.state == "complete" and 0 < trial.value < 1
        assert trial.value == trial.user_attrs["validation_accuracy"]
        assert set(trial.user_attrs) >= {"test_accuracy", "train_loss", "validation_loss"}
    assert len(set(values_of(result))) > 1 and result.best_value == max(values_of(result))


# Repeats.


@pytest.mark.long
@pytest.mark.parametrize("num_seeds", [2, 3])
@pytest.mark.parametrize("kind", ["function", "trainable"])
def test_the_value_is_the_mean_over_seeds_and_its_variance_is_told(kind, num_seeds):
    result = {
        "function": lambda: tune(noisy, {"x": Float(0.0, 1.0)}, metric="loss", num_trials=5, batch_size=2, **seeds),
        "trainable": lambda: tune(trainable(), num_trials=5, batch_size=2, **seeds),
    }
    seeds = {"num_seeds": num_seeds, "seed": 7}
    result = result[kind]()
    keys = [jax.random.fold_in(jax.random.key(7), i) for i in range(num_seeds)]
    noise = np.array([float(jax.random.normal(key)) for key in keys])
    slope = 1.0 if kind == "function" else 5.0
    for trial in result.trials:
        assert trial.value == pytest.approx(slope * trial.params["x"] + noise.mean(), abs=1e-5)
        assert trial.user_attrs["bojax:noise_var"] == pytest.approx(noise.var(ddof=1) / num_seeds, rel=1e-4)
        assert trial.user_attrs["loss" if kind == "function" else "score"] == trial.value


def test_the_algorithm_learns_the_variance():
    def train(key, hparams):
        return 0.3 * hparams["x"] * jax.random.normal(key)

    result = tune(train, {"x": Float(0.0, 1.0)}, num_seeds=3, num_trials=6, batch_size=2, algorithm=echo)
    xs = [params["x"] for params in params_of(result)]
    told = [trial.user_attrs["bojax:noise_var"] for trial in result.trials]
    np.testing.assert_allclose(xs, [1.0, 1.0, told[1], told[0], told[3], told[2]], rtol=1e-6)
    assert 0 < told[2] < told[0] < 1


def test_one_run_tells_no_variance():
    result = tune(square, SPACE, num_trials=2, batch_size=2)
    assert not any("bojax:noise_var" in trial.user_attrs for trial in result.trials)


def test_one_repeat_that_fails_fails_the_trial():
    def train(key, hparams):
        noise = jax.random.normal(key)
        return {"loss": jnp.where(noise == first, jnp.nan, noise), "x": hparams["x"]}

    first = jax.random.normal(jax.random.fold_in(jax.random.key(0), 1))
    result = silently(tune, train, {"x": Float(0.0, 1.0)}, metric="loss", num_seeds=3, num_trials=2, batch_size=2)
    for trial in result.trials:
        assert trial.state == "fail" and trial.value is None
        assert "loss" not in trial.user_attrs and "bojax:noise_var" not in trial.user_attrs
        assert trial.user_attrs["x"] == pytest.approx(trial.params["x"], rel=1e-6)


# Failures and wrong arguments.


def test_runs_that_diverge_are_failures():
    with pytest.warns(BojaxWarning, match="told nan, which is not finite: it counts as failed"):
        result = tune(nan_where_small, {"x": Float(0.0, 1.0)}, metric="loss", num_trials=12, batch_size=4)
    small = [params["x"] < 0.5 for params in params_of(result)]
    assert 0 < sum(small) < 12
    assert [trial.state == "fail" for trial in result.trials] == small
    assert all(set(trial.user_attrs) >= {"x"} for trial in result.trials)
    lowest = min(params["x"] for params in params_of(result) if params["x"] >= 0.5)
    assert result.best_value == pytest.approx(lowest, rel=1e-6)


def test_a_run_in_which_all_diverge_ends_without_a_best():
    result = silently(tune, lambda key, hparams: jnp.inf, SPACE, num_trials=7, batch_size=3)
    assert [trial.state for trial in result.trials] == ["fail"] * 7
    with pytest.raises(bojax.StudyError, match="no complete trial"):
        _ = result.best_value


@pytest.mark.parametrize(
    "objective, options, message",
    [
        (noisy, {}, r"no metric 'value'; it gives \['loss', 'noise', 'x'\]"),
        (noisy, {"metric": "accuracy"}, r"no metric 'accuracy'; it gives \['loss', 'noise', 'x'\]"),
        (square, {"metric": "loss"}, r"no metric 'loss'; it gives \['value'\]"),
        (trainable(), {"metric": "loss"}, r"no metric 'loss'; it gives \['kind', 'score'\]"),
    ],
)
def test_a_metric_that_is_not_there_is_named_with_those_that_are(objective, options, message):
    seen = []
    with pytest.raises(KeyError, match=message):
        tune(
            objective, SPACE, num_trials=4, batch_size=2, callbacks=[lambda study, trial: seen.append(trial)], **options
        )
    assert not seen


def test_after_an_error_the_study_goes_on_as_if_it_had_not_been(tmp_path):
    storage = f"sqlite:///{tmp_path / 'tune.db'}"
    with pytest.raises(KeyError):
        tune(square, SPACE, metric="loss", num_trials=4, batch_size=2, storage=storage)
    result = tune(square, SPACE, num_trials=4, batch_size=2, storage=storage)
    assert [trial.state for trial in result.trials] == ["complete"] * 4


@pytest.mark.unchecked
def test_wrong_types_are_named():
    with pytest.raises(TypeError, match="`space` must be given"):
        tune(square)
    with pytest.raises(TypeError, match="`objective` must be a function"):
        tune(3, SPACE)
    with pytest.raises(TypeError, match="`algorithm`"):
        tune(square, SPACE, algorithm=3)


def test_wrong_values_are_named():
    with pytest.raises(ValueError, match="`num_seeds` must be an integer of at least 1, got 0"):
        tune(square, SPACE, num_seeds=0)
    with pytest.raises(ValueError, match="`direction`.*'up'"):
        tune(square, SPACE, direction="up")
    with pytest.raises(ValueError, match="`seed`"):
        tune(square, SPACE, seed=-1)


@pytest.mark.parametrize("name, value", [("num_trials", -1), ("batch_size", 0), ("num_seeds", 1.5)])
def test_counts_are_checked_before_anything_is_stored(name, value, tmp_path):
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    with pytest.raises(ValueError, match=f"`{name}` must be an integer"):
        tune(square, SPACE, storage=storage, **{name: value})
    assert not (tmp_path / "study.db").exists()


def test_a_metric_that_is_no_scalar_is_named():
    def train(key, hparams):
        return {"value": hparams["x"], "curve": hparams["x"] + np.arange(3.0)}

    with pytest.raises(ValueError, match=r"'curve' must be a scalar of each run, got the shape \[3\]"):
        tune(train, SPACE, num_trials=2, batch_size=2)


def test_what_can_be_tuned_in_one_form():
    plain, run = Training.of(square, SPACE), Training.of(trainable())
    assert (plain.metric, plain.space, plain.direction, plain.fixed_size) == ("value", SPACE, "minimize", True)
    assert (run.metric, run.space, run.direction, run.fixed_size) == ("score", SPACE, "maximize", False)
    keys, hparams = jax.random.split(jax.random.key(0), 3), {"x": np.array([0.1, 0.2, 0.3]), "kind": np.zeros(3, int)}
    metrics, grads = plain.train_batch(keys, hparams)
    np.testing.assert_allclose(metrics["value"], [0.04, 0.01, 0.0], atol=1e-6)
    assert grads == {} and not plain.gradients and not run.gradients
    metrics, grads = run.train_batch(keys, hparams)
    assert grads == {}
    assert {name: column.shape for name, column in metrics.items()} == {"score": (3,), "kind": (3,)}


# Batches, ends, resuming.


@pytest.mark.parametrize("num_seeds", [1, 2])
def test_the_last_batch_is_filled_up_so_that_one_program_is_compiled(num_seeds):
    traces = []

    def train(key, hparams):
        traces.append(hparams["x"].shape)
        return square(key, hparams)

    result = tune(train, SPACE, num_trials=7, batch_size=3, num_seeds=num_seeds)
    # One more trace looks for comparisons of choices.
    assert len(traces) == 2 and result.num_compilations == 1 and len(result.trials) == 7
    np.testing.assert_allclose(values_of(result), [square_of(p) for p in params_of(result)], rtol=1e-5)


@pytest.mark.long
def test_a_batch_larger_than_all_trials():
    for objective in (square, trainable()):
        result = tune(objective, SPACE, num_trials=2, batch_size=5)
        assert [trial.state for trial in result.trials] == ["complete"] * 2


def test_the_seed_decides_everything():
    runs = [tune(noisy, {"x": Float(0.0, 1.0)}, metric="loss", num_trials=5, batch_size=2, seed=s) for s in (0, 0, 1)]
    assert runs[0].trials == runs[1].trials
    assert not {params["x"] for params in params_of(runs[0])} & {params["x"] for params in params_of(runs[2])}
    assert runs[0].trials[0].user_attrs["noise"] != runs[2].trials[0].user_attrs["noise"]


@pytest.mark.long
@pytest.mark.parametrize("objective", [square, trainable()], ids=["function", "trainable"])
def test_a_stored_study_goes_on_where_it_stopped(tmp_path, objective):
    storage, options = f"sqlite:///{tmp_path / 'tune.db'}", {"batch_size": 2, "num_seeds": 2}
    whole = tune(objective, SPACE, num_trials=6, **options)
    first = tune(objective, SPACE, num_trials=4, storage=storage, name="mine", **options)
    assert first.trials == whole.trials[:4]
    second = tune(objective, SPACE, num_trials=2, storage=storage, name="mine", **options)
    assert second.trials == whole.trials
    assert bojax.Study(storage=storage, name="mine").trials == whole.trials
    with pytest.raises(bojax.StudyError, match="seed"):
        tune(objective, SPACE, num_trials=2, storage=storage, name="mine", seed=1)


def test_callbacks_see_each_trial_and_may_stop():
    seen = []

    def callback(study, trial):
        seen.append(trial)
        if trial.number == 2:
            study.stop()

    result = tune(square, SPACE, num_trials=20, batch_size=2, callbacks=[callback])
    assert seen == result.trials and len(seen) == 4  # the batch in which it stopped is told whole
    assert {trial.state for trial in seen} == {"complete"}


@pytest.mark.parametrize("objective", [square, trainable()], ids=["function", "trainable"])
def test_a_finite_space_that_is_used_up_ends_it_early(objective):
    space = Space(x=Int(0, 1), kind=Categorical(["a", "b", "c"]))
    with pytest.warns(BojaxWarning, match="stops early: all 6 points") as caught:
        result = tune(objective, space, num_trials=20, batch_size=4)
    assert len([w for w in caught if "stops early" in str(w.message)]) == 1
    assert len(result.trials) == len({tuple(params.values()) for params in params_of(result)}) == 6
    assert {trial.state for trial in result.trials} == {"complete"}


def test_a_bar_is_shown_only_on_a_terminal(capsys):
    tune(square, SPACE, num_trials=2, batch_size=2, progress=True)
    assert capsys.readouterr().err == ""


@pytest.mark.slow
def test_the_default_algorithm_finds_the_optimum():
    def train(key, hparams):
        return (hparams["x"] - 0.3) ** 2

    result = bojax.tune(train, {"x": Float(-1.0, 1.0)}, num_trials=9, batch_size=3, progress=False)
    assert result.best_value < 1e-2
    assert np.median(np.abs([params["x"] - 0.3 for params in params_of(result)[6:]])) < 0.3
