"""The README's examples run, and its commands are the ones that CI runs."""

import pathlib
import re
import shlex

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
SHELL = [line for block in re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL) for line in block.splitlines()]


@pytest.mark.long
@pytest.mark.timeout(900)
def test_python_blocks_run_in_order(tmp_path, monkeypatch, capsys):
    import jax

    cache = jax.config.jax_compilation_cache_dir, jax.config.jax_persistent_cache_min_compile_time_secs
    monkeypatch.chdir(tmp_path)
    namespace: dict = {}
    assert len(PYTHON) >= 6
    try:
        for block in PYTHON:
            exec(compile(block, "README.md", "exec"), namespace)
    finally:
        jax.config.update("jax_compilation_cache_dir", cache[0])
        jax.config.update("jax_persistent_cache_min_compile_time_secs", cache[1])

    assert namespace["result"].best_value < 1.0
    assert len(namespace["study"].trials) == 12
    assert namespace["final"].observations.y.shape == (20,)
    assert namespace["finals"].observations.y.shape == (8, 20)
    assert namespace["X"].shape == (1, 2)
    assert namespace["history"].num_members == 9
    assert all("bojax:grad" in trial.user_attrs for trial in namespace["result"].trials)
    assert namespace["decays"].shape == (60, 3) and namespace["nested"].best_value < 0.2
    assert namespace["svm_accuracy"]({"C": 1.0, "gamma": 0.1}) > 0.9
    assert capsys.readouterr().out.count("\n") >= 6


def test_shell_commands_are_those_of_ci():
    assert any("bojax tune digits_mlp --trials 30 --batch-size 4 --seed 0" in line for line in SHELL)
    ci = (ROOT / ".ci" / "run").read_text()
    for words in ("-m pytest", "-n auto -m", '"not slow and not long', "--dist worksteal", '-e ".[dev]"'):
        assert any(words in line for line in SHELL)
        assert words in ci


def test_commands_of_the_readme_parse():
    from typer.testing import CliRunner

    from bojax.cli import app

    commands = [line[line.index("bojax ") :] for line in SHELL if ".venv/bin/bojax " in line]
    commands += re.findall(r"`(bojax (?:tune|show|list)[^`]*)`", README)
    assert len(commands) >= 3
    for command in commands:
        name = shlex.split(command)[1]
        assert CliRunner().invoke(app, [name, "--help"]).exit_code == 0, command


def test_readme_never_installs_from_the_index_by_name():
    assert not re.search(r"pip install [^\n&]*\bbojax\b", README)


def test_no_placeholder_is_left():
    assert not re.search(r"\b[A-Z]+_TABLE\b|\bTODO\b|\bTBD\b", README)
