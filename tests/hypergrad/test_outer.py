"""`check` finds right gradients right and wrong ones wrong; `optimize` reaches known optima."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import bojax
from bojax import hypergrad as hg
from tests.hypergrad import problems


def case(known):
    return known.params0, known.inner_data, known.outer_data


@pytest.mark.long
@pytest.mark.parametrize("method", [hg.Implicit(), hg.Unrolled(optax.sgd(0.5), 300)], ids=["implicit", "unrolled"])
def test_check_in_float64(x64, method):
    known = problems.logistic()
    fn = hg.hypergradient(known.inner_loss, known.outer_loss, method=method)
    result = hg.check_hypergradient(fn, known.hparams, *case(known))
    assert result.cosine > 0.999999 and result.relative_error < 1e-6
    assert len(result.slopes) == len(result.differences) == 8


@pytest.mark.long
def test_check_in_float32():
    known = problems.mlp()
    make = lambda h: optax.sgd(jnp.exp(h["log_lr"]), momentum=0.9)  # noqa: E731
    fn = hg.hypergradient(known.inner_loss, known.outer_loss, method=hg.Unrolled(make, 50))
    assert hg.check_hypergradient(fn, known.hparams, *case(known), num_directions=4).cosine > 0.9999


@pytest.mark.long
def test_check_finds_a_biased_gradient(x64):
    known = problems.logistic()
    fn = hg.hypergradient(known.inner_loss, known.outer_loss, method=hg.OneStep())
    assert hg.check_hypergradient(fn, known.hparams, *case(known)).relative_error > 0.3


@pytest.mark.long
def test_check_uses_the_same_randomness(x64):
    """Noise in the inner data would drown the differences if it were drawn anew."""

    def batch(key, step, data):
        return data[0] + 0.5 * jax.random.normal(key, data[0].shape), data[1]

    known = problems.ridge()
    method = hg.Unrolled(optax.sgd(0.1), 100, batch=batch)
    fn = hg.hypergradient(known.inner_loss, known.outer_loss, method=method)
    assert hg.check_hypergradient(fn, known.hparams, *case(known), jax.random.key(3)).cosine > 0.999999


def cold(w0, *others):
    """The same arguments of a case, with every inner problem started anew."""
    return hg.ColdStart(w0), *others


@pytest.mark.long
@pytest.mark.parametrize("start", [lambda *case: case, cold], ids=["warm", "cold"])
def test_optimize_reaches_a_stationary_point(x64, start):
    known = problems.ridge()
    fn = hg.hypergradient(known.inner_loss, known.outer_loss)
    run = jax.jit(lambda h: hg.optimize(fn, h, *start(*case(known)), num_steps=150, bounds=(-6.0, 6.0)))
    result = run(known.hparams)
    first, last = result.history.grad_norm[jnp.asarray([0, -1])]
    assert last < 2e-2 * first
    assert result.value < result.history.value[0] and result.value == np.nanmin(result.history.value)
    assert result.num_steps == 150 and not result.converged
    again = fn(result.hparams, *case(known))
    assert again.value == pytest.approx(float(result.value), rel=1e-9)
    assert (np.abs(result.history.hparams["log_l2"]) <= 6.0).all()


@pytest.mark.long
def test_optimize_in_the_unit_cube_ends_on_a_face(x64):
    """The outer loss falls with the penalty up to the end of its range; the other coordinate has its optimum inside."""
    space = bojax.Space(l2=bojax.Float(1e-3, 1.0, log=True), shift=bojax.Float(-1.0, 3.0))
    inner = lambda w, h, d: jnp.sum((w - 4.0 * h["shift"]) ** 2) + h["l2"] * jnp.sum(w**2)  # noqa: E731
    outer = lambda w, h, d: jnp.sum((w - 0.5) ** 2) + (h["shift"] - 1.5) ** 2  # noqa: E731
    fn = hg.hypergradient(inner, outer, space=space)
    run = lambda x: hg.optimize(fn, x, jnp.zeros(2), num_steps=300, bounds=(0.0, 1.0), stop=hg.Plateau(40, 1e-9))  # noqa: E731
    X = jnp.asarray([[0.2, 0.4], [0.9, 0.9], [0.5, 0.1]])
    result = jax.jit(jax.vmap(run))(X)
    # At l2 = 1, w = 2 shift: 2 (2 s - 1/2)^2 + (s - 3/2)^2 is least at s = 3.5 / 9.
    best = (3.5 / 9 + 1.0) / 4.0
    np.testing.assert_allclose(result.hparams[:, 0], 1.0, atol=1e-12)
    np.testing.assert_allclose(result.hparams[:, 1], best, atol=1e-3)
    assert result.converged.all() and (result.num_steps < 300).all()
    for i in range(3):
        n = int(result.num_steps[i])
        assert result.history.num_bound[i, n - 1] == 1
        assert np.isnan(result.history.value[i, n:]).all() and (result.history.status[i, n:] == -1).all()


@pytest.mark.long
def test_warm_starts_save_steps(x64):
    known = problems.logistic()
    solver = hg.Descent(optax.sgd(1.0), 5000, tol=1e-9)
    fn = hg.hypergradient(known.inner_loss, known.outer_loss, inner_solver=solver)
    count = []

    def counted(*args, **kwargs):
        result = fn(*args, **kwargs)
        jax.debug.callback(
            lambda a, b: count.append((int(a), int(b))), result.info.inner_steps, result.info.adjoint_steps
        )
        return result

    totals = []
    for arguments in (cold(*case(known)), case(known)):
        count.clear()
        jax.block_until_ready(hg.optimize(counted, known.hparams, *arguments, num_steps=20))
        jax.effects_barrier()
        totals.append(np.sum(count, axis=0))
    assert totals[1][0] < 0.8 * totals[0][0]
    assert totals[1][1] <= totals[0][1]


@pytest.mark.long
def test_optimize_stops_at_what_is_not_finite(x64):
    """The inner loss is not defined beyond h = 1, where the outer loss would like to be."""
    inner = lambda w, h, d: jnp.sum((w - h) ** 2) * jnp.where(h < 1, 1.0, jnp.nan)  # noqa: E731
    outer = lambda w, h, d: jnp.sum((w - 3.0) ** 2)  # noqa: E731
    fn = hg.hypergradient(inner, outer)
    result = jax.jit(lambda h: hg.optimize(fn, h, jnp.zeros(2), num_steps=100, optimizer=optax.sgd(0.05)))(0.0)
    assert result.num_steps < 100 and not result.converged
    assert np.isfinite(result.value) and result.hparams < 1
    assert result.history.status[result.num_steps - 1] == hg.HypergradStatus.NONFINITE


@pytest.mark.long
def test_learning_a_schedule_beats_its_start():
    known = problems.mlp()
    make = lambda h: optax.sgd(hg.Schedule(jnp.exp(h["log_rates"]), 40), momentum=0.9)  # noqa: E731
    hparams = {"log_l2": known.hparams["log_l2"], "log_rates": jnp.full(5, -4.0)}
    fn = hg.hypergradient(known.inner_loss, known.outer_loss, method=hg.Unrolled(make, 40))
    result = jax.jit(lambda h: hg.optimize(fn, h, *cold(*case(known)), num_steps=40))(hparams)
    assert result.value < 0.97 * result.history.value[0]


def test_optimize_rejects_mistakes():
    fn = hg.hypergradient(lambda w, h, d: jnp.sum((w - h) ** 2), lambda w, h, d: jnp.sum(w))
    with pytest.raises(ValueError, match="num_steps"):
        hg.optimize(fn, 0.0, jnp.zeros(2), num_steps=0)
