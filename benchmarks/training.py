"""Training a batch of configurations at once, against training them one after another.

Run from the checkout: `python -m benchmarks.training [--quick] [--json FILE]`.
"""

from typing import Any

import jax
import numpy as np

import bojax
from benchmarks._timing import Report, has, interleave, parser, timing_rows
from bojax.multifidelity import Population


def draw_hparams(spec: dict[str, Any], q: int, seed: int = 0) -> dict[str, np.ndarray]:
    """q random configurations of a space given as plain data, as a dict of arrays [q]."""
    space = bojax.Space.from_spec(spec)
    return {name: np.asarray(column) for name, column in space.decode(space.sample(jax.random.key(seed), q)).items()}


def compare(report: Report, *, q: int, num_steps: int, rounds: int) -> None:
    """q configurations at once, and the same ones in turn, by a program of their own size and by the widest.

    On an accelerator also all of them in one program.
    """
    from models import digits_mlp

    objective = digits_mlp.with_num_steps(num_steps)
    keys = jax.random.split(jax.random.key(0), q)
    hparams = draw_hparams(objective.space, q)
    rows = [{name: column[i] for name, column in hparams.items()} for i in range(q)]
    structures = [objective.structure(row) for row in rows]

    def runner(structure):
        init, advance, evaluate = objective.program(structure)
        return jax.jit(lambda key, row: evaluate(advance(init(key, row), row, num_steps), row))

    alone = {structure: runner(structure) for structure in structures}
    widest = jax.jit(objective.train)
    at_once = jax.jit(jax.vmap(objective.train))
    metrics: dict[str, Any] = {}

    def together(_):
        metrics["together"] = bojax.train_many(objective, keys, hparams)

    def in_turn(_):
        done = [jax.block_until_ready(alone[structures[i]](keys[i], rows[i])) for i in range(q)]
        metrics["in turn"] = {name: np.array([run[name] for run in done]) for name in done[0]}

    functions = {
        "train_many": together,
        "one after another, each of its own size": in_turn,
        "one after another, all of the largest size": lambda _: [
            jax.block_until_ready(widest(keys[i], rows[i])) for i in range(q)
        ],
    }
    if jax.default_backend() != "cpu":
        functions["one vmapped program of the largest size"] = lambda _: jax.block_until_ready(at_once(keys, hparams))
    samples = interleave(functions, rounds)
    reference = "one after another, each of its own size"
    population = Population(objective, keys, hparams)
    population.advance(1)
    population.evaluate()
    report.section(
        f"q = {q} configurations of digits_mlp, {num_steps} steps each, on {jax.devices()[0].device_kind}",
        f"`train_many` compiles {population.num_compilations} programs for them, init and evaluate included; "
        f"one after another compiles {len(alone)}, or one of the largest size. Compilation is apart.",
    )
    table = [[*row, f"{samples[row[0]].compile:.1f}"] for row in timing_rows(samples, reference)]
    report.table(["", "ms: median (quartiles)", f"times as fast as {reference}", "compilation, s"], table)
    gaps = {name: np.abs(metrics["together"][name] - values) for name, values in sorted(metrics["in turn"].items())}
    report.table(
        ["metric", "median gap between the two", "largest"],
        [[name, f"{np.median(gap):.1e}", f"{np.max(gap):.1e}"] for name, gap in gaps.items()],
    )
    report.note("The two round differently, and training amplifies rounding where a configuration is unstable.")
    report.figure(
        "training",
        q=q,
        num_steps=num_steps,
        device=jax.devices()[0].device_kind,
        num_compilations=population.num_compilations,
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
