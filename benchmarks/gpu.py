"""bojax on a GPU and on the CPU of the same machine, in one process: speed, and whether the results agree.

Run from the checkout, bojax installed or not: `python benchmarks/gpu.py [--quick] [--json FILE] [--only SECTION ...]`.
It needs jax, numpy, scipy and jaxtyping; the figure for all cores of the CPU also threadpoolctl, and training flax,
optax and scikit-learn. Without a GPU the CPU is measured alone.
"""

import contextlib
import os
import pathlib
import statistics
import sys
import time
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy: more threads make small factorizations slower
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import jax
import numpy as np

import bojax
from benchmarks import _problems
from benchmarks._timing import Report, Samples, has, interleave, milliseconds, parser
from benchmarks._worker import Worker

SECTIONS = ("suggestion", "studies", "training")


def find_devices() -> dict[str, Any]:
    """The first CPU and the first GPU, by the names used in the tables."""
    devices = {"CPU": jax.devices("cpu")[0]}
    with contextlib.suppress(RuntimeError):
        devices["GPU"] = jax.devices("gpu")[0]
    return devices


@contextlib.contextmanager
def on(device: Any, *, x64: bool = True):
    """New arrays go to this device, floats are float64."""
    with jax.default_device(device), jax.enable_x64(x64):
        yield


def build(function, device, *arguments):
    """Compiles a function for a device: the program, the arguments on the device, the seconds it took."""
    arguments = jax.device_put(arguments, device)
    start = time.perf_counter()
    compiled = jax.jit(function).lower(*arguments).compile()
    return compiled, arguments, time.perf_counter() - start


def rows_of(samples: dict[str, Samples], compile_s: dict[str, float]) -> list[list[str]]:
    """Table rows [device, milliseconds, times as fast as the CPU, seconds of compilation]."""
    base = samples["CPU"].median
    return [[name, milliseconds(s), f"{base / s.median:.2f}", f"{compile_s[name]:.1f}"] for name, s in samples.items()]


HEADER = ["", "ms: median (quartiles)", "times as fast as the CPU", "compilation, s"]


def suggestion(report: Report, devices: dict[str, Any], *, num_points: int, q: int, rounds: int) -> None:
    """One compiled `ask` on each device for the same data, key and start."""
    report.section(f"Warm suggestion: n = {num_points}, d = 6, q = {q}", "10 restarts, 512 raw samples, float64.")
    X, y = _problems.data_sets("hartmann6", num_points, 1)[0]
    points = np.random.default_rng(1).random((256, 6))
    algorithm = bojax.bayesopt(_problems.problem("hartmann6").space, q=q, num_initial=2)
    surrogate = bojax.surrogates.gp()
    posterior_mean = jax.jit(lambda params, observations, X: surrogate.posterior(params, observations).mean(X))
    functions, compile_s, answers, means = {}, {}, {}, {}
    for name, device in devices.items():
        with on(device):
            state = bojax.loop.restore(algorithm.init(jax.random.key(0)), bojax.data.Told(X, y, X[:0]))
            ask, arguments, compile_s[name] = build(algorithm.ask, device, jax.random.key(1), state)
            functions[name] = lambda _, ask=ask, arguments=arguments: jax.block_until_ready(ask(*arguments))
            answers[name] = jax.device_get(functions[name](0))
            program, arguments, _ = build(posterior_mean, device, answers["CPU"][1].params, state.observations, points)
            means[name] = np.asarray(program(*arguments))
    samples = interleave(functions, rounds)
    report.table(HEADER, rows_of(samples, compile_s))
    agreement = {}
    for name, (candidates, _, info) in answers.items():
        agreement[name] = {
            "fit_loss": float(info.fit_loss),
            "acquisition": np.asarray(info.acquisition).tolist(),
            "status": int(info.status),
            "largest_mean_gap": float(np.max(np.abs(means[name] - means["CPU"])) / np.std(y)),
            "largest_candidate_gap": float(np.max(np.abs(candidates - answers["CPU"][0]))),
        }
    report.table(
        ["", "fit loss", "acquisition of the first candidate", "mean, gap to CPU (std of y)", "candidates, gap to CPU"],
        [
            [
                *(name, f"{a['fit_loss']:.10g}", f"{a['acquisition'][0]:.10g}"),
                *(f"{a['largest_mean_gap']:.1e}", f"{a['largest_candidate_gap']:.1e}"),
            ]
            for name, a in agreement.items()
        ],
    )
    report.figure(
        "gpu suggestion",
        num_points=num_points,
        q=q,
        devices={name: device.device_kind for name, device in devices.items()},
        compile_s=compile_s,
        samples={name: s.summary() for name, s in samples.items()},
        agreement=agreement,
    )


def studies(report: Report, devices: dict[str, Any], *, name: str, count: int, steps: int, rounds: int) -> None:
    """`run_many`: vmapped on the GPU, one after another on the CPU, and on all cores of it in another process."""
    report.section(
        f"{count} studies of {steps} evaluations: {name}",
        "float64; `parallel`: *vmap* on the GPU, *map* on the CPU (about one core), *shard* on all its cores, in a "
        "process of its own. Rounding alone makes two devices part ways after some steps, so their regrets agree in "
        "distribution only.",
    )
    problem = _problems.problem(name)
    algorithm = bojax.bayesopt(problem.space)
    functions, compile_s, regret = {}, {}, {}
    for label, device in devices.items():
        mode: Any = "map" if device.platform == "cpu" else "vmap"
        with on(device):
            many = jax.jit(lambda keys, mode=mode: bojax.run_many(keys, algorithm, problem.f, steps, parallel=mode))
            keys = jax.random.split(jax.random.key(0), count)
            program, arguments, compile_s[label] = build(many, device, keys)
        functions[label] = lambda _, program=program, arguments=arguments: jax.block_until_ready(program(*arguments))
        regret[label] = problem.regret(np.asarray(functions[label](0).observations.y))
    with contextlib.ExitStack() as stack:
        cores = report.environment["cores"]
        every = f"CPU, {cores} cores"
        worker = stack.enter_context(Worker(cores, cpu_only=True))

        def shard(_=0):
            return worker.run(name, studies=count, steps=steps, parallel="shard")

        try:
            first = shard()
            regret[every], functions[every], compile_s[every] = np.asarray(first["regret"]), shard, float("nan")
        except RuntimeError as error:
            report.note(f"**No figure for all cores**: {error}")
        samples = interleave(functions, rounds)
    if every in samples:
        compile_s[every] = max(first["seconds"] - samples[every].median, 0.0)
    step_ms = {label: 1e3 * s.median / (count * steps) for label, s in samples.items()}
    rows = [
        [*row, f"{step_ms[row[0]]:.3g}", f"{np.median(regret[row[0]]):.2g}", f"{np.max(regret[row[0]]):.2g}"]
        for row in rows_of(samples, compile_s)
    ]
    report.table([*HEADER, "ms a step of a study", "median regret", "worst"], rows)
    report.figure(
        "gpu studies",
        problem=name,
        studies=count,
        steps=steps,
        devices={label: device.device_kind for label, device in devices.items()},
        compile_s=compile_s,
        samples={label: s.summary() for label, s in samples.items()},
        regret={label: r.tolist() for label, r in regret.items()},
    )


def training(report: Report, devices: dict[str, Any], *, q: int, num_steps: int, rounds: int) -> None:
    """A batch of q configurations of `digits_mlp` trained as one program, in float32."""
    report.section(f"Training q = {q} configurations of digits_mlp, {num_steps} steps")
    if not has("flax", "optax", "sklearn"):
        report.note("Left out: it needs flax, optax and scikit-learn.")
        return
    from benchmarks.training import draw_hparams
    from models import digits_mlp

    objective = digits_mlp.with_num_steps(num_steps)
    functions, compile_s, metrics = {}, {}, {}
    for name, device in devices.items():
        with on(device, x64=False):
            keys, hparams = jax.random.split(jax.random.key(0), q), draw_hparams(objective.space, q)
            program, arguments, compile_s[name] = build(jax.jit(jax.vmap(objective.train)), device, keys, hparams)
        functions[name] = lambda _, program=program, arguments=arguments: jax.block_until_ready(program(*arguments))
        metrics[name] = jax.device_get(functions[name](0))
    samples = interleave(functions, rounds)
    report.table(HEADER, rows_of(samples, compile_s))
    best = {name: float(np.max(m[objective.metric])) for name, m in metrics.items()}
    report.note(f"Best {objective.metric}: " + ", ".join(f"{name} {value:.4f}" for name, value in best.items()) + ".")
    gaps = {k: np.abs(metrics["GPU"][k] - m) for k, m in sorted(metrics["CPU"].items())} if "GPU" in metrics else {}
    if gaps:
        report.table(
            ["metric", "median gap between the devices", "largest"],
            [[k, f"{np.median(gap):.1e}", f"{np.max(gap):.1e}"] for k, gap in gaps.items()],
        )
        report.note(
            "On a GPU, JAX multiplies float32 matrices with TF32 by default; unstable configurations amplify rounding."
        )
    report.figure(
        "gpu training",
        q=q,
        num_steps=num_steps,
        devices={name: device.device_kind for name, device in devices.items()},
        compile_s=compile_s,
        samples={name: s.summary() for name, s in samples.items()},
        gaps={k: gap.tolist() for k, gap in gaps.items()},
        median_metric={name: statistics.median(m[objective.metric].tolist()) for name, m in metrics.items()},
    )


def main(argv: list[str] | None = None) -> None:
    """Runs the sections."""
    arguments = parser(__doc__, botorch=False)
    arguments.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS, help="the sections to run")
    arguments.add_argument("--points", nargs="+", type=int, help="sizes of the data (default 100 500)")
    arguments.add_argument("--q", nargs="+", type=int, help="batch sizes (default 1 8)")
    arguments.add_argument("--studies", nargs="+", type=int, help="studies at once (default 32)")
    arguments.add_argument("--rounds", type=int, help="measurements of each contestant (default 7; studies: 3)")
    args = arguments.parse_args(argv)
    report = Report("benchmarks.gpu", args)
    devices = find_devices()
    report.note("Devices: " + ", ".join(f"{name}: {device.device_kind}" for name, device in devices.items()) + ".")
    if "GPU" not in devices:
        report.note("**JAX sees no GPU here: the CPU is measured alone.**")
    quick = args.quick
    if "suggestion" in args.only:
        for num_points in args.points or ([14] if quick else [100, 500]):
            for q in args.q or ([1] if quick else [1, 8]):
                suggestion(report, devices, num_points=num_points, q=q, rounds=args.rounds or (1 if quick else 7))
    if "studies" in args.only:
        for count in args.studies or ([2] if quick else [32]):
            steps, rounds = (6 if quick else 30), args.rounds or (1 if quick else 3)
            studies(report, devices, name="branin" if quick else "hartmann6", count=count, steps=steps, rounds=rounds)
    if "training" in args.only:
        rounds = args.rounds or (1 if quick else 7)
        training(report, devices, q=2 if quick else 16, num_steps=3 if quick else 300, rounds=rounds)


if __name__ == "__main__":
    main()
