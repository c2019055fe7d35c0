"""The map between native values and the unit cube, over random spaces."""

import contextlib
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from scipy import stats

from bojax.space import Categorical, Float, Int, Ordinal, Space
from tests.space import strategies

# In float32 a log Int beyond about 150,000 cannot round-trip; float64 holds every int32.
LARGEST = {"float32": 100_000, "float64": 2**31 - 1}
TOLERANCE = {"float32": 2e-6, "float64": 1e-14}
DTYPES = ["float32", "float64"]
# Spaces that meet JAX have four columns: other shapes would only buy more compilations.
# A failure is not shrunk, for the same reason.
no_shrink = (Phase.explicit, Phase.reuse, Phase.generate)
few = settings(deadline=None, max_examples=10, phases=no_shrink)
many = settings(deadline=None, max_examples=150)

MIXED = Space(
    {
        "learning_rate": Float(1e-5, 1e-1, log=True),
        "momentum": Float(-3, 2),
        "width": Int(16, 512, log=True),
        "huge": Int(1, 2**31 - 1, log=True),
        "blocks": Int(-4, 8, step=3),
        "activation": Categorical(["relu", "gelu", None]),
        "quality": Ordinal([1, 2, 4, 8, 16]),
    }
)


@contextlib.contextmanager
def mode(dtype):
    """Runs JAX in the mode of `dtype`, and refuses every promotion of rank."""
    with jax.enable_x64(dtype == "float64"), jax.numpy_rank_promotion("raise"):
        yield


def cube(space, seed, n, dtype):
    """Points with the corners and faces of the cube among them."""
    rng = np.random.default_rng(seed)
    X = rng.uniform(size=(n, space.num_dims))
    X[: n // 4] = np.where(rng.uniform(size=X[: n // 4].shape) < 0.5, np.rint(X[: n // 4]), X[: n // 4])
    return jnp.asarray(X, dtype)


def is_float(space):
    return np.array([not parameter.num_values for parameter in space.parameters])


def check_params(space, got, expected):
    assert list(got) == list(space.names)
    for name, parameter in space.items():
        assert type(got[name]) is type(expected[name])
        if not parameter.num_values:
            assert parameter.low <= got[name] <= parameter.high
            scale = abs(expected[name]) if parameter.log else parameter.high - parameter.low
            assert abs(got[name] - expected[name]) <= 1e-12 * scale + 4e-16 * abs(expected[name])
            if expected[name] in (parameter.low, parameter.high):
                assert got[name] == expected[name]
        else:
            assert got[name] == expected[name]


@pytest.mark.long
@many
@given(strategies.spaces_and_params())
def test_params_come_back_from_the_cube(case):
    space, params = case
    x = space.from_params(params)
    assert x.dtype == np.float64 and x.shape == (space.num_dims,)
    assert ((x >= 0) & (x <= 1)).all()
    check_params(space, space.to_params(x), params)


@pytest.mark.long
@few
@given(strategies.spaces(num_dims=4), st.integers(0, 999))
def test_points_come_back_from_params_rounded(space, seed):
    with mode("float64"):
        for x in np.asarray(cube(space, seed, 8, "float64")):
            np.testing.assert_allclose(
                space.from_params(space.to_params(x)), np.asarray(space.round(x)), rtol=0, atol=1e-12
            )


@pytest.mark.long
@few
@given(strategies.spaces(num_dims=4), st.integers(0, 999))
def test_host_and_device_decode_alike(space, seed):
    with mode("float64"):
        X = cube(space, seed, 8, "float64")
        decoded = {name: np.asarray(column) for name, column in space.decode(X).items()}
    rows = [space.to_params(x) for x in np.asarray(X)]
    arrays = space.to_arrays(rows)
    for name, parameter in space.items():
        assert arrays[name].dtype == decoded[name].dtype
        if isinstance(parameter, Float):
            np.testing.assert_allclose(
                arrays[name], decoded[name], rtol=1e-13, atol=1e-15 * (parameter.high - parameter.low)
            )
        else:
            np.testing.assert_array_equal(arrays[name], decoded[name])


@pytest.mark.long
@pytest.mark.parametrize("dtype", DTYPES)
@few
@given(st.data(), st.integers(0, 999))
def test_encode_inverts_decode(dtype, data, seed):
    space = data.draw(strategies.spaces(LARGEST[dtype], num_dims=4))
    with mode(dtype):
        X = space.round(cube(space, seed, 12, dtype))
        params = space.decode(X)
        back = space.encode(params, dtype=dtype)
        again = space.decode(back)
        assert back.dtype == X.dtype
        fixed = ~is_float(space)
        np.testing.assert_array_equal(np.asarray(space.positions(back)), np.asarray(space.positions(X)))
        np.testing.assert_array_equal(np.asarray(back)[:, fixed], np.asarray(X)[:, fixed])
        for i, (name, parameter) in enumerate(space.items()):
            if parameter.num_values:
                np.testing.assert_array_equal(np.asarray(again[name]), np.asarray(params[name]))
                continue
            scale = max(abs(parameter.low), abs(parameter.high))
            rtol = TOLERANCE[dtype] * (1 + 2 * abs(math.log(scale))) if parameter.log else 0
            atol = 0 if parameter.log else TOLERANCE[dtype] * scale
            np.testing.assert_allclose(np.asarray(again[name]), np.asarray(params[name]), rtol=rtol, atol=atol)
            ends = np.isin(np.asarray(X)[:, i], (0.0, 1.0))
            np.testing.assert_array_equal(np.asarray(back)[ends, i], np.asarray(X)[ends, i])


@pytest.mark.parametrize("dtype", DTYPES)
@few
@given(strategies.spaces(num_dims=4), st.integers(0, 999))
def test_round_is_idempotent_and_keeps_the_value(dtype, space, seed):
    with mode(dtype):
        X = cube(space, seed, 12, dtype)
        once = space.round(X)
        np.testing.assert_array_equal(np.asarray(space.round(once)), np.asarray(once))
        np.testing.assert_array_equal(np.asarray(space.positions(once)), np.asarray(space.positions(X)))
        assert once.dtype == X.dtype
        assert ((once >= 0) & (once <= 1)).all()
        floats = is_float(space)
        np.testing.assert_array_equal(np.asarray(once)[:, floats], np.asarray(X)[:, floats])


@pytest.mark.parametrize("dtype", DTYPES)
@few
@given(st.data(), st.integers(0, 999))
def test_positions_invert_coordinates(dtype, data, seed):
    space = data.draw(strategies.spaces(LARGEST[dtype], num_dims=4))
    rng = np.random.default_rng(seed)
    sizes = np.maximum(np.array(space.num_values), 1)
    P = rng.integers(0, sizes, size=(12, space.num_dims)).astype(np.int32)
    P[0], P[1] = 0, sizes - 1
    with mode(dtype):
        X = cube(space, seed, 12, dtype)
        Y = space.coordinates(P, X)
        assert Y.dtype == X.dtype
        np.testing.assert_array_equal(np.asarray(space.positions(Y)), P)
        np.testing.assert_array_equal(np.asarray(space.round(Y)), np.asarray(Y))
        floats = is_float(space)
        np.testing.assert_array_equal(np.asarray(Y)[:, floats], np.asarray(X)[:, floats])


@pytest.mark.long
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("parameter", [Int(1, 150_000, log=True), Int(-500_000, 500_000), Int(3, 4099, log=True)])
def test_every_int_has_its_own_cell(dtype, parameter):
    space = Space(n=parameter)
    values = np.arange(parameter.low, parameter.high + 1, dtype=np.int32)
    with mode(dtype):
        X = jax.jit(lambda v: space.encode({"n": v}))(values)
        assert X.dtype == dtype
        np.testing.assert_array_equal(np.asarray(jax.jit(space.decode)(X)["n"]), values)
        once = jax.jit(space.round)(X)
        np.testing.assert_array_equal(np.asarray(jax.jit(space.round)(once)), np.asarray(once))


def test_float64_holds_the_largest_log_int_exactly():
    space = Space(n=Int(1, 2**31 - 1, log=True))
    values = np.concatenate([np.arange(1, 100), 2**31 - 1 - np.arange(1000)]).astype(np.int32)
    with mode("float64"):
        X = jax.jit(space.encode)({"n": values})
        np.testing.assert_array_equal(np.asarray(jax.jit(space.decode)(X)["n"]), values)
        np.testing.assert_array_equal(np.asarray(jax.jit(space.positions)(X))[:, 0], values - 1)
    assert [space.to_params(x)["n"] for x in np.asarray(X)] == values.tolist()


def test_columns_too_fine_for_float32_are_only_clipped():
    space = Space(even=Int(0, 2**31 - 2), log=Int(1, 2**31 - 1, log=True))
    with mode("float32"):
        X = jnp.array([[0.3, 0.7], [-1.0, 2.0]], jnp.float32)
        np.testing.assert_array_equal(np.asarray(jax.jit(space.round)(X)), [[np.float32(0.3), np.float32(0.7)], [0, 1]])
        decoded = jax.jit(space.decode)(jnp.array([[0.0, 0.0], [1.0, 1.0]], jnp.float32))
        assert decoded["even"].tolist() == [0, 2**31 - 2]
        assert decoded["log"].tolist() == [1, 2**31 - 1]


def test_cells_stand_where_the_design_says():
    space = Space(c=Categorical(["a", "cd"]), o=Ordinal([1, 2, 4, 8]), i=Int(0, 9), g=Int(2, 10, log=True))
    np.testing.assert_allclose(
        space.from_params({"c": "cd", "o": 4, "i": 7, "g": 5}),
        [0.75, 2.5 / 4, 7.5 / 10, math.log(5 / 1.5) / math.log(10.5 / 1.5)],
        rtol=1e-15,
    )
    # The upper end of the cell of 5 is the log of 5.5.
    edge = math.log(5.5 / 1.5) / math.log(10.5 / 1.5)
    assert space.to_params([0, 0, 0, edge - 1e-9])["g"] == 5
    assert space.to_params([0, 0, 0, edge + 1e-9])["g"] == 6


@pytest.mark.long
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
def test_floats_decode_within_their_bounds_and_meet_them(dtype):
    bounds = [(1e-5, 0.1), (0.1, 0.3), (0.7, 123.4)]
    space = Space(
        {f"{kind}{i}": Float(*b, log=kind == "log") for i, b in enumerate(bounds) for kind in ("even", "log")}
    )
    with mode(dtype):
        X = jnp.concatenate([cube(space, 0, 500, dtype), jnp.full((1, 6), -0.5, dtype), jnp.full((1, 6), 1.5, dtype)])
        decoded = space.decode(X)
        for name, parameter in space.items():
            column = np.asarray(decoded[name]).astype(np.float64)
            assert decoded[name].dtype == dtype
            assert (column >= parameter.low).all() and (column <= parameter.high).all()
            eps = float(jnp.finfo(dtype).eps)
            assert column[-2] == column.min() and column[-1] == column.max()
            # float16 has no number near 1e-5 that is not subnormal, with steps of 6e-8.
            np.testing.assert_allclose(column[-2], parameter.low, rtol=eps, atol=6e-8 if eps > 1e-4 else 0)
            np.testing.assert_allclose(column[-1], parameter.high, rtol=eps)


@pytest.mark.long
@pytest.mark.parametrize("dtype", DTYPES)
@settings(deadline=None, max_examples=4, phases=no_shrink)
@given(st.data(), st.integers(0, 999))
def test_jit_vmap_and_loop_agree_with_eager(dtype, data, seed):
    space = data.draw(strategies.spaces(LARGEST[dtype], num_dims=4))

    def everything(X):
        return space.round(X), space.positions(X), space.decode(X)

    # The tolerance for columns of the cube: the centers of large log Ints may differ in the last bit.
    atol = 4 * float(jnp.finfo(dtype).eps)
    with mode(dtype):
        X = cube(space, seed, 6, dtype)
        rounded, positions, decoded = everything(X)
        loop = jax.tree.map(lambda *rows: np.stack(rows), *[everything(x) for x in X])
        for other in (jax.jit(everything)(X), jax.jit(jax.vmap(everything))(X), loop):
            np.testing.assert_allclose(np.asarray(other[0]), np.asarray(rounded), rtol=0, atol=atol)
            np.testing.assert_array_equal(np.asarray(other[1]), np.asarray(positions))
            for name, column in other[2].items():
                assert column.dtype == decoded[name].dtype
                parameter, expected = space[name], np.asarray(decoded[name])
                if isinstance(parameter, Float):
                    scale = max(abs(parameter.low), abs(parameter.high))
                    np.testing.assert_allclose(np.asarray(column), expected, rtol=64 * atol, atol=atol * scale)
                else:
                    np.testing.assert_array_equal(np.asarray(column), expected)


@pytest.mark.long
@pytest.mark.parametrize("dtype", DTYPES)
def test_rounding_is_the_same_bit_for_bit_in_every_form(dtype):
    space = Space(w=Int(16, 512, log=True), n=Int(1, 4096, log=True), k=Int(-5, 6), c=Categorical(["a", "b", "c"]))
    with mode(dtype):
        X = cube(space, 0, 64, dtype)
        eager = np.asarray(space.round(X))
        forms = [jax.jit(space.round)(X), jax.vmap(space.round)(X), jnp.stack([space.round(x) for x in X[:9]])]
        for other in forms:
            np.testing.assert_array_equal(np.asarray(other), eager[: len(other)])
        if dtype == "float64":
            host = np.stack([space.from_params(space.to_params(x)) for x in np.asarray(X)])
            np.testing.assert_array_equal(host, eager)


def test_leading_axes_may_be_any():
    with mode("float64"):  # float32 does not hold every position of `huge`
        X = jax.random.uniform(jax.random.key(0), (2, 3, 4, MIXED.num_dims))
        decoded = jax.jit(MIXED.decode)(X)
        assert {column.shape for column in decoded.values()} == {(2, 3, 4)}
        back = jax.jit(MIXED.encode)(decoded)
        np.testing.assert_array_equal(
            np.asarray(jax.jit(MIXED.positions)(back)), np.asarray(jax.jit(MIXED.positions)(X))
        )
        assert jax.eval_shape(MIXED.round, X).shape == X.shape
        assert jax.eval_shape(MIXED.decode, X[:0])["width"].shape == (0, 3, 4)
        one = jax.eval_shape(MIXED.positions, X[0, 0, 0])
        assert one.shape == (MIXED.num_dims,)
        P = jnp.zeros((1, MIXED.num_dims), int)
        assert jax.eval_shape(MIXED.coordinates, P, X[0, 0]).shape == X[0, 0].shape


@pytest.mark.long
def test_encode_broadcasts_clips_and_chooses_its_dtype():
    space = Space(x=Float(0, 1), n=Int(1, 5), c=Categorical(["a", "b"]))
    with mode("float32"):
        X = space.encode({"x": jnp.array([0.25, 7.0]), "n": 99, "c": jnp.array(1)})
        np.testing.assert_allclose(np.asarray(X), [[0.25, 0.9, 0.75], [1.0, 0.9, 0.75]], rtol=2e-7)
        assert jax.eval_shape(space.encode, {"x": jnp.bfloat16(0.5), "n": 1, "c": 0}).dtype == jnp.bfloat16
        assert jax.eval_shape(space.encode, {"x": 1, "n": 1.0, "c": 0}).dtype == jnp.float32
        whole = Space(n=Int(0, 3))
        assert jax.eval_shape(whole.encode, {"n": jnp.arange(4)}).dtype == jnp.float32
        half = jax.eval_shape(lambda n: whole.encode({"n": n}, dtype=jnp.float16), jnp.arange(4))
        assert half.dtype == jnp.float16
    with mode("float64"):
        assert jax.eval_shape(space.encode, {"x": jnp.float32(0.5), "n": 1, "c": 0}).dtype == jnp.float32
        assert jax.eval_shape(whole.encode, {"n": jnp.arange(4)}).dtype == jnp.float64


@pytest.mark.parametrize("x", [0.0, 0.3, 1.0])
def test_the_derivative_of_decode_is_right_up_to_the_bounds(x):
    space = Space(even=Float(-3, 2), log=Float(1e-4, 1e-1, log=True), n=Int(1, 9, log=True))
    with mode("float64"):
        point = jnp.array([x, x, x])
        floats = jax.jit(lambda x: {name: space.decode(x)[name] for name in ("even", "log")})
        slopes, value = jax.jit(jax.jacobian(floats))(point), floats(point)["log"]
        np.testing.assert_allclose(slopes["even"], [5, 0, 0], rtol=1e-14)
        np.testing.assert_allclose(slopes["log"], [0, value * math.log(1e3), 0], rtol=1e-14)
        slope = jax.jit(jax.jacobian(space.round))(point)
        np.testing.assert_array_equal(slope, np.diag([1.0, 1.0, 0.0]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_samples_are_uniform_over_the_cells(dtype):
    n = 4000
    with mode(dtype):
        X = jax.jit(MIXED.sample, static_argnums=1)(jax.random.key(7), n)
        assert X.dtype == dtype and X.shape == (n, MIXED.num_dims)
        half = jax.eval_shape(lambda key: MIXED.sample(key, 3, dtype=jnp.float16), jax.random.key(7))
        assert half.dtype == jnp.float16
        np.testing.assert_array_equal(np.asarray(jax.jit(MIXED.round)(X)), np.asarray(X))
        P = np.asarray(jax.jit(MIXED.positions)(X))
        X = np.asarray(X, np.float64)
    assert ((X >= 0) & (X <= 1)).all()
    columns = dict(zip(MIXED.names, P.T, strict=True))
    # The chance that a right sampler fails one of these at the fixed key is 1e-3.
    for name in ("blocks", "activation", "quality"):
        assert stats.chisquare(np.bincount(columns[name], minlength=MIXED[name].num_values)).pvalue > 1e-3
    edges = np.log(np.arange(16, 514) - 0.5)
    expected = n * np.diff(edges) / (edges[-1] - edges[0])
    group = np.arange(497) // 10  # so that every count is large enough
    seen = np.bincount(columns["width"], minlength=497)
    assert stats.chisquare(np.bincount(group, seen), np.bincount(group, expected)).pvalue > 1e-3
    for i in (0, 1):
        assert stats.kstest(X[:, i], "uniform").pvalue > 1e-3


def test_a_space_is_static_in_compiled_code():
    traces = 0

    def width(space, X):
        nonlocal traces
        traces += 1
        return space.decode(X)["width"]

    compiled = jax.jit(width, static_argnums=0)
    X = jnp.full((2, MIXED.num_dims), 0.5)
    compiled(MIXED, X)
    compiled(Space(dict(MIXED.items())), X)
    assert traces == 1


def test_padding_rows_and_nan_give_values_that_exist():
    with mode("float32"):
        decoded = MIXED.decode(jnp.full((1, MIXED.num_dims), jnp.nan))
        for name, parameter in MIXED.items():
            if isinstance(parameter, Int):
                assert parameter.low <= int(decoded[name][0]) <= parameter.high
            elif not isinstance(parameter, Float):
                assert 0 <= int(decoded[name][0]) < parameter.num_values
