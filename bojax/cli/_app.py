"""The commands, and how errors become exit codes."""

import contextlib
import importlib
import pathlib
import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bojax._errors import BojaxWarning, StudyError
from bojax.cli._output import (
    complain,
    must_exist,
    one_line,
    print_json,
    print_summary,
    show_warning,
    shown,
    summary_of,
    to_url,
)
from bojax.cli._target import Target, find_target, read_space, training_of_target

if TYPE_CHECKING:
    from bojax.study import Study, Trial
    from bojax.study._tune import Training

DEFAULT_STORAGE = "sqlite:///bojax.db"
DEFAULT_SEED = 0
ALGORITHMS = ("bayesopt", "random_search")

TARGET_ATTR = "bojax:target"
"""Attribute of the Optuna study: what it tunes, so that no study mixes two objectives."""

app = typer.Typer(
    name="bojax",
    help="Bayesian optimization for JAX: tune an objective, resume it, look at it.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]


def main(args: Sequence[str] | None = None) -> None:
    """Runs the command and exits with its code."""
    sys.exit(run(args))


def run(args: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code; errors are one line on stderr."""
    command = typer.main.get_command(app)
    try:
        with warnings.catch_warnings(), _interrupt_as_exit():
            warnings.showwarning = show_warning
            warnings.simplefilter("always", BojaxWarning)
            code = command.main(args=None if args is None else list(args), prog_name="bojax", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except typer.Exit as error:
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        exit_code = getattr(error, "exit_code", None)
        if hasattr(error, "format_message") and isinstance(exit_code, int):  # a usage error of click
            message = " ".join(error.format_message().split())  # type: ignore[attr-defined]
            return complain(message, exit_code) if message else exit_code
        if type(error).__name__ == "Abort":
            return 130
        return complain(one_line(error), 1)


@app.command("list")
def list_objectives(as_json: JsonOption = False) -> None:
    """List the objectives of the model zoo."""
    objectives = importlib.import_module("bojax.models").objectives()
    rows = [
        {
            "name": objective.name,
            "description": objective.description,
            "num_steps": objective.num_steps,
            "rungs": list(objective.rungs),
            "structural": list(objective.structural),
            "sizes": {name: list(sizes) for name, sizes in (objective.sizes or {}).items()},
            "metric": objective.metric,
            "direction": objective.direction,
            "differentiable": objective.value_and_grad is not None,
            "space": objective.space,
        }
        for objective in objectives.values()
    ]
    if as_json:
        return print_json(rows)
    width = max([len(row["name"]) for row in rows], default=0)
    for row in rows:
        size = f"{len(row['space'])} hyperparameters, {row['num_steps']} steps"
        typer.echo(f"{row['name']:<{width}}  {row['description']}; {size}")


@app.command()
def tune(
    target: Annotated[
        str, typer.Argument(help="An objective of the zoo (see `bojax list`), or package.module:objective.")
    ],
    trials: Annotated[int, typer.Option(min=1, help="Finished trials the study shall have in the end.")] = 30,
    batch_size: Annotated[int, typer.Option(min=1, help="Candidates chosen jointly.")] = 4,
    seed: Annotated[
        int | None, typer.Option(min=0, max=2**32 - 1, help="Seed of a new study and of training.  [default: 0]")
    ] = None,
    storage: Annotated[
        str, typer.Option(help="URL of an Optuna storage, or the path of a SQLite file.")
    ] = DEFAULT_STORAGE,
    study: Annotated[str | None, typer.Option(help="Name of the study.  [default: that of the objective]")] = None,
    direction: Annotated[str | None, typer.Option(help="minimize or maximize.")] = None,
    space: Annotated[
        pathlib.Path | None, typer.Option(help="JSON file with a space, in place of the objective's.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Gradient steps of a run, for an objective of the zoo.")
    ] = None,
    algorithm: Annotated[str, typer.Option(help=f"How candidates are chosen: {' or '.join(ALGORITHMS)}.")] = ALGORITHMS[
        0
    ],
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each candidate of a training function, averaged.")] = 1,
    gradients: Annotated[
        bool | None,
        typer.Option(help="Learn from derivatives of the metric.  [default: where the objective is differentiable]"),
    ] = None,
    cache: Annotated[bool, typer.Option("--cache/--no-cache", help="Keep compiled programs on disk.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Tune an objective. The same command again goes on where the study stands."""
    if direction not in (None, "minimize", "maximize"):
        raise typer.BadParameter(f"must be minimize or maximize, got {direction!r}.", param_hint="--direction")
    if algorithm not in ALGORITHMS:
        raise typer.BadParameter(f"must be {' or '.join(ALGORITHMS)}, got {algorithm!r}.", param_hint="--algorithm")
    found = find_target(target, steps)
    found = found._replace(space=read_space(space) if space is not None else found.space)
    if found.trainable is not None and direction is not None and found.direction not in (None, direction):
        raise typer.BadParameter(
            f"{found.name} is to be {found.direction}d, got {direction!r}.", param_hint="--direction"
        )
    if found.space is None:
        raise typer.BadParameter(
            f"{target} has no space. Give the objective an attribute `space`, its module a variable `space`, "
            "or the command a file with --space."
        )
    if cache:
        from bojax._runtime import enable_compilation_cache

        enable_compilation_cache()
    url = to_url(storage)
    training = training_of_target(found, gradients)
    learns = training is not None and training.gradients and algorithm == ALGORITHMS[0]
    opened = _open_study(found, url, study, direction, seed, algorithm, {"gradients": True} if learns else {})
    try:
        num_compilations = _tune(opened, found, training, trials, batch_size, seeds)
    except KeyboardInterrupt:
        typer.echo(
            f"bojax: interrupted with {_num_finished(opened)} of {trials} trials done, kept in "
            f"{shown(url)}. Run the same command again to go on.",
            err=True,
        )
        raise typer.Exit(130) from None
    summary = summary_of(opened, url) | {"num_compilations": num_compilations}
    print_json(summary) if as_json else print_summary(summary)
    if summary["best"] is None:
        raise typer.Exit(complain("no trial gave a value, so there is no best one.", 1))


@app.command()
def show(
    storage: Annotated[str, typer.Argument(help="URL of an Optuna storage, or the path of a SQLite file.")],
    study: Annotated[str | None, typer.Option(help="Name of the study, where the storage has several.")] = None,
    plot: Annotated[pathlib.Path | None, typer.Option(help="Draw the values over the trials into this file.")] = None,
    slices: Annotated[
        pathlib.Path | None, typer.Option(help="Draw the surrogate along each parameter into this file.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show a study: its best trial, its state, and with --plot how it went."""
    from bojax.study import Study
    from bojax.study._backends import open_storage
    from bojax.study._carry import ROOT
    from bojax.study._storage import VERSION

    url = to_url(storage)
    must_exist(url)
    import optuna

    backend = open_storage(url, create=False)
    summaries = optuna.get_all_study_summaries(backend, include_best_trial=False)
    # A study whose space was changed has an Optuna study for each space, and opens by the name of the first one.
    made = [summary for summary in summaries if VERSION in summary.user_attrs]
    names = [summary.study_name for summary in made if ROOT not in summary.user_attrs]
    if study is None and len(names) > 1:
        raise typer.BadParameter(f"name one of the studies: {', '.join(names)}.", param_hint="--study")
    if study is None and not names:
        raise StudyError(f"the storage {shown(url)} holds no study of bojax.")
    if study is not None and study not in names:
        raise StudyError(f"the storage {shown(url)} holds no study {study!r}. It holds: {', '.join(names)}.")
    opened = Study(storage=backend, name=study or names[0])
    if plot is not None:
        from bojax.study import plot_trajectory

        plot_trajectory(opened, plot)
    if slices is not None:
        from bojax.study import plot_slices

        plot_slices(opened, slices)
    summary = summary_of(opened, url)
    if not as_json:
        return print_summary(summary)
    trials = [
        {"number": t.number, "state": t.state, "value": t.value, "params": t.params, "attrs": t.user_attrs}
        for t in opened.trials
    ]
    print_json(summary | {"space": opened.space.to_spec(), "trials": trials})


def _open_study(
    target: Target,
    url: str,
    name: str | None,
    direction: str | None,
    seed: int | None,
    algorithm: str,
    options: dict[str, Any],
) -> "Study":
    import optuna

    from bojax import loop
    from bojax.space import to_space
    from bojax.study import Study
    from bojax.study._backends import open_storage

    try:
        space = to_space(target.space)
    except (ValueError, TypeError) as error:
        raise typer.BadParameter(f"the space of {target.name}: {one_line(error)}") from None
    name = name or target.name
    backend = open_storage(url)
    if seed is None and name not in optuna.get_all_study_names(backend):
        seed = DEFAULT_SEED
    make = getattr(loop, algorithm)
    study = Study(
        space,
        direction or target.direction,
        backend,
        name,
        seed,
        algorithm=lambda space, q: make(space, q=q, **options),
    )
    known = study.optuna.user_attrs.get(TARGET_ATTR)
    if known is None:
        study.optuna.set_user_attr(TARGET_ATTR, target.name)
    elif known != target.name:
        raise StudyError(f"the study {name!r} tunes {known!r}, not {target.name!r}: choose another --study.")
    return study


def _tune(study: "Study", target: Target, training: "Training | None", trials: int, batch_size: int, seeds: int) -> int:
    """Evaluates until the study has so many finished trials, whichever process finishes them.

    Returns:
        How many programs were compiled to train.
    """
    from bojax.study._optimize import progress_bar

    done = _num_finished(study)
    if done >= trials:
        return 0
    with progress_bar(study, trials, True, initial=done) as advance:

        def after(study: "Study", trial: "Trial") -> None:
            advance(trial)
            if _num_finished(study) >= trials:
                study.stop()

        if training is None:
            assert target.objective is not None
            study.optimize(target.objective, trials - done, batch_size, progress=False, callbacks=[after])
            return 0
        from bojax.study._tune import run_batches

        run_batches(study, training, trials - done, batch_size, seeds, [after])
        return len(training.programs)


@contextlib.contextmanager
def _interrupt_as_exit() -> Iterator[None]:
    """Ctrl-C outside of `tune` says nothing more than that."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo("bojax: interrupted", err=True)
        raise


def _num_finished(study: "Study") -> int:
    return sum(trial.state in ("complete", "fail", "pruned") for trial in study.trials)
