"""Constraints of a space: what is accepted, which points are feasible, and where feasible points are found."""

import copy
import json
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bojax
from bojax.space import CONSTRAINTS, Lattice, describes

SQUARE = {"a": bojax.Float(0.0, 1.0), "b": bojax.Float(0.0, 1.0)}
NUM_POINTS = 400


def in_disk(params):
    return 0.25 - (params["a"] - 0.5) ** 2 - (params["b"] - 0.5) ** 2


def below_half(params):
    return 0.5 - params["a"]


def anchors_of(space):
    assert space.region is not None
    return space.region.anchors


def simplex(num_dims, total):
    names = [f"x{i}" for i in range(num_dims)]
    return bojax.Space(
        {name: bojax.Float(0.0, 1.0) for name in names},
        constraints=[bojax.linear(dict.fromkeys(names, 1.0), at_most=total)],
    )


SPACES = {
    "disk": lambda: bojax.Space(SQUARE, constraints=[in_disk]),
    "linear": lambda: bojax.Space(SQUARE, constraints=[bojax.linear({"a": 2, "b": 1}, at_least=0.5, at_most=1.0)]),
    "tight": lambda: simplex(3, 0.18),
    "mixed": lambda: bojax.Space(
        {
            "a": bojax.Float(1e-3, 1.0, log=True),
            "n": bojax.Int(1, 64, log=True),
            "c": bojax.Categorical(["u", "v", "w"]),
            "d": bojax.Ordinal([1, 2, 4, 8]),
        },
        constraints=[bojax.linear({"a": 16, "n": 1}, at_most=24), lambda p: 3.0 - p["c"] - p["d"]],
    ),
    "conditional": lambda: bojax.Space(
        {
            "kind": bojax.Categorical(["a", "b"]),
            "x": bojax.Float(0.0, 1.0),
            "y": bojax.Float(0.5, 1.0, when={"kind": "b"}),
        },
        constraints=[bojax.linear({"x": 1, "y": 1}, at_most=1.2)],
    ),
    "finite": lambda: bojax.Space(
        {"a": bojax.Int(0, 9), "b": bojax.Float(0.0, 1.0, step=0.1)},
        constraints=[bojax.linear({"a": 0.1, "b": 1.0}, at_most=0.3)],
    ),
}


def truth(name, params):
    """Whether decoded parameters are feasible, written anew in NumPy."""
    a, b = params.get("a"), params.get("b")
    match name:
        case "disk":
            return (a - 0.5) ** 2 + (b - 0.5) ** 2 <= 0.25
        case "linear":
            return (2 * a + b >= 0.5) & (2 * a + b <= 1.0)
        case "tight":
            return params["x0"] + params["x1"] + params["x2"] <= 0.18
        case "mixed":
            return (16 * a + params["n"] <= 24) & (params["c"] + params["d"] <= 3)
        case "conditional":
            return params["x"] + params["y"] <= 1.2
        case _:
            return a + np.rint(10 * b) <= 3


@pytest.mark.long
@pytest.mark.parametrize("name", list(SPACES))
def test_feasible_points_are_those_that_satisfy_the_constraints(name):
    space = SPACES[name]()
    X = np.random.default_rng(0).random((NUM_POINTS, space.num_dims))
    with jax.enable_x64(True):
        decoded = {key: np.asarray(value) for key, value in space.decode(jnp.asarray(X)).items()}
        found = np.asarray(space.is_feasible(jnp.asarray(X)))
        assert (found == truth(name, decoded)).all()
        lattice = Lattice.of(space)
        # What may be suggested is feasible in a stricter sense, on the host as in compiled code.
        inside = lattice.is_inside(lattice.snap(X))
        assert isinstance(inside, np.ndarray) and not (inside & ~found).any()
        assert (np.asarray(jax.jit(lambda X: lattice.is_inside(lattice.snap(X)))(X)) == inside).all()


@pytest.mark.long
@pytest.mark.parametrize("name", list(SPACES))
def test_samples_are_feasible_and_vary(name):
    space = SPACES[name]()
    with jax.enable_x64(True):
        X = space.sample(jax.random.key(0), 64)
        assert X.shape == (64, space.num_dims) and bool(space.is_feasible(X).all())
        assert len(np.unique(np.asarray(X), axis=0)) >= (8 if name == "finite" else 60)
        other = space.sample(jax.random.key(1), 64)
        assert not np.array_equal(np.asarray(X), np.asarray(other))


def test_anchors_of_a_tight_simplex_fill_it_evenly():
    space = simplex(4, 0.1)  # a share of 4e-6 of the cube
    sums = anchors_of(space).points.sum(axis=1)
    assert (sums <= 0.1).all()
    # The sum of a uniform point has the distribution function (s / 0.1)^4.
    uniform = np.sort((sums / 0.1) ** 4)
    assert np.abs(uniform - np.linspace(0, 1, len(uniform))).max() < 0.15
    X = space.sample(jax.random.key(0), 256)
    uniform = np.sort((np.asarray(X).sum(axis=1) / 0.1) ** 4)
    assert np.abs(uniform - np.linspace(0, 1, len(uniform))).max() < 0.15


def test_a_thin_curve_is_found():
    space = bojax.Space(SQUARE, constraints=[lambda p: 1e-5 - jnp.abs(p["a"] - p["b"] ** 2)])
    points = anchors_of(space).points
    assert (np.abs(points[:, 0] - points[:, 1] ** 2) <= 1.0001e-5).all()


def test_infeasible_points_of_a_finite_space_do_not_exist():
    space = SPACES["finite"]()
    assert space.cardinality == 10
    feasible = space.feasible_points()
    assert feasible is not None and len(feasible) == 10 == Lattice.of(space).kind.max_points
    # 0.1 * 1 + 0.2 is above 0.3 by rounding.
    assert space.broken_by({"a": 1, "b": 0.2}) is None
    large = bojax.Space({f"n{i}": bojax.Int(0, 100) for i in range(6)}, constraints=[lambda p: 9 - p["n0"] - p["n1"]])
    assert large.cardinality == 101**6 and large.feasible_points() is None


def test_a_space_without_a_feasible_point_says_how_many_were_tried():
    with pytest.raises(bojax.BojaxError, match=r"65536 random points and 25600 points of a search"):
        bojax.Space(SQUARE, constraints=[lambda p: -1e-3 - p["a"]])
    with pytest.raises(bojax.BojaxError, match="none of the 4 points"):
        bojax.Space({"n": bojax.Int(1, 4)}, constraints=[bojax.linear({"n": 1}, at_least=5)])


@pytest.mark.parametrize(
    "constraint, error, text",
    [
        (lambda p: p["a"] > 0.5, TypeError, r"constraint 0 \(<lambda>\).*gave a bool"),
        (lambda p: jnp.stack([p["a"], p["b"]]), TypeError, r"array of shape \[2\]"),
        (lambda p: p["a"] * 1j, TypeError, "complex"),
        (lambda p: "text", TypeError, "raised"),
        (lambda p: p["zzz"], TypeError, "KeyError: 'zzz'"),
        (lambda p: float(p["a"]), TypeError, "traceable"),
        (lambda p: jnp.sqrt(p["a"] - 0.5), ValueError, r"is NaN at \{'a'"),
        (3, TypeError, r"constraints\[0\]"),
        (bojax.linear({"z": 1}, at_most=1), ValueError, "got 'z'"),
    ],
)
def test_bad_constraints_are_named(constraint, error, text):
    with pytest.raises(error, match=text):
        bojax.Space(SQUARE, constraints=[constraint])


def test_bad_lists_and_choices_are_named():
    with pytest.raises(TypeError, match="must be a list"):
        bojax.Space(SQUARE, constraints=in_disk)  # type: ignore[arg-type]
    choice = {"c": bojax.Categorical(["u", "v"])}
    with pytest.raises(TypeError, match="compared with 'u'"):
        bojax.Space(choice, constraints=[lambda p: jnp.where(p["c"] == "u", 1.0, -1.0)])
    with pytest.raises(ValueError, match="position"):
        bojax.Space(choice, constraints=[bojax.linear({"c": 1}, at_most=1)])
    with pytest.raises(ValueError, match=CONSTRAINTS):
        bojax.Space({CONSTRAINTS: bojax.Float(0.0, 1.0)})


@pytest.mark.parametrize(
    "given, error, text",
    [
        (({"a": 1},), ValueError, "neither"),
        (({"a": 0},), ValueError, "other than 0"),
        ((["a"],), TypeError, "must map"),
        (({"a": "1"},), TypeError, "must be a number"),
        (({"a": float("nan")},), ValueError, "finite"),
    ],
)
def test_bad_linear_constraints(given, error, text):
    with pytest.raises(error, match=text):
        bojax.linear(*given)


def test_an_equality_is_refused_with_the_way_out():
    with pytest.raises(ValueError, match="solve it for one parameter"):
        bojax.linear({"a": 1}, at_least=1.0, at_most=1.0)
    with pytest.raises(ValueError, match="`at_least` must be below"):
        bojax.linear({"a": 1}, at_least=2.0, at_most=1.0)


def test_integer_margins_are_numbers():
    space = bojax.Space({"m": bojax.Int(1, 3), "n": bojax.Int(1, 3)}, constraints=[lambda p: 4 - p["m"] * p["n"]])
    assert space.cardinality == 6


def test_spaces_are_equal_if_their_constraints_are():
    def below(total):
        return lambda p: total - p["a"] - p["b"]

    by_function = [bojax.Space(SQUARE, constraints=[below(total)]) for total in (1.0, 1.0, 1.5)]
    assert by_function[0] == by_function[1] and hash(by_function[0]) == hash(by_function[1])
    assert by_function[0] != by_function[2] != bojax.Space(SQUARE)
    linear = SPACES["linear"]()
    assert linear == SPACES["linear"]() != bojax.Space(SQUARE)
    assert "linear(" in repr(linear) and "in_disk" in repr(SPACES["disk"]())


@pytest.mark.parametrize("name", ["disk", "linear"])
def test_copies_keep_constraints_and_anchors(name):
    space = SPACES[name]()
    for copied in (copy.deepcopy(space), pickle.loads(pickle.dumps(space))):
        assert copied == space
        assert np.array_equal(anchors_of(copied).points, anchors_of(space).points)


def test_plain_data_hold_linear_constraints_and_name_functions():
    linear = SPACES["linear"]()
    spec = json.loads(json.dumps(linear.to_spec()))
    assert spec[CONSTRAINTS] == [{"type": "linear", "weights": {"a": 2.0, "b": 1.0}, "at_most": 1.0, "at_least": 0.5}]
    assert bojax.Space.from_spec(spec) == linear == bojax.space.to_space(spec)
    assert describes(spec, linear) and not describes(spec, bojax.Space(SQUARE))

    disk = SPACES["disk"]()
    spec = json.loads(json.dumps(disk.to_spec()))
    assert spec[CONSTRAINTS] == [{"type": "function", "name": "in_disk"}]
    assert describes(spec, disk)
    with pytest.raises(ValueError, match="not stored"):
        bojax.Space.from_spec(spec)
    with pytest.raises(ValueError, match="below_half"):
        bojax.Space.from_spec(spec, functions=[below_half])
    assert bojax.Space.from_spec(spec, functions=[in_disk]) == disk


def test_the_broken_constraint_is_named():
    space = bojax.Space(SQUARE, constraints=[below_half, bojax.linear({"b": 1}, at_most=0.5)])
    assert space.broken_by({"a": 0.1, "b": 0.1}) is None
    assert space.broken_by({"a": 0.9, "b": 0.1}) == "constraint 0 (below_half)"
    assert space.broken_by({"a": 0.1, "b": 0.9}) == "constraint 1 (linear({'b': 1.0}, at_most=0.5))"


@pytest.mark.parametrize("name", list(SPACES))
def test_infeasible_points_are_moved_inside(name):
    space = SPACES[name]()
    lattice = Lattice.of(space)
    X = lattice.snap(np.random.default_rng(1).random((64, space.num_dims)))
    was = lattice.is_inside(X)
    assert not was.all()
    for moved in (lattice.repaired(X), lattice.spread(X), lattice.pulled(X, anchors_of(space).points[0])):
        assert lattice.is_inside(moved).all()
        assert np.array_equal(moved[was], X[was])


def test_repaired_points_lie_at_the_boundary():
    space = SPACES["disk"]()
    moved = space.decode(Lattice.of(space).repaired(np.array([[0.99, 0.9], [0.02, 0.1]])))
    assert np.allclose(in_disk(moved), 0.0, atol=1e-5) and (np.asarray(in_disk(moved)) >= 0).all()


def test_padded_columns_give_the_same_margins():
    for name in ("linear", "tight", "finite", "conditional"):
        space = SPACES[name]()
        exact, padded = Lattice.of(space), Lattice.padded(space)
        X = np.random.default_rng(2).random((32, space.num_dims))
        wide = np.pad(X, ((0, 0), (0, padded.num_dims - space.num_dims)), constant_values=0.5)
        m = exact.margins(X).shape[1]
        assert np.allclose(padded.margins(wide)[:, :m], exact.margins(X), atol=1e-12)
        assert (padded.margins(wide)[:, m:] > 0).all()
        assert (padded.is_inside(wide) == exact.is_inside(X)).all()
    with pytest.raises(ValueError, match="linear constraints only"):
        Lattice.padded(SPACES["disk"]())


def test_held_coordinates_leave_feasible_points_or_an_error():
    space = simplex(3, 0.18)
    lattice = Lattice.of(space)
    held = np.array([0.17, np.nan, np.nan])
    there = lattice.hold(held)
    assert there.feasible is not None
    points = there.feasible.anchors
    assert (points[:, 0] == 0.17).all() and there.is_inside(points).all()
    assert len(np.unique(points, axis=0)) > 100
    with pytest.raises(bojax.BojaxError, match="held values"):
        lattice.hold(np.array([0.19, np.nan, np.nan]))


def test_held_coordinates_in_compiled_code():
    lattice = Lattice.of(simplex(3, 0.18))

    @jax.jit
    def anchors(held):
        there = lattice.hold(held)
        assert there.feasible is not None
        return there.feasible.anchors, there.feasible.count

    with jax.enable_x64(True):
        points, count = anchors(jnp.array([0.1799, jnp.nan, jnp.nan]))
        points = np.asarray(points[:count])
        assert count > 0 and (points[:, 0] == 0.1799).all() and (points.sum(axis=1) <= 0.18).all()
        assert anchors(jnp.array([0.19, jnp.nan, jnp.nan]))[1] == 0
