"""The command line: directions beside spaces, JSON whatever is printed, files as targets, failures that say where."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from bojax import cli
from bojax.space import Float, Space
from bojax.study import Study

TIMEOUT = 200
QUICK = ["--algorithm", "random_search", "--no-cache"]

MODULE = """
import os, time
space = {"x": {"type": "float", "low": 0.0, "high": 1.0}}
direction = "maximize"
def accuracy(params):
    return params["x"]
def loss(params):
    return params["x"]
loss.direction = "minimize"
def odd(params):
    if params["x"] < 0.4:
        import json
        json.loads("{broken")
    return params["x"]
def measured(params):
    return params["x"], {"nan": float("nan"), "list": [float("inf"), 1], "good": True, "steps": 3}
def leaves(params):
    import sys
    sys.exit(0)
def slow(params):
    time.sleep(0.25)
    return params["x"]
class Trainer:
    metric = "accuracy"
    def train(self, key, hparams):
        return {"accuracy": hparams["x"]}
trainer = Trainer()
def broken(key, hparams):
    raise ValueError("no such layer")
class Broken(Trainer):
    def train(self, key, hparams):
        return broken(key, hparams)
untrainable = Broken()
"""
NOISY = """
import atexit, ctypes, logging, os, subprocess, sys, threading, time
print("while importing")
space = {"x": {"type": "float", "low": 0.0, "high": 1.0}}
logging.basicConfig(stream=sys.stdout, level=logging.INFO)
def objective(params):
    print("by print")
    logging.info("by a logger")
    os.write(1, b"by the descriptor\\n")
    subprocess.run(["echo", "by a child"])
    ctypes.CDLL(None).printf(b"by C\\n")
    sys.__stdout__.write("by the first stdout\\n")
    return params["x"]
def later():
    time.sleep(0.3)
    print("by a thread")
threading.Thread(target=later).start()
atexit.register(print, "at exit")
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty current folder with the modules `mymod` and `noisy`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    (tmp_path / "mymod.py").write_text(MODULE)
    (tmp_path / "noisy.py").write_text(NOISY)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def json_of(capsys):
    return json.loads(capsys.readouterr().out, parse_constant=refuse)


def refuse(name):
    raise AssertionError(f"{name} is no JSON")


def command(*args):
    return [sys.executable, "-c", "from bojax.cli import main; main()", *args]


# Directions


@pytest.mark.long
@pytest.mark.parametrize("target", ["mymod:accuracy", "mymod:trainer", "./mymod.py:accuracy"])
def test_the_direction_of_a_module_is_read_like_its_space(folder, capsys, target):
    assert cli.run(["tune", target, "--trials", "4", "--json", *QUICK]) == 0
    document = json_of(capsys)
    values = [trial.value for trial in Study(storage="sqlite:///bojax.db", name=document["study"]).trials]
    assert document["direction"] == "maximize" and document["best"]["value"] == max(values)


def test_the_objectives_own_direction_goes_first_and_contradictions_are_said(folder, capsys):
    assert cli.run(["tune", "mymod:loss", "--trials", "2", "--json", *QUICK]) == 0
    assert json_of(capsys)["direction"] == "minimize"
    assert cli.run(["tune", "mymod:accuracy", "--direction", "minimize", *QUICK]) == 2
    assert "is to be maximized, got 'minimize'" in capsys.readouterr().err
    assert cli.run(["tune", "mymod:accuracy", "--direction", "maximize", "--trials", "2", *QUICK]) == 0
    (folder / "up.py").write_text(MODULE.replace('"maximize"', '"up"'))
    assert cli.run(["tune", "up:accuracy", *QUICK]) == 2
    assert '`direction` of up:accuracy must be "minimize" or "maximize"' in capsys.readouterr().err


# JSON


@pytest.mark.long
def test_json_is_the_whole_of_stdout_whatever_the_objective_prints(folder):
    args = command("tune", "noisy:objective", "--trials", "2", "--json", *QUICK)
    done = subprocess.run(args, capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout, parse_constant=refuse)
    assert document["num_trials"] == 2 and document["error"] is None
    for who in ("importing", "print", "logger", "descriptor", "child", "C", "first stdout", "thread", "exit"):
        assert f"{who}\n" in done.stderr


def test_json_has_no_numbers_that_json_does_not_know(folder, capsys):
    assert cli.run(["tune", "mymod:measured", "--trials", "2", "--json", *QUICK]) == 0
    assert json_of(capsys)["best"]["metrics"] == {"nan": None, "good": True, "steps": 3}
    assert cli.run(["show", "bojax.db", "--json"]) == 0
    assert json_of(capsys)["trials"][0]["attrs"] == {"nan": None, "list": [None, 1], "good": True, "steps": 3}


@pytest.mark.long
def test_json_comes_with_an_error_too(folder, capsys):
    args = ["tune", "mymod:odd", "--trials", "3", "--json", "--space", "s.json", *QUICK]
    (folder / "s.json").write_text('{"x": {"type": "float", "low": 0.0, "high": 0.1}}')
    assert cli.run(args) == 1
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert document["best"] is None and document["num_failed"] == 3
    assert document["last_failure"]["reason"].startswith("JSONDecodeError")
    assert document["last_failure"]["traceback"].splitlines()[-1].endswith(document["last_failure"]["reason"])
    assert cli.run([*args[:3], "30", *args[4:]]) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out)["error"].startswith("each of the first 5 evaluations of the objective raised")
    assert cli.run(["tune", "mymod:leaves", "--json", *QUICK]) == 1
    captured = capsys.readouterr()
    assert "the objective ended the process" in json.loads(captured.out)["error"]
    assert "bojax: error: the objective ended the process" in captured.err


# Help and summaries


def test_help_shows_every_default_and_the_exit_codes(capsys):
    assert cli.run(["tune", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for default in (
        "[default: 0]",
        "[default: 30; no limit where --timeout is given]",
        "[default: that of the objective]",
        "[default: where the objective is differentiable]",
        "[default: 5]",
        "[default: 4;",
    ):
        assert default in text
    assert "Exit codes: 0 done, 1 something failed while running, 2 the command was used wrongly, 130" in text


def test_parameters_and_metrics_have_headings_of_their_own(folder, capsys):
    assert cli.run(["tune", "mymod:measured", "--trials", "2", *QUICK]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "with" not in lines
    assert lines.index("params:") + 2 == lines.index("metrics:")
    assert sorted(line.split() for line in lines[lines.index("metrics:") + 1 :]) == [
        ["good", "True"],
        ["nan", "nan"],
        ["steps", "3"],
    ]


# Files


def test_a_path_to_a_script_is_a_target(folder, capsys, monkeypatch):
    place = folder / "exp one" / "deep"
    place.mkdir(parents=True)
    (place / "helper.py").write_text("def f(x):\n    return x + 1.0\n")
    script = """
        from __future__ import annotations
        import dataclasses, sys
        from helper import f
        @dataclasses.dataclass
        class Settings:
            shift: float = 1.0
        space = {"x": {"type": "float", "low": 0.0, "high": 1.0}}
        def objective(params):
            return f(params["x"]) + Settings().shift
        if __name__ == "__main__":
            sys.exit("only as a script")
        """
    (place / "my-script.py").write_text(textwrap.dedent(script))
    (place / "json.py").write_text(textwrap.dedent(script))
    name = "exp one/deep/my-script.py:objective"
    for spelled in (f"./{name}", str(folder / name), name):
        assert cli.run(["tune", spelled, "--trials", "3", "--json", *QUICK]) == 0
        document = json_of(capsys)
        assert document["study"] == name and 2.0 <= document["best"]["value"] <= 3.0
    monkeypatch.chdir(place)
    assert cli.run(["tune", "json.py:objective", "--trials", "1", "--json", *QUICK]) == 0
    assert json_of(capsys)["study"] == "json.py:objective"
    assert sys.modules["json"] is json


def test_a_file_of_a_package_may_import_from_it(folder, capsys):
    package = folder / "outer" / "inner"
    package.mkdir(parents=True)
    for place in (package, package.parent):
        (place / "__init__.py").touch()
    (package.parent / "shared.py").write_text('space = {"x": {"type": "float", "low": 0.0, "high": 1.0}}\n')
    (package / "task.py").write_text("from ..shared import space\ndef f(params):\n    return params['x']\n")
    assert cli.run(["tune", "outer/inner/task.py:f", "--trials", "1", *QUICK]) == 0
    assert "outer/inner/task.py:f: 1 trials" in capsys.readouterr().out


def test_two_scripts_of_one_name_are_two_scripts(folder, capsys):
    for i in (1, 2):
        (folder / f"e{i}").mkdir()
        (folder / f"e{i}" / "run.py").write_text(
            f"space = {{'x': {{'type': 'float', 'low': 0.0, 'high': 1.0}}}}\ndef f(params):\n    return {i}.0\n"
        )
    for i in (1, 2, 1):
        assert cli.run(["tune", f"e{i}/run.py:f", "--trials", "1", "--json", *QUICK]) == 0
        assert json_of(capsys)["best"]["value"] == i


@pytest.mark.parametrize(
    ("target", "code", "message"),
    [
        ("./none.py:f", 2, "there is no Python file './none.py'"),
        ("./mymod:accuracy", 2, "there is no Python file './mymod'. Did you mean './mymod.py'?"),
        ("./mymod.py", 2, "write package.module:objective or folder/script.py:objective"),
        ("./mymod.py:accurac", 2, "the file './mymod.py' has no 'accurac'. Did you mean 'accuracy'?"),
        ("./bad.py:f", 1, "the file './bad.py' cannot be imported: ZeroDivisionError: division by zero (bad.py:2, in"),
        ("./syntax.py:f", 1, "the file './syntax.py' cannot be imported: SyntaxError"),
        ("./exits.py:f", 1, 'Put what only a script does under `if __name__ == "__main__":`'),
        ("exits:f", 1, "the module 'exits' ends the process when it is imported"),
    ],
)
def test_files_that_cannot_be_used_say_why(folder, capsys, target, code, message):
    (folder / "bad.py").write_text("\n1 / 0\n")
    (folder / "syntax.py").write_text("def f(:\n")
    (folder / "exits.py").write_text("import sys\nsys.exit(0)\n")
    assert cli.run(["tune", target, *QUICK]) == code
    captured = capsys.readouterr()
    assert captured.out == "" and message in captured.err


# Failures


def test_a_failed_trial_says_where(folder, capsys):
    assert cli.run(["tune", "mymod:odd", "--trials", "8", *QUICK]) == 0
    captured = capsys.readouterr()
    trials = Study(storage="sqlite:///bojax.db", name="mymod:odd").trials
    failed = [trial for trial in trials if trial.state == "fail"]
    assert 0 < len(failed) < 8
    for trial in failed:
        (line,) = [line for line in captured.err.splitlines() if f"trial {trial.number} failed" in line]
        # The innermost call of the user's own, not that in the standard library which it ended in.
        assert line.endswith("(mymod.py:13, in odd)") and "JSONDecodeError" in line
        text = trial.user_attrs["bojax:traceback"]
        assert 'mymod.py", line 13, in odd' in text and text.splitlines()[-1].startswith("json.decoder.JSONDecodeError")
    assert f"last failure in trial {failed[-1].number}: JSONDecodeError" in captured.out


def test_a_training_function_that_raises_says_where(folder, capsys):
    assert cli.run(["tune", "mymod:untrainable", "--trials", "2", *QUICK]) == 1
    assert "bojax: error: ValueError: no such layer (mymod.py:29, in broken)" in capsys.readouterr().err


# Limits


@pytest.mark.long
def test_limits_are_options(folder, capsys):
    start = time.monotonic()
    assert cli.run(["tune", "mymod:slow", "--timeout", "1.5", "--json", *QUICK]) == 0
    assert 1 <= json_of(capsys)["num_trials"] <= 6 and time.monotonic() - start < 60.0
    assert cli.run(["tune", "mymod:trainer", "--timeout", "1.5", "--json", *QUICK]) == 0
    assert json_of(capsys)["num_trials"] >= 4
    (folder / "s.json").write_text('{"x": {"type": "float", "low": 0.0, "high": 0.1}}')
    args = ["tune", "mymod:odd", "--space", "s.json", "--json", "--trials", "7", *QUICK]
    for number, told in [("2", 2), ("0", 7)]:
        assert cli.run([*args, "--study", number, "--max-first-failures", number]) == 1
        assert json_of(capsys)["num_failed"] == told


@pytest.mark.parametrize(
    "args",
    [
        ["mymod:accuracy", "--timeout", "soon"],
        ["mymod:accuracy", "--timeout", "-1"],
        ["mymod:accuracy", "--timeout", "nan"],
        ["mymod:accuracy", "--max-first-failures", "-1"],
        ["mymod:accuracy", "--seeds", "3"],
        ["mymod:trainer", "--max-first-failures", "3"],
    ],
)
def test_options_that_are_wrong_or_have_no_effect_are_refused(folder, capsys, args):
    assert cli.run(["tune", *args, *QUICK]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and args[1] in captured.err and not (folder / "bojax.db").exists()


# Progress


@pytest.mark.long
def test_progress_off_a_terminal_is_a_line_now_and_then(folder):
    args = command("tune", "mymod:slow", "--trials", "14", *QUICK)
    done = subprocess.run(args, capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("mymod:slow: ")]
    assert 2 <= len(lines) <= 8 and "\r" not in done.stderr
    assert "14 of 14 trials, best 0." in lines[-1]
    assert "of 14 trials" not in done.stdout


@pytest.mark.long
def test_an_interrupted_run_gives_its_document_and_the_code_130(folder):
    args = command("tune", "mymod:slow", "--json", "--trials", "500", *QUICK)
    # A test run in the background ignores interrupts, and its children would, too.
    args[2] = f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler); {args[2]}"
    process = subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        end = time.monotonic() + TIMEOUT
        while time.monotonic() < end and not told_in(folder / "bojax.db"):
            time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=TIMEOUT)
    finally:
        process.kill()
    assert process.returncode == 130
    document = json.loads(out)
    assert document["error"] == "interrupted" and document["best"] is not None
    assert "Run the same command again to go on." in err


def told_in(path: pathlib.Path) -> bool:
    """Whether a study in a SQLite file has a complete trial, looked at without writing."""
    import sqlite3

    if not os.path.exists(path):
        return False
    try:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
            return bool(database.execute("select count(*) from trials where state = 'COMPLETE'").fetchone()[0])
    except sqlite3.Error:
        return False


def test_a_space_object_and_a_direction_in_a_script_work_together(folder, capsys):
    (folder / "typed.py").write_text(
        "import bojax\nspace = bojax.Space(x=bojax.Float(0.0, 1.0))\ndirection = 'maximize'\n"
        "def f(params):\n    return params['x']\n"
    )
    assert cli.run(["tune", "typed.py:f", "--trials", "2", "--json", *QUICK]) == 0
    assert json_of(capsys)["direction"] == "maximize"
    assert Study(storage="sqlite:///bojax.db", name="typed.py:f").space == Space(x=Float(0.0, 1.0))
