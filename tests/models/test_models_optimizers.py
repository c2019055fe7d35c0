"""The selectable optimizer equals optax's own."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from models._optimizers import OPTIMIZERS, selectable, warmup_cosine

NUM_STEPS = 20


def _is_matrix(params):
    return jax.tree.map(lambda p: p.ndim > 1, params)


def _optax(name, schedule, weight_decay):
    if name == "adamw":
        return optax.adamw(schedule, weight_decay=weight_decay, mask=_is_matrix)
    base = {"sgd": lambda: optax.sgd(schedule, momentum=0.9), "adam": lambda: optax.adam(schedule)}
    base["rmsprop"] = lambda: optax.rmsprop(schedule)
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


@pytest.mark.parametrize("weight_decay", [0.0, 0.05])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_equals_optax(name, weight_decay):
    params, grad = _problem()
    schedule = warmup_cosine(jnp.float32(0.01), NUM_STEPS)
    ours = selectable(jnp.int32(OPTIMIZERS.index(name)), schedule, jnp.float32(weight_decay))
    got = _trajectory(ours, params, grad)
    expected = _trajectory(_optax(name, schedule, weight_decay), params, grad)
    for leaf in params:
        moved = np.abs(np.asarray(expected[leaf][-1] - params[leaf])).max()
        assert moved > 0.01  # or the comparison would be empty
        np.testing.assert_allclose(got[leaf], expected[leaf], rtol=1e-5, atol=1e-5)


def test_families_side_by_side_equal_alone():
    params, grad = _problem()
    schedule = warmup_cosine(jnp.float32(0.01), NUM_STEPS)

    def run(family):
        return _trajectory(selectable(family, schedule, jnp.float32(0.01)), params, grad)

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


@pytest.mark.parametrize("num_steps", [1, 2, 20, 300])
def test_schedule(num_steps):
    rates = np.asarray(warmup_cosine(jnp.float32(0.5), num_steps)(jnp.arange(num_steps, dtype=jnp.int32)))
    num_warmup = max(1, num_steps // 20)
    assert np.all((rates > 0) & (rates <= 0.5))
    np.testing.assert_allclose(rates[num_warmup - 1], 0.5, rtol=1e-6)
    assert np.all(np.diff(rates[:num_warmup]) > 0) and np.all(np.diff(rates[num_warmup - 1 :]) < 0)
    if num_steps >= 20:
        assert rates[-1] < 0.5 * 0.05
