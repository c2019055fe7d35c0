"""Algorithms that move inner parameters and hyperparameters together."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bojax import hypergrad as hg
from tests.hypergrad import problems
from tests.hypergrad.problems import relative_error


def quadratic(seed=0, p=6, k=4):
    """L = 1/2 (w - B h)^T A (w - B h), F = 1/2 |w - t|^2 + 1/2 c |h|^2: w* = B h, and the best h in closed form."""
    rng = np.random.default_rng(seed)
    Q = np.linalg.qr(rng.normal(size=(p, p)))[0]
    A = Q @ np.diag(np.linspace(0.5, 2.0, p)) @ Q.T
    B, t = rng.normal(size=(p, k)) / np.sqrt(p), rng.normal(size=p)
    best = np.linalg.solve(B.T @ B + 0.1 * np.eye(k), B.T @ t)

    def inner(w, h, noise):
        r = w - jnp.asarray(B) @ h
        return 0.5 * r @ jnp.asarray(A) @ r + noise @ w

    def outer(w, h, noise):
        return 0.5 * jnp.sum((w - t) ** 2) + 0.05 * jnp.sum(h**2) + noise @ w

    def gap(h):
        value = lambda h: 0.5 * np.sum((B @ h - t) ** 2) + 0.05 * np.sum(h**2)  # noqa: E731
        return value(np.asarray(h)) - value(best)

    return inner, outer, jnp.zeros(p), jnp.zeros(k), gap


def run_soba(num_steps, sigma, **kwargs):
    inner, outer, w0, h0, gap = quadratic()
    algorithm = hg.soba(inner, outer, **kwargs)
    noise = sigma * jax.random.normal(jax.random.key(0), (num_steps, 2, len(w0)), w0.dtype)
    end, info = jax.jit(lambda s: jax.lax.scan(lambda s, e: algorithm.step(s, e[0], e[1]), s, noise))(
        algorithm.init(w0, h0)
    )
    return gap(h0), gap(end.hparams), info


def test_soba_reaches_the_optimum(x64):
    before, after, info = run_soba(3000, 0.0, inner_optimizer=optax.sgd(0.5), outer_optimizer=optax.sgd(0.1))
    assert before > 0.1 and after < 1e-10
    assert info.inner_grad_norm[-1] < 1e-6 and info.adjoint_residual[-1] < 1e-6


@pytest.mark.long
def test_soba_with_noise_and_falling_rates(x64):
    rates = lambda a: optax.sgd(lambda t: a / (1 + t / 100) ** 0.6)  # noqa: E731
    settings = {"inner_optimizer": rates(0.5), "outer_optimizer": rates(0.1)}
    _, noisy, _ = run_soba(6000, 0.3, **settings)
    _, averaged, _ = run_soba(6000, 0.3, averaging=0.1, **settings)
    assert noisy < 1e-2 and averaged < 1e-2


@pytest.mark.long
def test_a_soba_step_at_the_solution_sees_the_hypergradient(x64):
    """With w and v solved for, the direction of h is the implicit hypergradient."""
    known = problems.logistic()
    result = hg.hypergradient(known.inner_loss, known.outer_loss)(
        known.hparams, known.params0, known.inner_data, known.outer_data
    )
    sgd = optax.sgd(0.1)
    algorithm = hg.soba(known.inner_loss, known.outer_loss, inner_optimizer=sgd, outer_optimizer=sgd)
    state = algorithm.init(result.params, known.hparams)._replace(adjoint=result.adjoint)
    _, info = algorithm.step(state, known.inner_data, known.outer_data)
    assert relative_error(info.grad, result.grad) < 1e-9


def rate(h):
    return optax.sgd(jnp.exp(h["log_lr"]), momentum=0.8)


@pytest.mark.long
def test_online_with_full_memory_and_fixed_hparams_is_forward_mode(x64):
    """If hparams does not move, Z at decay 1 is the derivative of the whole run."""
    known = problems.mlp(dtype=jnp.float64)
    algorithm = hg.online(known.inner_loss, known.outer_loss, rate, optax.sgd(0.0), decay=1.0)
    step = lambda s, _: algorithm.step(s, known.inner_data, known.outer_data)  # noqa: E731
    start = algorithm.init(known.params0, known.hparams)
    _, info = jax.jit(lambda s: jax.lax.scan(step, s, length=25))(start)
    fn = hg.hypergradient(known.inner_loss, known.outer_loss, method=hg.Forward(rate, 25))
    whole = fn(known.hparams, known.params0, known.inner_data, known.outer_data)
    last = jax.tree.map(lambda a: a[-1], info.grad)
    assert relative_error(last, whole.grad) < 1e-12
    assert info.value[-1] == pytest.approx(float(whole.value), rel=1e-12)


@pytest.mark.long
def test_online_without_memory_is_hypergradient_descent(x64):
    """d F(w - alpha g) / d alpha = -g . g' with g' the gradient at the next point."""
    loss = lambda w, h, data: 0.5 * jnp.sum(jnp.arange(1.0, 4.0) * w**2)  # noqa: E731
    algorithm = hg.online(loss, loss, lambda h: optax.sgd(h), optax.sgd(1e-3))
    state = algorithm.init(jnp.ones(3), 0.1)
    scale = np.arange(1.0, 4.0)
    w, h = np.ones(3), 0.1
    for _ in range(4):
        state, info = algorithm.step(state, None, None)
        g = scale * w
        w = w - h * g
        np.testing.assert_allclose(info.grad, -g @ (scale * w), rtol=1e-12)
        h = h + 1e-3 * (g @ (scale * w))
        np.testing.assert_allclose(state.hparams, h, rtol=1e-12)


@pytest.mark.long
@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_online_raises_a_rate_that_is_too_small(decay):
    known = problems.mlp()
    make = lambda h: optax.adam(jnp.exp(h["log_lr"]), eps_root=1e-12)  # noqa: E731
    inner = known.outer_loss
    data = known.inner_data

    def train(outer_rate):
        algorithm = hg.online(inner, inner, make, optax.adam(outer_rate), decay=decay)
        step = lambda s, _: algorithm.step(s, data, data)  # noqa: E731
        return jax.jit(lambda s: jax.lax.scan(step, s, length=80))(algorithm.init(known.params0, {"log_lr": -8.0}))

    (_, fixed), (end, tuned) = train(0.0), train(0.05)
    assert tuned.value[-1] < 0.9 * fixed.value[-1]
    assert end.hparams["log_lr"] > -8.0 and not tuned.skipped.any()


def test_a_leaf_that_nothing_reads_is_an_error():
    sgd = optax.sgd(0.1)
    loss = lambda w, h, data: jnp.sum(w**2) * h["a"]  # noqa: E731
    for algorithm in (
        hg.online(loss, loss, lambda h: optax.sgd(h["lr"]), sgd),
        hg.soba(loss, loss, inner_optimizer=sgd, outer_optimizer=sgd),
    ):
        state = algorithm.init(jnp.ones(2), {"a": 1.0, "lr": 0.1, "unused": 1.0})
        with pytest.raises(hg.InertHyperparameterError, match="unused"):
            algorithm.step(state, None, None)


def test_mistakes():
    sgd = optax.sgd(0.1)
    loss = lambda w, h, data: jnp.sum(w) * h  # noqa: E731
    with pytest.raises(ValueError, match="decay"):
        hg.online(loss, loss, lambda h: sgd, sgd, decay=1.5)
    with pytest.raises(ValueError, match="averaging"):
        hg.soba(loss, loss, inner_optimizer=sgd, outer_optimizer=sgd, averaging=0.0)
    with pytest.raises(hg.NonDifferentiableHyperparameterError):
        hg.soba(loss, loss, inner_optimizer=sgd, outer_optimizer=sgd).init(jnp.ones(2), 1)
