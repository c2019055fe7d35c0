"""Weights & Biases: `study.optimize(objective, callbacks=WandbCallback(project="cnn"))`."""

from typing import Any

try:
    import wandb
except ImportError as error:
    raise ImportError('wandb is needed: pip install "bojax[wandb]"') from error

from bojax.integrations._told import best_value, is_number, numbers_of, texts_of
from bojax.study import Study, Trial

__all__ = ["WandbCallback"]


class WandbCallback:
    """Logs each told trial as a step of a run of Weights & Biases.

    A step has the number of the trial (`trial`), which is the axis of all charts, `value`, `best_value`, the parameters
    that exist as `params/NAME`, the user attributes, the state, and the reason of a failure (`error`). Numbers stay
    numbers; everything else is a text. The configuration of the run holds the space, the direction and the seed. The
    summary holds the best value and its parameters, as `best/NAME`.

    Args:
        project: the project; by default that of the environment.
        run: a run to log to, which is then not finished here; by default the first trial starts one.
        **init: further arguments of `wandb.init`, for example `mode="offline"`, `name` or `group`.

    Raises:
        ImportError: wandb is not installed (when the module is imported).
        TypeError: `run` is given together with arguments of `wandb.init`.

    Example:
        >>> import bojax
        >>> study = bojax.Study({"x": bojax.Float(0.0, 1.0)}, seed=0)
        >>> callback = WandbCallback(project="example", mode="offline")
        >>> study.optimize(lambda params: params["x"], 20, callbacks=callback)  # doctest: +SKIP
        >>> callback.run is None
        True
    """

    def __init__(self, project: str | None = None, *, run: Any = None, **init: Any):
        if run is not None and (project is not None or init):
            raise TypeError(f"`run` must be given alone, got also {['project', *init] if project else list(init)}.")
        self.run, self._owned = run, run is None
        self._init: dict[str, Any] = ({} if project is None else {"project": project}) | init
        self._prepared = False

    def __call__(self, study: Study, trial: Trial) -> None:
        """Logs a trial."""
        if self.run is None:
            init: dict[str, Any] = {"name": study.name} | self._init
            self.run = wandb.init(**init)
        if not self._prepared:
            self.run.define_metric("trial")
            self.run.define_metric("*", step_metric="trial")
            about = {"space": study.space.to_spec(), "direction": study.direction, "seed": study.seed}
            self.run.config.update(about, allow_val_change=True)
            self._prepared = True
        params = {f"params/{name}": _plain(value) for name, value in trial.params.items()}
        best = best_value(study)
        more = {} if best is None else {"best_value": best}
        self.run.log({**texts_of(trial), **numbers_of(trial), **params, **more, "trial": trial.number})
        if best is not None:
            self.run.summary.update(
                {"best_value": best} | {f"best/{name}": _plain(value) for name, value in study.best_params.items()}
            )

    def finish(self) -> None:
        """Ends the run that this callback began; wandb does so itself at the end of the process."""
        if self.run is not None and self._owned:
            self.run.finish()
            self.run, self._prepared = None, False


def _plain(value: Any) -> Any:
    return value if is_number(value) else str(value)
