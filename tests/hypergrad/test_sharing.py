"""Forward mode with one derivative for a group of hyperparameters."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bojax import hypergrad as hg
from tests.hypergrad import problems
from tests.hypergrad.problems import call, float64_mlp, hypergradient, temp_bytes


def rates_by_step(h):
    """A rate for each of 12 steps, and a momentum."""
    return optax.sgd(hg.Schedule(jnp.exp(h["log_rates"]), 12, "piecewise"), momentum=h["momentum"])


SHARED = {
    "each": 1,
    "four": {"log_rates": 4, "momentum": 1, "log_l2": 1},
    "uneven": {"log_rates": 5, "momentum": 7, "log_l2": 1},
    "layers, too": 2,
    "all": {"log_rates": 12, "momentum": 1, "log_l2": 3},
}


def group_means(a, size):
    return np.concatenate([np.full(len(part), part.mean()) for part in np.split(a, range(size, len(a), size))])


@pytest.mark.long
@pytest.mark.parametrize("chunk", [None, 2])
@pytest.mark.parametrize("name", sorted(SHARED))
def test_a_group_gets_the_mean_of_its_members(x64, name, chunk):
    known = float64_mlp()
    rates = jnp.linspace(-4.0, -2.0, 12)
    hparams = {"log_l2": known.hparams["log_l2"], "log_rates": rates, "momentum": jnp.asarray(0.8)}
    exact = call(hypergradient(known, hg.Unrolled(rates_by_step, 12)), known, hparams)
    forward = hg.Forward(rates_by_step, 12, chunk=chunk, sharing=SHARED[name])
    shared = call(hypergradient(known, forward), known, hparams)
    sizes = jax.tree.broadcast(SHARED[name], hparams)
    for leaf in ("log_rates", "log_l2"):
        np.testing.assert_allclose(
            shared.grad[leaf], group_means(np.asarray(exact.grad[leaf]), sizes[leaf]), rtol=1e-11
        )
    np.testing.assert_allclose(shared.grad["momentum"], exact.grad["momentum"], rtol=1e-11)
    assert shared.value == pytest.approx(float(exact.value), rel=1e-13)
    assert shared.info.error_estimate == (0 if name == "each" else np.inf)


def test_only_the_first_axis_is_shared(x64):
    """Two rows of rates, for the layers, by step."""
    inner = lambda w, h, data: 0.5 * jnp.sum((w - 1.0) ** 2) + jnp.sum(h) * 0.0  # noqa: E731
    outer = lambda w, h, data: jnp.sum(jnp.arange(1.0, 7.0).reshape(3, 2) * h**2) + jnp.sum(w**2)  # noqa: E731
    h = jnp.arange(1.0, 7.0).reshape(3, 2)
    run = lambda sharing: hg.hypergradient(inner, outer, method=hg.Forward(optax.sgd(0.1), 2, sharing=sharing))  # noqa: E731
    exact = 2 * np.arange(1.0, 7.0).reshape(3, 2) ** 2
    np.testing.assert_allclose(run(1)(h, jnp.zeros(2)).grad, exact)
    pairs = np.array([exact[:2].mean(0), exact[:2].mean(0), exact[2]])
    np.testing.assert_allclose(run(2)(h, jnp.zeros(2)).grad, pairs)


@pytest.mark.long
def test_sharing_saves_memory():
    """The temporary memory goes with the number of groups."""
    known = problems.mlp(width=32, n=128)
    known = known._replace(hparams={"log_l2": known.hparams["log_l2"], "log_rates": jnp.full(64, -3.0)})
    make = lambda h: optax.sgd(hg.Schedule(jnp.exp(h["log_rates"]), 64, "piecewise"))  # noqa: E731
    each, shared = (
        temp_bytes(known, hg.Forward(make, 64, sharing={"log_l2": 1, "log_rates": size})) for size in (1, 16)
    )
    assert shared < 0.25 * each
