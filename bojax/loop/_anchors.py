"""Where a study fits hyperparameters from scratch, so that it can go on from that fit in between.

A full fit takes 20 to 60 evaluations of the likelihood; one that goes on from a fit to an eighth fewer observations
takes 3 to 5. A study that went on from its last fit would depend on when it was asked. So full fits are tied to
anchors, which are fixed numbers of observations: the first `anchor(n)` observations alone decide where the fit to all n
starts.
"""

FIRST_ANCHOR = 96
"""Below, a full fit takes a few milliseconds (benchmarks/results/surrogates.md)."""


def anchor(count: int) -> int:
    """The number of first observations whose full fit is the start for `count` observations.

    Args:
        count: number of told observations, >= 0.

    Returns:
        The largest anchor that is at most `count`. Anchors are 96, 104, 112, 120, 128, 144, 160, ..., eight to a power
        of two. Below 96 the result is 0: the fit is a full one.

    Example:
        >>> [anchor(count) for count in (50, 96, 103, 130, 1000)]
        [0, 96, 96, 128, 960]
    """
    if count < FIRST_ANCHOR:
        return 0
    step = 1 << (count.bit_length() - 4)
    return count // step * step
