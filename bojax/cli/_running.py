"""One run of `bojax tune`: its limits, the study it fills, and its report."""

from typing import TYPE_CHECKING, Any, NamedTuple

import typer

from bojax._errors import StudyError
from bojax._progress import progress_bar
from bojax.cli._output import complain, one_line, print_summary, shown, summary_of, to_json
from bojax.cli._stdout import Write
from bojax.cli._target import Target

if TYPE_CHECKING:
    from bojax.study import AlgorithmFactory, Study, Training, Trial

DEFAULT_SEED = 0
DEFAULT_TRIALS = 30
DEFAULT_FIRST_FAILURES = 5
DEFAULT_BATCH_SIZE = 4

TARGET_ATTR = "bojax:target"
"""Attribute of the Optuna study: the objective it tunes, so that no study mixes two objectives."""


class Limits(NamedTuple):
    """The limits of a run.

    Attributes:
        trials: total number of trials to finish; None for no limit.
        timeout: seconds after which nothing new starts; None for no limit.
        max_first_failures: see `Study.optimize`.
        trial_timeout: seconds after which an evaluation has failed; None for no limit.
    """

    trials: int | None
    timeout: float | None
    max_first_failures: int | None
    trial_timeout: float | None = None

    @classmethod
    def of(cls, trials: int | None, timeout: float | None, max_first_failures: int | None) -> "Limits":
        """The limits set by the options, where None stands for an option that was not given."""
        if trials is None and timeout is None:
            trials = DEFAULT_TRIALS
        first = DEFAULT_FIRST_FAILURES if max_first_failures is None else max_first_failures
        return cls(trials, timeout, first or None)


class Pace(NamedTuple):
    """How many trials are chosen and evaluated at once.

    Attributes:
        batch_size: number of candidates chosen jointly.
        workers: number of processes that evaluate side by side; None where this process evaluates.
    """

    batch_size: int
    workers: int | None

    @classmethod
    def of(cls, batch_size: int | None, workers: int | None, trial_timeout: float | None) -> "Pace":
        """The pace set by the options, where None stands for an option that was not given."""
        workers = 1 if workers is None and trial_timeout is not None else workers
        return cls(batch_size or (DEFAULT_BATCH_SIZE if workers is None else 1), workers)


def check_use(target: str, found: Target, direction: str | None, seeds: int, max_first_failures: int | None) -> None:
    """Raises typer.BadParameter for options that contradict the objective or have no effect on it."""
    if direction is not None and found.direction not in (None, direction):
        raise typer.BadParameter(
            f"{found.name} is to be {found.direction}d, got {direction!r}.", param_hint="--direction"
        )
    if found.space is None:
        raise typer.BadParameter(
            f"{target} has no space. Give the objective an attribute `space`, its module a variable `space`, "
            "or the command a file with --space."
        )
    if found.trainable is None and seeds > 1:
        raise typer.BadParameter(
            f"is for training functions, {found.name} is none. Let the objective itself average.",
            param_hint="--seeds",
        )
    if found.trainable is not None and max_first_failures is not None:
        raise typer.BadParameter(
            f"has no effect here: the first exception of the training function {found.name} ends the command.",
            param_hint="--max-first-failures",
        )


def check_workers(found: Target, workers: int | None, trial_timeout: float | None) -> None:
    """Raises typer.BadParameter where there is nothing for workers to evaluate, or for a time-out that is not one."""
    for option, value in (("--workers", workers), ("--trial-timeout", trial_timeout)):
        if found.trainable is not None and value is not None:
            raise typer.BadParameter(
                f"is for ordinary objectives: the training function {found.name} trains a batch in one program.",
                param_hint=option,
            )
    if trial_timeout is not None and not trial_timeout > 0.0:
        raise typer.BadParameter(f"must be more than 0 seconds, got {trial_timeout:g}.", param_hint="--trial-timeout")


def open_study(
    target: Target,
    url: str,
    name: str | None,
    direction: str | None,
    seed: int | None,
    algorithm: "AlgorithmFactory",
) -> "Study":
    """The study that `tune` fills."""
    import optuna

    from bojax.space import to_space
    from bojax.storage import open_storage
    from bojax.study import Study

    try:
        space = to_space(target.space)
    except (ValueError, TypeError) as error:
        raise typer.BadParameter(f"the space of {target.name}: {one_line(error)}") from None
    name = name or target.name
    backend = open_storage(url)
    if seed is None and name not in optuna.get_all_study_names(backend):
        seed = DEFAULT_SEED
    study = Study(space, direction or target.direction, backend, name, seed, algorithm=algorithm)
    known = study.optuna.user_attrs.get(TARGET_ATTR)
    if known is None:
        study.optuna.set_user_attr(TARGET_ATTR, target.name)
    elif known != target.name:
        raise StudyError(f"the study {name!r} tunes {known!r}, not {target.name!r}: choose another --study.")
    return study


def evaluate(
    study: "Study", target: Target, training: "Training | None", limits: "Limits", pace: Pace, seeds: int
) -> int:
    """Evaluates until the study has enough finished trials, whichever process finishes them, or the time is up.

    Returns:
        Number of programs compiled for training.
    """
    from bojax.study import tune_study

    done = _num_finished(study)
    if limits.trials is not None and done >= limits.trials:
        return 0
    left = None if limits.trials is None else limits.trials - done
    values = [trial.value for trial in study.trials if trial.value is not None]
    with progress_bar(study.name, study.direction, values, limits.trials, True, initial=done) as advance:

        def after(study: "Study", trial: "Trial") -> None:
            advance(trial.value)
            if limits.trials is not None and _num_finished(study) >= limits.trials:
                study.stop()

        loop: dict[str, Any] = {
            "num_trials": left,
            "batch_size": pace.batch_size,
            "progress": False,
            "callbacks": after,
            "timeout": limits.timeout,
        }
        if training is not None:
            tune_study(study, training, num_seeds=seeds, **loop)
            return len(training.programs)
        assert target.objective is not None
        if pace.workers is not None:
            loop |= {"num_workers": pace.workers, "worker": "process", "trial_timeout": limits.trial_timeout}
        study.optimize(target.objective, max_first_failures=limits.max_first_failures, **loop)
        return 0


def report(
    study: "Study",
    url: str,
    num_compilations: int,
    problem: BaseException | None,
    limits: "Limits",
    write: Write | None,
) -> None:
    """Prints the state of the study, and raises the exception that becomes the exit code.

    Args:
        study: the study.
        url: its storage.
        num_compilations: number of programs compiled for training.
        problem: the exception that ended the loop; None where it finished.
        limits: the limits of the run.
        write: prints the JSON document; None for text, which is left out where there was a problem.
    """
    interrupted = isinstance(problem, KeyboardInterrupt)
    summary = summary_of(study, url) | {"num_compilations": num_compilations}
    if write is not None:
        text = None if problem is None else "interrupted" if interrupted else one_line(problem)
        write(to_json(summary | {"error": text}))
    elif problem is None:
        print_summary(summary)
    if interrupted:
        of = "" if limits.trials is None else f" of {limits.trials}"
        typer.echo(
            f"bojax: interrupted with {_num_finished(study)}{of} trials done, kept in {shown(url)}. Run the same "
            "command again to go on.",
            err=True,
        )
        raise typer.Exit(130)
    if problem is not None:
        raise problem
    if summary["best"] is None:
        raise typer.Exit(complain("no trial gave a value, so there is no best one.", 1))


def _num_finished(study: "Study") -> int:
    return sum(trial.state in ("complete", "fail", "pruned") for trial in study.trials)
