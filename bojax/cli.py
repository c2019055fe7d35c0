"""The command `bojax`: tune an objective of the zoo or your own, and look at what came of it.

Exit codes: 0 all is well, 1 something failed while running, 2 the command was used wrongly, 130 interrupted.
Errors are one line on stderr. With `--json` stdout holds one JSON document and nothing else. Heavy imports
wait until needed, so that `bojax --help` answers at once.
"""

import contextlib
import difflib
import importlib
import json
import os
import pathlib
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from bojax._errors import BojaxError, BojaxWarning, StudyError

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


class Target(NamedTuple):
    """What `tune` evaluates.

    Attributes:
        name: identifies it in messages and gives the study its default name.
        space: a `Space` or plain data.
        direction: "minimize", "maximize", or None where the objective leaves it open.
        objective: from params to a number; None for a training function.
        trainable: what `bojax.tune` takes: it has a method `train`; None for an ordinary objective.
        metric: which of the metrics is tuned.
    """

    name: str
    space: Any
    direction: str | None
    objective: Callable[[dict[str, Any]], Any] | None = None
    trainable: Any = None
    metric: str = ""


def main(args: Sequence[str] | None = None) -> None:
    """Runs the command and exits with its code."""
    sys.exit(run(args))


def run(args: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code; errors are one line on stderr."""
    command = typer.main.get_command(app)
    try:
        with warnings.catch_warnings(), _interrupt_as_exit():
            warnings.showwarning = _show_warning
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
            return _complain(message, exit_code) if message else exit_code
        if type(error).__name__ == "Abort":
            return 130
        return _complain(_one_line(error), 1)


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
        return _print_json(rows)
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
    found = found._replace(space=_read_space(space) if space is not None else found.space)
    if direction is not None and found.trainable is not None and direction != found.direction:
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
    url = _to_url(storage)
    training = _training(found, gradients)
    learns = training is not None and training.gradients and algorithm == ALGORITHMS[0]
    opened = _open_study(found, url, study, direction, seed, algorithm, {"gradients": True} if learns else {})
    try:
        num_compilations = _tune(opened, found, training, trials, batch_size, seeds)
    except KeyboardInterrupt:
        typer.echo(
            f"bojax: interrupted with {_num_finished(opened)} of {trials} trials done, kept in "
            f"{_shown(url)}. Run the same command again to go on.",
            err=True,
        )
        raise typer.Exit(130) from None
    summary = _summary(opened, url) | {"num_compilations": num_compilations}
    _print_json(summary) if as_json else _print_summary(summary)
    if summary["best"] is None:
        raise typer.Exit(_complain("no trial gave a value, so there is no best one.", 1))


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
    from bojax.study._storage import VERSION, open_storage

    url = _to_url(storage)
    _must_exist(url)
    import optuna

    backend = open_storage(url)
    summaries = optuna.get_all_study_summaries(backend, include_best_trial=False)
    names = [summary.study_name for summary in summaries if VERSION in summary.user_attrs]
    if study is None and len(names) > 1:
        raise typer.BadParameter(f"name one of the studies: {', '.join(names)}.", param_hint="--study")
    if study is None and not names:
        raise StudyError(f"the storage {_shown(url)} holds no study of bojax.")
    if study is not None and study not in names:
        raise StudyError(f"the storage {_shown(url)} holds no study {study!r}. It holds: {', '.join(names)}.")
    opened = Study(storage=backend, name=study or names[0])
    if plot is not None:
        from bojax.study import plot_trajectory

        plot_trajectory(opened, plot)
    if slices is not None:
        from bojax.study import plot_slices

        plot_slices(opened, slices)
    summary = _summary(opened, url)
    if not as_json:
        return _print_summary(summary)
    trials = [
        {"number": t.number, "state": t.state, "value": t.value, "params": t.params, "attrs": t.user_attrs}
        for t in opened.trials
    ]
    _print_json(summary | {"space": opened.space.to_spec(), "trials": trials})


def find_target(target: str, steps: int | None = None) -> Target:
    """The objective behind a name of the zoo or `package.module:objective`.

    Raises:
        typer.BadParameter: there is none, or it cannot be used.
        BojaxError: the module fails when it is imported.
    """
    if ":" not in target:
        return _find_in_zoo(target, steps)
    if steps is not None:
        raise typer.BadParameter("is for objectives of the zoo only.", param_hint="--steps")
    module_name, _, path = target.partition(":")
    if not module_name or not path:
        raise typer.BadParameter(f"write package.module:objective, got {target!r}.", param_hint="TARGET")
    module = _import(module_name)
    found: Any = module
    for part in path.split("."):
        if not hasattr(found, part):
            raise typer.BadParameter(
                f"the module {module_name!r} has no {path!r}.{_near(path, vars(module))}", param_hint="TARGET"
            )
        found = getattr(found, part)
    space = getattr(found, "space", None)
    space = getattr(module, "space", None) if space is None else space
    direction = getattr(found, "direction", None)
    if hasattr(found, "train") and hasattr(found, "metric"):
        return Target(target, space, direction, trainable=found, metric=found.metric)
    if not callable(found):
        raise typer.BadParameter(f"{target} is not callable, it is {found!r}.", param_hint="TARGET")
    return Target(target, space, direction, objective=found)


def _find_in_zoo(name: str, steps: int | None) -> Target:
    zoo = importlib.import_module("bojax.models")
    objectives = zoo.objectives()
    if name not in objectives:
        raise typer.BadParameter(
            f"the zoo has no objective {name!r}.{_near(name, objectives)} `bojax list` shows them; "
            "your own objective is written package.module:objective.",
            param_hint="TARGET",
        )
    objective = objectives[name]
    if steps is not None:
        objective = getattr(zoo, f"make_{name}")(num_steps=steps)
        name = f"{name}@{steps}"
    return Target(name, objective.space, objective.direction, trainable=objective, metric=objective.metric)


def _import(name: str) -> Any:
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name + ".").startswith(error.name + "."):
            raise typer.BadParameter(
                f"there is no module {error.name!r} here or among the installed ones.", param_hint="TARGET"
            ) from None
        raise BojaxError(f"the module {name!r} cannot be imported: {_one_line(error)}") from error
    except Exception as error:
        raise BojaxError(f"the module {name!r} cannot be imported: {_one_line(error)}") from error


def _read_space(path: pathlib.Path) -> Any:
    from bojax.space import to_space

    try:
        return to_space(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise typer.BadParameter(f"{path}: {_one_line(error)}", param_hint="--space") from None


def _training(target: Target, gradients: bool | None) -> "Training | None":
    """What `tune` trains; None for an ordinary objective."""
    if target.trainable is None:
        if gradients:
            raise typer.BadParameter(f"{target.name} is no training function.", param_hint="--gradients")
        return None
    from bojax.study._tune import training_of

    try:
        return training_of(target.trainable, target.space, target.metric, target.direction, gradients)
    except (ValueError, TypeError) as error:
        raise typer.BadParameter(f"{target.name}: {_one_line(error)}", param_hint="TARGET") from None


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
    from bojax.study._storage import open_storage

    try:
        space = to_space(target.space)
    except (ValueError, TypeError) as error:
        raise typer.BadParameter(f"the space of {target.name}: {_one_line(error)}") from None
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


def _num_finished(study: "Study") -> int:
    return sum(trial.state in ("complete", "fail", "pruned") for trial in study.trials)


def _summary(study: "Study", url: str) -> dict[str, Any]:
    trials = study.trials
    best = None
    with contextlib.suppress(StudyError):
        trial = study.best_trial
        best = {
            "number": trial.number,
            "value": trial.value,
            "params": trial.params,
            "metrics": {
                k: v for k, v in trial.user_attrs.items() if isinstance(v, int | float) and not k.startswith("bojax:")
            },
        }
    return {
        "study": study.name,
        "storage": _shown(url),
        "direction": study.direction,
        "seed": study.seed,
        "num_trials": sum(trial.state in ("complete", "fail", "pruned") for trial in trials),
        "num_failed": sum(trial.state == "fail" for trial in trials),
        "num_running": sum(trial.state == "running" for trial in trials),
        "best": best,
    }


def _print_summary(summary: Mapping[str, Any]) -> None:
    typer.echo(
        f"{summary['study']}: {summary['num_trials']} trials, {summary['num_failed']} failed, "
        f"{summary['num_running']} running; {summary['direction']}, seed {summary['seed']}"
    )
    if summary.get("num_compilations"):
        typer.echo(f"{summary['num_compilations']} programs compiled for training")
    best = summary["best"]
    if best is None:
        return typer.echo("no complete trial yet")
    typer.echo(f"best value {best['value']:.6g} in trial {best['number']}")
    width = max(map(len, [*best["params"], *best["metrics"]]))
    for name, value in best["params"].items():
        typer.echo(f"  {name:<{width}}  {value:.6g}" if isinstance(value, float) else f"  {name:<{width}}  {value}")
    if best["metrics"]:
        typer.echo("with")
    for name, value in best["metrics"].items():
        typer.echo(f"  {name:<{width}}  {value:.6g}")


def _print_json(document: Any) -> None:
    typer.echo(json.dumps(document, indent=2))


def _to_url(storage: str) -> str:
    return storage if "://" in storage else f"sqlite:///{storage}"


def _must_exist(url: str) -> None:
    """Opening a SQLite file that does not exist would make an empty one."""
    scheme, _, path = url.partition(":///")
    if scheme in ("sqlite", "journal") and path != ":memory:" and not pathlib.Path(path).is_file():
        raise StudyError(f"there is no file {path!r}.")


def _shown(url: str) -> str:
    from bojax.study._storage import hide_password

    return hide_password(url)


def _near(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, [k for k in known if isinstance(k, str)], n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    plain = type(error).__module__.startswith("bojax") or isinstance(error, OSError)
    return text if plain else f"{type(error).__name__}: {text}"


def _complain(message: str, code: int) -> int:
    typer.echo(f"bojax: error: {message}", err=True)
    return code


def _show_warning(message: Any, *args: Any, **kwargs: Any) -> None:
    from tqdm import tqdm

    tqdm.write(f"bojax: warning: {' '.join(str(message).split())}", file=sys.stderr)


@contextlib.contextmanager
def _interrupt_as_exit() -> Iterator[None]:
    """Ctrl-C outside of `tune` says nothing more than that."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo("bojax: interrupted", err=True)
        raise
