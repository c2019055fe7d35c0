"""Output of the command: summaries, JSON, and errors and warnings of one line. Also names of storages."""

import contextlib
import difflib
import json
import math
import pathlib
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import typer

from bojax._errors import StudyError
from bojax._tracebacks import where

if TYPE_CHECKING:
    from bojax.study import Study, Trial


def summary_of(study: "Study", url: str) -> dict[str, Any]:
    """The state of a study, as `--json` prints it; `best` is None without a complete trial."""
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
    failed = [trial for trial in trials if trial.state == "fail"]
    return {
        "study": study.name,
        "storage": shown(url),
        "direction": study.direction,
        "seed": study.seed,
        "num_trials": sum(trial.state in ("complete", "fail", "pruned") for trial in trials),
        "num_failed": len(failed),
        "num_running": sum(trial.state == "running" for trial in trials),
        "best": best,
        "last_failure": _failure_of(failed[-1]) if failed else None,
    }


def _failure_of(trial: "Trial") -> dict[str, Any]:
    """The number of a failed trial, and the recorded reason."""
    return {"number": trial.number, "reason": trial.error, "traceback": trial.traceback}


def print_summary(summary: Mapping[str, Any]) -> None:
    """Prints a summary as text."""
    typer.echo(
        f"{summary['study']}: {summary['num_trials']} trials, {summary['num_failed']} failed, "
        f"{summary['num_running']} running; {summary['direction']}, seed {summary['seed']}"
    )
    if summary.get("num_compilations"):
        typer.echo(f"{summary['num_compilations']} programs compiled for training")
    failure = summary["last_failure"]
    if failure is not None and failure["reason"]:
        hint = " (its traceback: --json)" if failure["traceback"] else ""
        typer.echo(f"last failure in trial {failure['number']}: {' '.join(failure['reason'].split())}{hint}")
    best = summary["best"]
    if best is None:
        return typer.echo("no complete trial yet")
    typer.echo(f"best value {best['value']:.6g} in trial {best['number']}")
    width = max(map(len, [*best["params"], *best["metrics"]]), default=0)
    for heading in ("params", "metrics"):
        if best[heading]:
            typer.echo(f"{heading}:")
        for name, value in best[heading].items():
            shown_value = f"{value:.6g}" if isinstance(value, float) else str(value)
            typer.echo(f"  {name:<{width}}  {shown_value}")


def to_json(document: Any) -> str:
    """A document as JSON, with null for numbers that are not finite, which JSON cannot express."""
    return json.dumps(_without_nan(document), indent=2, allow_nan=False)


def _without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return value


def to_url(storage: str) -> str:
    """The URL of a storage, which users may also give as the path of a SQLite file."""
    return storage if "://" in storage else f"sqlite:///{storage}"


def must_exist(url: str) -> None:
    """Raises StudyError for a SQLite file that does not exist, because opening it would create an empty one."""
    from bojax.storage import file_of

    path = file_of(url)
    if path is not None and not pathlib.Path(path).exists():
        raise StudyError(f"there is no file {path!r}.")


def shown(url: str) -> str:
    """The URL without its password."""
    from bojax.storage import hide_password

    return hide_password(url)


def one_line(error: BaseException) -> str:
    """The text of an exception, with its type unless it is bojax's own or an OSError."""
    text = " ".join(str(error).split()) or type(error).__name__
    plain = type(error).__module__.startswith("bojax") or isinstance(error, OSError)
    return text if plain else f"{type(error).__name__}: {text}"


def located(error: BaseException) -> str:
    """The text of an exception, with its type and the place in the user's code that raised it."""
    text, place = one_line(error), where(error)
    return f"{text} ({place})" if place else text


def near(name: str, known: Any) -> str:
    """A question for the name that was meant, if one is close."""
    close = difflib.get_close_matches(name, [k for k in known if isinstance(k, str)], n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def complain(message: str, code: int) -> int:
    """Prints an error as one line on stderr; returns the exit code."""
    typer.echo(f"bojax: error: {message}", err=True)
    return code


def show_warning(message: Any, *args: Any, **kwargs: Any) -> None:
    """Prints a warning as one line on stderr, above a progress bar; replaces `warnings.showwarning`."""
    from tqdm import tqdm

    tqdm.write(f"bojax: warning: {' '.join(str(message).split())}", file=sys.stderr)
