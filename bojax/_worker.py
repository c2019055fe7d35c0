"""The program of a worker process: evaluates an objective with the parameters that it receives.

It is run by its path and imports the standard library only, so that a process loads what the objective needs and
nothing else. Messages are tuples whose first entry is their kind. The other side is `study/running/_processes.py`.

    parent --(argv, settings, pickled catch and objective)--> worker --("ready",) or ("unfit", text)--> parent
    parent --params--> worker --("value", ...), ("failed", ...) or ("raised", ...)--> parent
"""

import contextlib
import importlib.util
import io
import multiprocessing
import multiprocessing.connection
import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any

MAX_ERROR_BYTES = 100_000
"""Longest pickled exception that is sent beside its texts."""

DEFAULTS = {
    "enable_x64": False,
    "numpy_dtype_promotion": "standard",
    "default_matmul_precision": None,
    "default_prng_impl": "threefry2x32",
    "threefry_partitionable": True,
}
"""JAX's own values of the settings that a worker takes over."""


def serve(connection: Any) -> None:
    """Takes an objective, evaluates it as often as it is asked to, and ends with the connection or with the parent."""
    _stand_alone()
    report_of = _neighbor("_tracebacks").report_of
    try:
        sys.argv[:1], settings, catch, objective = connection.recv()
        take_over(settings)
        catch, objective = pickle.loads(catch), pickle.loads(objective)
    except EOFError:
        return
    except BaseException as error:
        connection.send(("unfit", report_of(error).text))
        return
    connection.send(("ready",))
    with contextlib.suppress(EOFError, OSError):  # the parent is done, or gone
        while True:
            params = connection.recv()
            connection.send_bytes(answer(objective, params, catch, report_of))


def answer(
    objective: Callable[[Any], Any],
    params: Mapping[str, Any],
    catch: tuple[type[BaseException], ...],
    report_of: Callable[[BaseException], tuple[str, ...]],
) -> bytes:
    """The message with the result of one evaluation."""
    try:
        outcome = objective(params)
    except BaseException as error:
        kind = "failed" if isinstance(error, catch) else "raised"
        return pickle.dumps((kind, tuple(report_of(error)), _pickled_error(error)))
    try:
        return pickled(("value", outcome, {}))
    except Exception as error:
        if not (isinstance(outcome, tuple) and len(outcome) == 2 and isinstance(outcome[1], Mapping)):
            return pickle.dumps(("value", None, {None: _unsent(outcome, error)}))
    value, attrs, unsent = outcome[0], dict(outcome[1]), {}
    for key, part in [(None, value), *attrs.items()]:
        try:
            pickled((key, part))
        except Exception as error:
            unsent[key] = _unsent(part, error)
    sent = {key: attr for key, attr in attrs.items() if key not in unsent}
    return pickled(("value", (None if None in unsent else value, sent), unsent))


def take_over(settings: Mapping[str, Any]) -> None:
    """Sets JAX as it is set in the parent: by its configuration, or by the environment if it is not imported yet."""
    jax = sys.modules.get("jax")
    for name, value in settings.items():
        variable = f"JAX_{name.upper()}"
        if jax is not None and getattr(jax.config, f"jax_{name}") != value:
            jax.config.update(f"jax_{name}", value)
        elif jax is None and (value != DEFAULTS[name] or variable in os.environ):
            os.environ.pop(variable, None)
            os.environ |= {} if value is None else {variable: str(value)}


def pickled(message: Any) -> bytes:
    """A message as bytes; arrays of JAX become arrays of NumPy, with which no device and no precision travels."""
    buffer = io.BytesIO()
    _Pickler(buffer, protocol=pickle.HIGHEST_PROTOCOL).dump(message)
    return buffer.getvalue()


class _Pickler(pickle.Pickler):
    def reducer_override(self, obj: Any) -> Any:
        array = getattr(sys.modules.get("jax"), "Array", None)
        if array is None or not isinstance(obj, array):
            return NotImplemented
        import numpy as np

        return np.asarray(obj).__reduce_ex__(pickle.HIGHEST_PROTOCOL)


def _pickled_error(error: BaseException) -> bytes | None:
    """An exception as bytes, so that it can be raised again; None if it does not survive that."""
    try:
        data = pickle.dumps(error)
        pickle.loads(data)
    except Exception:
        return None
    return data if len(data) <= MAX_ERROR_BYTES else None


def _unsent(what: Any, error: Exception) -> str:
    return f"{type(what).__name__}, which cannot be sent from a worker process: {type(error).__name__}: {error}"


def _stand_alone() -> None:
    """Ends with the parent, and forms a process group together with what the objective starts."""
    if hasattr(os, "setpgrp"):
        os.setpgrp()  # Ctrl-C reaches the parent only, which ends the workers when results are recorded
    else:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Several processes share a GPU, of which each would otherwise take three quarters.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    threading.Thread(target=_end_with_parent, name="bojax-parent", daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        if hasattr(os, "killpg"):
            os.killpg(os.getpgrp(), signal.SIGKILL)
        os._exit(1)


def _neighbor(name: str) -> Any:
    """A module beside this file, without the package, whose import loads JAX."""
    spec = importlib.util.spec_from_file_location(f"bojax{name}", os.path.join(os.path.dirname(__file__), f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "bojax worker":
    serve(globals()["CONNECTION"])
