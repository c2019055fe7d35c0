"""The rungs of successive halving and Hyperband."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bojax.multifidelity import Rung, halving, hyperband_brackets, num_steps_of


def test_the_brackets_of_table_1_of_the_paper():
    # Li et al. (2018), JMLR 18(185), table 1: R = 81, eta = 3.
    assert hyperband_brackets(81, 1, 3) == (
        ((81, 1), (27, 3), (9, 9), (3, 27), (1, 81)),
        ((34, 3), (11, 9), (3, 27), (1, 81)),
        ((15, 9), (5, 27), (1, 81)),
        ((8, 27), (2, 81)),
        ((5, 81),),
    )


def test_steps_of_brackets_scale_with_the_smallest():
    scaled = tuple(tuple((n, 4 * r) for n, r in bracket) for bracket in hyperband_brackets(81, 1, 3))
    assert hyperband_brackets(324, 4, 3) == scaled


@pytest.mark.parametrize("eta, power", [(3, 5), (10, 3), (2, 10), (5, 3)])
def test_logarithms_of_powers_are_not_rounded_down(eta, power):
    brackets = hyperband_brackets(eta**power, 1, eta)
    assert len(brackets) == power + 1
    assert brackets[0] == tuple((eta ** (power - i), eta**i) for i in range(power + 1))


@pytest.mark.parametrize(
    "arguments, rungs",
    [
        ((27, 1, 27, 3), [(27, 1), (9, 3), (3, 9), (1, 27)]),
        ((64, 2, 128, 4), [(64, 2), (16, 8), (4, 32), (1, 128)]),
        ((16, 1, 16, 2), [(16, 1), (8, 2), (4, 4), (2, 8), (1, 16)]),
        ((10, 1, 100, 3), [(10, 1), (3, 3), (1, 9)]),  # nobody is left for more
        ((30, 5, 40, 3), [(30, 5), (10, 15), (3, 40)]),  # cut at a full run
        ((5, 7, 7, 3), [(5, 7)]),
        ((1, 1, 27, 3), [(1, 1)]),
        ((20, 2, 10, 2.5), [(20, 2), (8, 5), (3, 10)]),
    ],
)
def test_halving(arguments, rungs):
    assert list(halving(*arguments)) == rungs


def test_rungs_that_rounding_makes_equal_are_one():
    # Of 1, 1.3, 1.69, 2.2, 2.86, 3.71 steps several are the same whole number.
    assert halving(20, 1, 4, 1.3) == ((20, 1), (11, 2), (7, 3), (5, 4))
    assert [rung.num_steps for rung in hyperband_brackets(4, 1, 1.3)[0]] == [1, 2, 3, 4]


def test_steps_of_a_bracket_whose_members_are_resumed():
    assert num_steps_of((Rung(9, 1), Rung(3, 3), Rung(1, 9))) == 9 * 1 + 3 * 2 + 1 * 6
    assert num_steps_of((Rung(4, 10),)) == 40


@pytest.mark.parametrize(
    "function", [lambda *args: halving(9, *args), lambda low, high, eta: hyperband_brackets(high, low, eta)]
)
@pytest.mark.parametrize(
    "arguments, name",
    [((1, 9, 1.0), "eta"), ((1, 9, 0.3), "eta"), ((0, 9, 3.0), "min_steps"), ((10, 9, 3.0), "min_steps")],
)
def test_bad_numbers_are_named(function, arguments, name):
    with pytest.raises(ValueError, match=f"`{name}`"):
        function(*arguments)


def test_no_members_is_named():
    with pytest.raises(ValueError, match="`num_members`.*got 0"):
        halving(0, 1, 9, 3)


def check_rungs(rungs, max_steps):
    assert all(rung.num_members >= 1 and 1 <= rung.num_steps <= max_steps for rung in rungs)
    for before, after in zip(rungs, rungs[1:], strict=False):
        assert after.num_members <= before.num_members and after.num_steps > before.num_steps


etas = st.sampled_from([1.2, 1.5, 2, 2.5, 3, 4, 5.5])


@given(st.integers(1, 300), st.integers(1, 20), st.integers(1, 50), etas)
def test_rungs_have_fewer_members_and_more_steps(num_members, min_steps, ratio, eta):
    rungs = halving(num_members, min_steps, min_steps * ratio, eta)
    check_rungs(rungs, min_steps * ratio)
    assert rungs[0] == (num_members, min_steps)


@given(st.integers(1, 20), st.integers(0, 500), etas)
def test_each_bracket_ends_with_full_runs(min_steps, more, eta):
    brackets = hyperband_brackets(min_steps + more, min_steps, eta)
    for bracket in brackets:
        check_rungs(bracket, min_steps + more)
        assert bracket[-1].num_steps == min_steps + more and bracket[0].num_steps >= min_steps
    assert len(brackets[-1]) == 1
