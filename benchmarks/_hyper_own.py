"""bojax's side of `benchmarks.hypergrad`: hypergradients of the tasks as compiled programs, and whole outer steps."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from benchmarks._hyper_tasks import Task
from bojax import hypergrad

Result = hypergrad.Hypergrad


class Program(NamedTuple):
    """A compiled hypergradient.

    Attributes:
        call: runs it once and waits.
        compile_s: seconds for tracing and compiling.
        temp_bytes: what XLA allocates beside arguments and results.
    """

    call: Callable[[], Result]
    compile_s: float
    temp_bytes: int


def sgd(task: Task) -> optax.GradientTransformation:
    """The inner optimizer of a task."""
    return optax.sgd(task.learning_rate, momentum=task.momentum or None)


def program(task: Task, method: Any, *, inner_solver: Any = None, dtype: Any = np.float32) -> Program:
    """The hypergradient of a task by a method; float64 needs `jax.enable_x64` around this and the calls."""
    fn = hypergrad.hypergradient(*task.losses(), method=method, inner_solver=inner_solver)
    return compiled(fn, *task.arrays(dtype))


def compiled(fn: Callable[..., Any], *args: Any) -> Program:
    """A function of arrays as a program."""
    start = time.perf_counter()
    executable = jax.jit(fn).lower(*args).compile()
    compile_s = time.perf_counter() - start
    sizes = executable.memory_analysis()
    temp_bytes = -1 if sizes is None else sizes.temp_size_in_bytes
    return Program(lambda: jax.block_until_ready(executable(*args)), compile_s, temp_bytes)


def stay(inner_loss, params0, hparams, data, key):
    """The inner solver that does nothing."""
    return params0


def outer_steps(task: Task, method: Any, inner_solver: Any = None) -> tuple[Callable[[], np.ndarray], float]:
    """Outer steps of gradient descent (rate 1, momentum 0.9), each one call of one program, and its seconds to compile.

    With an inner solver the inner parameters go on from where the last step left them, without one they start anew.
    """
    fn = hypergrad.hypergradient(*task.losses(), method=method, inner_solver=inner_solver)
    h, params, train, valid = task.arrays(np.float32)
    outer = optax.sgd(1.0, momentum=0.9)

    def step(h, state, w, train, valid):
        result = fn(h, w, train, valid)
        updates, state = outer.update(result.grad, state)
        return optax.apply_updates(h, updates), state, w if inner_solver is None else result.params, result.grad

    carry = [h, outer.init(h), params]
    start = time.perf_counter()
    executable = jax.jit(step).lower(*carry, train, valid).compile()
    compile_s = time.perf_counter() - start

    def call():
        *carry[:], grad = executable(*carry, train, valid)
        return np.asarray(grad)

    return call, compile_s


def unrolls(task: Task, num_steps: int) -> dict[str, tuple[Any, Any]]:
    """Ways to differentiate a run of so many steps: pairs of a method and an inner solver."""
    optimizer = sgd(task)
    ways: dict[str, tuple[Any, Any]] = {
        f"bojax Unrolled({backprop}, {checkpoint})": (
            hypergrad.Unrolled(optimizer, num_steps, backprop=backprop, checkpoint=checkpoint),
            None,
        )
        for backprop, checkpoint in (("plain", None), ("mixflow", None), ("mixflow", "step"), ("mixflow", "sqrt"))
    }
    ways["bojax Forward"] = hypergrad.Forward(optimizer, num_steps), None
    ways["bojax Implicit(CG(10))"] = (
        hypergrad.Implicit(hypergrad.CG(max_steps=10), damping=1.0),
        hypergrad.Descent(optimizer, num_steps),
    )
    return ways
