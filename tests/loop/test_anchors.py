"""Anchors are few, never far away, and anchors of themselves."""

from bojax.loop._anchors import FIRST_ANCHOR, anchor


def test_anchors_are_close_below():
    assert anchor(0) == anchor(FIRST_ANCHOR - 1) == 0
    for count in range(FIRST_ANCHOR, 6000):
        assert 0.88 * count < anchor(count) <= count
        assert anchor(anchor(count)) == anchor(count)
    assert len({anchor(count) for count in range(5001)}) == 47
