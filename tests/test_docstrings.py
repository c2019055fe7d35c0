"""Every public name is documented: arguments, result, errors and an example with its printed result."""

import ast
import enum
import functools
import importlib
import importlib.util
import inspect
import pathlib
import re
import textwrap

import pytest

from bojax import integrations

HERE = pathlib.Path(__file__).parent
PACKAGES = (
    *("bojax", "bojax.models"),
    *(f"bojax.{path.parent.name}" for path in sorted((HERE.parent / "bojax").glob("*/__init__.py"))),
    *(f"bojax.integrations.{tool}" for tool in sorted(dir(integrations)) if importlib.util.find_spec(tool)),
    "bojax.integrations.gpyopt",  # it works without its tool
)


def public_names():
    """Where a public function or class stands first -> the object."""
    found = {}
    for package in PACKAGES:
        if package in ("bojax.cli",):  # a command line is documented by --help
            continue
        module = importlib.import_module(package)
        for name in getattr(module, "__all__", ()):
            thing = getattr(module, name)
            if inspect.isclass(thing) or inspect.isfunction(thing):
                found.setdefault(thing, f"{package}.{name}")
    return {name: thing for thing, name in found.items()}


@functools.cache
def source_of(thing):
    return ast.parse(textwrap.dedent(inspect.getsource(thing))).body[0]


def own_nodes(function):
    """What a function does itself: the functions inside it are left out."""
    todo = list(function.body)
    while todo:
        node = todo.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.Lambda | ast.ClassDef):
            todo += ast.iter_child_nodes(node)


def lacks(thing):
    """The sections that a docstring should have and does not."""
    text = inspect.cleandoc(thing.__doc__ or "")
    if not text:
        return ["docstring"]
    records = tuple | BaseException | enum.Enum
    if inspect.isclass(thing) and (issubclass(thing, records) or getattr(thing, "_is_protocol", False)):
        # Records and contracts: what they hold is said where they are made; there is nothing to show.
        fields = getattr(thing, "_fields", ())
        return [field for field in fields if not re.search(rf"\b{field}\b", text)]
    missing = []
    function = source_of(thing)
    arguments = [name for name in inspect.signature(thing).parameters if name != "self"]
    if inspect.isfunction(thing):
        missing += [name for name in arguments if not re.search(rf"^\s+\*{{0,2}}{name}: ", text, flags=re.MULTILINE)]
        returned = function.returns is None or ast.unparse(function.returns) != "None"
        missing += ["Returns:"] * (returned and "Returns:" not in text and "Yields:" not in text)
        raised = any(isinstance(node, ast.Raise) and node.exc is not None for node in own_nodes(function))
        missing += ["Raises:"] * (raised and "Raises:" not in text)
    else:
        missing += [name for name in arguments if not re.search(rf"\b{name}\b", text)]
    shown = re.search(r"^\s*>>> .*(\n\s*(>>>|\.\.\.) .*)*\n\s*[^>\s].*", text, flags=re.MULTILINE)
    return missing + ["Example:"] * (not shown)


PUBLIC = public_names()


@pytest.mark.long
@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_are_documented(name):
    assert not lacks(PUBLIC[name]), f"the docstring of {name} lacks these (see CONTRIBUTING.md)"
