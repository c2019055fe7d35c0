"""Hypothesis strategies for parameters, spaces and native values."""

import math

from hypothesis import strategies as st

from bojax.space import Categorical, Float, Int, Ordinal, Parameter, Space


@st.composite
def floats(draw) -> Float:
    if draw(st.booleans()):
        low = 10.0 ** draw(st.floats(-8, 3))
        return Float(low, low * 10.0 ** draw(st.floats(0.1, 6)), log=True)
    if draw(st.booleans()):
        digits, count = draw(st.integers(-2, 4)), draw(st.integers(1, 300))
        step, low = draw(st.integers(1, 99)), draw(st.integers(-999, 999))
        log = low > 0 and draw(st.booleans())
        low, high, step = (float(f"{number}e{-digits}") for number in (low, low + step * count, step))
        return Float(low, high, step=step, log=log)
    low = draw(st.floats(-1e3, 1e3))
    # The cube holds a value to an ulp of the bounds: a range much narrower than they are large loses digits.
    return Float(low, low + (1 + abs(low)) * draw(st.floats(0.05, 100)))


@st.composite
def ints(draw, largest: int = 2**31 - 1) -> Int:
    if draw(st.booleans()):
        low = draw(st.integers(1, min(largest, 2**31 - 1) - 1))
        low = draw(st.sampled_from([1, min(low, 16), low]))
        step = draw(st.sampled_from([1, 1, min(16, largest - low)]))
        return Int(low, low + step * draw(st.integers(1, (largest - low) // step)), log=True, step=step)
    step = draw(st.integers(1, 50))
    count = draw(st.integers(1, min(largest, 10**7)))
    low = draw(st.integers(-(10**6), 10**6))
    return Int(low, low + step * count, step=step)


choices = st.lists(
    st.one_of(st.none(), st.booleans(), st.integers(-9, 9), st.floats(-4, 4), st.text("abcxyz", max_size=4)),
    min_size=1,
    max_size=7,
    unique_by=lambda value: value,
)


def parameters(largest: int = 2**31 - 1) -> st.SearchStrategy[Parameter]:
    listed = choices.map(Categorical), choices.map(Ordinal)
    return st.one_of(floats(), ints(largest), *listed)


def spaces(largest: int = 2**31 - 1, num_dims: int | None = None) -> st.SearchStrategy[Space]:
    names = st.text("abcdefgh_", min_size=1, max_size=5)
    sizes = {"min_size": num_dims or 1, "max_size": num_dims or 5}
    return st.dictionaries(names, parameters(largest), **sizes).map(Space)


@st.composite
def native_values(draw, parameter: Parameter):
    if isinstance(parameter, Float) and not parameter.num_values:
        t = draw(st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0, 1)))
        if t in (0.0, 1.0):
            return parameter.high if t else parameter.low
        if parameter.log:
            value = parameter.low * math.exp(t * math.log(parameter.high / parameter.low))
        else:
            value = parameter.low + t * (parameter.high - parameter.low)
        return min(max(value, parameter.low), parameter.high)
    last = parameter.num_values - 1
    return parameter.value(draw(st.one_of(st.sampled_from([0, last]), st.integers(0, last))))


@st.composite
def spaces_and_params(draw, largest: int = 2**31 - 1):
    space = draw(spaces(largest))
    return space, {name: draw(native_values(parameter)) for name, parameter in space.items()}
