"""The options of the commands: their types, ranges and help texts."""

import pathlib
from typing import Annotated

import typer

from bojax.cli._methods import METHODS
from bojax.cli._running import DEFAULT_BATCH_SIZE, DEFAULT_FIRST_FAILURES, DEFAULT_TRIALS

DEFAULT_STORAGE = "sqlite:///bojax.db"

_STORAGE = "URL of an Optuna storage, or the path of a SQLite file."

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Target = Annotated[
    str,
    typer.Argument(
        help="An objective of the zoo (see `bojax list`), package.module:objective, or folder/script.py:objective."
    ),
]
Trials = Annotated[
    int | None,
    typer.Option(
        min=1,
        help=f"Total number of trials to finish.  [default: {DEFAULT_TRIALS}; no limit where --timeout is given]",
    ),
]
Timeout = Annotated[float | None, typer.Option(min=0.0, help="Seconds after which nothing new starts.")]
BatchSize = Annotated[
    int | None,
    typer.Option(
        min=1, help=f"Number of candidates chosen jointly.  [default: {DEFAULT_BATCH_SIZE}; 1 with --workers]"
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(min=1, help="Number of processes that evaluate an ordinary objective side by side."),
]
TrialTimeout = Annotated[
    float | None,
    typer.Option(help="Seconds after which an evaluation has failed and its process is killed; implies --workers 1."),
]
Seed = Annotated[
    int | None, typer.Option(min=0, max=2**32 - 1, help="Seed of a new study and of training.  [default: 0]")
]
Storage = Annotated[str, typer.Option(help=_STORAGE)]
StorageArgument = Annotated[str, typer.Argument(help=_STORAGE)]
Study = Annotated[str | None, typer.Option(help="Name of the study.  [default: that of the objective]")]
StoredStudy = Annotated[str | None, typer.Option(help="Name of the study, where the storage has several.")]
Direction = Annotated[
    str | None,
    typer.Option(help="minimize or maximize.  [default: `direction` of the objective or its module, or minimize]"),
]
Space = Annotated[
    pathlib.Path | None,
    typer.Option(help="JSON file with a space.  [default: `space` of the objective or its module]"),
]
Steps = Annotated[int | None, typer.Option(min=1, help="Gradient steps of a run, for an objective of the zoo.")]
Method = Annotated[
    str, typer.Option("--method", "--algorithm", help=f"How candidates are chosen: {', '.join(METHODS)}.")
]
Seeds = Annotated[int, typer.Option(min=1, help="Runs of each candidate of a training function, averaged.")]
Gradients = Annotated[
    bool | None,
    typer.Option(help="Learn from derivatives of the metric.  [default: where the objective is differentiable]"),
]
MaxFirstFailures = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Number of evaluations that raise, with no success before them, after which the command gives up; 0 for "
        f"no limit.  [default: {DEFAULT_FIRST_FAILURES}]",
    ),
]
Cache = Annotated[bool, typer.Option("--cache/--no-cache", help="Keep compiled programs on disk.")]
Plot = Annotated[pathlib.Path | None, typer.Option(help="Draw the values over the trials into this file.")]
Slices = Annotated[pathlib.Path | None, typer.Option(help="Draw the surrogate along each parameter into this file.")]
