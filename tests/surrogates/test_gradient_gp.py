"""Gaussian processes of values and derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bojax import Categorical, Float, Space, Study, data
from bojax.loop import bayesopt, gradient_bayesopt
from bojax.study.records._gradients import cube_gradient
from bojax.surrogates import gp, gradient_gp, half_rank, matern52, rbf, warped
from bojax.surrogates._gradient_rows import rows_of
from bojax.surrogates.parts._kernels import KernelParams, LinearRows
from bojax.surrogates.parts._warping import WarpedParams
from tests.helpers import random_with_gradients, smooth

KERNELS = {"matern52": matern52(), "rbf": rbf(), "categorical": matern52(categorical_dims=(1,))}
DEFAULT = gradient_gp()  # one for all tests, so that equal shapes compile once
every_kernel = pytest.mark.parametrize("name", KERNELS)
PARAMS = KernelParams(np.log(np.array([0.3, 0.7, 1.2])), np.array(0.3))


def linear_rows(seed, n, categorical=False):
    rng = np.random.default_rng(seed)
    X, direction = rng.random((n, 3)), rng.normal(size=(n, 3))
    if categorical:
        X[:, 1], direction[:, 1] = rng.choice([0.25, 0.75], n), 0.0
    return LinearRows(jnp.asarray(X), jnp.asarray(rng.normal(size=n)), jnp.asarray(direction))


@pytest.mark.long
@every_kernel
def test_covariances_of_derivatives_are_derivatives_of_the_covariance(name, x64):
    kernel, A, B = KERNELS[name], linear_rows(0, 4, name == "categorical"), linear_rows(1, 5, name == "categorical")

    def k(x, z):
        return kernel.matrix(PARAMS, x[None], z[None])[0, 0]

    def entry(x, a, v, z, b, w):
        along_x, along_z = jax.grad(k, 0)(x, z), jax.grad(k, 1)(x, z)
        return a * b * k(x, z) + b * v @ along_x + a * w @ along_z + v @ jax.jacfwd(jax.grad(k, 0), 1)(x, z) @ w

    expected = jax.jit(jax.vmap(lambda *a: jax.vmap(lambda *b: entry(*a, *b))(*B)))(*A)
    np.testing.assert_allclose(kernel.derivatives(PARAMS, A, B), expected, rtol=1e-11, atol=1e-11)


@pytest.mark.long
@every_kernel
def test_coincident_points(name, x64):
    kernel, A = KERNELS[name], linear_rows(2, 6, name == "categorical")
    K = kernel.derivatives(PARAMS, A, A)
    np.testing.assert_allclose(K, K.T, atol=1e-12)
    assert np.linalg.eigvalsh(K).min() > 0
    # The variance of a derivative: -2 k'(0) / lengthscale^2.
    x = LinearRows(A.X[:1], jnp.zeros(1), jnp.array([[1.0, 0.0, 0.0]]))
    variance = (5 / 3 if name != "rbf" else 1.0) * np.exp(0.3) / 0.3**2
    np.testing.assert_allclose(kernel.derivatives(PARAMS, x, x), [[variance]], rtol=1e-12)


@pytest.mark.long
@every_kernel
def test_derivatives_of_a_warped_kernel(name, x64):
    fixed = (1,) if name == "categorical" else ()
    kernel, A, B = (
        warped(KERNELS[name], fixed_dims=fixed),
        linear_rows(0, 4, bool(fixed)),
        linear_rows(1, 5, bool(fixed)),
    )
    params = WarpedParams(PARAMS, jnp.array([0.4, -0.2, 0.3]), jnp.array([-0.3, 0.5, 0.1]))

    def value(t, s):
        return kernel.matrix(params, A.X + t * A.direction, B.X + s * B.direction)

    @jax.jit
    def slopes(t, s):
        return value(t, s), *jax.jacfwd(value, (0, 1))(t, s), jax.jacfwd(jax.jacfwd(value, 0), 1)(t, s)

    plain, along_a, along_b, both = slopes(0.0, 0.0)
    a, b = A.value[:, None], B.value[None, :]
    expected = a * b * plain + b * along_a + a * along_b + both
    np.testing.assert_allclose(jax.jit(kernel.derivatives)(params, A, B), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.long
@every_kernel
def test_derivatives_by_hyperparameters(name, x64):
    kernel, A = KERNELS[name], linear_rows(3, 5, name == "categorical")
    weights = jnp.asarray(np.random.default_rng(4).normal(size=(5, 5)))

    def total(log_lengthscale):
        return jnp.sum(weights * kernel.derivatives(PARAMS._replace(log_lengthscale=log_lengthscale), A, A))

    slope, step = jax.grad(total)(jnp.asarray(PARAMS.log_lengthscale)), 1e-5
    for i, unit in enumerate(np.eye(3)):
        moved = [total(PARAMS.log_lengthscale + sign * step * unit) for sign in (1, -1)]
        np.testing.assert_allclose(slope[i], (moved[0] - moved[1]) / (2 * step), rtol=1e-6, atol=1e-6)


def observations(n=8, capacity=8, seed=0, grads=True, wrong=False):
    X = np.random.default_rng(seed).random((n, 2))
    slope = jax.vmap(jax.grad(lambda x: smooth(x[None])[0]))(jnp.asarray(X))
    slope = -slope[:, ::-1] if wrong else slope
    grad = np.asarray(slope) if grads else np.full((n, 2), np.nan)
    return data.from_numpy(X, np.asarray(smooth(X)), capacity, "float64", grad=grad)


def fitted(surrogate, seen):
    params, info = surrogate.fit(jax.random.key(0), seen, surrogate.init(2, jnp.float64))
    return params, surrogate.posterior(params, seen), info


def queries():
    return jnp.asarray(np.random.default_rng(9).random((200, 2)))


def error(posterior):
    X = queries()
    return float(jnp.sqrt(jnp.mean((posterior.mean(X) - smooth(X)) ** 2)))


@pytest.mark.long
def test_gradients_teach(x64):
    _, with_grads, info = fitted(DEFAULT, observations(n=14, capacity=16))
    _, without, _ = fitted(gp(), observations(n=14, capacity=16, grads=False))
    assert info.ok and error(with_grads) < 0.6 * error(without)
    assert float(jnp.mean(with_grads.var(queries()))) < 0.5 * float(jnp.mean(without.var(queries())))


@pytest.mark.long
def test_without_gradients_it_is_the_plain_process(x64):
    seen = observations(grads=False)
    for transform in (None, half_rank):
        params, posterior, _ = fitted(gradient_gp(matern52(), fallback_transform=transform), seen)
        assert not params.believed
        values = seen.with_columns(grad=None)
        values = values if transform is None else values._replace(y=transform(values.y, values.mask))
        plain_params, plain, _ = fitted(gp(), values)
        for got, expected in zip(jax.tree.leaves(params.gp), jax.tree.leaves(plain_params), strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-8)
        for got, expected in zip(posterior.mean_var(queries()), plain.mean_var(queries()), strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.long
def test_wrong_gradients_are_switched_off(x64):
    seen = observations(n=16, capacity=16, wrong=True)
    params, misled, _ = fitted(DEFAULT, seen)
    trusting, right, _ = fitted(DEFAULT, observations(n=16, capacity=16))
    _, without, _ = fitted(gp(warped()), seen.with_columns(grad=None))
    assert not params.believed and trusting.believed
    assert error(right) < error(without)
    np.testing.assert_allclose(misled.mean(queries()), without.mean(queries()), rtol=1e-8, atol=1e-10)


@pytest.mark.long
def test_a_chaotic_gradient_is_left_out(x64):
    seen = observations(n=14, capacity=16)
    chaotic = seen.with_columns(grad=seen.columns["grad"].at[3].set(jnp.array([1e9, -1e7])))
    assert int(jnp.sum(rows_of(chaotic).mask)) == 14 * 3 - 2
    params, posterior, _ = fitted(DEFAULT, chaotic)
    assert params.believed
    without = seen.with_columns(grad=seen.columns["grad"].at[3].set(jnp.nan))
    np.testing.assert_array_equal(posterior.mean(queries()), fitted(DEFAULT, without)[1].mean(queries()))


@pytest.mark.long
@pytest.mark.parametrize("max_rows", [600, pytest.param(10, marks=pytest.mark.slow)])
def test_padding_and_missing_components_change_nothing(max_rows, x64):
    surrogate = gradient_gp(max_rows=max_rows)
    seen, padded = observations(), data.resize(observations(), 32)
    params, _, _ = fitted(surrogate, seen)
    for got, expected in zip(
        surrogate.posterior(params, padded).mean_var(queries()),
        surrogate.posterior(params, seen).mean_var(queries()),
        strict=True,
    ):
        np.testing.assert_allclose(got, expected, rtol=1e-8, atol=1e-10)
    partly = seen.with_columns(grad=seen.columns["grad"].at[:, 1].set(jnp.nan))
    assert int(jnp.sum(rows_of(partly, max_rows).mask)) == 16
    assert jnp.all(jnp.isfinite(surrogate.posterior(params, partly).mean(queries())))


@pytest.mark.long
def test_the_mean_has_the_gradients_that_were_told(x64):
    seen = observations()
    surrogate = DEFAULT
    params, posterior, _ = fitted(surrogate, seen)
    slopes = jax.vmap(jax.grad(lambda x: posterior.mean(x[None])[0]))(seen.X)
    np.testing.assert_allclose(slopes, seen.columns["grad"], atol=0.02 * float(jnp.max(jnp.abs(seen.columns["grad"]))))
    along = gradient_gp(max_rows=10)
    directional = along.posterior(params, seen)
    slopes = jax.vmap(jax.grad(lambda x: directional.mean(x[None])[0]))(seen.X)
    norm = jnp.linalg.norm(seen.columns["grad"], axis=1)
    np.testing.assert_allclose(
        jnp.sum(slopes * seen.columns["grad"], axis=1) / norm, norm, atol=0.02 * float(norm.max())
    )


def test_kernels_without_derivatives_are_refused():
    with pytest.raises(TypeError, match="`kernel` must have `derivatives`"):
        gradient_gp(matern52()._replace(derivatives=None))
    with pytest.raises(ValueError, match="`num_restarts`"):
        gradient_gp(num_restarts=0)


SPACE = Space(rate=Float(1e-4, 1e-1, log=True), decay=Float(-2.0, 6.0), kind=Categorical(["a", "b"]))


@pytest.mark.long
def test_native_gradients_in_the_cube(x64):
    def f(params):
        return jnp.log(params["rate"]) ** 2 + params["rate"] * params["decay"]

    x = np.array([0.3, 0.6, 0.25])
    expected = jax.grad(lambda x: f(SPACE.decode(x)))(jnp.asarray(x))
    params = SPACE.to_params(x)
    native = jax.grad(f)({name: params[name] for name in ("rate", "decay")})
    got = cube_gradient(SPACE, params, {name: float(value) for name, value in native.items()})
    np.testing.assert_allclose(got[:2], expected[:2], rtol=1e-6)
    assert np.isnan(got[2])


@pytest.mark.long
def test_states_keep_gradients(x64):
    algorithm = gradient_bayesopt(SPACE, capacity=4)
    state = algorithm.init(jax.random.key(0))
    X = SPACE.round(jnp.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.9]]))
    state = algorithm.tell(state, X, jnp.array([1.0, 2.0]), grad=jnp.array([[1.0, jnp.inf, 3.0], [4.0, 5.0, 6.0]]))
    nan = np.nan
    np.testing.assert_array_equal(state.observations.columns["grad"][:3], [[1.0, nan, nan], [4.0, 5.0, nan], [nan] * 3])
    with pytest.raises(ValueError, match="`grad` must have the shape of `X`"):
        algorithm.tell(state, X, jnp.array([1.0, 2.0]), grad=jnp.ones((2, 2)))
    plain = bayesopt(SPACE, capacity=4)
    with pytest.raises(ValueError, match="learns nothing from it"):
        plain.tell(plain.init(jax.random.key(0)), X, jnp.array([1.0, 2.0]), grad=jnp.ones((2, 3)))


def bowl(params):
    """A bowl in log(rate) and decay, and its native gradient."""
    log_rate = np.log10(params["rate"]) + 2.4
    slope = {"rate": 2 * log_rate / (params["rate"] * np.log(10)), "decay": 0.5 * (params["decay"] - 3.1)}
    return log_rate**2 + 0.25 * (params["decay"] - 3.1) ** 2, slope


def gradient_study(num_trials, storage=None):
    space = Space(rate=Float(1e-4, 1e-1, log=True), decay=Float(-2.0, 6.0))
    study = Study(space, storage=storage, name="bowl", seed=0, algorithm=with_gradients)
    for _ in range(num_trials):
        trial = study.ask()[0]
        value, slope = bowl(trial.params)
        study.tell(trial, value, grad=slope)
    return study


def with_gradients(space, q):
    return gradient_bayesopt(space, q=q)


@pytest.mark.long
def test_a_study_is_told_gradients_in_native_units(tmp_path):
    study = gradient_study(7)
    assert study.best_value < 0.02
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    gradient_study(5, storage)
    resumed = gradient_study(2, storage)
    assert [trial.params for trial in resumed.trials] == [trial.params for trial in study.trials]


def test_what_has_no_gradient_is_named():
    study = Study(SPACE, seed=0, algorithm=random_with_gradients)
    trial = study.ask()[0]
    for grad, words in (({"kind": 1.0}, "'kind', which is discrete"), ({"speed": 1.0}, "'speed', which the space")):
        with pytest.raises(ValueError, match=words):
            study.tell(trial, 1.0, grad=grad)
    with pytest.raises(TypeError):
        study.tell(trial, 1.0, grad={"rate": "steep"})
    assert study.tell(trial, 1.0, grad={"rate": np.nan, "decay": jnp.float32(2.0)}).state == "complete"
