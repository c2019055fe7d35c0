"""What the command prints: summaries, JSON, errors and warnings of one line; and how a storage is named."""

import contextlib
import json
import pathlib
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import typer

from bojax._errors import StudyError

if TYPE_CHECKING:
    from bojax.study import Study


def summary_of(study: "Study", url: str) -> dict[str, Any]:
    """Where a study stands: what `--json` prints; `best` is None without a complete trial."""
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
        "storage": shown(url),
        "direction": study.direction,
        "seed": study.seed,
        "num_trials": sum(trial.state in ("complete", "fail", "pruned") for trial in trials),
        "num_failed": sum(trial.state == "fail" for trial in trials),
        "num_running": sum(trial.state == "running" for trial in trials),
        "best": best,
    }


def print_summary(summary: Mapping[str, Any]) -> None:
    """The same for people."""
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


def print_json(document: Any) -> None:
    """One document on stdout."""
    typer.echo(json.dumps(document, indent=2))


def to_url(storage: str) -> str:
    """A storage as users name it, which may be the path of a SQLite file, as a URL."""
    return storage if "://" in storage else f"sqlite:///{storage}"


def must_exist(url: str) -> None:
    """Opening a SQLite file that does not exist would make an empty one."""
    from bojax.study._backends import file_of

    path = file_of(url)
    if path is not None and not pathlib.Path(path).exists():
        raise StudyError(f"there is no file {path!r}.")


def shown(url: str) -> str:
    """The URL without its password."""
    from bojax.study._backends import hide_password

    return hide_password(url)


def one_line(error: BaseException) -> str:
    """The text of an exception, with its type unless it is ours or the system's."""
    text = " ".join(str(error).split()) or type(error).__name__
    plain = type(error).__module__.startswith("bojax") or isinstance(error, OSError)
    return text if plain else f"{type(error).__name__}: {text}"


def complain(message: str, code: int) -> int:
    """One line on stderr; returns the exit code."""
    typer.echo(f"bojax: error: {message}", err=True)
    return code


def show_warning(message: Any, *args: Any, **kwargs: Any) -> None:
    """One line on stderr, above a progress bar; in place of `warnings.showwarning`."""
    from tqdm import tqdm

    tqdm.write(f"bojax: warning: {' '.join(str(message).split())}", file=sys.stderr)
