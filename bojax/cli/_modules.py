"""Imports the module of an objective, by its name or by the path of its file."""

import hashlib
import importlib
import importlib.util
import os
import pathlib
import sys
from types import ModuleType

import typer

from bojax._errors import BojaxError
from bojax.cli._output import located


def is_path(place: str) -> bool:
    """Whether the part before the colon is the path of a file rather than the name of a module."""
    return place.endswith(".py") or "/" in place or os.sep in place


def import_module(name: str) -> ModuleType:
    """The module of that name, from the current folder or installed.

    Raises:
        typer.BadParameter: there is no such module.
        BojaxError: its import fails.
    """
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name + ".").startswith(error.name + "."):
            raise typer.BadParameter(
                f"there is no module {error.name!r} here or among the installed ones.", param_hint="TARGET"
            ) from None
        raise _import_error(f"the module {name!r}", error) from error
    except (Exception, SystemExit) as error:
        raise _import_error(f"the module {name!r}", error) from error


def import_file(place: str) -> tuple[ModuleType, str]:
    """The module in a Python file, which may import its neighbors as a script could.

    A file in a package (its folder has an `__init__.py`) is imported as part of it, so that `from . import` works.

    Returns:
        The module, and the path of the file relative to the current folder.

    Raises:
        typer.BadParameter: there is no such file.
        BojaxError: its import fails.
    """
    path = pathlib.Path(place).expanduser().resolve()
    if not path.is_file() or path.suffix != ".py":
        close = path.with_name(path.name + ".py")
        hint = f" Did you mean {place + '.py'!r}?" if close.is_file() else ""
        raise typer.BadParameter(f"there is no Python file {place!r}.{hint}", param_hint="TARGET")
    root, parts = path.parent, [path.stem]
    while (root / "__init__.py").is_file():
        root, parts = root.parent, [root.name, *parts]
    for folder in (root, path.parent):
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
    try:
        module = importlib.import_module(".".join(parts)) if len(parts) > 1 else _import_script(path)
    except (Exception, SystemExit) as error:
        raise _import_error(f"the file {place!r}", error) from error
    return module, _seen_from_here(path)


def _import_script(path: pathlib.Path) -> ModuleType:
    known = sys.modules.get(path.stem)
    if getattr(known, "__file__", None) == str(path):
        return known  # type: ignore[return-value]
    importlib.invalidate_caches()
    found = importlib.util.find_spec(path.stem) if known is None and path.stem.isidentifier() else None
    if found is not None and found.origin == str(path):
        return importlib.import_module(path.stem)
    # The name belongs to another module, which others go on importing.
    name = f"{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _seen_from_here(path: pathlib.Path) -> str:
    try:
        return pathlib.Path(os.path.relpath(path)).as_posix()
    except ValueError:  # on another drive
        return path.as_posix()


def _import_error(what: str, error: BaseException) -> BojaxError:
    if isinstance(error, SystemExit):
        return BojaxError(
            f"{what} ends the process when it is imported ({located(error)}). Put what only a script does under "
            '`if __name__ == "__main__":`.'
        )
    return BojaxError(f"{what} cannot be imported: {located(error)}")
