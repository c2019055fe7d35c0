"""Bayesian optimization of training runs with and without hypergradients.

Run from the checkout: `python -m benchmarks.gradient_bo [--seeds 20] [--only PROBLEM ...] [--json FILE]`.

Three problems with six hyperparameters, each value the logarithm of a validation cross entropy:

* `cancer`: breast cancer, logistic regression, an L2 weight for each of six groups of features (implicit);
* `wine`: the same for the three classes of wine;
* `digits`: a perceptron on digits trained for 60 steps: learning rate, its decay, momentum, and an L2 weight for each
  layer and for the biases (unrolled).
"""

import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import bojax
from benchmarks._timing import Report, has, parser
from bojax import hypergrad

CHECKPOINTS = (8, 12, 16, 20, 30)
TRAINING_SECONDS = (0.1, 1.0, 10.0, 60.0)
"""Lengths of a training without gradients for which methods are compared at equal wall clock."""


class HyperProblem(NamedTuple):
    """A problem of the race.

    Attributes:
        space: the hyperparameters.
        value_and_grad: `value_and_grad(x [d]) -> (value, grad [d])` in the unit cube; larger is better.
    """

    space: bojax.Space
    value_and_grad: Callable[[Any], tuple[Any, Any]]


def cross_entropy(logits, labels):
    """Mean cross entropy."""
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))


def grouped_l2(load: Callable[..., Any], seed: int = 0) -> HyperProblem:
    """Multinomial logistic regression with an L2 weight for each of six groups of features."""
    from sklearn.model_selection import train_test_split
    from sklearn.preprocessing import StandardScaler

    X, y = load(return_X_y=True)
    train, valid, y_train, y_valid = train_test_split(X, y, test_size=0.5, random_state=seed, stratify=y)
    scaler = StandardScaler().fit(train)
    inner_data = jnp.asarray(scaler.transform(train)), jnp.asarray(y_train)
    outer_data = jnp.asarray(scaler.transform(valid)), jnp.asarray(y_valid)
    group = np.arange(X.shape[1]) % 6
    start = jnp.zeros((X.shape[1] + 1, int(y.max()) + 1))

    def loss(w, data):
        X, y = data
        return cross_entropy(X @ w[:-1] + w[-1:], y)

    def inner_loss(w, h, data):
        weights = jnp.stack([h[f"log_l2_{i}"] for i in range(6)])[group]
        return loss(w, data) + jnp.sum(jnp.exp(weights)[:, None] * w[:-1] ** 2) + 1e-6 * jnp.sum(w**2)

    space = bojax.Space({f"log_l2_{i}": bojax.Float(-12.0, 2.0) for i in range(6)})
    fn = hypergrad.hypergradient(
        inner_loss, lambda w, h, data: jnp.log(loss(w, data)), method=hypergrad.Implicit(), space=space
    )
    return HyperProblem(space, _negated(lambda x: fn(x, start, inner_data, outer_data)))


def digits_unrolled(num_steps: int = 60) -> HyperProblem:
    """A perceptron trained by gradient descent with momentum, differentiated through its steps."""
    from models.data.digits import load_digits

    data = load_digits()
    inner_data, outer_data = (
        (jnp.asarray(part.inputs.reshape(len(part.targets), -1), float), jnp.asarray(part.targets))
        for part in (data.train, data.validation)
    )
    rng = np.random.default_rng(0)
    sizes = ((64, 24), (24, 10))
    start = [(jnp.asarray(rng.normal(size=s) / np.sqrt(s[0])), jnp.zeros(s[1])) for s in sizes]
    space = bojax.Space(
        learning_rate=bojax.Float(1e-2, 3.0, log=True),
        decay=bojax.Float(1e-3, 1.0, log=True),
        momentum=bojax.Float(0.0, 0.95),
        log_l2_0=bojax.Float(-14.0, -2.0),
        log_l2_1=bojax.Float(-14.0, -2.0),
        log_l2_biases=bojax.Float(-14.0, -2.0),
    )

    def loss(params, data):
        x, y = data
        (W0, b0), (W1, b1) = params
        return cross_entropy(jnp.tanh(x @ W0 + b0[None]) @ W1 + b1[None], y)

    def inner_loss(params, h, data):
        weights = [(h["log_l2_0"], h["log_l2_biases"]), (h["log_l2_1"], h["log_l2_biases"])]
        return loss(params, data) + hypergrad.l2(params, weights)

    def optimizer(h):
        def rate(count):
            return h["learning_rate"] * h["decay"] ** (count / num_steps)

        return optax.sgd(rate, momentum=h["momentum"])

    fn = hypergrad.hypergradient(
        inner_loss,
        lambda params, h, data: jnp.log(loss(params, data)),
        method=hypergrad.Unrolled(optimizer, num_steps),
        space=space,
    )
    return HyperProblem(space, _negated(lambda x: fn(x, start, inner_data, outer_data)))


def _negated(fn):
    @jax.jit
    def value_and_grad(x):
        result = fn(x)
        return -result.value, -result.grad

    return value_and_grad


def problems() -> dict[str, Callable[[], HyperProblem]]:
    """The problems by name."""
    from sklearn import datasets

    return {
        "cancer": functools.partial(grouped_l2, datasets.load_breast_cancer),
        "wine": functools.partial(grouped_l2, datasets.load_wine),
        "digits": digits_unrolled,
    }


def wrong(grad: Any) -> Any:
    """An adversary's gradient: the negative one, its components in another order."""
    return -grad[::-1]


METHODS = {
    "BO": (False, None),
    "BO with gradients": (True, lambda grad: grad),
    "BO with wrong gradients": (True, wrong),
}


def study(problem: HyperProblem, method: str, seed: int, num_trials: int) -> tuple[list[float], list[float]]:
    """Best value after each trial, and the seconds since the start."""
    gradients, change = METHODS[method]
    algorithm = _algorithm(problem.space, gradients)
    key = jax.random.key(seed)
    with bojax.host_scope():
        X, Y, G = (np.zeros((0, problem.space.num_dims)), np.zeros(0), np.zeros((0, problem.space.num_dims)))
        best, seconds, start = [], [], time.perf_counter()
        for i in range(num_trials):
            state = bojax.loop.restore(
                algorithm.init(key),
                bojax.data.Told(X, Y, np.zeros((0, problem.space.num_dims)), {"grad": G}),
            )
            x = np.asarray(_ask(algorithm)(jax.random.fold_in(key, i), state)[0][0])
            value, grad = problem.value_and_grad(jnp.asarray(x))
            X, Y = np.vstack([X, x]), np.append(Y, float(value))
            G = np.vstack([G, np.asarray(change(grad) if change else np.full_like(x, np.nan))])
            best.append(float(np.nanmax(np.where(np.isfinite(Y), Y, np.nan))))
            seconds.append(time.perf_counter() - start)
    return best, seconds


@functools.cache
def _algorithm(space, gradients):
    return bojax.gradient_bayesopt(space) if gradients else bojax.bayesopt(space)


@functools.cache
def _ask(algorithm):
    return jax.jit(algorithm.ask)


def race(report: Report, name: str, problem: HyperProblem, *, num_seeds: int, num_trials: int) -> None:
    """All methods on one problem."""
    marks = [c for c in CHECKPOINTS if c <= num_trials] or [num_trials]
    curves = {}
    for method in METHODS:
        runs = [study(problem, method, seed, num_trials) for seed in range(num_seeds)]
        curves[method] = np.array([run[0] for run in runs]), np.array([run[1] for run in runs])
    top = max(float(values.max()) for values, _ in curves.values())
    report.section(
        f"{name}: regret of the log validation cross entropy, median of {num_seeds} seeds",
        "Regret is measured against the best value seen by anyone. Seconds are for one study of all trials, programs "
        "compiled before.",
    )
    rows = []
    for method, (values, seconds) in curves.items():
        regret = np.median(top - values, axis=0)
        rows.append([method, *(f"{regret[c - 1]:.4f}" for c in marks), f"{np.median(seconds[1:, -1]):.1f}"])
        report.figure("race", problem=name, method=method, regrets=(top - values).tolist(), seconds=seconds.tolist())
    report.table(["", *(f"after {c}" for c in marks), "s"], rows)
    regrets = {method: (top - values, seconds) for method, (values, seconds) in curves.items()}
    equal_clock(report, name, regrets, problem)


def equal_clock(report: Report, name: str, curves: dict[str, tuple[Any, Any]], problem: HyperProblem) -> None:
    """The same runs at the time that plain BO takes for all its trials, for trainings of several lengths."""
    cost = gradient_cost(problem)
    report.section(
        f"{name}: at equal wall clock",
        f"A training with its gradient takes {cost:.2f} times as long as one without. Median regret of plain BO after "
        "all its trials, and of BO with gradients after as many as fit into the same time, suggestions included.",
    )
    plain, plain_seconds = curves["BO"]
    regrets, seconds = curves["BO with gradients"]
    num_trials, rows = plain.shape[1], []
    for training in TRAINING_SECONDS:
        budget = num_trials * training + np.median(plain_seconds[1:, -1])
        spent = np.median(seconds[1:], axis=0) + cost * training * np.arange(1, num_trials + 1)
        fitting = int(np.sum(spent <= budget))
        regret = f"{np.median(regrets[:, fitting - 1]):.4f}" if fitting else "-"
        rows.append([f"{training:g} s", f"{np.median(plain[:, -1]):.4f}", regret, f"{fitting}"])
        report.figure("equal clock", problem=name, training=training, cost=cost, trials=fitting, regret=regret)
    report.table(["training", "BO", "with gradients", "trials"], rows)


def gradient_cost(problem: HyperProblem, num_points: int = 20) -> float:
    """Time of a training with its gradient in units of one without, median over points of the cube."""
    value = jax.jit(lambda x: problem.value_and_grad(x)[0])  # what only the gradient needs is not computed
    ratios = []
    with bojax.host_scope():
        for x in np.random.default_rng(0).random((num_points + 1, problem.space.num_dims)):
            with_gradient, without = (_seconds(fn, jnp.asarray(x)) for fn in (problem.value_and_grad, value))
            ratios.append(with_gradient / without)
    return float(np.median(ratios[1:]))


def _seconds(fn: Callable[[Any], Any], x: Any) -> float:
    start = time.perf_counter()
    jax.block_until_ready(fn(x))
    return time.perf_counter() - start


def main(argv: list[str] | None = None) -> None:
    """Runs the race on each problem."""
    arguments = parser(__doc__, botorch=False)
    arguments.add_argument("--only", nargs="+", help="problems (default: all)")
    arguments.add_argument("--seeds", type=int, default=20)
    arguments.add_argument("--trials", type=int, default=30)
    args = arguments.parse_args(argv)
    report = Report("benchmarks.gradient_bo", args)
    if not has("flax", "optax", "sklearn", "lineax"):
        report.note("Nothing to measure: it needs flax, optax, lineax and scikit-learn, which bojax depends on.")
        return
    known = problems()
    num_seeds, num_trials = (2, 8) if args.quick else (args.seeds, args.trials)
    for name in args.only or (["wine"] if args.quick else known):
        with bojax.host_scope():
            problem = known[name]()
        race(report, name, problem, num_seeds=num_seeds, num_trials=num_trials)


if __name__ == "__main__":
    main()
