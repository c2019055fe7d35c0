"""Callbacks that write trials into CSV files, TensorBoard, MLflow and Weights & Biases, read back with their tools."""

import csv
import json
import math
import pathlib
import struct
import time

import pytest

import bojax
from bojax._errors import BojaxWarning
from bojax.integrations.csv import CSVCallback
from bojax.space import Categorical, Float, Int, Ordinal, Space
from bojax.study import Study

SPACE = Space(
    optimizer=Categorical(["adam", "sgd", None]),
    momentum=Float(0.0, 0.9, when={"optimizer": "sgd"}),
    width=Int(1, 64),
    flag=Categorical([False, True]),
    quality=Ordinal([1, 2.5]),
)
ADAM = {"optimizer": "adam", "width": 3, "flag": True, "quality": 2.5}
SGD = {"optimizer": "sgd", "momentum": 0.1, "width": 4, "flag": False, "quality": 1}
NONE = {"optimizer": None, "width": 5, "flag": False, "quality": 1}


def random_search(space, q):
    return bojax.random_search(space, q=q)


def make(space=SPACE, **kwargs):
    return Study(space, **({"seed": 0, "algorithm": random_search, "name": "a study: 1/2"} | kwargs))


def objective(params):
    """A failure, a value that is not finite, and a value with attributes."""
    if params["optimizer"] == "adam":
        raise ValueError("=1+1\nsecond line")
    if params["optimizer"] is None:
        return math.nan
    return -1.5, {"accuracy": 0.75, "note": "-fine", "list": [1, 2]}


def optimized(callback, study=None):
    """A study of the three kinds of trials."""
    study = make() if study is None else study
    for params in (ADAM, SGD, NONE):
        study.enqueue(params)
    with pytest.warns(BojaxWarning):
        study.optimize(objective, 3, callbacks=callback, progress=False)
    return study


def rows(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_csv_has_a_row_for_each_trial(tmp_path):
    path = tmp_path / "new" / "trials.csv"
    study = optimized(CSVCallback(path, user_attrs=["accuracy", "note", "list"]))
    failed, complete, nan = rows(path)
    assert [row["state"] for row in (failed, complete, nan)] == ["fail", "complete", "fail"]
    assert [row["value"] for row in (failed, complete, nan)] == ["", "-1.5", ""]
    assert [row["params_optimizer"] for row in (failed, complete, nan)] == ["adam", "sgd", "None"]
    assert [row["params_momentum"] for row in (failed, complete, nan)] == ["", "0.1", ""]
    assert complete["user_attrs_accuracy"] == "0.75" and complete["user_attrs_list"] == "[1, 2]"
    assert failed["error"] == "ValueError: =1+1\\nsecond line" and nan["error"] == "the value nan"
    assert failed["study"] == study.name and failed["user_attrs_accuracy"] == ""
    assert float(complete["seconds"]) >= 0.0 and complete["told"].startswith("2")


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-1", "@x", "\t=1", "a,b", 'say "x"', "ü\u2028\x85", "line\nbreak", "x\r"]
)
def test_csv_texts_are_kept_and_not_executed(text, tmp_path):
    path = tmp_path / "trials.csv"
    study = make(Space({f"x{text}": Categorical([text, "b"])}), name=text)
    CSVCallback(path)(study, study.add({f"x{text}": text}, -2.0))
    CSVCallback(path)(study, study.add({f"x{text}": text}, -3.0))
    escaped = text.replace("\n", "\\n").replace("\r", "\\r")
    shown = f"'{escaped}" if text[0] in "=+-@\t" else escaped
    for row, value in zip(rows(path), ("-2.0", "-3.0"), strict=True):
        assert row["study"] == row[f"params_x{escaped}"] == shown and row["value"] == value


def test_csv_survives_a_resume_and_a_torn_row(tmp_path):
    path, storage = tmp_path / "trials.csv", f"sqlite:///{tmp_path}/study.db"
    optimized(CSVCallback(path), make(storage=storage))
    whole = path.read_text()
    path.write_text(whole[:-9])
    optimized(CSVCallback(path), make(storage=storage))
    assert path.read_text().startswith(whole)
    assert [row["number"] for row in rows(path)] == ["0", "1", "2", "3", "4", "5"]
    study = make(storage=storage)
    study.optimize(lambda params: 1.0, 2, progress=False)  # without the callback
    callback = CSVCallback(path)
    study.optimize(lambda params: 1.0, 2, progress=False, callbacks=callback)
    callback(study, study.trials[-1])
    assert [row["number"] for row in rows(path)] == [str(n) for n in range(10)]
    assert path.read_text().count("study,number") == 1


def test_csv_of_another_study_is_refused(tmp_path):
    path = tmp_path / "trials.csv"
    optimized(CSVCallback(path))
    before = path.read_text()
    other = Study({"x": Float(0.0, 1.0)}, seed=0)
    with pytest.raises(ValueError, match=r"`path` must be a new file .* has columns \['study'"):
        CSVCallback(path)(other, other.add({"x": 0.5}, 1.0))
    same_space = make()
    with pytest.raises(ValueError, match="holds another trial 0"):
        CSVCallback(path)(same_space, same_space.add(SGD, 1.0))
    with pytest.raises(ValueError, match="holds another trial 1"):
        first = make()
        CSVCallback(path)(first, first.add(ADAM, state="fail"))
    with pytest.raises(TypeError, match=r"`user_attrs` must be a sequence of names, got 'accuracy'"):
        CSVCallback(path, user_attrs="accuracy")
    assert path.read_text() == before


def test_callbacks_run_with_workers(tmp_path):
    study = make()
    study.optimize(lambda params: 1.0, 8, num_workers=3, callbacks=CSVCallback(tmp_path / "t.csv"), progress=False)
    assert sorted(int(row["number"]) for row in rows(tmp_path / "t.csv")) == list(range(8))


def test_tensorboard_has_a_session_for_each_trial(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import api_pb2, metadata

    from bojax.integrations.tensorboard import TensorBoardCallback

    def read(*parts):
        return EventAccumulator(str(tmp_path.joinpath("a_study__1_2", *parts))).Reload()

    callback = TensorBoardCallback(tmp_path)
    study = optimized(callback)
    callback.close()
    optimized(callback, study)
    callback.close()
    statuses = {}
    for number in range(6):
        plugin = read(f"trial-{number}").summary_metadata
        start = metadata.parse_session_start_info_plugin_data(
            plugin["_hparams_/session_start_info"].plugin_data.content
        )
        end = metadata.parse_session_end_info_plugin_data(plugin["_hparams_/session_end_info"].plugin_data.content)
        statuses[number] = end.status
        params = {name: getattr(value, value.WhichOneof("kind")) for name, value in start.hparams.items()}
        expected = study.trials[number].params
        texts = {name: str(expected[name]) for name in ("optimizer", "flag")}
        assert params == expected | texts
    assert statuses == dict(enumerate([api_pb2.STATUS_FAILURE, api_pb2.STATUS_SUCCESS, api_pb2.STATUS_FAILURE] * 2))
    complete = read("trial-1")
    assert {tag: complete.Scalars(tag)[0].value for tag in complete.Tags()["scalars"]} == {
        "value": -1.5,
        "accuracy": 0.75,
    }
    assert "value" not in read("trial-2").Tags()["scalars"]
    assert {"note/text_summary", "state/text_summary"} <= set(complete.Tags()["tensors"])
    progress = read()
    assert [(event.step, event.value) for event in progress.Scalars("value")] == [(1, -1.5), (4, -1.5)]
    assert [event.step for event in progress.Scalars("best_value")] == [1, 2, 3, 4, 5]


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")
def test_mlflow_has_a_run_for_each_trial(tmp_path):
    from mlflow.tracking import MlflowClient

    from bojax.integrations.mlflow import MLflowCallback

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    study = optimized(MLflowCallback(uri, tags={"team": "a"}))
    wide = Space({f"p{i}": Float(0.0, 1.0) for i in range(120)} | {"odd=name#": Float(0.0, 1.0)})
    other = make(wide)
    MLflowCallback(uri, experiment="wide")(other, other.add({name: 0.5 for name in wide}, 1.0))
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name(study.name)
    runs = {run.data.tags["trial"]: run for run in client.search_runs([experiment.experiment_id])}
    assert {number: run.info.status for number, run in runs.items()} == {"0": "FAILED", "1": "FINISHED", "2": "FAILED"}
    for number, run in runs.items():
        assert run.data.params == {name: str(value) for name, value in study.trials[int(number)].params.items()}
        assert run.data.tags["study"] == study.name and run.data.tags["team"] == "a"
        assert run.info.run_name == f"trial-{number}" and run.info.end_time >= run.info.start_time
    assert runs["1"].data.metrics == {"value": -1.5, "accuracy": 0.75} and runs["1"].data.tags["note"] == "-fine"
    assert runs["0"].data.metrics == {} and runs["0"].data.tags["error"].startswith("ValueError: =1+1")
    found = client.search_runs([client.get_experiment_by_name("wide").experiment_id])[0]
    assert len(found.data.params) == 121 and found.data.params["odd_name_"] == "0.5"
    clash = make(Space({"a=": Float(0.0, 1.0), "a#": Float(0.0, 1.0)}))
    with pytest.raises(ValueError, match="names must differ in characters that MLflow allows"):
        MLflowCallback(uri)(clash, clash.add({"a=": 0.5, "a#": 0.5}, 1.0))


def wandb_steps(path):
    """The steps in a file of wandb: a log of LevelDB (7 bytes before it, blocks of 32 kB, records in pieces)."""
    from wandb.proto import wandb_internal_pb2

    content, at, data, steps = path.read_bytes(), 7, b"", []
    while at + 7 <= len(content):
        if len(content) < at + 7 + struct.unpack("<H", content[at + 4 : at + 6])[0]:
            break  # it is being written
        if 32768 - at % 32768 < 7:  # the rest of a block is empty
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + 7])
        data, at = (b"" if kind in (1, 2) else data) + content[at + 7 : at + 7 + length], at + 7 + length
        if kind in (1, 4):
            record = wandb_internal_pb2.Record.FromString(data)
            if record.WhichOneof("record_type") == "history":
                items = {"/".join(item.nested_key) or item.key: item.value_json for item in record.history.item}
                steps.append({name: json.loads(text) for name, text in items.items()})
    return steps


@pytest.mark.long
def test_wandb_has_a_step_for_each_trial(tmp_path, monkeypatch):
    import wandb

    from bojax.integrations.wandb import WandbCallback

    monkeypatch.setenv("WANDB_SILENT", "true")
    callback = WandbCallback(project="p", mode="offline", dir=str(tmp_path))
    study = optimized(callback)
    run = callback.run
    assert run.config["direction"] == "minimize" and run.config["seed"] == 0 and run.name == study.name
    assert run.summary["best_value"] == -1.5 and run.summary["best/optimizer"] == "sgd"
    callback.finish()
    assert callback.run is None
    end = time.monotonic() + 100.0
    while len(steps := wandb_steps(next(tmp_path.rglob("*.wandb")))) < 3 and time.monotonic() < end:
        time.sleep(0.05)  # another process writes the file, a moment later
    assert [step["trial"] for step in steps] == [0, 1, 2] and [step.get("value") for step in steps] == [
        None,
        -1.5,
        None,
    ]
    assert [step.get("params/momentum") for step in steps] == [None, 0.1, None]
    assert [step["params/optimizer"] for step in steps] == ["adam", "sgd", "None"]
    assert steps[0]["error"].startswith("ValueError: =1+1") and steps[1]["accuracy"] == 0.75
    given = wandb.init(project="p", mode="offline", dir=str(tmp_path))
    own = WandbCallback(run=given)
    own(study, study.trials[1])
    own.finish()
    assert own.run is given and given.summary["value"] == -1.5
    given.finish()
    with pytest.raises(TypeError, match="`run` must be given alone"):
        WandbCallback(run=given, mode="offline")


@pytest.mark.parametrize(
    ("tool", "package", "extra"),
    [("tensorboard", "tensorboardX", "tensorboard"), ("mlflow", "mlflow", "mlflow"), ("wandb", "wandb", "wandb")],
)
def test_a_missing_tool_is_named_with_its_extra(tool, package, extra, monkeypatch):
    import importlib.util
    import sys

    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    path = pathlib.Path(bojax.__file__).parent / "integrations" / f"{tool}.py"
    spec = importlib.util.spec_from_file_location(f"missing_{tool}", path)
    assert spec is not None and spec.loader is not None
    with pytest.raises(ImportError, match=rf'pip install "bojax\[{extra}\]"'):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
