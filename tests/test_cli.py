"""The command line: what it prints, its exit codes, and that no finished trial is ever lost."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from bojax import cli, loop
from bojax.space import Categorical, Float, Int, Space
from bojax.study import Study

TIMEOUT = 100
QUICK = ["--algorithm", "random_search", "--no-cache"]

MODULE = """
import os, time
from bojax import Float, Int, Space
space = Space(x=Float(-1.0, 1.0), n=Int(1, 9))
def objective(params):
    with open("calls", "a") as file:
        file.write("x")
    time.sleep(float(os.environ.get("SLEEP", "0")))
    return params["x"] ** 2 + params["n"]
def failing(params):
    raise RuntimeError("out of\\nmemory")
def nothing(params):
    pass
def sometimes(params):
    if params["n"] % 2:
        raise RuntimeError("odd")
    return params["x"]
class Trainer:
    space = {
        "rate": {"type": "float", "low": 0.1, "high": 1.0, "log": True},
        "kind": {"type": "categorical", "choices": ["a", "b"]},
    }
    metric, direction, traced = "validation_accuracy", "maximize", 0
    def train(self, key, hparams):
        Trainer.traced += 1
        import jax
        accuracy = hparams["rate"] + 0.1 * hparams["kind"] + 0.0 * jax.random.uniform(key)
        return {"validation_accuracy": accuracy, "test_accuracy": accuracy - 0.05}
trainer = Trainer()
class Sloped:
    space = {"rate": {"type": "float", "low": 0.1, "high": 1.0, "log": True}}
    metric, direction = "loss", "minimize"
    def train(self, key, hparams):
        return {"loss": hparams["rate"] ** 2}
    def value_and_grad(self, key, hparams):
        return self.train(key, hparams), {"rate": 2 * hparams["rate"]}
sloped = Sloped()
class Undirected(Trainer):
    direction = None
undirected = Undirected()
class Discrete(Trainer):
    space = {"rate": {"type": "int", "low": 0, "high": 2}}
discrete = Discrete()
class small:
    space = {"n": {"type": "int", "low": 0, "high": 2}}
    def __call__(self, params):
        return params["n"]
small = small()
number = 3
"""
NO_SPACE = "def objective(params):\n    return 0.0\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty current folder with modules `mine`, `nospace` and `broken`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "mine.py").write_text(MODULE)
    (tmp_path / "nospace.py").write_text(NO_SPACE)
    (tmp_path / "broken.py").write_text("import no_such_package\n")
    yield tmp_path
    for name in ("mine", "nospace", "broken"):
        sys.modules.pop(name, None)


# Where the tests were started in the background, SIGINT is ignored, and children inherit that.
RUN = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from bojax.cli import main; main()"


def start(*args, **environ):
    return subprocess.Popen(
        [sys.executable, "-c", RUN, *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environ,
    )


@pytest.mark.long
def test_tune_prints_the_best_and_a_second_run_only_the_result(folder, capsys):
    assert cli.run(["tune", "mine:objective", "--trials", "6", *QUICK]) == 0
    first = capsys.readouterr()
    assert "mine:objective: 6 trials, 0 failed" in first.out and "best value" in first.out
    assert "Traceback" not in first.err
    assert (folder / "bojax.db").is_file()
    assert cli.run(["tune", "mine:objective", "--trials", "6", *QUICK]) == 0
    assert capsys.readouterr().out == first.out
    assert (folder / "calls").read_text() == "x" * 6
    assert cli.run(["tune", "mine:objective", "--trials", "9", *QUICK]) == 0
    assert (folder / "calls").read_text() == "x" * 9


@pytest.mark.long
@pytest.mark.parametrize("method", ["forest", "differential_evolution"])
def test_a_method_goes_by_its_name_here_or_in_python(folder, capsys, method):
    args = ["tune", "mine:objective", "--trials", "7", "--storage", "a.db", "--json", "--method", method, "--no-cache"]
    assert cli.run(args) == 0
    assert json.loads(capsys.readouterr().out)["num_trials"] == 7


def test_every_method_is_an_algorithm():
    space = Space(x=Float(-1.0, 1.0), kind=Categorical(["a", "b"]))
    for name in cli.METHODS.values():
        assert getattr(loop, name)(space, q=2).q == 2
    assert next(iter(cli.METHODS)) == "bayesopt"


def test_json_is_one_document(folder, capsys):
    args = ["tune", "mine:objective", "--trials", "5", "--seed", "3", "--storage", "a.db", "--study", "s", "--json"]
    assert cli.run([*args, *QUICK]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["num_trials"] == 5 and document["seed"] == 3 and document["study"] == "s"
    best = document["best"]
    assert best["value"] == best["params"]["x"] ** 2 + best["params"]["n"]
    assert cli.run(["show", "a.db", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["best"] == best and len(shown["trials"]) == 5
    assert Space.from_spec(shown["space"]) == Space(x=Float(-1.0, 1.0), n=Int(1, 9))


@pytest.mark.long
def test_processes_evaluate_side_by_side(folder, capsys):
    (folder / "light.py").write_text(
        "import os, time\n"
        'space = {"n": {"type": "int", "low": 0, "high": 3}}\n'
        "def objective(params):\n"
        '    if params["n"] == 1:\n'
        "        os._exit(3)\n"
        '    if params["n"] == 2:\n'
        "        time.sleep(1000)\n"
        '    return params["n"], {"pid": os.getpid()}\n'
    )
    args = ["--trials", "4", "--workers", "2", "--trial-timeout", "3", "--storage", "a.db", "--json", *QUICK]
    assert cli.run(["tune", "light.py:objective", *args]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["best"]["params"] == {"n": 0}
    assert "exit code 3" in captured.err and "no result within 3 s" in captured.err
    study = Study(storage="sqlite:///a.db", name="light.py:objective")
    assert {t.params["n"]: t.state for t in study.trials} == {0: "complete", 1: "fail", 2: "fail", 3: "complete"}
    assert os.getpid() not in {trial.user_attrs.get("pid") for trial in study.trials}
    sys.modules.pop("light")


@pytest.mark.parametrize(
    ("target", "option", "message"),
    [
        ("mine:trainer", "--workers=2", "--workers: is for ordinary objectives"),
        ("mine:trainer", "--trial-timeout=2", "--trial-timeout: is for ordinary objectives"),
        ("mine:objective", "--trial-timeout=0", "--trial-timeout: must be more than 0 seconds, got 0"),
        ("mine:objective", "--trial-timeout=nan", "--trial-timeout: must be more than 0 seconds, got nan"),
    ],
)
def test_workers_that_have_no_effect_are_refused(folder, capsys, target, option, message):
    assert cli.run(["tune", target, option, *QUICK]) == 2
    assert message in capsys.readouterr().err.replace("\n", " ")


@pytest.mark.long
def test_direction_and_a_space_from_a_file(folder, capsys):
    (folder / "space.json").write_text(
        '{"x": {"type": "float", "low": 0, "high": 1}, "n": {"type": "int", "low": 5, "high": 6}}'
    )
    args = ["tune", "mine:objective", "--trials", "4", "--direction", "maximize", "--space", "space.json", "--json"]
    assert cli.run([*args, *QUICK]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["direction"] == "maximize" and document["best"]["params"]["n"] >= 5


@pytest.mark.long
def test_training_functions_are_compiled_once_and_keep_their_metrics(folder, capsys):
    assert cli.run(["tune", "mine:trainer", "--trials", "5", "--batch-size", "4", "--json", *QUICK]) == 0
    document = json.loads(capsys.readouterr().out)
    best = document["best"]
    assert best["metrics"] == {
        "validation_accuracy": pytest.approx(best["value"]),
        "test_accuracy": pytest.approx(best["value"] - 0.05),
    }
    assert document["num_compilations"] == 1
    study = Study(storage="sqlite:///bojax.db", name="mine:trainer")
    assert study.direction == "maximize" and len(study.trials) == 5
    for trial in study.trials:
        assert trial.value == pytest.approx(trial.params["rate"] + 0.1 * "ab".index(trial.params["kind"]))
    assert cli.run(["tune", "mine:trainer", "--trials", "5", *QUICK]) == 0
    assert "test_accuracy" in capsys.readouterr().out


@pytest.mark.long
@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ([], True),
        pytest.param(["--gradients"], True, marks=pytest.mark.slow),
        (["--no-gradients"], False),
        (QUICK, False),
    ],
)
def test_gradients_are_told_where_the_objective_has_them(folder, capsys, flags, told):
    assert cli.run(["tune", "mine:sloped", "--trials", "4", "--no-cache", *flags]) == 0
    study = Study(storage="sqlite:///bojax.db", name="mine:sloped")
    for trial in study.trials:
        grad = {"rate": pytest.approx(2 * trial.params["rate"])} if told else None
        assert trial.user_attrs.get("bojax:grad") == grad


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_a_training_function_may_leave_its_direction_open(folder, capsys, direction):
    assert cli.run(["tune", "mine:undirected", "--direction", direction, "--trials", "4", "--json", *QUICK]) == 0
    document = json.loads(capsys.readouterr().out)
    values = [t.value for t in Study(storage="sqlite:///bojax.db", name="mine:undirected").trials]
    assert document["direction"] == direction
    assert document["best"]["value"] == (min if direction == "minimize" else max)(values)


def test_a_training_function_is_differentiated_if_asked(folder, capsys):
    assert cli.run(["tune", "mine:trainer", "--gradients", "--trials", "3", *QUICK]) == 2
    assert "random_search does not learn from them" in capsys.readouterr().err
    assert cli.run(["tune", "mine:trainer", "--gradients", "--trials", "3", "--no-cache"]) == 0
    trials = Study(storage="sqlite:///bojax.db", name="mine:trainer").trials
    assert [trial.user_attrs["bojax:grad"] for trial in trials] == [{"rate": pytest.approx(1.0)}] * 3


def test_failed_trials_count_and_are_told_about(folder, capsys):
    assert cli.run(["tune", "mine:sometimes", "--trials", "8", "--json", *QUICK]) == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert document["num_trials"] == 8 and 0 < document["num_failed"] < 8
    assert captured.err.count("bojax: warning: trial") == document["num_failed"]


@pytest.mark.long
def test_a_used_up_space_is_a_short_study(folder, capsys):
    assert cli.run(["tune", "mine:small", "--trials", "8", "--json", *QUICK]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["num_trials"] == 3 and "stops early" in captured.err


@pytest.mark.long
@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["tune", "digit_mlp"], 2, "Did you mean 'digits_mlp'?"),
        (["tune", "mine"], 2, "the zoo has no objective 'mine'"),
        (["tune", "nomodule:objective"], 2, "there is no module 'nomodule'"),
        (["tune", "mine.sub:objective"], 2, "there is no module 'mine.sub'"),
        (["tune", "mine:objectiv"], 2, "has no 'objectiv'. Did you mean 'objective'?"),
        (["tune", "mine:"], 2, "write package.module:objective"),
        (["tune", "mine:number"], 2, "is not callable"),
        (["tune", "nospace:objective"], 2, "has no space"),
        (["tune", "broken:objective"], 1, "cannot be imported: ModuleNotFoundError"),
        (["tune"], 2, "Missing argument"),
        (["tune", "mine:objective", "--trials", "0"], 2, "--trials"),
        (["tune", "mine:objective", "--trials", "many"], 2, "--trials"),
        (["tune", "mine:objective", "--batch-size", "0"], 2, "--batch-size"),
        (["tune", "mine:objective", "--seed", "-1"], 2, "--seed"),
        (["tune", "mine:objective", "--direction", "up"], 2, "minimize or maximize"),
        (["tune", "mine:trainer", "--direction", "minimize"], 2, "to be maximized"),
        (["tune", "mine:objective", "--method", "magic"], 2, "must be one of bayesopt, grid, random, sobol, tpe,"),
        (["tune", "mine:objective", "--method", "cma"], 2, "Did you mean 'cma_es'?"),
        (["tune", "mine:objective", "--steps", "3"], 2, "objectives of the zoo only"),
        (["tune", "mine:objective", "--gradients"], 2, "is no training function"),
        (["tune", "mine:discrete", "--gradients"], 2, "needs a Float without `step` to differentiate by"),
        (["tune", "mine:objective", "--space", "none.json"], 2, "none.json"),
        (["tune", "mine:objective", "--space", "mine.py"], 2, "mine.py"),
        (["tune", "mine:objective", "--nonsense"], 2, "--nonsense"),
        (["tune", "mine:objective", "--storage", "no/such/folder/a.db"], 1, "cannot be opened"),
        (["tune", "mine:objective", "--storage", "nosuch://host/db"], 1, "cannot be opened"),
        (["tune", "mine:failing", *QUICK], 1, "first 5 evaluations of the objective raised"),
        (["tune", "mine:nothing", *QUICK], 1, "the objective returned None"),
        (["show", "none.db"], 1, "there is no file 'none.db'"),
        (["show", "sqlite:///none.db"], 1, "there is no file 'none.db'"),
        (["show", "mine.py"], 1, "cannot be opened"),
        (["show"], 2, "Missing argument"),
        (["frobnicate"], 2, "frobnicate"),
    ],
)
def test_errors_are_one_line_on_stderr(folder, capsys, args, code, message):
    assert cli.run(args) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = [line for line in captured.err.splitlines() if not line.startswith("bojax: warning:")]
    assert len(lines) == 1 and lines[0].startswith("bojax: error: ") and message in lines[0]
    assert not (folder / "none.db").exists()


@pytest.mark.long
def test_errors_about_existing_studies(folder, capsys):
    assert cli.run(["tune", "mine:objective", "--trials", "1", "--study", "s", *QUICK]) == 0
    for args, message in [
        (["tune", "mine:objective", "--study", "s", "--seed", "9"], "another seed"),
        (["tune", "mine:objective", "--study", "s", "--direction", "maximize"], "another direction"),
        (["tune", "mine:sometimes", "--study", "s"], "tunes 'mine:objective', not 'mine:sometimes'"),
        (["tune", "mine:small", "--study", "s"], "another space"),
        (["show", "bojax.db", "--study", "t"], "holds no study 't'. It holds: s."),
    ]:
        assert cli.run(args) == 1
        assert message in capsys.readouterr().err
    assert cli.run(["tune", "mine:objective", "--trials", "1", "--study", "t", *QUICK]) == 0
    assert cli.run(["show", "bojax.db"]) == 2
    assert "name one of the studies: s, t" in capsys.readouterr().err
    assert cli.run(["show", "bojax.db", "--study", "t", "--plot", "t.png"]) == 0
    assert pathlib.Path("t.png").is_file()
    assert cli.run(["show", "bojax.db", "--study", "t", "--slices", "u.png"]) == 1
    assert "fewer than two complete trials" in capsys.readouterr().err


def test_show_before_anything_was_told(folder, capsys):
    Study(Space(x=Float(0.0, 1.0)), storage="sqlite:///a.db")
    assert cli.run(["show", "a.db"]) == 0
    assert "no complete trial yet" in capsys.readouterr().out


def test_list(capsys):
    assert cli.run(["list"]) == 0
    assert "digits_mlp" in capsys.readouterr().out
    assert cli.run(["list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {"name", "description", "num_steps", "space"} <= set(rows[0])
    assert [row["name"] for row in rows if row["differentiable"]] == ["cancer_logistic"]
    for row in rows:
        Space.from_spec(row["space"])


@pytest.mark.long
def test_help_imports_little():
    program = """
import sys, bojax.cli
bojax.cli.run(["--help"])
sys.exit(bool({"optuna", "flax", "matplotlib", "sklearn"} & set(sys.modules)))
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=TIMEOUT)
    assert result.returncode == 0 and "tune" in result.stdout


def wait_for_calls(folder, count):
    end = time.monotonic() + TIMEOUT
    while time.monotonic() < end:
        if (folder / "calls").is_file() and len((folder / "calls").read_text()) >= count:
            return
        time.sleep(0.05)
    raise AssertionError("the objective was not called in time")


@pytest.mark.long
def test_a_killed_run_loses_no_told_trial_and_resumes(folder, capsys):
    args = ["tune", "mine:objective", "--trials", "9", "--batch-size", "4", *QUICK]
    process = start(*args, SLEEP="0.3")
    try:
        wait_for_calls(folder, 6)
        process.send_signal(signal.SIGKILL)
        process.wait(TIMEOUT)
    finally:
        process.kill()
    calls = len((folder / "calls").read_text())
    told = [t for t in Study(storage="sqlite:///bojax.db", name="mine:objective").trials if t.state == "complete"]
    assert len(told) >= calls - 1 >= 5  # all but the one that was being evaluated
    assert cli.run([*args, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    trials = Study(storage="sqlite:///bojax.db", name="mine:objective").trials
    lost = [t for t in trials if t.state == "fail" and t.user_attrs["bojax:lost"]]  # none where it fell between two
    assert (document["num_trials"], document["num_failed"], document["num_running"]) == (9, len(lost), 0)
    assert len(lost) == calls - len(told) <= 1
    assert len((folder / "calls").read_text()) == 9  # the lost one counts, too
    assert [t for t in trials if t.number <= told[-1].number] == told


@pytest.mark.long
def test_ctrl_c_says_how_to_resume(folder):
    process = start("tune", "mine:objective", "--trials", "50", *QUICK, SLEEP="0.2")
    try:
        wait_for_calls(folder, 3)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=TIMEOUT)
    finally:
        process.kill()
    assert process.returncode == 130 and out == ""
    assert "of 50 trials done" in err and "Run the same command again to go on." in err
    assert "Traceback" not in err
    trials = Study(storage="sqlite:///bojax.db", name="mine:objective").trials
    states = [trial.state for trial in trials]
    assert states == ["complete"] * (len(trials) - 2) + ["fail", "waiting"] and len(trials) >= 4
    assert trials[-1].user_attrs == {"bojax:retry_of": trials[-2].number} and trials[-1].params == trials[-2].params


@pytest.mark.slow
def test_the_zoo(folder, capsys):
    args = ["tune", "digits_mlp", "--trials", "5", "--batch-size", "2", "--steps", "5", "--json", *QUICK]
    assert cli.run(args) == 0
    best = json.loads(capsys.readouterr().out)["best"]
    assert best["value"] == best["metrics"]["validation_accuracy"] and "test_accuracy" in best["metrics"]


@pytest.mark.slow
def test_a_differentiable_objective_of_the_zoo_is_tuned_with_gradients(folder, capsys):
    assert cli.run(["tune", "cancer_logistic", "--trials", "4", "--batch-size", "2", "--json", "--no-cache"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["best"]["value"] == document["best"]["metrics"]["validation_loss"]
    assert document["num_compilations"] == 1
    for trial in Study(storage="sqlite:///bojax.db", name="cancer_logistic").trials:
        assert set(trial.user_attrs["bojax:grad"]) == set(trial.params)
