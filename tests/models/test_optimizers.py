"""The selectable optimizer, the schedules and clipping equal optax's own."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from models import cancer_mlp, digits_mlp
from models._optimizers import OPTIMIZERS, selectable
from models._schedules import FINAL_SHARE, SCHEDULES, schedule
from models._train import clip
from tests.models.zoo import middle

KEY = jax.random.key(0)
NUM_STEPS = 20


def _is_matrix(params):
    return jax.tree.map(lambda p: p.ndim > 1, params)


def _cosine(peak):
    return schedule(jnp.int32(SCHEDULES.index("cosine")), jnp.float32(peak), jnp.float32(0.1), NUM_STEPS)


def _optax(name, rate, weight_decay):
    if name == "adamw":
        return optax.adamw(rate, weight_decay=weight_decay, mask=_is_matrix)
    if name == "lion":
        return optax.lion(rate, b1=0.9, b2=0.99, weight_decay=weight_decay, mask=_is_matrix)
    base = {"sgd": lambda: optax.sgd(rate, momentum=0.9), "adam": lambda: optax.adam(rate)}
    base["rmsprop"] = lambda: optax.rmsprop(rate)
    return optax.chain(optax.add_decayed_weights(weight_decay, mask=_is_matrix), base[name]())


def _problem():
    keys = jax.random.split(jax.random.key(0), 3)
    params = {"kernel": jax.random.normal(keys[0], (4, 3)), "bias": jax.random.normal(keys[1], (3,))}
    target = jax.random.normal(keys[2], (4, 3))

    def loss(p):
        return jnp.sum(jnp.cosh(p["kernel"] - target)) + jnp.sum(p["bias"] ** 4)

    return params, jax.grad(loss)


def _trajectory(optimizer, params, grad):
    def step(carry, _):
        params, state = carry
        updates, state = optimizer.update(grad(params), state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), params

    return jax.lax.scan(step, (params, optimizer.init(params)), length=NUM_STEPS)[1]


@pytest.mark.long
@pytest.mark.parametrize("weight_decay", [0.0, 0.05])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_equals_optax(name, weight_decay):
    params, grad = _problem()
    rate = _cosine(0.01)
    ours = selectable(jnp.int32(OPTIMIZERS.index(name)), rate, jnp.float32(weight_decay))
    got = _trajectory(ours, params, grad)
    expected = _trajectory(_optax(name, rate, weight_decay), params, grad)
    for leaf in params:
        moved = np.abs(np.asarray(expected[leaf][-1] - params[leaf])).max()
        assert moved > 0.01  # or the comparison would be empty
        np.testing.assert_allclose(got[leaf], expected[leaf], rtol=1e-5, atol=1e-5)


@pytest.mark.long
def test_families_side_by_side_equal_alone():
    params, grad = _problem()
    rate = _cosine(0.01)

    def run(family):
        return _trajectory(selectable(family, rate, jnp.float32(0.01)), params, grad)

    families = jnp.arange(len(OPTIMIZERS), dtype=jnp.int32)
    batch = jax.vmap(run)(families)
    for i, family in enumerate(families):
        alone = run(family)
        jax.tree.map(lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=1e-5, atol=1e-6), batch, alone)


def test_zero_gradient_leaves_parameters_alone():
    params = {"kernel": jnp.ones((2, 2))}
    for family in range(len(OPTIMIZERS)):
        optimizer = selectable(jnp.int32(family), lambda _: jnp.float32(0.1), jnp.float32(0))
        updates, _ = optimizer.update({"kernel": jnp.zeros((2, 2))}, optimizer.init(params), params)
        assert np.all(np.asarray(updates["kernel"]) == 0)


def test_update_needs_params():
    optimizer = selectable(jnp.int32(0), lambda _: jnp.float32(0.1), jnp.float32(0))
    with pytest.raises(ValueError, match="`params`"):
        optimizer.update({}, optimizer.init({}))


def _rates(kind, warmup, num_steps, counts):
    rate = schedule(jnp.int32(SCHEDULES.index(kind)), jnp.float32(0.5), jnp.float32(warmup), num_steps)
    return np.asarray(jax.jit(jax.vmap(rate))(jnp.arange(counts, dtype=jnp.int32)))


@pytest.mark.long
@pytest.mark.parametrize("num_steps", [1, 2, 20, 300])
@pytest.mark.parametrize("kind", SCHEDULES)
def test_schedule_equals_optax(kind, num_steps):
    """Without warm-up, and beyond the end of the run too."""
    expected = {
        "constant": optax.constant_schedule(0.5),
        "linear": optax.linear_schedule(0.5, 0.0, num_steps),
        "cosine": optax.cosine_decay_schedule(0.5, num_steps),
        "exponential": optax.exponential_decay(0.5, num_steps, FINAL_SHARE, end_value=0.5 * FINAL_SHARE),
    }[kind]
    counts = num_steps + 50
    np.testing.assert_allclose(
        _rates(kind, 0.0, num_steps, counts), [expected(i) for i in range(counts)], rtol=1e-4, atol=1e-7
    )


@pytest.mark.long
@pytest.mark.parametrize(("warmup", "num_steps"), [(0.05, 20), (0.3, 10), (0.1, 300), (0.99, 50)])
@pytest.mark.parametrize("kind", SCHEDULES)
def test_warmup_rises_to_the_peak_and_is_followed_by_the_schedule(kind, warmup, num_steps):
    rates, num_warmup = _rates(kind, warmup, num_steps, num_steps), max(1, int(np.floor(warmup * num_steps + 1e-4)))
    np.testing.assert_allclose(rates[:num_warmup], 0.5 * np.arange(1, num_warmup + 1) / num_warmup, rtol=1e-5)
    rest = num_steps - num_warmup + 1  # from the last step of the warm-up, at the peak
    np.testing.assert_allclose(rates[num_warmup - 1 :], _rates(kind, 0.0, rest, rest), rtol=1e-4, atol=1e-7)
    assert np.all((rates > 0) & (rates <= 0.5))
    falls = np.diff(rates[num_warmup - 1 :])
    assert np.all(falls == 0) if kind == "constant" else np.all(falls < 0)


@pytest.mark.long
def test_schedules_side_by_side_equal_alone():
    def run(kind, peak, warmup):
        return jax.vmap(schedule(kind, peak, warmup, 30))(jnp.arange(30, dtype=jnp.int32))

    kinds, warmups = jnp.arange(len(SCHEDULES), dtype=jnp.int32), jnp.array([0.0, 0.1, 0.2, 0.3], jnp.float32)
    rates = jax.vmap(run)(kinds, jnp.full(4, 0.5, jnp.float32), warmups)
    assert rates.dtype == jnp.float32
    for i, kind in enumerate(SCHEDULES):
        np.testing.assert_allclose(rates[i], _rates(kind, warmups[i], 30, 30), rtol=1e-6)


@pytest.mark.long
@pytest.mark.parametrize("max_norm", [0.1, 1.0, 1e3])
def test_clip_equals_optax(max_norm):
    params, grad = _problem()
    grads = grad(params)
    transformation = optax.clip_by_global_norm(max_norm)
    expected, _ = transformation.update(grads, transformation.init(params))
    got = jax.jit(clip)(grads, jnp.float32(max_norm))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), got, expected)
    assert optax.tree.norm(got) <= 1.00001 * max_norm


def test_clip_keeps_zero_gradients():
    zeros = {"kernel": jnp.zeros((2, 2)), "bias": jnp.zeros(2)}
    assert all(np.all(np.asarray(leaf) == 0) for leaf in jax.tree.leaves(clip(zeros, jnp.float32(0.1))))


# Derivatives through a training.


@pytest.mark.long
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_derivatives_equal_finite_differences(name, x64):
    """Of a loss after some steps, by learning rate and decay; one weight never has a gradient, nor a decay."""
    params, grad = _problem()
    params = jax.tree.map(lambda p: p.astype(float), params) | {"dead": jnp.zeros((2, 2))}

    def trained(hparams):
        rate, weight_decay = hparams
        optimizer = selectable(jnp.int32(OPTIMIZERS.index(name)), lambda _: rate, weight_decay)
        path = _trajectory(optimizer, params, lambda p: {"dead": 0 * p["dead"], **grad(p)})
        return sum(jnp.sum(jnp.sin(leaf[-1])) for leaf in path.values())

    hparams, run = jnp.array([0.01, 0.05]), jax.jit(trained)
    steps = 1e-7 * jnp.eye(2)
    expected = [(run(hparams + step) - run(hparams - step)) / 2e-7 for step in steps]
    for got in (jax.jit(jax.grad(trained))(hparams), jax.jit(jax.jacfwd(trained))(hparams)):
        assert np.abs(got).min() > 1e-3  # or the comparison would be empty
        np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_clip_has_derivatives_at_zero():
    slopes = jax.grad(lambda g, limit: jnp.sum(clip({"a": g}, limit)["a"]), argnums=(0, 1))(jnp.zeros(3), 0.1)
    np.testing.assert_allclose(np.concatenate([slopes[0], slopes[1][None]]), [1, 1, 1, 0])


@pytest.mark.long
@pytest.mark.parametrize("objective", [digits_mlp, cancer_mlp], ids=lambda objective: objective.name)
def test_trainings_of_the_zoo_are_differentiable(objective):
    """Digits have pixels that are always 0, whose weights have no gradient. Signs that flip are seen by differences."""
    objective, num_steps = objective.with_num_steps(5), 5
    hparams = middle(objective) | {"dropout": np.float32(0.0), "activation": np.int32(2)}
    init, advance, evaluate = objective.program(objective.structure(hparams))
    floats = {name: hparams[name] for name, entry in objective.space.items() if entry["type"] == "float"}

    def loss(floats, family):
        h = hparams | floats | {"optimizer": family}
        return evaluate(advance(init(KEY, h), h, num_steps), h)["validation_loss"]

    differentiate, run = jax.jit(jax.value_and_grad(loss)), jax.jit(loss)
    for position, name in enumerate(OPTIMIZERS):
        value, slopes = differentiate(floats, jnp.int32(position))
        assert value == pytest.approx(float(run(floats, jnp.int32(position))), rel=1e-5)
        assert all(np.isfinite(slope) for slope in slopes.values())
        if name == "lion":
            continue
        rate, small = floats["learning_rate"], np.float32(0.02) * floats["learning_rate"]
        high, low = (float(run(floats | {"learning_rate": rate + s}, jnp.int32(position))) for s in (small, -small))
        assert slopes["learning_rate"] == pytest.approx((high - low) / (2 * small), rel=0.02)
