"""Objectives for worker processes. They import the standard library only, and wait for files, never for a clock."""

import os
import pathlib
import signal
import sys
import time

LIMIT = 100.0


def wait_for(path, seconds=LIMIT):
    """Waits for a file; an error after a long time, so that no test hangs."""
    end = time.monotonic() + seconds
    while not os.path.exists(path):
        if time.monotonic() > end:
            raise TimeoutError(f"{path} did not appear")
        time.sleep(0.01)


def value_of(params):
    return params["x"]


def modules(params):
    """What a fresh worker has imported."""
    return params["x"], {"modules": sorted({name.split(".")[0] for name in sys.modules})}


def with_jax(params):
    import jax.numpy as jnp

    return jnp.sum(jnp.asarray([params["x"], 1.0])), {"dtype": str(jnp.ones(1).dtype), "array": jnp.arange(3)}


def pair(params):
    return params["x"], {"pid": os.getpid(), "unsent": lambda: 0}


def unsent(params):
    return lambda: params


def array(params):
    return [params["x"]] * 2


class Fails(Exception):
    """An exception whose copy needs another argument than its text."""

    def __init__(self, a, b):
        super().__init__(f"{a} and {b}")


def raises(params):
    raise {0: KeyError("typo"), 1: Fails(1, 2), 2: KeyboardInterrupt(), 3: SystemExit(4)}[params["n"]]


class Dies:
    """Ends its process in the ways of `n`, from 1 on."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)

    def __call__(self, params):
        match params["n"]:
            case 1:
                os._exit(3)
            case 2:
                os.kill(os.getpid(), signal.SIGKILL)
            case 3:
                os.kill(os.getpid(), signal.SIGSEGV)
            case 4:  # what is left behind keeps the pipe open
                if os.fork() == 0:
                    (self.folder / "child").write_text(str(os.getpid()))
                    time.sleep(LIMIT)
                    os._exit(0)
                wait_for(self.folder / "child")
                os._exit(5)
        return params["n"]


class Meets:
    """Writes its number into a folder, and ends when so many others have done so, or when a file named go is there."""

    def __init__(self, folder, count=None):
        self.folder, self.count = pathlib.Path(folder), count

    def __call__(self, params):
        (self.folder / f"at-{params['n']}").write_text(str(os.getpid()))
        if self.count is None:
            wait_for(self.folder / f"go-{params['n']}")
        else:
            end = time.monotonic() + LIMIT
            while len(list(self.folder.glob("at-*"))) < self.count:
                if time.monotonic() > end:
                    raise TimeoutError("nobody came")
                time.sleep(0.01)
        (self.folder / f"done-{params['n']}").touch()
        return params["n"]


class Hangs:
    """Hangs where n is 1, in a process of its own, and answers otherwise."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)

    def __call__(self, params):
        if params["n"] == 1:
            import subprocess

            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
            (self.folder / "pids").write_text(f"{os.getpid()} {child.pid}")
            child.wait()
        return params["n"]
