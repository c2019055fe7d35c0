"""What the wheel holds: one top-level name, with the zoo, the type marker and the architecture note inside it."""

import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """The files in a wheel built from a copy of the sources, so that no build folder is left in the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info", "build", "dist")
    for name in ("bojax", "models"):
        shutil.copytree(ROOT / name, source / name, ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, source / name)
    base = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "--disable-pip-version-check"]
    target = ["--wheel-dir", str(folder), str(source)]
    done = subprocess.run([*base, "--no-build-isolation", *target], capture_output=True, text=True, timeout=200)
    if done.returncode:  # the environment's own setuptools is too old: let pip fetch one
        done = subprocess.run([*base, *target], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    wheel, *others = folder.glob("*.whl")
    assert not others
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


@pytest.mark.long
def test_the_only_top_level_name_is_bojax(names):
    assert {name.split("/")[0].split("-")[0] for name in names} == {"bojax"}


def test_every_source_file_is_inside(names):
    wanted = [path.relative_to(ROOT).as_posix() for path in (ROOT / "bojax").rglob("*.py")]
    wanted += [f"bojax/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / "models").rglob("*.py")]
    missing = sorted(set(wanted) - set(names))
    assert not missing, f"not in the wheel: {missing}. List the package in [tool.setuptools] of pyproject.toml."


def test_marker_and_note_are_inside(names):
    assert "bojax/py.typed" in names
    assert "bojax/README.md" in names
    guides = {path.relative_to(ROOT).as_posix() for path in (ROOT / "bojax" / "guide").glob("*.md")}
    assert guides and guides <= set(names)
    assert not [name for name in names if "tests/" in name or "benchmarks/" in name]
