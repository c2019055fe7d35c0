"""The arithmetic of successive halving and Hyperband."""

import math
from typing import NamedTuple


class Rung(NamedTuple):
    """A stage of a bracket: `num_members` members, each with `num_steps` steps at its end."""

    num_members: int
    num_steps: int


def halving(num_members: int, min_steps: int, max_steps: int, eta: float = 3.0) -> tuple[Rung, ...]:
    """Successive halving: the best 1 / eta of every rung continue, to eta times the steps.

    Source: Jamieson and Talwalkar (2016), arXiv:1502.07943.

    Args:
        num_members: members of the first rung, >= 1.
        min_steps: steps of the first rung, >= 1.
        max_steps: maximum steps of a member, those of the last rung if members are left for it.
        eta: > 1.

    Returns:
        The rungs, steps counted from the start of a run.

    Raises:
        ValueError: a number is out of its range.

    Example:
        >>> [tuple(rung) for rung in halving(9, 1, 9)]
        [(9, 1), (3, 3), (1, 9)]
    """
    if num_members < 1:
        raise ValueError(f"`num_members` must be at least 1, got {num_members}.")
    check_brackets(max_steps, min_steps, eta)
    rungs, share = [], 1.0  # fraction of the members, and factor of the steps
    while not rungs or (num_members / share + 1e-9 >= 1 and rungs[-1].num_steps < max_steps):
        steps = min(max_steps, round(min_steps * share))
        if not rungs or steps > rungs[-1].num_steps:
            rungs.append(Rung(int(num_members / share + 1e-9), steps))
        share *= eta
    return tuple(rungs)


def ladder(min_steps: int, max_steps: int, eta: float = 3.0) -> tuple[int, ...]:
    """`min_steps` times 1, eta, eta^2, ..., rounded, without duplicates, and `max_steps` at the end."""
    check_brackets(max_steps, min_steps, eta)
    steps, exact = [], float(min_steps)
    while exact < max_steps:
        steps.append(round(exact))
        exact *= eta
    return (*dict.fromkeys(s for s in steps if s < max_steps), max_steps)


def hyperband_brackets(max_steps: int, min_steps: int = 1, eta: float = 3.0) -> tuple[tuple[Rung, ...], ...]:
    """The brackets of Hyperband (Li et al. 2018, JMLR 18(185), algorithm 1), starting with the most exploratory one.

    With R the largest number of resources, here `max_steps / min_steps`, and s = s_max .. 0, s_max = floor(log_eta R):
    n = ceil((s_max + 1) / (s + 1) eta^s) members start with R eta^-s, and floor(n eta^-i) of them reach rung i.

    Args:
        max_steps: steps of a full run.
        min_steps: approximate number of steps before a member is first compared.
        eta: > 1.

    Returns:
        The rungs of each bracket.

    Raises:
        ValueError: a number is out of its range.

    Example:
        >>> [[tuple(rung) for rung in bracket] for bracket in hyperband_brackets(9)]
        [[(9, 1), (3, 3), (1, 9)], [(5, 3), (1, 9)], [(3, 9)]]
    """
    check_brackets(max_steps, min_steps, eta)
    top = int(math.log(max_steps / min_steps, eta) + 1e-9)
    brackets = []
    for s in range(top, -1, -1):
        num_members = math.ceil((top + 1) / (s + 1) * eta**s - 1e-9)
        rungs = [
            Rung(int(num_members / eta**i + 1e-9), max(1, round(max_steps * eta ** (i - s)))) for i in range(s + 1)
        ]
        brackets.append(tuple({rung.num_steps: rung for rung in reversed(rungs)}.values())[::-1])
    return tuple(brackets)


def num_steps_of(bracket: tuple[Rung, ...]) -> int:
    """Total steps of all members of a bracket if members are resumed.

    Args:
        bracket: its rungs, as `halving` returns them.

    Returns:
        The number of training steps.

    Example:
        >>> num_steps_of(halving(9, 1, 9))
        21
    """
    before = [0, *(rung.num_steps for rung in bracket[:-1])]
    return sum(rung.num_members * (rung.num_steps - done) for rung, done in zip(bracket, before, strict=True))


def check_brackets(max_steps: int, min_steps: int, eta: float) -> None:
    """Raises ValueError if no bracket can be built from these numbers."""
    if not eta > 1:
        raise ValueError(f"`eta` must be larger than 1, got {eta}.")
    if not 1 <= min_steps <= max_steps:
        raise ValueError(f"`min_steps` must lie between 1 and `max_steps` = {max_steps}, got {min_steps}.")
