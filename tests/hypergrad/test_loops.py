"""Loops that keep little: every step once, derivatives, and temporary memory of compiled programs."""

import jax
import jax.numpy as jnp
import optax
import pytest

from bojax import hypergrad as hg
from bojax.hypergrad._scan import repeat
from tests.hypergrad import problems
from tests.hypergrad.problems import call, float64_mlp, hypergradient, relative_error, sgd_of, temp_bytes


@pytest.mark.long
@pytest.mark.parametrize("num_steps", [1, 2, 3, 17, 256, 257, 263, 509])
def test_nested_scans_take_every_step_once_and_in_order(num_steps):
    def step(carry, t):
        count, seen = carry
        return count + 1, seen.at[count].set(t)

    count, seen = repeat(step, (jnp.int32(0), jnp.zeros(num_steps, jnp.int32)), 5, 5 + num_steps, "sqrt")
    assert int(count) == num_steps
    assert seen.tolist() == list(range(5, 5 + num_steps))


@pytest.mark.long
@pytest.mark.parametrize("checkpoint", ["step", "sqrt", None])
@pytest.mark.parametrize("num_steps", [0, 1, 12, 13])
def test_a_loop_of_ones_own(x64, checkpoint, num_steps):
    """w_T = (1 - a)^T, and the numbers of the steps are seen."""

    def run(a):
        step = lambda s, t: {"w": s["w"] * (1 - a), "sum": s["sum"] + t}  # noqa: E731
        state = hg.unroll(step, {"w": jnp.ones(()), "sum": jnp.int32(0)}, num_steps, checkpoint=checkpoint)
        return state["w"], state["sum"]

    (value, count), slope = jax.jit(jax.value_and_grad(run, has_aux=True))(0.1)
    assert value == pytest.approx(0.9**num_steps, rel=1e-12) and count == num_steps * (num_steps - 1) // 2
    assert slope == pytest.approx(-num_steps * 0.9 ** max(0, num_steps - 1), rel=1e-12)


@pytest.mark.long
def test_a_loop_of_ones_own_equals_unrolled(x64):
    known = float64_mlp()
    gradient = hg.mixflow_grad(known.inner_loss)

    def outer(h):
        descend = lambda w, g: w - jnp.exp(h["log_lr"]) * g  # noqa: E731
        step = lambda w, t: jax.tree.map(descend, w, gradient(w, h, known.inner_data))  # noqa: E731
        return known.outer_loss(hg.unroll(step, known.params0, 20, checkpoint="sqrt"), h, known.outer_data)

    grad = jax.jit(jax.grad(outer))(known.hparams)
    method = hg.Unrolled(lambda h: optax.sgd(jnp.exp(h["log_lr"])), 20)
    assert relative_error(grad, call(hypergradient(known, method), known).grad) < 1e-12


@pytest.mark.long
def test_memory():
    """Temporary memory of the compiled programs at 16 and at 1024 steps."""
    known = problems.mlp(width=32, n=128)
    short, long = 16, 1024

    def ratio(make, known=known):
        return temp_bytes(known, make(long)) / temp_bytes(known, make(short))

    for other in (known, problems.mlp(width=32, n=64), problems.mlp(width=128, n=256, d=64)):
        assert ratio(lambda T: hg.Unrolled(sgd_of, T, checkpoint="sqrt"), other) <= 3
    assert 0.95 < ratio(lambda T: hg.Forward(sgd_of, T)) < 1.05
    rate = lambda h: optax.sgd(0.1)  # noqa: E731
    regulariser = known._replace(hparams={"log_l2": known.hparams["log_l2"]})
    flat = [temp_bytes(regulariser, hg.Implicit(), inner_solver=hg.Descent(rate, T)) for T in (short, long)]
    assert 0.95 < flat[1] / flat[0] < 1.05


@pytest.mark.long
def test_a_step_keeps_parameters_state_and_gradient():
    """And no more, in mixed mode, whatever the size of the batch."""
    known = problems.mlp(width=32, n=256)
    size = 4 * sum(a.size for a in jax.tree.leaves(known.params0))
    short, long = (temp_bytes(known, hg.Unrolled(sgd_of, T, checkpoint="step")) for T in (16, 116))
    assert 2 < (long - short) / (100 * size) < 3.1


@pytest.mark.long
def test_mixed_mode_takes_less_memory():
    known = problems.mlp(width=32, n=256)
    mixed, plain = (
        temp_bytes(known, hg.Unrolled(sgd_of, 64, backprop=b, checkpoint=None)) for b in ("mixflow", "plain")
    )
    assert mixed < 0.5 * plain
