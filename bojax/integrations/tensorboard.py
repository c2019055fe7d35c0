"""TensorBoard: `study.optimize(objective, callbacks=TensorBoardCallback("runs"))`, then `tensorboard --logdir runs`."""

import itertools
import os
import pathlib
import re
from typing import Any

try:
    from tensorboardX import SummaryWriter
    from tensorboardX.proto import api_pb2, plugin_hparams_pb2, summary_pb2
    from tensorboardX.summary import hparams
except ImportError as error:
    raise ImportError('tensorboardX is needed: pip install "bojax[tensorboard]"') from error

from bojax.integrations._told import best_value, is_number, numbers_of, texts_of
from bojax.space import Categorical, Ordinal
from bojax.study import Study, Trial

__all__ = ["TensorBoardCallback"]

_SESSION_END = "_hparams_/session_end_info"
_FILES = itertools.count()


class TensorBoardCallback:
    """Writes each told trial as a run of TensorBoard, and the progress of the study as another one.

    The run `STUDY/trial-7` has the parameters (tab HPARAMS, as a session that succeeded or failed), the value and the
    user attributes that are numbers as scalars, and the others as texts. The run `STUDY` has the scalars `value` and
    `best_value` over the numbers of trials. A parameter that does not exist under the others is left out. If all values
    of a parameter are numbers it is a number, otherwise a text.

    After a resume, the same folder is continued. Only trials that are told while the callback is active are written.

    Args:
        logdir: the folder of TensorBoard.

    Raises:
        ImportError: tensorboardX is not installed (when the module is imported).

    Example:
        >>> import bojax, pathlib, tempfile
        >>> logdir = tempfile.mkdtemp()
        >>> callback = TensorBoardCallback(logdir)
        >>> study = bojax.Study({"x": bojax.Float(0.0, 1.0)}, seed=0)
        >>> callback(study, study.add({"x": 0.5}, 0.25))
        >>> callback.close()
        >>> sorted(path.name for path in pathlib.Path(logdir, "bojax").iterdir() if path.is_dir())
        ['trial-0']
    """

    def __init__(self, logdir: str | os.PathLike[str]):
        self.logdir = pathlib.Path(logdir)
        self._progress: Any = None

    def __call__(self, study: Study, trial: Trial) -> None:
        """Writes a trial."""
        folder = self.logdir / re.sub(r"[^\w.-]", "_", study.name)
        if self._progress is None:
            self._progress = _writer(folder)
        numbers = numbers_of(trial)
        params = {name: _param(study, name, value) for name, value in trial.params.items()}
        _, start, _ = hparams(params, {})
        with _writer(folder / f"trial-{trial.number}") as writer:
            writer.file_writer.add_summary(start)
            for name, number in numbers.items():
                writer.add_scalar(name, number, trial.number)
            for name, text in texts_of(trial).items():
                writer.add_text(name, text, trial.number)
            writer.file_writer.add_summary(_session_end(trial))
        best = best_value(study)
        for name, number in (("value", trial.value), ("best_value", best)):
            if number is not None:
                self._progress.add_scalar(name, number, trial.number)
        self._progress.flush()

    def close(self) -> None:
        """Closes the files; a later call opens new ones."""
        if self._progress is not None:
            self._progress.close()
            self._progress = None


def _writer(folder: pathlib.Path) -> Any:
    """A writer whose file has a name of its own: the library names it by the second, and overwrites what is there."""
    return SummaryWriter(logdir=str(folder), filename_suffix=f".{os.getpid()}.{next(_FILES)}")


def _param(study: Study, name: str, value: Any) -> float | str:
    """A parameter in the type that all its values share."""
    parameter = study.space.get(name)
    if isinstance(parameter, Categorical | Ordinal):
        choices = [parameter.value(position) for position in range(parameter.num_values)]
        return value if all(map(is_number, choices)) else str(value)
    return value if is_number(value) else str(value)


def _session_end(trial: Trial) -> Any:
    plugins: Any = plugin_hparams_pb2  # modules whose names are made when they are imported
    summaries: Any = summary_pb2
    statuses: Any = api_pb2.Status  # type: ignore[attr-defined]
    status = statuses.Value("STATUS_SUCCESS" if trial.state == "complete" else "STATUS_FAILURE")
    end = plugins.SessionEndInfo(status=status)
    content = plugins.HParamsPluginData(session_end_info=end, version=0).SerializeToString()
    plugin = summaries.SummaryMetadata.PluginData(plugin_name="hparams", content=content)
    metadata = summaries.SummaryMetadata(plugin_data=plugin)
    return summaries.Summary(value=[summaries.Summary.Value(tag=_SESSION_END, metadata=metadata)])
