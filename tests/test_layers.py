"""Imports point downward, importing bojax is light, and linear algebra stays in one module. Read from the source."""

import ast
import functools
import pathlib

import pytest

from tests.helpers import run_python

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "bojax"

LAYERS = {
    **dict.fromkeys(
        ("_types", "_errors", "_plain", "_numerics", "_linalg", "_bfgs", "_namespace", "_qmc", "_runtime", "_threefry"),
        0,
    ),
    **dict.fromkeys(
        ("_alike", "_background", "_liveness", "_programs", "_program_store", "_progress", "_tracebacks", "_worker"), 0
    ),
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


@functools.cache
def imported(path):
    """Every absolute name a file imports, with its line; relative imports are resolved against bojax or models."""
    return list(_imported(path))


def _imported(path):
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


@functools.cache
def module_file(name):
    """The file of bojax that an absolute dotted name lies in: the longest module there is; None outside of bojax."""
    parts = name.split(".")
    if parts[0] != "bojax" or parts[:2] == ["bojax", "models"]:
        return None
    for length in range(len(parts), 0, -1):
        place = ROOT.joinpath(*parts[:length])
        if place.with_suffix(".py").is_file():
            return place.with_suffix(".py")
        if (place / "__init__.py").is_file():
            return place / "__init__.py"
    return None


def needed_by(path):
    """What a file imports anywhere, functions included, but for what only type checkers see."""
    tree = ast.parse(path.read_text(), str(path))
    unseen = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            unseen |= {line for child in node.body for line in range(child.lineno, (child.end_lineno or 0) + 1)}
    return [name for name, line in imported(path) if line not in unseen]


def circles(edges):
    """The groups of nodes, of two and more, in which each reaches each other (Tarjan, 1972)."""
    index, low, stack, found = {}, {}, [], []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        for there in edges.get(node, ()):
            if there not in index:
                visit(there)
            if there in stack:
                low[node] = min(low[node], low[there])
        if low[node] == index[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                found.append(frozenset(group))

    for node in edges:
        if node not in index:
            visit(node)
    return found


IN_CIRCLES: set[str] = set()
"""Files in a circle of imports. May only shrink."""


def test_files_do_not_import_each_other_in_a_circle():
    edges = {p: {module_file(n) for n in needed_by(p)} - {None, p} for p in sources(PACKAGE)}
    groups = [sorted(path.relative_to(PACKAGE).as_posix() for path in group) for group in circles(edges)]
    new = [group for group in groups if not IN_CIRCLES.issuperset(group)]
    stale = sorted(IN_CIRCLES - set().union(*groups))
    assert not new, f"these import each other in a circle: {new}"
    assert not stale, f"these are in no circle any more; take them off the list: {stale}"


def room_of(path):
    """The sub-folder of a package in which a file lies; None for files right in the package."""
    parts = path.relative_to(PACKAGE).parts
    return "/".join(parts[:2]) if len(parts) > 2 else None


def test_folders_of_a_package_do_not_import_each_other_in_a_circle():
    edges = {}
    for path in sources(PACKAGE):
        reached = {room_of(there) for there in map(module_file, needed_by(path)) if there is not None}
        edges.setdefault(room_of(path), set()).update(reached)
    groups = circles({room: there - {None, room} for room, there in edges.items() if room is not None})
    assert not groups, f"these folders import each other in a circle: {[sorted(group) for group in groups]}"


def test_packages_import_no_private_module_of_another():
    """`bojax.X._y` is for the files of `bojax/X`; private modules right below bojax are everybody's."""
    found = set()
    for path in sources(PACKAGE):
        here = path.relative_to(ROOT).with_suffix("").parts
        for name, _ in imported(path):
            parts = name.split(".")
            there = module_file(name)
            if parts[0] != "bojax" or there is None:
                continue
            private = next((i for i, part in enumerate(parts[2:], 2) if part.startswith("_")), None)
            if private is not None and here[:2] != tuple(parts[:2]):
                found.add(f"{path.relative_to(PACKAGE).as_posix()} -> {'.'.join(parts[1 : private + 1])}")
    assert not found, "import the public name, or make it public:\n" + "\n".join(sorted(found))


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


MAX_PARAMETERS = 10
ENTRY_POINTS = {"Study.optimize", "minimize", "maximize", "tune", "cli/_app.tune", "fmin"}
ENTRY_POINTS |= {"BayesianOptimization.__init__"}
"""What a user may want to say of a whole study."""


def functions(node, prefix=""):
    """Every function below a node with its name; of a method that of its class goes first."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield prefix + child.name, child
            yield from functions(child, f"{prefix}{child.name}.")
        else:
            yield from functions(child, f"{child.name}." if isinstance(child, ast.ClassDef) else prefix)


def test_no_function_has_more_than_ten_parameters():
    found = set()
    for path in [*sources(PACKAGE), *sources(ROOT / "models")]:
        place = path.relative_to(PACKAGE if PACKAGE in path.parents else ROOT).with_suffix("").as_posix()
        for name, node in functions(ast.parse(path.read_text())):
            given = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
            if len(given) - (given[:1] in (["self"], ["cls"])) > MAX_PARAMETERS and name not in ENTRY_POINTS:
                found.add(f"{place}.{name}")
    found -= ENTRY_POINTS
    assert not found, f"group what belongs together in a NamedTuple: {sorted(found)}"


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


@pytest.mark.long
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
