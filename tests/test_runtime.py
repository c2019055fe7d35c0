"""The scope at the host's edge leaves nothing behind, with several threads too."""

import threading

import jax
import jax.numpy as jnp

from bojax import _runtime


def num_threads():
    return sorted(pool.num_threads for pool in _runtime._blas_pools())


def test_precision_holds_inside_only():
    assert jnp.zeros(()).dtype == jnp.float32
    with _runtime.host_scope():
        assert jnp.zeros(()).dtype == jnp.float64 and _runtime.ambient_x64()
    assert jnp.zeros(()).dtype == jnp.float32 and not _runtime.ambient_x64()


def test_overlapping_scopes_of_two_threads_restore_the_thread_limit():
    before = num_threads()
    inside, leave = threading.Event(), threading.Event()

    def other():
        with _runtime.host_scope():
            inside.set()
            leave.wait(30)

    thread = threading.Thread(target=other)
    with _runtime.host_scope():
        thread.start()
        assert inside.wait(30)
    during = num_threads()
    leave.set()
    thread.join(30)
    assert num_threads() == before
    if before and jax.default_backend() == "cpu":
        assert max(during) <= max(before)
    assert _runtime._BlasLimit.num_open == 0
