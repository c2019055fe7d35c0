"""Speed and worth of a batch: q candidates chosen together, against BoTorch's sequential greedy search.

Run from the checkout: `python -m benchmarks.batches [--quick] [--json FILE] [--only SECTION ...]`.
"""

import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import norm, qmc

import bojax
from benchmarks import _problems
from benchmarks._timing import NO_BOTORCH, Report, Samples, has, interleave, parser, spread, timing_rows
from bojax import acquisition, surrogates
from bojax._errors import Status

SECTIONS = ("batch", "value", "thompson")
WORTH_SAMPLES = 2**15
"""Samples in which the worth of a batch is judged: more than either library maximizes."""

METHODS = {
    "bojax": {},
    "bojax, greedy only": {"joint": False},
    "bojax, noisy EI": {"acquisition": acquisition.batch_log_nei()},
    "bojax, 256 samples": {"acquisition": acquisition.batch_log_ei(num_samples=256)},
}


def ask_of(algorithm, states, keys):
    """A function of the round's number that asks for a batch."""

    def function(i):
        with bojax.host_scope():
            X, _, info = jax.device_get(algorithm.ask(keys[i], states[i]))
        if info.status != Status.OK:
            raise RuntimeError(f"no model-based suggestion: {Status(info.status)!r}")
        return X

    return function


def batch(report: Report, *, num_points: int, q: int, rounds: int, botorch: bool) -> None:
    """q points for Hartmann-6, fit included, everything compiled."""
    report.section(
        f"Warm batch: n = {num_points}, d = 6, q = {q}",
        "Fit and q points, 10 restarts and 512 raw samples for each, float64; every round has its own data set.",
    )
    data = _problems.data_sets("hartmann6", num_points, rounds)
    space = _problems.problem("hartmann6").space
    functions = {}
    with bojax.host_scope():
        keys = [jax.random.key(i) for i in range(rounds)]
        for name, options in METHODS.items():
            algorithm = bojax.bayesopt(space, q=q, **options)
            fresh = algorithm.init(keys[0])
            states = [bojax.loop.restore(fresh, bojax.data.Told(X, y, X[:0])) for X, y in data]
            functions[name] = ask_of(algorithm, states, keys)
    if botorch:
        from benchmarks import _botorch

        def peer(threads):
            def function(i):
                _botorch.torch.set_num_threads(threads)
                _botorch.torch.manual_seed(i)
                _botorch.suggest_batch(*data[i], q=q)

            return function

        for threads in sorted({1, _botorch.DEFAULT_THREADS}):
            functions[f"BoTorch qLogEI, {threads} thread" + ("s (default)" if threads > 1 else "")] = peer(threads)
    samples = interleave(functions, rounds)
    peers = [name for name in samples if name.startswith("BoTorch")]
    reference = min(peers, key=lambda name: samples[name].median) if peers else "bojax"
    rows = timing_rows(samples, reference)
    report.table(["whole suggestion", "ms: median (quartiles)", f"times as fast as {reference}"], rows)
    report.note("First calls, compilation included: " + first_calls(samples) + ".")
    report.figure("warm batch", q=q, num_points=num_points, samples={n: s.summary() for n, s in samples.items()})


def first_calls(samples: dict[str, Samples]) -> str:
    """The untimed first calls in words."""
    return ", ".join(f"{name} {s.first:.2f} s" for name, s in samples.items())


def worth(posterior, X, best_f) -> float:
    """Log joint expected improvement of a batch X [q, d] over best_f, by samples apart from any optimizer's."""
    mean, cov = (np.asarray(a, np.float64) for a in posterior.joint(jnp.asarray(X)))
    values, vectors = np.linalg.eigh(cov)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    unit = qmc.Sobol(len(X), seed=0).random(WORTH_SAMPLES)
    f = mean + norm.ppf(np.clip(unit, 1e-12, 1 - 1e-12)) @ root.T
    return float(np.log(np.mean(np.maximum(f.max(axis=1) - best_f, 0.0))))


def value(report: Report, *, num_points: int, q: int, count: int) -> None:
    """The same Gaussian process for both libraries, and the worth of the batches they choose."""
    from benchmarks import _botorch

    problem = _problems.problem("hartmann6")
    surrogate = bojax.surrogates.gp()
    names = list(METHODS)
    found: dict[str, list[float]] = {name: [] for name in [*names, "BoTorch"]}
    with bojax.host_scope():
        algorithms = {
            name: bojax.bayesopt(problem.space, q=q, **({"surrogate": surrogates.gp()} | options))
            for name, options in METHODS.items()
        }
        for i, (X, y) in enumerate(_problems.data_sets("hartmann6", num_points, count)):
            key = jax.random.key(i)
            states = {
                name: bojax.loop.restore(a.init(key), bojax.data.Told(X, y, X[:0])) for name, a in algorithms.items()
            }
            asked = {name: algorithms[name].ask(key, state) for name, state in states.items()}
            params, observations = asked[names[0]][1].params, states[names[0]].observations
            posterior = surrogate.posterior(params, observations).standardized()
            best_f = float(jnp.max(jnp.where(observations.mask, posterior.mean(observations.X), -jnp.inf)))
            model = _botorch.same_gp(
                X,
                (y - y.mean()) / y.std(ddof=1),
                lengthscale=np.exp(params.kernel.log_lengthscale),
                outputscale=np.exp(params.kernel.log_outputscale),
                noise_var=float(posterior.noise_var),
                mean=float(params.mean),
            )
            _botorch.torch.manual_seed(i)
            other = _botorch.maximize_batch(model, best_f, 6, q=q, num_restarts=10, raw_samples=512)
            for name in names:
                found[name].append(worth(posterior, asked[name][0], best_f))
            found["BoTorch"].append(worth(posterior, other, best_f))
    peer = np.asarray(found["BoTorch"])
    report.section(
        f"Worth of the batch: n = {num_points}, q = {q}",
        f"Log joint expected improvement by {WORTH_SAMPLES} other samples on one Gaussian process, over {count} data "
        "sets. Positive: better than BoTorch's batch.",
    )
    rows = []
    for name in names:
        gain = np.asarray(found[name]) - peer
        rows.append([name, spread(found[name], ".3g"), spread(list(gain), ".2g"), f"{np.sum(gain > -1e-3)} of {count}"])
    report.table(["", "log joint EI", "minus BoTorch's", "not below by 1e-3"], rows)
    report.figure("batch worth", q=q, num_points=num_points, **{name.replace(" ", "_"): v for name, v in found.items()})


def thompson(report: Report, *, num_points: int, num_dims: int, q: int, rounds: int) -> None:
    """Very many candidates at once by Thompson sampling."""
    space = bojax.Space({f"x{i}": bojax.Float(0.0, 1.0) for i in range(num_dims)})
    report.section(f"Thompson sampling: n = {num_points}, d = {num_dims}, q = {q}", "Fit included, float64.")
    with bojax.host_scope():
        algorithm = bojax.thompson(space, q=q)
        states, keys = [], [jax.random.key(i) for i in range(rounds)]
        for i in range(rounds):
            X = np.random.default_rng(i).random((num_points, num_dims))
            y = -np.sum((X - 0.3) ** 2, axis=1) + np.sin(9.0 * X[:, 0]) * X[:, 1]
            states.append(bojax.loop.restore(algorithm.init(keys[0]), bojax.data.Told(X, y, X[:0])))
    start = time.perf_counter()
    ask = ask_of(algorithm, states, keys)
    distinct = len(np.unique(ask(0), axis=0))
    first = time.perf_counter() - start
    samples = interleave({"bojax": ask}, rounds)["bojax"]
    report.note(f"{samples.median:.2f} s warm, first call {first:.1f} s; {distinct} different points.")
    report.figure("thompson", q=q, num_points=num_points, num_dims=num_dims, first_s=first, **samples.summary())


def main(argv: list[str] | None = None) -> None:
    """Entry point."""
    arguments = parser(__doc__)
    arguments.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS, help="sections to run")
    args = arguments.parse_args(argv)
    botorch = not args.no_botorch and has("torch", "botorch")
    report = Report("batches", args)
    if not botorch:
        report.note(NO_BOTORCH)
    if "batch" in args.only:
        size = {"num_points": 16, "q": 2, "rounds": 1} if args.quick else {"num_points": 100, "q": 8, "rounds": 10}
        batch(report, **size, botorch=botorch)
    if "value" in args.only and botorch:
        size = {"num_points": 16, "q": 2, "count": 1} if args.quick else {"num_points": 100, "q": 8, "count": 10}
        value(report, **size)
    if "thompson" in args.only:
        size = (16, 2, 8, 1) if args.quick else (200, 10, 1000, 3)
        thompson(report, **dict(zip(("num_points", "num_dims", "q", "rounds"), size, strict=True)))


if __name__ == "__main__":
    main(sys.argv[1:])
