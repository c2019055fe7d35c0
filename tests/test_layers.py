"""Imports point downward, importing bojax is light, and linear algebra stays in one module. Read from the source."""

import ast
import pathlib

import pytest

from tests.helpers import run_python

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "bojax"

LAYERS = {
    **dict.fromkeys(("_types", "_errors", "_plain", "_numerics", "_linalg", "_bfgs", "_qmc", "_runtime"), 0),
    **dict.fromkeys(("_alike", "_liveness"), 0),
    **dict.fromkeys(("space", "data", "objectives", "hypergrad"), 1),
    **dict.fromkeys(("surrogates", "acquisition", "optim", "storage"), 2),
    "loop": 3,
    "multifidelity": 4,
    "study": 5,
    **dict.fromkeys(("integrations", "testing", "cli"), 6),
    "__init__": 7,
}
MODELS_MAY_IMPORT = {"jax", "jaxlib", "flax", "optax", "numpy", "sklearn", "models"}
HEAVY = ("gpjax", "optuna", "ray", "matplotlib", "evosax", "sklearn", "flax", "optax", "scipy.stats", "pandas", "torch")
HEAVY += ("lineax",)
LINEAR_ALGEBRA = ("jnp.linalg", "jax.numpy.linalg", "jax.scipy.linalg", "jsp.linalg", "lax.linalg", "jax.lax.linalg")


def sources(folder):
    return sorted(folder.rglob("*.py"))


def top_level(path):
    """The unit of the layer table a file belongs to: a package or a module right below bojax."""
    relative = path.relative_to(PACKAGE).parts
    return relative[0].removesuffix(".py")


def imported(path):
    """Every absolute name a file imports, with its line; relative imports are resolved against bojax or models."""
    package = list(path.relative_to(ROOT).with_suffix("").parts)
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join(package[: len(package) - node.level] + ([node.module] if node.module else []))
            for alias in node.names:
                yield f"{base}.{alias.name}", node.lineno


def units(name):
    """The units of bojax that an absolute import name reaches."""
    parts = name.split(".")
    if parts[0] != "bojax":
        return None
    if len(parts) == 1 or not ((PACKAGE / parts[1]).exists() or (PACKAGE / f"{parts[1]}.py").exists()):
        return None if len(parts) > 1 and parts[1] == "models" else "__init__"
    return parts[1]


def test_every_unit_has_a_layer():
    found = {top_level(path) for path in sources(PACKAGE)}
    assert found <= set(LAYERS), f"give {sorted(found - set(LAYERS))} a layer in this test and in bojax/README.md"


def test_imports_point_downward():
    wrong = []
    for path in sources(PACKAGE):
        here = top_level(path)
        for name, line in imported(path):
            there = units(name)
            if there is not None and there != here and LAYERS[there] > LAYERS[here]:
                wrong.append(f"{path.relative_to(ROOT)}:{line} (layer {LAYERS[here]}) imports {name}")
    assert not wrong, "\n".join(wrong)


def test_units_of_one_layer_do_not_import_each_other_in_a_circle():
    edges = {}
    for path in sources(PACKAGE):
        if path == PACKAGE / "__init__.py":
            continue
        reached = {units(name) for name, _ in imported(path)} - {None, top_level(path)}
        edges.setdefault(top_level(path), set()).update(reached)
    order = []
    while edges:
        free = [unit for unit, reached in edges.items() if not reached & set(edges)]
        assert free, f"these import each other in a circle: {edges}"
        order += free
        for unit in free:
            del edges[unit]


def test_the_zoo_imports_nothing_of_bojax():
    for path in sources(ROOT / "models"):
        for name, line in imported(path):
            top = name.split(".")[0]
            allowed = MODELS_MAY_IMPORT | set(__import__("sys").stdlib_module_names) | {"__future__"}
            assert top in allowed, f"{path.relative_to(ROOT)}:{line} imports {name}"


def test_only_the_command_line_imports_the_zoo():
    for path in sources(PACKAGE):
        if top_level(path) != "cli":
            for name, line in imported(path):
                zoo = name.startswith("models") or name.startswith("bojax.models")
                assert not zoo, f"{path.relative_to(ROOT)}:{line} imports {name}"


def test_linear_algebra_stays_in_one_module():
    """A batched LAPACK call hangs on CPU with jaxlib 0.10; `_linalg` knows the way around it."""
    wrong = []
    for path in sources(PACKAGE):
        if path == PACKAGE / "_linalg.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and ast.unparse(node).startswith(LINEAR_ALGEBRA):
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno} uses {ast.unparse(node)}")
        for name, line in imported(path):
            if name.startswith(("jax.numpy.linalg", "jax.scipy.linalg", "jax.lax.linalg", "jax.scipy.sparse.linalg")):
                wrong.append(f"{path.relative_to(ROOT)}:{line} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_importing_bojax_is_light_and_changes_nothing():
    code = f"""
import sys, jax
before = dict(jax.config.values)
import bojax
assert dict(jax.config.values) == before, "importing bojax changes jax.config"
heavy = [name for name in {HEAVY!r} if name in sys.modules]
assert not heavy, f"importing bojax imports {{heavy}}"
from jax._src import xla_bridge
assert not xla_bridge._backends, "importing bojax starts a JAX backend"
print(sorted(bojax.__all__))
"""
    run_python(code, timeout=120)


@pytest.mark.parametrize("name", ["testing", "loop", "surrogates", "hypergrad"])
def test_packages_say_what_is_public(name):
    import importlib

    module = importlib.import_module(f"bojax.{name}")
    for public in module.__all__:
        assert getattr(module, public).__doc__, f"bojax.{name}.{public} has no docstring"
