"""The peers of `benchmarks.hypergrad` in torch, each as its documentation uses it: TorchOpt, higher, Betty, torch.func.

Every contestant is a function without arguments that returns a hypergradient [h] as NumPy; it goes on from where the
last call ended when it was made with an outer learning rate.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from benchmarks._hyper_tasks import Task

Contestant = Callable[[], np.ndarray]


class Case:
    """A task in torch.

    Args:
        task: the data.
        dtype: of all floats.
        outer_rate: learning rate of the outer gradient descent (momentum 0.9) that a call ends with; 0 for none.
    """

    def __init__(self, task: Task, dtype: torch.dtype = torch.float32, outer_rate: float = 0.0):
        self.task, self.dtype, self.outer_rate = task, dtype, outer_rate
        kind = dtype if task.name == "logistic" else torch.int64
        self.train, self.valid = (
            (torch.tensor(x, dtype=dtype), torch.tensor(y, dtype=kind)) for x, y in (task.train, task.valid)
        )
        self.h = torch.tensor(task.log_l2, dtype=dtype, requires_grad=True)
        self.optimizer = torch.optim.SGD([self.h], lr=outer_rate, momentum=0.9)

    def module(self) -> torch.nn.Module:
        """The model at the start of the task."""
        if self.task.name == "logistic":
            return Weights(torch.tensor(self.task.params0, dtype=self.dtype))
        layers: list[torch.nn.Module] = []
        for W, b in self.task.params0:
            layer = torch.nn.Linear(*W.shape, dtype=self.dtype)
            layer.load_state_dict({"weight": torch.tensor(W.T), "bias": torch.tensor(b)})
            layers += [layer, torch.nn.Tanh()]
        return torch.nn.Sequential(*layers[:-1])

    def fit(self, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The cross entropy."""
        if self.task.name == "logistic":
            return F.binary_cross_entropy_with_logits(outputs, labels)
        return F.cross_entropy(outputs, labels)

    def inner(self, outputs: torch.Tensor, params: Any, h: torch.Tensor) -> torch.Tensor:
        """The inner loss from the model's outputs and its parameters in order."""
        params = list(params)
        if self.task.name == "logistic":
            penalty = (h.exp() * params[0] ** 2).sum()
        else:
            weights = h.exp()
            penalty = torch.stack([weights[i // 2] * (p**2).sum() for i, p in enumerate(params)]).sum()
        return self.fit(outputs, self.train[1]) + 0.5 * penalty

    def finish(self, grad: torch.Tensor) -> np.ndarray:
        """Takes the outer step, if there is one, and returns the hypergradient."""
        if self.outer_rate:
            self.h.grad = grad.detach().clone()
            self.optimizer.step()
        return grad.detach().numpy().copy()


class Weights(torch.nn.Module):
    """A linear model without a bias."""

    def __init__(self, w: torch.Tensor):
        super().__init__()
        self.w = torch.nn.Parameter(w)

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        """The logits."""
        return X @ self.w


def torchopt_unrolled(case: Case, num_steps: int) -> Contestant:
    """Reverse mode through T steps of `MetaSGD`."""
    import torchopt

    module = case.module()
    start = torchopt.extract_state_dict(module, by="copy", detach_buffers=True)

    def call():
        torchopt.recover_state_dict(module, start)
        optimizer = torchopt.MetaSGD(module, lr=case.task.learning_rate, momentum=case.task.momentum)
        for _ in range(num_steps):
            optimizer.step(case.inner(module(case.train[0]), module.parameters(), case.h))
        (grad,) = torch.autograd.grad(case.fit(module(case.valid[0]), case.valid[1]), case.h)
        return case.finish(grad)

    return call


def higher_unrolled(case: Case, num_steps: int) -> Contestant:
    """Reverse mode through T steps inside `innerloop_ctx`."""
    import higher

    module = case.module()

    def call():
        optimizer = torch.optim.SGD(module.parameters(), lr=case.task.learning_rate, momentum=case.task.momentum)
        with higher.innerloop_ctx(module, optimizer) as (model, steps):
            for _ in range(num_steps):
                steps.step(case.inner(model(case.train[0]), model.parameters(), case.h))
            (grad,) = torch.autograd.grad(case.fit(model(case.valid[0]), case.valid[1]), case.h)
        return case.finish(grad)

    return call


def torch_unrolled(case: Case, num_steps: int) -> Contestant:
    """Reverse mode through T steps written with `torch.func`."""
    from torch.func import functional_call, grad

    module = case.module()
    start = {name: p.detach() for name, p in module.named_parameters()}

    def inner_loss(params, h):
        return case.inner(functional_call(module, params, (case.train[0],)), params.values(), h)

    def outer_loss(h):
        params, buffers = start, {name: torch.zeros_like(p) for name, p in start.items()}
        for _ in range(num_steps):
            g = grad(inner_loss)(params, h)
            buffers = {name: case.task.momentum * buffers[name] + g[name] for name in g}
            params = {name: params[name] - case.task.learning_rate * buffers[name] for name in g}
        return case.fit(functional_call(module, params, (case.valid[0],)), case.valid[1])

    def call():
        return case.finish(grad(outer_loss)(case.h.detach()))

    return call


def torchopt_implicit(case: Case, num_steps: int, **settings: Any) -> Contestant:
    """`custom_root` with conjugate gradients around T steps of gradient descent from the last solution.

    Args:
        case: a logistic task.
        num_steps: T; 0 stays at the start.
        settings: of `torchopt.linear_solve.solve_cg`.
    """
    import torchopt

    X, y = case.train
    (w0,) = case.module().parameters()
    last = [w0.detach().clone()]

    def inner_loss(w, h):
        return case.inner(X @ w, (w,), h)

    def optimality(w, h):
        return torch.func.grad(inner_loss)(w, h)

    @torchopt.diff.implicit.custom_root(optimality, argnums=1, solve=torchopt.linear_solve.solve_cg(**settings))
    def solve(w, h):
        for _ in range(num_steps):
            w = w - case.task.learning_rate * optimality(w, h)
        return w

    def call():
        w = solve(last[0], case.h)
        (grad,) = torch.autograd.grad(case.fit(case.valid[0] @ w, case.valid[1]), case.h)
        last[0] = w.detach()
        return case.finish(grad)

    return call


def betty(case: Case, num_steps: int, **settings: Any) -> Contestant:
    """Betty's engine: T steps of gradient descent from the last solution, then one outer step.

    Args:
        case: a logistic task.
        num_steps: T; 0 takes one step of length zero.
        settings: of the inner problem's `Config`: type, cg_iterations, ...
    """
    import logging

    from betty.configs import Config, EngineConfig
    from betty.engine import Engine
    from betty.logging.logger_base import get_logger
    from betty.problems import ImplicitProblem

    get_logger().setLevel(logging.ERROR)
    found: list[np.ndarray] = []

    class Outer(ImplicitProblem):
        def training_step(self, batch):
            return case.fit(self.inner(batch[0]), batch[1])

        def get_batch(self):
            return case.valid

        def grad_callback(self):
            found.append(self.module.h.grad.detach().numpy().copy())

    class Inner(ImplicitProblem):
        def training_step(self, batch):
            return case.inner(self.module(batch[0]), self.module.parameters(), self.outer())

        def get_batch(self):
            return case.train

    class Hyper(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.h = torch.nn.Parameter(case.h.detach().clone())

        def forward(self):
            return self.h

    hyper, module = Hyper(), case.module()
    unroll = max(num_steps, 1)
    outer = Outer(
        name="outer",
        config=Config(retain_graph=True),
        module=hyper,
        optimizer=torch.optim.SGD(hyper.parameters(), lr=case.outer_rate, momentum=0.9),
    )
    inner = Inner(
        name="inner",
        config=Config(unroll_steps=unroll, **settings),
        module=module,
        optimizer=torch.optim.SGD(module.parameters(), lr=case.task.learning_rate if num_steps else 0.0),
    )
    engine = Engine(
        config=EngineConfig(train_iters=unroll, strategy="cpu"),
        problems=[outer, inner],
        dependencies={"u2l": {outer: [inner]}, "l2u": {inner: [outer]}},
    )

    def call():
        engine.run()
        return found.pop()

    return call
