"""bojax inside other tools: one module per tool, named after it, and imported (with the tool) when it is first used."""

import importlib
import pkgutil
from typing import Any


def __getattr__(name: str) -> Any:
    module = f"{__name__}.{name}"
    if name.startswith("_") or name not in __dir__():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {__dir__()}")
    return importlib.import_module(module)


def __dir__() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))
