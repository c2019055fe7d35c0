"""Processes that are killed, cheaply: a script imports bojax once and forks each worker before JAX has started."""

import json
import textwrap

from tests.helpers import run_python

PRELUDE = """
import json, os, signal, sys, time, warnings
warnings.simplefilter("ignore")
import bojax
from bojax.study.records import _leases

space = bojax.Space(x=bojax.Int(0, 9), y=bojax.Int(0, 9))
storage, log = sys.argv[1:3] if len(sys.argv) > 2 else (None, None)

def random_search(space, q):
    return bojax.random_search(space, q=q)

def make():
    return bojax.Study(space, storage=storage, seed=0, algorithm=random_search)

def note(params, *more):  # whole lines, whoever writes
    fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, (json.dumps([params["x"], params["y"], *more]) + chr(10)).encode())
    os.close(fd)

def kill():
    os.kill(os.getpid(), signal.SIGKILL)

LIMIT = 100  # seconds

def fork(work, *args):
    signal.alarm(LIMIT)
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        signal.alarm(LIMIT)
        work(*args)
        code = 0
    except BaseException as error:
        sys.stderr.write(repr(error))
    finally:
        sys.stdout.flush()
        os._exit(code)

def wait(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""


def run_forked(code: str, storage: str, log, *, limit: int = 100) -> list:
    """Runs a script after `PRELUDE`, of `limit` seconds at most; returns what its workers noted, in order."""
    head = f"import sys; sys.argv[1:] = [{storage!r}, {str(log)!r}]\n"
    prelude = PRELUDE.replace("LIMIT = 100", f"LIMIT = {limit}")
    run_python(head + prelude + textwrap.dedent(code), timeout=limit + 20)
    return [json.loads(line) for line in log.read_text().splitlines()]
