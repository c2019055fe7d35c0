"""Fits that go on from anchors: suggestions depend on the told data alone."""

import numpy as np
import pytest

import bojax
import bojax.study.asking._suggest
from bojax.data import Told
from bojax.study.asking._anchors import MAX_KEPT, Anchors, anchor
from tests.helpers import small_bayesopt

SPACE = bojax.Space(x=bojax.Float(0.0, 1.0), y=bojax.Float(0.0, 1.0))


def value_of(params):
    return np.sin(5.0 * params["x"]) + (params["y"] - 0.3) ** 2


def small(space, q):
    return small_bayesopt(space, q=q)


def filled(rows):
    study = bojax.Study(SPACE, seed=0, algorithm=small)
    for params in rows:
        study.add(params, value_of(params))
    return study


def suggestions(study, count):
    asked = []
    for _ in range(count):
        trial = study.ask()[0]
        study.tell(trial, value_of(trial.params))
        asked.append(trial.params)
    return asked


def test_anchors_are_the_capacities_from_128_on():
    assert [anchor(n) for n in (1, 128, 129, 160, 161, 192, 193, 257, 321)] == [0, 0, 128, 128, 160, 160, 192, 256, 320]


@pytest.mark.long
def test_suggestions_do_not_depend_on_who_made_the_anchor(monkeypatch):
    """An uninterrupted study, one whose anchor was made in a thread, and one that is taken up past the anchor."""
    rows = [SPACE.to_params(x) for x in np.random.default_rng(0).random((127, 2))]
    uninterrupted = filled(rows)
    expected = suggestions(uninterrupted, 4)
    monkeypatch.setenv("BOJAX_COMPILE_AHEAD", "on")
    bojax.study.asking._suggest._ANCHORS._kept.clear()
    assert suggestions(filled(rows), 4) == expected
    bojax.study.asking._suggest._ANCHORS._kept.clear()
    assert suggestions(filled(rows + expected[:3]), 1) == expected[3:]


def test_anchors_are_made_once_and_not_kept_for_ever():
    anchors, made = Anchors(), []

    def fit(told):
        made.append(told)
        return (np.asarray(told.y.sum()),)

    def told(i):
        return Told(np.full((2, 1), i / 100), np.array([i, 1.0]), np.zeros((0, 1)))

    for _ in range(2):
        assert anchors.get("a", told(3), fit) == (4.0,)
    assert len(made) == 1
    assert anchors.get("b", told(3), fit) == (4.0,) and len(made) == 2, "another surrogate"
    for i in range(MAX_KEPT + 5):
        anchors.get("a", told(i), fit)
    assert len(anchors._kept) == MAX_KEPT
