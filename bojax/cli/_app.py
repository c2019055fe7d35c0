"""The commands, and the exit codes of errors."""

import contextlib
import importlib
import math
import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import typer

from bojax._errors import BojaxError, BojaxWarning, StudyError
from bojax._runtime import enable_compilation_cache
from bojax.cli import _options as options
from bojax.cli._methods import algorithm_name, algorithm_of
from bojax.cli._options import DEFAULT_STORAGE
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
from bojax.cli._running import Limits, Pace, check_use, check_workers, evaluate, open_study, report
from bojax.cli._stdout import document_only, end_stdout
from bojax.cli._target import find_target, read_space, training_of_target

EXIT_CODES = "Exit codes: 0 done, 1 something failed while running, 2 the command was used wrongly, 130 interrupted."

if TYPE_CHECKING:
    from bojax.study import Study

app = typer.Typer(
    name="bojax",
    help="Bayesian optimization for JAX: tune an objective, resume it, look at it.",
    epilog=EXIT_CODES,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # markup would swallow [default: ...]
)


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
def list_objectives(as_json: options.Json = False) -> None:
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
    target: options.Target,
    trials: options.Trials = None,
    timeout: options.Timeout = None,
    batch_size: options.BatchSize = None,
    workers: options.Workers = None,
    trial_timeout: options.TrialTimeout = None,
    seed: options.Seed = None,
    storage: options.Storage = DEFAULT_STORAGE,
    study: options.Study = None,
    direction: options.Direction = None,
    space: options.Space = None,
    steps: options.Steps = None,
    method: options.Method = "bayesopt",
    seeds: options.Seeds = 1,
    gradients: options.Gradients = None,
    max_first_failures: options.MaxFirstFailures = None,
    cache: options.Cache = True,
    as_json: options.Json = False,
) -> None:
    """Tune an objective. Run the same command again to resume."""
    _check_choices(direction, timeout)
    algorithm = algorithm_name(method)
    limits = Limits.of(trials, timeout, max_first_failures)._replace(trial_timeout=trial_timeout)
    pace = Pace.of(batch_size, workers, trial_timeout)
    with document_only(as_json) as write:
        found = find_target(target, steps)
        found = found._replace(space=read_space(space) if space is not None else found.space)
        check_use(target, found, direction, seeds, max_first_failures)
        check_workers(found, workers, trial_timeout)
        if cache:
            enable_compilation_cache()
        url = to_url(storage)
        training = training_of_target(found, gradients, algorithm)
        opened = open_study(found, url, study, direction, seed, algorithm_of(algorithm, training))
        num_compilations, problem = 0, None
        try:
            num_compilations = evaluate(opened, found, training, limits, pace, seeds)
        except KeyboardInterrupt as error:
            problem = error
        except SystemExit as error:
            problem = BojaxError(f"the objective ended the process ({located(error)}).")
        except Exception as error:
            problem = error
        report(opened, url, num_compilations, problem, limits, write if as_json else None)


def _check_choices(direction: str | None, timeout: float | None) -> None:
    """Raises typer.BadParameter for values that the types of the options let through."""
    if direction not in (None, "minimize", "maximize"):
        raise typer.BadParameter(f"must be minimize or maximize, got {direction!r}.", param_hint="--direction")
    if timeout is not None and math.isnan(timeout):
        raise typer.BadParameter("must be a number of seconds, got nan.", param_hint="--timeout")


@app.command()
def show(
    storage: options.StorageArgument,
    study: options.StoredStudy = None,
    plot: options.Plot = None,
    slices: options.Slices = None,
    as_json: options.Json = False,
) -> None:
    """Show a study: its best trial, its state, and with --plot how it went."""
    from bojax.study import plot_slices, plot_trajectory

    url = to_url(storage)
    opened = _stored_study(url, study)
    if plot is not None:
        plot_trajectory(opened, plot)
    if slices is not None:
        plot_slices(opened, slices)
    summary = summary_of(opened, url)
    if not as_json:
        return print_summary(summary)
    trials = [
        {"number": t.number, "state": t.state, "value": t.value, "params": t.params, "attrs": t.user_attrs}
        for t in opened.trials
    ]
    typer.echo(to_json(summary | {"space": opened.space.to_spec(), "trials": trials}))


def _stored_study(url: str, study: str | None) -> "Study":
    """The study of that name, or the only one of the storage."""
    from bojax.storage import open_storage
    from bojax.study import Study, study_names

    must_exist(url)
    backend = open_storage(url, create=False)
    names = study_names(backend)
    if study is None and len(names) > 1:
        raise typer.BadParameter(f"name one of the studies: {', '.join(names)}.", param_hint="--study")
    if study is None and not names:
        raise StudyError(f"the storage {shown(url)} holds no study of bojax.")
    if study is not None and study not in names:
        raise StudyError(f"the storage {shown(url)} holds no study {study!r}. It holds: {', '.join(names)}.")
    return Study(storage=backend, name=study or names[0])


@contextlib.contextmanager
def _interrupt_as_exit() -> Iterator[None]:
    """Reports Ctrl-C outside `tune` in one line."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo("bojax: interrupted", err=True)
        raise
