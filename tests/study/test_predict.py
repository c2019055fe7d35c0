"""What a study says of its surrogate: predictions in the objective's units, and how good they are."""

import numpy as np
import pytest

import bojax
from bojax import Categorical, Float, Int, Space, StudyError
from bojax._runtime import host_scope, seed_key
from bojax.data import Told
from bojax.loop import restore

SPACE = Space(x=Float(0.0, 1.0), y=Float(0.0, 1.0))


def value_of(params):
    return 3.0 + np.sin(3.0 * params["x"]) - params["y"] ** 2


def filled(direction="minimize", space=SPACE, value_of=value_of, num_trials=12, **kwargs):
    study = bojax.Study(space, direction, seed=0, **kwargs)
    X = np.random.default_rng(0).random((num_trials, space.num_dims))
    for row in X:
        params = space.to_params(row)
        study.add(params, value_of(params))
    return study


@pytest.mark.long
@pytest.mark.parametrize("direction, sign", [("minimize", -1.0), ("maximize", 1.0)])
def test_predictions_are_those_of_the_surrogate_in_the_units_of_the_objective(direction, sign):
    study = filled(direction)
    X = np.array([SPACE.from_params(trial.params) for trial in study.trials])
    y = sign * np.array([trial.value for trial in study.trials])
    rows = [{"x": 0.3, "y": 0.4}, {"x": 0.9, "y": 0.1}, {"x": 0.5, "y": 0.5}]
    algorithm = bojax.bayesopt(SPACE)
    with host_scope():
        key = seed_key(0)
        state = restore(algorithm.init(key), Told(X, y, X[:0]))
        mean, std = map(np.asarray, algorithm.predict(key, state, np.array([SPACE.from_params(row) for row in rows])))
    predicted = study.predict(rows)
    np.testing.assert_allclose(predicted[0], sign * mean, rtol=1e-6)
    np.testing.assert_allclose(predicted[1], std, rtol=1e-5)
    single = study.predict(rows[1])
    assert type(single[0]) is type(single[1]) is float
    np.testing.assert_allclose(single, [predicted[0][1], predicted[1][1]], rtol=1e-9)
    np.testing.assert_allclose(predicted[0], [value_of(row) for row in rows], atol=0.3)


@pytest.mark.long
def test_categories_and_integers_are_predicted():
    space = Space(kind=Categorical(["a", "b"]), n=Int(1, 8))
    study = filled(space=space, value_of=lambda p: p["n"] + 20.0 * (p["kind"] == "b"), num_trials=14)
    mean, _ = study.predict([{"kind": "a", "n": 4}, {"kind": "b", "n": 4}])
    assert mean[1] - mean[0] > 10.0


def test_algorithms_without_a_surrogate_are_answered_for():
    study = filled(algorithm=lambda space, q: bojax.random_search(space, q=q))
    np.testing.assert_allclose(study.predict({"x": 0.3, "y": 0.4}), filled().predict({"x": 0.3, "y": 0.4}))


@pytest.mark.unchecked
def test_predictions_need_trials_and_all_parameters():
    study = bojax.Study(SPACE, seed=0)
    study.add({"x": 0.1, "y": 0.2}, 1.0)
    study.add({"x": 0.1, "y": 0.3}, state="fail")
    with pytest.raises(StudyError, match="fewer than 2 complete trials"):
        study.predict({"x": 0.5, "y": 0.5})
    study.add({"x": 0.7, "y": 0.3}, 2.0)
    with pytest.raises(StudyError, match="fewer than 3 complete trials"):
        study.surrogate_quality()
    with pytest.raises(ValueError, match="Missing: \\['y'\\]"):
        study.predict({"x": 0.5})
    with pytest.raises(TypeError, match="must map names"):
        study.predict([0.5, 0.5])
    with pytest.raises(ValueError, match="max_trials"):
        study.surrogate_quality(0)
    assert [len(part) for part in study.predict([])] == [0, 0]


def test_the_quality_is_that_of_predictions_from_all_other_trials():
    study = filled(num_trials=12)
    quality = study.surrogate_quality()
    errors = []
    for left_out in study.trials:
        other = bojax.Study(SPACE, seed=0)
        for trial in study.trials:
            if trial.number != left_out.number:
                other.add(trial.params, trial.value)
        errors.append(other.predict(left_out.params)[0] - left_out.value)
    assert quality.n == 12 and 0.5 <= quality.coverage <= 1.0 and np.isfinite(quality.log_density)
    np.testing.assert_allclose(quality.rmse, np.sqrt(np.mean(np.square(errors))), rtol=1e-6)
    assert quality.rmse < 0.5 * np.std([trial.value for trial in study.trials])
    assert study.surrogate_quality(max_trials=3).n == 3


def test_values_without_pattern_are_predicted_badly():
    rng = np.random.default_rng(1)
    noise, smooth = filled(value_of=lambda params: rng.normal()), filled()
    assert noise.surrogate_quality(6).log_density < smooth.surrogate_quality(6).log_density
