"""Small faults: axes of plots, and one-shot studies whose every evaluation raises."""

import numpy as np
import pytest

import bojax
from bojax import surrogates
from bojax._errors import BojaxError
from bojax.study import plot_slices, plot_trajectory

SPACE = bojax.Space(x=bojax.Float(0.0, 1.0))


def at_random(space, q):
    return bojax.random_search(space, q=q)


OPTIONS = {"algorithm": at_random, "progress": False, "seed": 0}


def study_of(space, num, algorithm=at_random):
    study = bojax.Study(space, seed=0, algorithm=algorithm)
    for i, trial in enumerate(study.ask(num)):
        study.tell(trial, float(i))
    return study


def labels_of(axis):
    """Texts and boxes of all labels that are drawn, major and minor, from left to right."""
    low, high = axis.get_view_interval()
    ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
    shown = [t.label1 for t in ticks if low <= t.get_loc() <= high and t.label1.get_text()]
    renderer = axis.figure.canvas.get_renderer()
    return sorted(((t.get_text(), t.get_window_extent(renderer)) for t in shown), key=lambda pair: pair[1].x0)


@pytest.mark.long
def test_labels_of_slices_do_not_overlap_and_integers_are_whole():
    pytest.importorskip("matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    space = bojax.Space(
        {
            "learning_rate": bojax.Float(1e-5, 1e-1, log=True),
            "narrow": bojax.Float(0.2, 0.9, log=True),
            "tiny": bojax.Float(0.31, 0.39, log=True),
            "width": bojax.Int(16, 512, log=True),
            "large": bojax.Int(1_000_001, 1_000_003, log=True),
            "small": bojax.Int(2, 5, log=True),
            "layers": bojax.Int(1, 3),
            "both": bojax.Int(0, 1),
            "many": bojax.Categorical([f"a rather long choice, number {i}" for i in range(30)]),
        }
    )
    quick = surrogates.gp(num_restarts=1, max_evals=5)
    study = study_of(space, 4, lambda space, q: bojax.bayesopt(space, q=q, surrogate=quick))
    grid = plot_slices(study)
    figure = grid[0].figure
    FigureCanvasAgg(figure).draw()
    for axes, name in zip(grid, space.names, strict=True):
        labels = labels_of(axes.xaxis)
        assert len(labels) >= 2, name
        for (_, left), (_, right) in zip(labels, labels[1:], strict=False):
            assert left.x1 <= right.x0 + 1.0, (name, [text for text, _ in labels])
        texts = [text for text, _ in labels]
        assert len(set(texts)) == len(texts), name
        if isinstance(space[name], bojax.Int):
            numbers = [float(text.replace("\N{MINUS SIGN}", "-")) for text in texts]
            assert numbers == [round(number) for number in numbers], (name, texts)
            assert all(space[name].low <= number <= space[name].high for number in numbers), (name, texts)


@pytest.mark.long
def test_trial_numbers_of_a_trajectory_are_whole():
    pytest.importorskip("matplotlib")
    for num in (1, 2, 3, 12):
        ticks = plot_trajectory(study_of(SPACE, num)).get_xticks()
        assert np.array_equal(ticks, np.round(ticks)), ticks


def typo(params):
    raise KeyError("typo")


@pytest.mark.filterwarnings("ignore::bojax._errors.BojaxWarning")
@pytest.mark.parametrize("run", [bojax.minimize, bojax.maximize, bojax.tune_nested])
@pytest.mark.parametrize("num_trials", [1, 4])
def test_a_study_whose_every_evaluation_raises_does_not_end_as_if_nothing_had_happened(run, num_trials):
    with pytest.raises(
        BojaxError, match=rf"each of the {num_trials} .* KeyError: 'typo' \(.*test_small.py:\d+"
    ) as caught:
        run(typo, SPACE, num_trials=num_trials, **OPTIONS)
    assert isinstance(caught.value.__cause__, KeyError)
    assert run(typo, SPACE, num_trials=0, **OPTIONS).trials == []


@pytest.mark.filterwarnings("ignore::bojax._errors.BojaxWarning")
def test_one_earlier_value_is_enough_for_a_result():
    import optuna

    options = OPTIONS | {"storage": optuna.storages.InMemoryStorage(), "name": "resumed"}
    bojax.minimize(lambda params: params["x"], SPACE, num_trials=1, **options)
    result = bojax.minimize(typo, SPACE, num_trials=2, **options)
    assert result.best_trial.number == 0 and len(result.trials) == 3
