"""Freeze-thaw: the kernel of learning curves, extrapolation, and the whole study on a toy training run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bojax
from bojax import data
from bojax.multifidelity._basket import Curves, observed_rows
from bojax.multifidelity._curve_kernel import CurveParams, decay, freeze_thaw_kernel
from bojax.multifidelity._freeze_thaw import check_rungs, freeze_thaw
from bojax.multifidelity._trainable import from_functions
from bojax.surrogates import gp

NUM_STEPS = 64
SPACE = bojax.Space(a=bojax.Float(0.0, 1.0), b=bojax.Float(0.0, 1.0), c=bojax.Float(0.0, 1.0))


def curve(hparams, t):
    """The asymptote minus what is left of the way, which shrinks at a rate of its own; t in steps."""
    asymptote = jnp.exp(-4.0 * ((hparams["a"] - 0.3) ** 2 + (hparams["b"] - 0.6) ** 2))
    rate = 2.0 + 18.0 * hparams["c"]
    return asymptote - (0.5 + 0.5 * asymptote) * jnp.exp(-rate * t / NUM_STEPS)


def toy(fails=None, space=SPACE, direction="maximize"):
    def evaluate(t, hparams):
        value = curve(hparams, t)
        value = value if fails is None else jnp.where(fails(hparams), jnp.nan, value)
        return {"score": value if direction == "maximize" else -value}

    return from_functions(
        space,
        init=lambda key, hparams: jnp.zeros(()),
        advance=lambda t, hparams, num_steps: t + num_steps,
        evaluate=evaluate,
        metric="score",
        direction=direction,
        num_steps=NUM_STEPS,
    )


def random_points(seed, num_members=6, times=(0.1, 0.3, 1.0)):
    X = np.random.default_rng(seed).random((num_members, 2))
    return np.array([[*x, t] for x in X for t in times])


def random_params(kernel, seed):
    params = kernel.init(3, jnp.float64)
    low, high = kernel.bounds(params)
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda p, a, b: jnp.clip(p + jnp.asarray(rng.normal(size=p.shape)), a, b), params, low, high)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(5))
def test_the_kernel_is_positive_definite(x64, seed):
    kernel = freeze_thaw_kernel()
    X = jnp.asarray(random_points(seed))
    params = random_params(kernel, seed)
    K = np.asarray(kernel.matrix(params, X, X))
    np.testing.assert_allclose(K, K.T, rtol=0, atol=1e-12 * K.max())
    assert np.linalg.eigvalsh(K).min() > -1e-10 * K.max()
    np.testing.assert_allclose(kernel.diagonal(params, X), np.diag(K), rtol=1e-12)


def test_the_decay_is_a_mixture_of_exponentials(x64):
    """The mean of exp(-r (t + u)) over rates r with a gamma law of shape a and rate b, by quadrature."""
    a, b, total = 1.7, 0.4, jnp.array([0.0, 0.3, 2.0])
    params = CurveParams((), *(jnp.log(jnp.asarray(v)) for v in (a, b, 2.5)))
    r = np.linspace(0.0, 120.0, 400_001)
    density = r ** (a - 1) * np.exp(-b * r)
    want = [2.5 * np.sum(density * np.exp(-r * s)) / np.sum(density) for s in np.asarray(total)]
    np.testing.assert_allclose(decay(params, total), want, rtol=1e-4)


def test_only_one_configuration_shares_a_decay(x64):
    kernel = freeze_thaw_kernel()
    params = kernel.init(2, jnp.float64)
    near, far = jnp.array([[0.3, 0.2]]), jnp.array([[0.3 + 1e-9, 0.2]])
    gap = kernel.matrix(params, near, near) - kernel.matrix(params, near, far)
    np.testing.assert_allclose(gap[0, 0], decay(params, jnp.asarray(0.4)), rtol=1e-6)


@pytest.mark.parametrize("x64_on", [False, True])
def test_gradients_are_finite(x64_on):
    with jax.enable_x64(x64_on):
        kernel = freeze_thaw_kernel(categorical_dims=(1,))
        X = jnp.asarray(random_points(0))
        params = kernel.init(3, X.dtype)

        def total(params):
            return jnp.sum(kernel.matrix(params, X, X)) + jnp.sum(kernel.diagonal(params, X)) + kernel.log_prior(params)

        value, gradient = jax.jit(jax.value_and_grad(total))(params)
        assert value.dtype == X.dtype == (jnp.float64 if x64_on else jnp.float32)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((value, gradient)))


@pytest.mark.long
def test_curves_are_extrapolated_better_than_by_their_last_value():
    surrogate = gp(freeze_thaw_kernel())
    errors, last_errors = [], []
    times = np.array([1, 2, 4, 8, 16]) / 16
    for seed in range(3):
        X = np.random.default_rng(seed).random((16, 3))
        hparams = {name: X[:, i : i + 1] for i, name in enumerate(SPACE.names)}
        Y = np.asarray(curve(hparams, NUM_STEPS * times[None, :]))
        upto = np.where(np.arange(16) < 4, 5, 3)  # four curves whole, the others to a quarter
        rows = [(i, j) for i in range(16) for j in range(upto[i])]
        points, y = np.array([[*X[i], times[j]] for i, j in rows]), np.array([Y[i, j] for i, j in rows])
        with bojax.host_scope():
            seen = data.from_numpy(points, y, 64, np.float64)
            params, _ = surrogate.fit(jax.random.key(0), seen, surrogate.init(4, jnp.float64))
            ends = jnp.asarray(np.column_stack([X[4:], np.ones(12)]))
            mean = np.asarray(surrogate.posterior(params, seen).mean(ends))
        errors.append(np.sqrt(np.mean((mean - Y[4:, -1]) ** 2)))
        last_errors.append(np.sqrt(np.mean((Y[4:, 2] - Y[4:, -1]) ** 2)))
    assert np.median(errors) < 0.5 * np.median(last_errors), (errors, last_errors)


@pytest.fixture(scope="module")
def studies():
    return [freeze_thaw(toy(), seed=seed, budget_steps=8 * NUM_STEPS) for seed in range(5)]


@pytest.mark.slow
def test_it_beats_random_search_of_full_runs(studies):
    random = []
    for seed in range(5):
        X = np.random.default_rng(seed).random((8, 3))
        random.append(np.max(curve({name: X[:, i] for i, name in enumerate(SPACE.names)}, NUM_STEPS)))
    found = [study.best_value for study in studies]
    assert np.median(found) > np.median(random) + 0.05, (found, random)


@pytest.mark.long
def test_budget_rungs_and_full_runs(studies):
    for study in studies:
        assert study.total_steps <= 8 * NUM_STEPS < study.total_steps + NUM_STEPS // 16
        assert set(study.steps) <= {4, 8, 16, 32, 64}
        assert study.steps.max() == NUM_STEPS
        assert study.num_members > 8
        for member in range(study.num_members):
            steps, values = study.curve(member)
            assert steps.tolist() == [4, 8, 16, 32, 64][: len(steps)]
            hparams = {name: study.X[member, i] for i, name in enumerate(SPACE.names)}
            np.testing.assert_allclose(values, curve(hparams, steps), atol=1e-5)


@pytest.mark.long
def test_the_seed_decides_everything(studies):
    again = freeze_thaw(toy(), seed=0, budget_steps=8 * NUM_STEPS)
    np.testing.assert_array_equal(again.X, studies[0].X)
    np.testing.assert_array_equal(again.values, studies[0].values)
    assert not np.array_equal(studies[0].X, studies[1].X)


@pytest.mark.long
def test_a_minimised_objective_is_the_same_study(studies):
    mirrored = freeze_thaw(toy(direction="minimize"), seed=0, budget_steps=8 * NUM_STEPS)
    np.testing.assert_array_equal(mirrored.X, studies[0].X)
    np.testing.assert_allclose(mirrored.best_value, -studies[0].best_value)


@pytest.mark.long
def test_failed_members_are_never_thawed():
    study = freeze_thaw(toy(fails=lambda h: h["a"] > 0.5), seed=0, budget_steps=4 * NUM_STEPS)
    failed = [m for m in range(study.num_members) if study.X[m, 0] > 0.5]
    assert failed
    for member in failed:
        steps, values = study.curve(member)
        assert steps.tolist() == [4] and not np.isfinite(values).any()
    assert np.isfinite(study.best_value)


@pytest.mark.long
def test_all_fail():
    study = freeze_thaw(toy(fails=lambda h: h["a"] >= 0.0), seed=0, budget_steps=NUM_STEPS)
    assert study.total_steps == NUM_STEPS
    assert not np.isfinite(study.values).any()


@pytest.mark.long
def test_a_small_finite_space_is_finished():
    space = bojax.Space(a=bojax.Ordinal([0.0, 1.0]), b=bojax.Categorical(["u", "v"]), c=bojax.Int(0, 1))
    study = freeze_thaw(toy(space=space), budget_steps=100 * NUM_STEPS, rungs=[16, 64])
    assert study.num_members == 8
    assert len(np.unique(study.X, axis=0)) == 8
    assert study.total_steps == 8 * NUM_STEPS


def test_rows_beyond_the_limit():
    values = np.array([[1.0, 2.0, 3.0], [0.5, np.nan, np.nan], [0.1, 0.2, np.nan]])
    curves = Curves(np.arange(3.0)[:, None], np.array([0.25, 0.5, 1.0]), np.array([3, 1, 2]), values)
    points, y = observed_rows(curves, 4)
    assert points.tolist() == [[0.0, 0.5], [0.0, 1.0], [1.0, 0.25], [2.0, 0.5]]
    assert y.tolist() == [2.0, 3.0, 0.5, 0.2]
    assert len(observed_rows(curves)[1]) == 6
    assert observed_rows(curves, 2)[1].tolist() == [3.0, 0.2]


def test_default_rungs():
    assert check_rungs(None, 64) == (4, 8, 16, 32, 64)
    assert check_rungs(None, 1) == (1,)
    assert check_rungs(None, 5) == (1, 2, 5)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"population": 0}, "population"),
        ({"num_initial": 0}, "num_initial"),
        ({"budget_steps": 3}, "budget_steps"),
        ({"rungs": [8, 4, 64]}, "rungs"),
        ({"rungs": [0, 64]}, "rungs"),
        ({"rungs": [8, 32]}, "rungs"),
        ({"rungs": []}, "rungs"),
    ],
)
def test_bad_arguments_are_named(arguments, name):
    with pytest.raises(ValueError, match=f"`{name}`"):
        freeze_thaw(toy(), **{"budget_steps": 512, **arguments})
