"""Rows in pieces give what rows at once give."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bojax.optim._chunked import check_mesh, chunked


def fn(X):
    return jnp.sum(jnp.sin(3.0 * X), axis=-1)


@pytest.mark.long
@pytest.mark.parametrize("max_rows", [1, 3, 4, 7, 100])
def test_chunks_change_neither_values_nor_gradients(max_rows):
    X = jnp.asarray(np.random.default_rng(0).random((7, 2)), jnp.float32)
    sizes = []

    def counted(X):
        sizes.append(X.shape[0])
        return fn(X)

    pieces = chunked(counted, max_rows)
    assert np.allclose(jax.jit(pieces)(X), fn(X), rtol=1e-6)
    assert max(sizes) <= max_rows
    gradient = jax.grad(lambda X: jnp.sum(pieces(X) ** 2))(X)
    assert np.allclose(gradient, jax.grad(lambda X: jnp.sum(fn(X) ** 2))(X), rtol=1e-5)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="max_rows"):
        chunked(fn, 0)
    with pytest.raises(TypeError, match="mesh"):
        check_mesh(4)
    with pytest.raises(ValueError, match="one axis"):
        check_mesh(jax.make_mesh((1, 1), ("a", "b")))
