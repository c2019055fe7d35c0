"""Differentiated training runs: closed forms, agreement of the modes, hyperparameters of optimizers, memory."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bojax import hypergrad as hg
from tests.hypergrad import problems, tables
from tests.hypergrad.problems import call, float64_mlp, hypergradient, relative_error, richardson, sgd_of


@pytest.mark.long
@pytest.mark.parametrize("mode", ["mixflow", "plain", "forward"])
def test_gradient_descent_on_a_quadratic(x64, mode):
    """w_T = A^-1 c + (I - eta A)^T (w_0 - A^-1 c), with its derivatives by eta, c and w_0 written out."""
    T, eta = 7, 0.3
    rng = np.random.default_rng(0)
    Q = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    A = Q @ np.diag([0.5, 1.0, 1.5, 2.0]) @ Q.T
    c, w0, target = rng.normal(size=(3, 4))

    inner = lambda w, h, data: 0.5 * w @ jnp.asarray(A) @ w - h["c"] @ w  # noqa: E731
    outer = lambda w, h, data: 0.5 * jnp.sum((w - target) ** 2)  # noqa: E731
    make = lambda h: optax.sgd(h["eta"])  # noqa: E731
    method = hg.Forward(make, T, chunk=4) if mode == "forward" else hg.Unrolled(make, T, backprop=mode)
    hparams = {"c": jnp.asarray(c), "eta": jnp.asarray(eta), "w0": jnp.asarray(w0)}
    result = jax.jit(lambda h: hg.hypergradient(inner, outer, method=method)(h, lambda h: h["w0"]))(hparams)

    star, M = np.linalg.solve(A, c), np.eye(4) - eta * A
    power = np.linalg.matrix_power
    w = star + power(M, T) @ (w0 - star)
    g = w - target
    by_eta = g @ (-T * A @ power(M, T - 1) @ (w0 - star))
    by_c = np.linalg.solve(A, (np.eye(4) - power(M, T)).T @ g)
    expected = {"c": by_c, "eta": by_eta, "w0": power(M, T) @ g}
    assert relative_error(result.params, w) < 1e-14
    assert relative_error(result.grad, expected) < 1e-12


@functools.cache
def forward_reference(num_steps):
    known = float64_mlp()
    return call(hypergradient(known, hg.Forward(sgd_of, num_steps)), known)


@pytest.mark.long
@pytest.mark.parametrize("checkpoint", ["step", "sqrt", None])
@pytest.mark.parametrize("backprop", ["mixflow", "plain"])
def test_modes_agree(x64, backprop, checkpoint):
    """Also with 31 steps, which are not cut into equal stretches, and 257, which are nested deeper and leave rests."""
    known = float64_mlp()
    for num_steps in (30, 31, 257) if checkpoint == "sqrt" else (30,):
        forward = forward_reference(num_steps)
        method = hg.Unrolled(sgd_of, num_steps, backprop=backprop, checkpoint=checkpoint)
        reverse = call(hypergradient(known, method), known)
        assert relative_error(reverse.grad, forward.grad) < 1e-12
        assert reverse.value == pytest.approx(float(forward.value), rel=1e-13)


@pytest.mark.long
def test_chunks_agree(x64):
    known = float64_mlp()
    whole, parts = (call(hypergradient(known, hg.Forward(sgd_of, 20, chunk=c)), known) for c in (None, 3))
    assert relative_error(parts.grad, whole.grad) < 1e-12
    assert relative_error(parts.params, whole.params) < 1e-14


@pytest.mark.long
def test_a_long_unroll_is_the_implicit_hypergradient(x64):
    known = problems.logistic()
    implicit = call(hypergradient(known, hg.Implicit(hg.Direct())), known)
    unrolled = call(hypergradient(known, hg.Unrolled(optax.sgd(1.0), 1000)), known)
    assert relative_error(unrolled.grad, implicit.grad) < 1e-10
    forward = call(hypergradient(known, hg.Forward(optax.sgd(1.0), 1000)), known)
    assert relative_error(forward.grad, unrolled.grad) < 1e-12


@pytest.mark.long
def test_improves_with_every_step(x64):
    known = problems.logistic()
    errors, cut_errors = [], []
    for k in (10, 60, 600):
        errors.append(
            relative_error(call(hypergradient(known, hg.Unrolled(optax.sgd(1.0), k)), known).grad, known.grad)
        )
        cut = hg.Unrolled(optax.sgd(1.0), 1000, truncate=k)
        cut_errors.append(relative_error(call(hypergradient(known, cut), known).grad, known.grad))
    for found in (errors, cut_errors):
        assert all(b < a for a, b in zip(found, found[1:], strict=False)), found
        assert found[-1] < 1e-8


@pytest.mark.long
def test_float32_against_float64():
    known = problems.mlp()
    single = call(hypergradient(known, hg.Unrolled(sgd_of, 50)), known)
    with jax.enable_x64(True):
        double = float64_mlp()
        reference = call(hypergradient(double, hg.Unrolled(sgd_of, 50)), double)
        assert relative_error(single.grad, reference.grad) < 1e-4
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves((single.grad, single.value, single.params)))


def adam(h):
    return optax.adam(jnp.exp(h["log_lr"]), b1=h["b1"], eps_root=1e-12)


def scheduled(h):
    return optax.chain(optax.add_decayed_weights(jnp.exp(h["log_decay"])), optax.sgd(hg.Schedule(h["rates"], 12)))


OPTIMIZER_HPARAMS = {
    "adam": (adam, {"log_lr": -3.0, "b1": 0.8}),
    "schedule": (scheduled, {"rates": np.array([0.3, 0.1, 0.02]), "log_decay": -3.0}),
    "nesterov": (lambda h: optax.sgd(h["lr"], h["momentum"], nesterov=True), {"lr": 0.1, "momentum": 0.7}),
}


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(OPTIMIZER_HPARAMS))
def test_settings_of_optimizers(x64, name):
    """Rates, momenta and schedules against differences of the trained network's outer loss."""
    make, hparams = OPTIMIZER_HPARAMS[name]
    known = float64_mlp()
    inner = lambda w, h, data: known.outer_loss(w, h, data)  # noqa: E731
    outer = known.outer_loss
    hparams = jax.tree.map(jnp.asarray, hparams)
    reverse = hg.hypergradient(inner, outer, method=hg.Unrolled(make, 12))
    forward = hg.hypergradient(inner, outer, method=hg.Forward(make, 12))
    grads = [call(fn, known, hparams).grad for fn in (reverse, forward)]
    assert relative_error(*grads) < 1e-11
    value = jax.jit(lambda h: reverse(h, known.params0, known.inner_data, known.outer_data).value)
    flat, unravel = jax.flatten_util.ravel_pytree(hparams)
    directions = np.eye(flat.size)
    found = [richardson(lambda t, e=e: float(value(unravel(flat + t * e))), step=1e-2, levels=4) for e in directions]
    assert relative_error(grads[0], unravel(jnp.asarray(found))) < 1e-7


@pytest.mark.long
def test_minibatches_are_a_function_of_the_key(x64):
    known = float64_mlp()

    def batch(key, step, data):
        rows = jax.random.randint(key, (8,), 0, len(data[1]))
        return data[0][rows], data[1][rows]

    fns = [
        hypergradient(known, hg.Unrolled(sgd_of, 15, batch=batch)),
        hypergradient(known, hg.Unrolled(sgd_of, 15, batch=batch, backprop="plain", checkpoint=None)),
        hypergradient(known, hg.Forward(sgd_of, 15, batch=batch)),
    ]
    results = [call(fn, known, key=jax.random.key(1)) for fn in fns]
    for other in results[1:]:
        assert relative_error(other.grad, results[0].grad) < 1e-12
    assert relative_error(call(fns[0], known, key=jax.random.key(2)).grad, results[0].grad) > 1e-3
    with pytest.raises(ValueError, match="`key`"):
        call(fns[0], known)


@pytest.mark.long
def test_integers_and_keys_in_the_data(x64):
    """Labels and keys have no derivative, and must not stand in the way of one."""
    X = jnp.asarray(np.random.default_rng(0).normal(size=(20, 3)))
    labels = jnp.arange(20) % 4

    def inner(w, h, data):
        X, labels, key = data
        noisy = X + jnp.exp(h["log_noise"]) * jax.random.normal(key, X.shape)
        return optax.softmax_cross_entropy_with_integer_labels(noisy @ w, labels).mean()

    outer = lambda w, h, data: optax.softmax_cross_entropy_with_integer_labels(data[0] @ w, data[1]).mean()  # noqa: E731
    data = (X, labels, jax.random.key(0))
    hparams = {"log_noise": jnp.asarray(-1.0)}
    methods = [hg.Unrolled(optax.sgd(0.5), 10, backprop=b) for b in ("mixflow", "plain")] + [
        hg.Forward(optax.sgd(0.5), 10)
    ]
    results = [
        jax.jit(hg.hypergradient(inner, outer, method=m))(hparams, jnp.zeros((3, 4)), data, data) for m in methods
    ]
    for other in results[1:]:
        assert relative_error(other.grad, results[0].grad) < 1e-11


@pytest.mark.long
@pytest.mark.parametrize("backprop", ["mixflow", "plain"])
def test_losses_may_close_over_batched_arrays(backprop):
    """A vmap over data that the losses close over: inside, the data are traced arrays of no argument."""

    def one(X):
        inner = lambda w, h, data: jnp.mean((X @ w - 1.0) ** 2) + jnp.exp(h) * jnp.sum(w**2)  # noqa: E731
        outer = lambda w, h, data: jnp.mean((X @ w - 2.0) ** 2)  # noqa: E731
        method = hg.Unrolled(optax.sgd(0.1), 40, backprop=backprop)
        return hg.hypergradient(inner, outer, method=method)(0.3, jnp.zeros(3)).grad

    X = jax.random.normal(jax.random.key(0), (3, 10, 3))
    np.testing.assert_allclose(jax.jit(jax.vmap(one))(X), [one(x) for x in X], rtol=1e-5)


@pytest.mark.long
@pytest.mark.parametrize("mode", ["unrolled", "forward"])
def test_vmap_is_a_loop(x64, mode):
    known = float64_mlp()
    method = hg.Unrolled(sgd_of, 20, checkpoint="sqrt") if mode == "unrolled" else hg.Forward(sgd_of, 20, chunk=2)
    fn = hypergradient(known, method)
    H = jax.tree.map(lambda a: jnp.stack([a - 0.3, a, a + 0.2]), known.hparams)
    batched = jax.jit(jax.vmap(lambda h: fn(h, known.params0, known.inner_data, known.outer_data)))(H)
    for i in range(3):
        single = call(fn, known, jax.tree.map(lambda a, i=i: a[i], H))
        assert relative_error(jax.tree.map(lambda a, i=i: a[i], batched.grad), single.grad) < 1e-12


@pytest.mark.long
@pytest.mark.parametrize("mode", ["unrolled", "forward"])
def test_adam_without_eps_root_is_told(x64, mode):
    """The gradient of a weight whose input is always zero, a dead pixel, is exactly zero."""
    X = jnp.asarray([[1.0, 2.0, 0.0], [0.5, -1.0, 0.0]])
    inner = lambda w, h, data: h * jnp.sum((X @ w - 1.0) ** 2)  # noqa: E731
    outer = lambda w, h, data: jnp.sum((X @ w) ** 2)  # noqa: E731
    kind = hg.Unrolled if mode == "unrolled" else hg.Forward
    status = [
        jax.jit(hg.hypergradient(inner, outer, method=kind(optax.adam(0.1, eps_root=e), 5)))(1.0, jnp.zeros(3))
        for e in (0.0, 1e-12)
    ]
    assert status[0].info.status == hg.HypergradStatus.SINGULAR_STEP
    with pytest.raises(hg.HypergradientError, match="eps_root=1e-12"):
        hg.raise_for_status(status[0])
    hg.raise_for_status(status[1])


SINGULAR = {
    "adam": (optax.adam, {}, {"eps_root": 1e-12}),
    "adamw": (optax.adamw, {}, {"eps_root": 1e-12}),
    "adabelief": (optax.adabelief, {"eps_root": 0.0}, {}),
    "rmsprop": (optax.rmsprop, {"eps_in_sqrt": False}, {}),
}
"""Optimizers with settings that have no derivative at a zero gradient, and with such that have one."""


@pytest.mark.long
@pytest.mark.parametrize("kind", [hg.Unrolled, hg.Forward])
@pytest.mark.parametrize("name", sorted(SINGULAR))
def test_dead_pixels_of_digits(kind, name):
    """Some pixels are zero in all images. The rate is a hyperparameter, so that the probe sees a traced optimizer."""
    train, valid = tables.digits(seed=0, sizes=(100, 100, 1597))[:2]
    assert not np.asarray(train[0]).any(axis=0).all()

    def loss(w, h, data):
        X, labels = data
        return optax.softmax_cross_entropy_with_integer_labels(X @ w, labels).mean()

    def run(settings):
        method = kind(lambda h: make(jnp.exp(h), **settings), 5)
        return jax.jit(hg.hypergradient(loss, loss, method=method))(-3.0, jnp.zeros((64, 10)), train, valid)

    make, bad, good = SINGULAR[name]
    hg.raise_for_status(run(good))
    result = run(bad)
    assert np.isfinite(result.value) and not np.isfinite(result.grad)
    assert result.info.status == hg.HypergradStatus.SINGULAR_STEP


@pytest.mark.long
@pytest.mark.parametrize("kind", [hg.Unrolled, hg.Forward])
def test_the_optimizer_is_not_blamed_for_the_losses(kind):
    """Adam divides by a root whose derivative is infinite at zero, but here the gradient is nowhere zero."""
    data = jnp.asarray([1.0, 2.0])
    inner = lambda w, h, data: jnp.sum((w - data) ** 2) * h  # noqa: E731
    run = lambda outer, make: hg.hypergradient(inner, outer, method=kind(make(0.1), 3))(1.0, jnp.zeros(2), data)  # noqa: E731
    hg.raise_for_status(run(lambda w, h, d: jnp.sum(w**2), optax.adam))
    broken = run(lambda w, h, d: jnp.sum(w**2) + jnp.sqrt(h - 1.0), optax.sgd)
    assert np.isfinite(broken.value) and broken.info.status == hg.HypergradStatus.NONFINITE
    with pytest.raises(hg.HypergradientError, match="roots of zero"):
        hg.raise_for_status(broken)
