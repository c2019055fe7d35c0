"""`bojax.tune` with gradients: whose they are, their signs and means, what is left out, and what they buy."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bojax
from bojax import Categorical, Float, Int, Space
from bojax._errors import BojaxWarning, Status
from bojax.loop import Algorithm, Info
from bojax.models import cancer_logistic
from bojax.study._study import core_of
from bojax.study.asking._suggest import bayesopt, gradient_bayesopt
from tests.helpers import random_with_gradients

SPACE = Space(x=Float(0.0, 1.0), rate=Float(1e-3, 1.0, log=True), width=Int(1, 4), kind=Categorical(["a", "b"]))
FLOATS = Space(x=Float(0.0, 1.0), rate=Float(1e-3, 1.0, log=True))


def tune(objective, *args, **kwargs):
    return bojax.tune(
        objective,
        *args,
        **({"algorithm": random_with_gradients, "progress": False, "num_trials": 4, "batch_size": 2} | kwargs),
    )


def smooth(key, h):
    """A loss of two Floats, which other hyperparameters shift."""
    return (h["x"] - 0.3) ** 2 + jnp.log(h["rate"]) ** 2 + h.get("width", 0) + h.get("kind", 0)


def slopes(params):
    return {"x": 2 * (params["x"] - 0.3), "rate": 2 * np.log(params["rate"]) / params["rate"]}


def told(result):
    return [trial.user_attrs.get("bojax:grad") for trial in result.trials]


class Differentiable:
    """An objective with `value_and_grad`, which knows the derivative by `x` only."""

    space, metric, direction = SPACE, "loss", "minimize"

    def train(self, key, h):
        return {"loss": smooth(key, h), "accuracy": -smooth(key, h)}

    def value_and_grad(self, key, h):
        return self.train(key, h), {"x": 2 * (h["x"] - 0.3)}


# Where gradients come from.


def test_an_objective_brings_its_gradients():
    result = tune(Differentiable())
    for trial, grad in zip(result.trials, told(result), strict=True):
        assert set(grad) == {"x"} and grad["x"] == pytest.approx(slopes(trial.params)["x"], abs=1e-6)
        assert trial.value == trial.user_attrs["loss"] == -trial.user_attrs["accuracy"]
    assert result.num_compilations == 1


def test_a_function_is_differentiated_by_its_floats():
    result = tune(smooth, SPACE, gradients=True)
    for trial, grad in zip(result.trials, told(result), strict=True):
        assert grad == pytest.approx(slopes(trial.params), rel=1e-4, abs=1e-5)


def test_a_training_loop_is_differentiated():
    """Ten steps of gradient descent on a parabola end at (1 - rate)^10."""

    def train(key, h):
        w = jax.lax.fori_loop(0, 10, lambda _, w: w - h["rate"] * w, jnp.float32(1.0))
        return {"loss": w, "accuracy": jnp.round(w)}

    result = tune(train, Space(rate=Float(0.01, 0.5)), metric="loss", gradients=True)
    for trial, grad in zip(result.trials, told(result), strict=True):
        assert grad["rate"] == pytest.approx(-10 * (1 - trial.params["rate"]) ** 9, rel=1e-4)


@pytest.mark.parametrize(
    "objective, space, options",
    [
        (smooth, SPACE, {}),
        (smooth, SPACE, {"gradients": False}),
        (Differentiable(), None, {"gradients": False}),
        (Differentiable(), None, {"metric": "accuracy", "direction": "maximize"}),  # the gradients are the loss's
    ],
)
def test_without_gradients(objective, space, options):
    assert told(tune(objective, space, **options)) == [None] * 4


def test_another_metric_than_the_objectives_own_is_differentiated_anew():
    result = tune(Differentiable(), metric="accuracy", direction="maximize", gradients=True)
    for trial, grad in zip(result.trials, told(result), strict=True):
        assert grad == pytest.approx({name: -slope for name, slope in slopes(trial.params).items()}, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("sign", [1.0, -1.0], ids=["minimize", "maximize"])
def test_the_surrogate_sees_derivatives_of_what_is_maximised(sign):
    """An algorithm that returns what it was told: the gradient in the cube, halved and shifted into it."""

    def echo(space, q):
        cold = bojax.gradient_bayesopt(space, q=q)

        def ask(key, state):
            seen = state.observations
            row = 0.5 + 0.1 * seen.columns["grad"][jnp.maximum(seen.count - 1, 0)]
            X = jnp.where(seen.count > 0, row, 0.25)[None]
            return X, state, Info(jnp.int32(Status.OK), jnp.ones(q, bool))

        return Algorithm(cold.init, ask, cold.tell, space, q, columns=cold.columns)

    direction = "minimize" if sign > 0 else "maximize"
    result = tune(
        lambda key, h: sign * (h["a"] - 0.8) ** 2 + 0.0 * h["b"],
        Space(a=Float(0.0, 2.0), b=Float(1e-2, 1.0, log=True)),
        direction=direction,
        gradients=True,
        algorithm=echo,
        num_trials=2,
        batch_size=1,
    )
    first, second = result.trials
    assert first.params["a"] == pytest.approx(0.5)
    assert told(result)[0]["a"] == pytest.approx(sign * 2 * (0.5 - 0.8), rel=1e-5)
    # Uphill in what is maximised, -(a - 0.8)^2: a slope of 0.6 by a, and 1.2 by the side of the cube.
    assert second.params["a"] == pytest.approx(2 * (0.5 + 0.1 * 1.2), rel=1e-5)


# The default algorithm.


@pytest.mark.parametrize(
    "objective, options, expected",
    [
        (smooth, {}, bayesopt),
        (smooth, {"gradients": True}, gradient_bayesopt),
        (Differentiable(), {}, gradient_bayesopt),
        (Differentiable(), {"gradients": False}, bayesopt),
        (Differentiable(), {"algorithm": random_with_gradients}, random_with_gradients),
    ],
)
def test_the_default_algorithm_learns_from_gradients(objective, options, expected):
    result = bojax.tune(objective, SPACE, num_trials=0, progress=False, **options)
    assert core_of(result.study).algorithm is expected


@pytest.mark.slow
def test_a_mixed_space_is_searched_with_gradients():
    result = tune(smooth, SPACE, gradients=True, algorithm=None, num_trials=12, batch_size=2)
    assert result.best_params["kind"] == "a" and result.best_params["width"] == 1
    assert result.best_value < 1.2  # 1 is the least


# Repeats and failures.


def test_gradients_are_means_over_seeds():
    def train(key, h):
        return h["x"] * jax.random.normal(key)

    result = tune(train, {"x": Float(0.0, 1.0)}, gradients=True, num_seeds=3, seed=5)
    noise = [float(jax.random.normal(jax.random.fold_in(jax.random.key(5), i))) for i in range(3)]
    for trial, grad in zip(result.trials, told(result), strict=True):
        assert grad["x"] == pytest.approx(np.mean(noise), rel=1e-5)
        assert trial.value == pytest.approx(trial.params["x"] * np.mean(noise), rel=1e-5)


@pytest.mark.long
def test_a_derivative_that_is_not_finite_is_left_out_and_the_value_kept():
    def train(key, h):
        return jnp.sqrt(jnp.maximum(h["x"] - 0.5, 0.0)) + h["rate"]  # the square root has an infinite slope at 0

    result = tune(train, FLOATS, gradients=True, num_trials=8, batch_size=8)
    small = [trial.params["x"] <= 0.5 for trial in result.trials]
    assert 0 < sum(small) < 8 and {trial.state for trial in result.trials} == {"complete"}
    for grad, flat in zip(told(result), small, strict=True):
        assert set(grad) == ({"rate"} if flat else {"x", "rate"})


def test_a_derivative_that_is_never_finite_is_warned_of():
    def train(key, h):
        return jnp.sqrt(0.0 * h["x"]) + h["rate"]

    with pytest.warns(
        BojaxWarning, match=r"derivatives of 'value' by \['x'\] are not finite in the first 4 trials"
    ) as caught:
        result = tune(train, FLOATS, gradients=True)
    assert len(caught) == 1
    assert told(result) == [{"rate": 1.0}] * 4


def test_a_failed_run_tells_no_gradient():
    def train(key, h):
        return jnp.where(h["x"] < 0.5, jnp.nan, h["x"] ** 2)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BojaxWarning)
        result = tune(train, FLOATS, gradients=True, num_trials=8, batch_size=8)
    failed = [trial.params["x"] < 0.5 for trial in result.trials]
    assert 0 < sum(failed) < 8
    assert [trial.state == "fail" for trial in result.trials] == failed
    assert [grad is None for grad in told(result)] == failed


# Wrong arguments.


@pytest.mark.filterwarnings("ignore:the tuned metric does not depend on")
def test_a_metric_without_slope_is_an_error_before_anything_is_told():
    seen = []
    with pytest.raises(ValueError, match="every derivative of 'value' in the first 4 trials is exactly zero"):
        tune(
            lambda key, h: jnp.round(h["x"]),
            FLOATS,
            gradients=True,
            batch_size=4,
            callbacks=[lambda study, trial: seen.append(trial)],
        )
    assert not seen


def test_a_first_trial_on_a_plateau_is_no_error():
    """A run that diverged has the worst value there is, which is flat; one that failed does not count."""

    def train(key, h):
        return jnp.where(h["x"] > 0.8, jnp.nan, jnp.maximum(h["x"], 0.5))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "trial . was told nan")
        result = tune(train, {"x": Float(0.0, 1.0)}, gradients=True, batch_size=1, num_trials=6, seed=2)
    assert told(result)[0] == {"x": 0.0} and {"x": 1.0} in told(result) and None in told(result)


@pytest.mark.filterwarnings("ignore:the tuned metric does not depend on")
def test_a_study_that_has_values_goes_on_where_the_metric_is_flat(tmp_path):
    storage = f"sqlite:///{tmp_path / 'tune.db'}"
    tune(smooth, FLOATS, storage=storage, gradients=True)
    result = tune(lambda key, h: jnp.round(h["x"]), FLOATS, storage=storage, gradients=True)
    assert told(result)[4:] == [{"x": 0.0, "rate": 0.0}] * 4


@pytest.mark.unchecked
def test_what_cannot_be_differentiated_is_named():
    discrete = Space(n=Int(1, 3))
    with pytest.raises(TypeError, match="`gradients` needs a Float"):
        tune(smooth, discrete, gradients=True)
    with pytest.raises(TypeError, match="`gradients` must be True, False or None, got 'yes'"):
        tune(smooth, SPACE, gradients="yes")
    with pytest.raises(KeyError, match=r"no metric 'loss'; it gives \['value'\]"):
        tune(smooth, SPACE, gradients=True, metric="loss")

    class Trainable:
        space, metric, direction = SPACE, "loss", "minimize"

    with pytest.raises(TypeError, match="`gradients` needs an objective with `value_and_grad` or `train`"):
        tune(Trainable(), gradients=True)


@pytest.mark.parametrize("name, message", [("y", "which the space does not have"), ("width", "which is discrete")])
def test_a_gradient_by_what_has_none_is_an_error(name, message):
    class Wrong(Differentiable):
        def value_and_grad(self, key, h):
            return self.train(key, h), {name: h["x"]}

    with pytest.raises(ValueError, match=f"`grad` names '{name}', {message}"):
        tune(Wrong())


def test_a_gradient_that_is_no_scalar_is_an_error():
    class Wrong(Differentiable):
        def value_and_grad(self, key, h):
            return self.train(key, h), {"x": jnp.ones(3) * h["x"]}

    with pytest.raises(ValueError, match=r"derivative 'x' must be a scalar of each run, got the shape \[3\]"):
        tune(Wrong())


@pytest.mark.parametrize(
    "value, message",
    [
        (lambda x: jnp.int32(10 * x), r"'value' is int32 of shape \[\]"),
        (lambda x: x * jnp.ones(3), r"'value' is float32 of shape \[3\]"),
        (lambda x: None, "'value' is object"),
    ],
)
def test_a_metric_that_is_no_floating_number_is_named(value, message):
    with pytest.raises(TypeError, match=f"`gradients` needs a metric that is one floating-point number, {message}"):
        tune(lambda key, h: value(h["x"]), SPACE, gradients=True)


@pytest.mark.parametrize("given", [lambda x: x, lambda x: ({"loss": x}, {}), lambda x: ({"loss": x}, None)])
def test_what_value_and_grad_gives_is_checked(given):
    class Wrong(Differentiable):
        def value_and_grad(self, key, h):
            return given(h["x"])

    with pytest.raises(TypeError, match=r"`value_and_grad` must return a pair of the metrics and a dict .*float32\["):
        tune(Wrong())


def test_what_value_and_grad_raises_is_not_hidden():
    class Wrong(Differentiable):
        def value_and_grad(self, key, h):
            raise RuntimeError("no data")

    with pytest.raises(RuntimeError, match="no data"):
        tune(Wrong(), name="broken")


# A stored study, and the zoo.


@pytest.mark.long
def test_a_stored_study_goes_on_with_its_gradients(tmp_path):
    storage = f"sqlite:///{tmp_path / 'tune.db'}"
    options = {"gradients": True, "algorithm": None, "num_trials": 6}
    whole = tune(smooth, FLOATS, **options)
    tune(smooth, FLOATS, storage=storage, **options | {"num_trials": 4})
    assert tune(smooth, FLOATS, storage=storage, **options | {"num_trials": 2}).trials == whole.trials


@pytest.mark.long
def test_a_stored_study_without_gradients_goes_on_with_them(tmp_path):
    storage = f"sqlite:///{tmp_path / 'tune.db'}"
    tune(smooth, FLOATS, storage=storage)
    result = tune(smooth, FLOATS, storage=storage, gradients=True, algorithm=None)
    assert [grad is None for grad in told(result)] == [True] * 4 + [False] * 4


def tune_penalties(num_trials, gradients, num_seeds=20):
    """The best validation losses of `cancer_logistic` over the trials, [num_seeds, num_trials]."""
    runs = [
        tune(cancer_logistic, gradients=gradients, algorithm=None, num_trials=num_trials, batch_size=1, seed=seed)
        for seed in range(num_seeds)
    ]
    return np.minimum.accumulate([[trial.value for trial in run.trials] for run in runs], axis=1)


@pytest.mark.slow
def test_twelve_trials_with_gradients_reach_what_twenty_without_do_not():
    """Medians of 20 seeds: 0.093 with gradients after 12 trials, 0.103 without after 20; means 0.098 and 0.106."""
    with_gradients, without = tune_penalties(12, True), tune_penalties(20, False)
    assert np.median(with_gradients[:, 11]) < 0.97 * np.median(without[:, 19])
    assert with_gradients[:, 11].mean() < 0.9 * without[:, 11].mean()  # 0.119 after as many
    assert np.sum(with_gradients[:, 11] < without[:, 11]) >= 15
