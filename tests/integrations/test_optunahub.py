"""The folder that OptunaHub takes."""

import pathlib
import re
import runpy
import sys
import types

import optuna
import pytest

from bojax.integrations.optuna import BojaxSampler

ROOT = pathlib.Path(__file__).parents[2] / "bojax/integrations/optunahub/package"
FOLDER = ROOT / "samplers/bojax"


def test_its_loader_finds_the_sampler():
    optunahub = pytest.importorskip("optunahub")
    module = optunahub.load_local_module("samplers/bojax", registry_root=str(ROOT))
    assert module.BojaxSampler is BojaxSampler


def test_the_module_has_the_sampler():
    assert runpy.run_path(str(FOLDER / "__init__.py"))["BojaxSampler"] is BojaxSampler


def test_it_has_the_files_and_the_fields_that_the_registry_asks_for():
    assert {"LICENSE", "README.md", "__init__.py", "example.py", "requirements.txt"} <= {
        path.name for path in FOLDER.iterdir()
    }
    front, body = re.fullmatch(r"---\n(.*?)\n---\n(.*)", (FOLDER / "README.md").read_text(), flags=re.S).groups()
    fields = dict(line.split(": ", 1) for line in front.splitlines())
    assert set(fields) == {"author", "title", "description", "tags", "optuna_versions", "license"}
    assert "sampler" in fields["tags"].strip("[]").split(", ")
    for section in ("Abstract", "Class or Function Names", "Installation", "Example"):
        assert f"\n## {section}\n" in body
    assert (FOLDER / "LICENSE").read_text() == (ROOT.parents[3] / "LICENSE").read_text()


def test_the_example_runs(monkeypatch, capsys):
    """With few trials, all of them from the design."""
    hub = types.SimpleNamespace(load_module=lambda package: types.SimpleNamespace(BojaxSampler=BojaxSampler))
    optimize = optuna.Study.optimize
    monkeypatch.setitem(sys.modules, "optunahub", hub)
    monkeypatch.setattr(optuna.Study, "optimize", lambda study, objective, n_trials: optimize(study, objective, 8))
    runpy.run_path(str(FOLDER / "example.py"), run_name="__main__")
    assert "'rate'" in capsys.readouterr().out
