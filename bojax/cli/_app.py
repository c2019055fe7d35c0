"""The commands, and how errors become exit codes."""

import contextlib
import importlib
import math
import pathlib
import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import Annotated

import typer

from bojax._errors import BojaxError, BojaxWarning, StudyError
from bojax.cli._output import (
    complain,
    located,
    must_exist,
    print_summary,
    show_warning,
    shown,
    summary_of,
    to_json,
    to_url,
)
from bojax.cli._running import (
    DEFAULT_FIRST_FAILURES,
    DEFAULT_TRIALS,
    Limits,
    check_use,
    evaluate,
    open_study,
    report,
)
from bojax.cli._stdout import document_only, end_stdout
from bojax.cli._target import find_target, read_space, training_of_target

DEFAULT_STORAGE = "sqlite:///bojax.db"
ALGORITHMS = ("bayesopt", "random_search")

EXIT_CODES = "Exit codes: 0 done, 1 something failed while running, 2 the command was used wrongly, 130 interrupted."

app = typer.Typer(
    name="bojax",
    help="Bayesian optimization for JAX: tune an objective, resume it, look at it.",
    epilog=EXIT_CODES,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # markup would swallow [default: ...]
)

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]


def main(args: Sequence[str] | None = None) -> None:
    """Runs the command and exits with its code."""
    code = run(args)
    if "--json" in (sys.argv[1:] if args is None else args):
        end_stdout()
    sys.exit(code)


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
        return complain(located(error), 1)


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
        return typer.echo(to_json(rows))
    width = max([len(row["name"]) for row in rows], default=0)
    for row in rows:
        size = f"{len(row['space'])} hyperparameters, {row['num_steps']} steps"
        typer.echo(f"{row['name']:<{width}}  {row['description']}; {size}")


@app.command(epilog=EXIT_CODES)
def tune(
    target: Annotated[
        str,
        typer.Argument(
            help="An objective of the zoo (see `bojax list`), package.module:objective, or folder/script.py:objective."
        ),
    ],
    trials: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Finished trials the study shall have in the end."
            f"  [default: {DEFAULT_TRIALS}; no limit where --timeout is given]",
        ),
    ] = None,
    timeout: Annotated[float | None, typer.Option(min=0.0, help="Seconds after which nothing new starts.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Candidates chosen jointly.")] = 4,
    seed: Annotated[
        int | None, typer.Option(min=0, max=2**32 - 1, help="Seed of a new study and of training.  [default: 0]")
    ] = None,
    storage: Annotated[
        str, typer.Option(help="URL of an Optuna storage, or the path of a SQLite file.")
    ] = DEFAULT_STORAGE,
    study: Annotated[str | None, typer.Option(help="Name of the study.  [default: that of the objective]")] = None,
    direction: Annotated[
        str | None,
        typer.Option(help="minimize or maximize.  [default: `direction` of the objective or its module, or minimize]"),
    ] = None,
    space: Annotated[
        pathlib.Path | None,
        typer.Option(help="JSON file with a space.  [default: `space` of the objective or its module]"),
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
    max_first_failures: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Evaluations that raise, with none before them that did not, after which the command gives up; 0 for "
            f"no limit.  [default: {DEFAULT_FIRST_FAILURES}]",
        ),
    ] = None,
    cache: Annotated[bool, typer.Option("--cache/--no-cache", help="Keep compiled programs on disk.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Tune an objective. The same command again goes on where the study stands."""
    if direction not in (None, "minimize", "maximize"):
        raise typer.BadParameter(f"must be minimize or maximize, got {direction!r}.", param_hint="--direction")
    if algorithm not in ALGORITHMS:
        raise typer.BadParameter(f"must be {' or '.join(ALGORITHMS)}, got {algorithm!r}.", param_hint="--algorithm")
    if timeout is not None and math.isnan(timeout):
        raise typer.BadParameter("must be a number of seconds, got nan.", param_hint="--timeout")
    limits = Limits.of(trials, timeout, max_first_failures)
    with document_only(as_json) as write:
        found = find_target(target, steps)
        found = found._replace(space=read_space(space) if space is not None else found.space)
        check_use(target, found, direction, seeds, max_first_failures)
        if cache:
            from bojax._runtime import enable_compilation_cache

            enable_compilation_cache()
        url = to_url(storage)
        training = training_of_target(found, gradients)
        learns = training is not None and training.gradients and algorithm == ALGORITHMS[0]
        if training is not None and training.gradients and not learns:
            if gradients:
                raise typer.BadParameter(f"{algorithm} does not learn from them.", param_hint="--gradients")
            training = training_of_target(found, False)
        opened = open_study(found, url, study, direction, seed, algorithm, learns)
        num_compilations, problem = 0, None
        try:
            num_compilations = evaluate(opened, found, training, limits, batch_size, seeds)
        except KeyboardInterrupt as error:
            problem = error
        except SystemExit as error:
            problem = BojaxError(f"the objective ended the process ({located(error)}).")
        except Exception as error:
            problem = error
        report(opened, url, num_compilations, problem, limits, write if as_json else None)


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
    from bojax.storage import open_storage
    from bojax.study import Study
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
    typer.echo(to_json(summary | {"space": opened.space.to_spec(), "trials": trials}))


@contextlib.contextmanager
def _interrupt_as_exit() -> Iterator[None]:
    """Ctrl-C outside of `tune` says nothing more than that."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo("bojax: interrupted", err=True)
        raise
