"""Training a batch of configurations as one vmapped program, against training them one after another.

Run from the checkout: `python -m benchmarks.training [--quick] [--json FILE]`.
"""

import time
from typing import Any

import jax
import numpy as np

import bojax
from benchmarks._timing import Report, has, interleave, parser, timing_rows


def draw_hparams(spec: dict[str, Any], q: int, seed: int = 0) -> dict[str, jax.Array]:
    """q random configurations of a space given as plain data, as a dict of arrays [q]."""
    space = bojax.Space.from_spec(spec)
    return space.decode(space.sample(jax.random.key(seed), q))


def compare(report: Report, *, q: int, num_steps: int, rounds: int) -> None:
    """q configurations at once, and the same ones by a compiled program for one."""
    from models import make_digits_mlp

    objective = make_digits_mlp(num_steps)
    keys = jax.random.split(jax.random.key(0), q)
    hparams = draw_hparams(objective.space, q)
    singles = [(keys[i], {name: column[i] for name, column in hparams.items()}) for i in range(q)]

    def build(function, arguments):
        start = time.perf_counter()
        compiled = jax.jit(function).lower(*arguments).compile()
        return compiled, time.perf_counter() - start

    together, together_s = build(jax.vmap(objective.train), (keys, hparams))
    alone, alone_s = build(objective.train, singles[0])
    names = {f"vmap over {q}": together_s, "one after another": alone_s}
    at_once, in_turn = names
    functions = {
        at_once: lambda _: jax.block_until_ready(together(keys, hparams)),
        in_turn: lambda _: [jax.block_until_ready(alone(*single)) for single in singles],
    }
    samples = interleave(functions, rounds)
    report.section(
        f"q = {q} configurations of digits_mlp, {num_steps} steps each, on {jax.devices()[0].device_kind}",
        "Compilation is apart; both compile one program, however many configurations are trained.",
    )
    rows = [[*row, f"{names[row[0]]:.1f}"] for row in timing_rows(samples, in_turn)]
    report.table(["", "ms: median (quartiles)", f"times as fast as {in_turn}", "compilation, s"], rows)
    batch = jax.device_get(together(keys, hparams))
    single = jax.device_get([alone(*arguments) for arguments in singles])
    gaps = {name: np.abs(batch[name] - np.array([metrics[name] for metrics in single])) for name in sorted(batch)}
    report.table(
        ["metric", "median gap between the two", "largest"],
        [[name, f"{np.median(gap):.1e}", f"{np.max(gap):.1e}"] for name, gap in gaps.items()],
    )
    report.note("The two round differently, and training amplifies rounding where a configuration is unstable.")
    report.figure(
        "vmapped training",
        q=q,
        num_steps=num_steps,
        device=jax.devices()[0].device_kind,
        compile_s=names,
        samples={name: s.summary() for name, s in samples.items()},
        largest_gap={name: float(np.max(gap)) for name, gap in gaps.items()},
    )


def main(argv: list[str] | None = None) -> None:
    """Runs the comparison for each batch size."""
    arguments = parser(__doc__, botorch=False)
    arguments.add_argument("--q", nargs="+", type=int, help="batch sizes (default 16)")
    arguments.add_argument("--steps", type=int, help="gradient steps of a run (default 300)")
    arguments.add_argument("--rounds", type=int, help="measurements of each contestant (default 5)")
    args = arguments.parse_args(argv)
    report = Report("benchmarks.training", args)
    if not has("flax", "optax", "sklearn"):
        report.note("Nothing to measure: it needs flax, optax and scikit-learn, which bojax depends on.")
        return
    for q in args.q or ([2] if args.quick else [16]):
        num_steps = args.steps or (3 if args.quick else 300)
        compare(report, q=q, num_steps=num_steps, rounds=args.rounds or (1 if args.quick else 5))


if __name__ == "__main__":
    main()
