"""Programs that are kept and compiled ahead: a fault of the store or of a thread costs time and changes no result."""

import json
import os
import sys
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src import compilation_cache

from bojax import _background, _programs
from bojax import _program_store as store
from bojax._errors import BojaxWarning
from bojax._programs import Kept
from bojax._runtime import host_scope
from tests.helpers import idle, run_python

A = np.array([[2.0, 0.5], [0.5, 1.0]])


def factor(a, scale):
    return {"L": jnp.linalg.cholesky(a), "sum": a.sum() + 0.0 * scale["s"]}, a


@pytest.fixture
def folder(tmp_path, monkeypatch):
    path = tmp_path / "programs"
    monkeypatch.setenv("BOJAX_CACHE", str(path))
    return path


@pytest.fixture(autouse=True)
def as_for_users(monkeypatch):
    """Programs are compiled ahead, and not taken from JAX's cache, since those are not stored."""
    monkeypatch.delenv("BOJAX_COMPILE_AHEAD", raising=False)
    monkeypatch.setattr(compilation_cache, "is_cache_used", lambda backend: False)


def call(kept, a=A):
    with host_scope():
        return [np.asarray(leaf) for leaf in kept(a, {"s": np.float64(1.0)})]


def ahead(kept, a=A):
    with host_scope():
        kept.ahead(a, {"s": jax.ShapeDtypeStruct((), np.float64)})


def wait(kept):
    deadline = time.monotonic() + 60.0
    while kept._jobs and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not kept._jobs


def check(results):
    np.testing.assert_array_equal(results[0], np.linalg.cholesky(A))
    assert results[1] == A.sum()
    np.testing.assert_array_equal(results[2], A)
    assert all(result.dtype == np.float64 for result in results)


def test_a_program_that_was_stored_is_loaded_and_gives_the_same(folder, compiled):
    check(call(Kept(factor, "f")))
    (file,) = folder.iterdir()
    assert compiled
    compiled.clear()

    def never(*args):
        raise AssertionError("traced")

    kept = Kept(never, "f")
    check(call(kept))
    check(call(kept))
    assert not compiled
    assert list(folder.iterdir()) == [file] and file.stat().st_mode & 0o077 == 0


def test_other_functions_shapes_and_precisions_are_other_programs(folder):
    kept = Kept(factor, "f")
    call(kept)
    call(kept, np.eye(3))
    call(Kept(factor, "g"))
    jax.block_until_ready(kept(A, {"s": np.float64(1.0)}))  # float32 outside of the scope
    assert kept(A, {"s": 1.0})[0].dtype == np.float32  # weakly typed
    assert len(list(folder.iterdir())) == 5


def test_without_an_identity_nothing_is_stored(folder, compiled):
    kept = Kept(factor, None)
    check(call(kept))
    compiled.clear()
    check(call(kept))
    assert not compiled and not folder.exists()


def test_keys_and_empty_results_are_possible(folder):
    kept = Kept(lambda key: (jax.random.split(key), jax.random.uniform(key)), "keys")
    keys, number = kept(jax.random.key(0))
    assert (keys == jax.random.split(jax.random.key(0))).all() and number.shape == ()
    assert Kept(lambda a: (), "empty")(A) == Kept(lambda a: (), "empty")(A) == ()


def test_a_function_that_calls_python_is_not_stored(folder):
    def calls(a):
        return jax.pure_callback(lambda x: x + 1.0, jax.ShapeDtypeStruct(a.shape, a.dtype), a)

    np.testing.assert_array_equal(Kept(calls, "calls")(np.ones(2, np.float32))[0], 2.0)
    assert list(folder.iterdir()) == []


@pytest.mark.long
def test_a_program_that_is_taken_from_the_cache_of_jax_is_not_stored(folder):
    """XLA leaves parts out when it serializes such a program again."""
    code = """
import json, sys
import jax, numpy as np
from tests.faults.test_programs import A, Kept, call, check, factor
check(call(Kept(factor, "f")))
check(call(Kept(factor, "f")))
"""
    settings = {"JAX_COMPILATION_CACHE_DIR": f"{folder}-jax", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    run_python(code, timeout=60, env=os.environ | settings)
    (stored,) = folder.iterdir()
    stored.unlink()
    run_python(code, timeout=60, env=os.environ | settings)
    assert not list(folder.iterdir())


def test_a_program_that_was_loaded_and_does_not_run_is_compiled(folder, compiled, monkeypatch):
    call(Kept(factor, "f"))

    def unusable(leaves):
        raise store.Unusable

    monkeypatch.setattr(store, "_program", lambda *args: unusable)
    compiled.clear()
    kept = Kept(factor, "f")
    check(call(kept))
    assert len(compiled) == 1
    check(call(kept))
    assert len(compiled) == 1


def test_a_loaded_program_takes_what_the_compiled_one_takes(folder):
    def function(args):
        return args

    args = {
        "f64": np.arange(6.0).reshape(2, 3).T,  # not in the order of C
        "f32": np.float32(0.1),
        "bf16": jnp.ones(3, jnp.bfloat16),
        "bool": np.array([True, False]),
        "ints": jnp.arange(3),
        "empty": np.zeros((0, 2)),
        "scalar": 0.1,
        "big": np.uint32(2**32 - 1),
    }
    for x64 in (True, False):
        with jax.enable_x64(x64):
            compiled, loaded = Kept(function, "all")(args), Kept(function, "all")(args)
        for one, other in zip(compiled, loaded, strict=True):
            assert (one.dtype, one.shape, one.weak_type) == (other.dtype, other.shape, other.weak_type)
            np.testing.assert_array_equal(one, other)


# What may be in the store.


def broken_files(content):
    payload = content.split(b"\n", 2)[2]
    yield b""
    yield content[:-1]
    yield content[: len(content) // 2]
    yield content[:20]
    yield b"\x00" * len(content)
    yield content[:-100] + bytes(100)
    yield content.replace(b"bojax program 1", b"bojax program 0")
    yield content + b"more"
    # A file whose digest is right, but whose content is no program, or one of other arguments.
    for rubbish in (b"", b"rubbish", payload[: len(payload) // 2]):
        yield b"bojax program 1\n" + store._header(rubbish, ARGUMENTS) + b"\n" + rubbish
    yield b"bojax program 1\n" + store._header(payload, [["float64", False, 7]]) + b"\n" + payload


ARGUMENTS = [["float64", False, 2, 2], ["float64", False]]


@pytest.mark.long
def test_broken_and_foreign_files_are_replaced(folder, compiled):
    call(Kept(factor, "f"))
    (file,) = folder.iterdir()
    content = file.read_bytes()
    assert store.load(file, ARGUMENTS) is not None
    for broken in broken_files(content):
        file.write_bytes(broken)
        compiled.clear()
        check(call(Kept(factor, "f")))
        assert len(compiled) >= 1, broken[:100]
        assert store.load(file, ARGUMENTS) is not None
    file.unlink()
    file.mkdir()  # cannot be replaced
    check(call(Kept(factor, "f")))


@pytest.mark.parametrize("change", ["_version", "_source", "_processor"])
def test_programs_of_other_versions_sources_and_processors_are_not_loaded(folder, compiled, change, monkeypatch):
    call(Kept(factor, "f"))
    monkeypatch.setattr(store, change, lambda *args: "another")
    store._environment.cache_clear()
    try:
        compiled.clear()
        check(call(Kept(factor, "f")))
        assert compiled and len(list(folder.iterdir())) == 2
    finally:
        monkeypatch.undo()
        store._environment.cache_clear()


def test_a_source_that_was_edited_after_the_import_stores_nothing(monkeypatch):
    assert store._source()
    monkeypatch.setattr(store, "_IMPORTED", 0.0)
    assert store._source() is None


# Texts that are the same in every process.

MADE = """
import sys
sys.path.insert(0, {folder!r})
import functools
import bojax, jax, jax.numpy as jnp, numpy as np, optax
from bojax._alike import stable_text

RATE = 0.1
def helper(x): return RATE * x
def factory(space, q, *, n=3): return bojax.bayesopt(space, q=q, num_initial=n)
def reads(x): return helper(x) + jnp.sum(x, where=x > 0.0)
def nested(x): return [y for y in (1.0, -0.0, "a", b"b", {{1, 2}}) if y in {{"a", "b", "c"}}]
class Mine: pass
mine, seen = Mine(), []
texts = [stable_text(value) for value in (
    factory, reads, nested, functools.partial(factory, n=4), jax.jit(reads), jax.jit(reads, static_argnums=0),
    bojax.surrogates.gp(), bojax.surrogates.gp(num_restarts=1), optax.adam(0.1), (1.0, "x", None, frozenset("abc")),
    {{"a": np.arange(3)}}, lambda space, q: factory(space, q, n=5), jnp.ones(2), bojax.bayesopt, jax.random.split,
)]
assert None not in texts and len(set(texts)) == len(texts), texts
import own
for value in (mine, Mine, lambda: mine, lambda x: seen.append(x), own.function, own, own.Point(1.0), object()):
    assert stable_text(value) is None, value
print(texts)
RATE = 0.2
assert [stable_text(reads) == texts[1], stable_text(factory) == texts[0]] == [False, True]
"""


@pytest.mark.long
def test_texts_are_the_same_in_every_process_and_none_where_a_part_may_change(tmp_path):
    source = (
        "import typing\nclass Point(typing.NamedTuple):\n    x: float\nclass Other: pass\ndef function(): return Other"
    )
    (tmp_path / "own.py").write_text(source)
    code = MADE.format(folder=str(tmp_path))
    first, second = (run_python(code, timeout=60, env=os.environ | {"PYTHONHASHSEED": seed}) for seed in "12")
    assert first.stdout == second.stdout


# Compiling ahead.


def test_ahead_compiles_in_a_thread_and_the_call_waits_for_it(folder, compiled):
    threads = []

    def slow(a, scale):
        threads.append(threading.current_thread())
        time.sleep(0.3)
        return factor(a, scale)

    for identity in ("slow", None):
        kept = Kept(slow, identity)
        threads.clear()
        ahead(kept)
        while not threads:
            time.sleep(0.01)
        check(call(kept))
        ahead(kept)
        check(call(kept))
        assert len(threads) == 1 and threading.main_thread() not in threads


def test_two_callers_compile_once(folder):
    traces, results = [], []

    def slow(a, scale):
        traces.append(None)
        time.sleep(0.3)
        return factor(a, scale)

    kept = Kept(slow, "slow")
    callers = [threading.Thread(target=lambda: results.append(call(kept))) for _ in range(3)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(traces) == 1
    for result in results:
        check(result)


def test_a_program_in_the_queue_is_compiled_by_who_needs_it():
    gate, begun, threads = threading.Event(), [], []

    def waits(a, scale):
        begun.append(None)
        gate.wait(30.0)
        return factor(a, scale)

    def noted(a, scale):
        threads.append(threading.current_thread())
        return factor(a, scale)

    busy, kept = [Kept(waits, None) for _ in range(_background.MAX_THREADS)], Kept(noted, None)
    for one in busy:
        ahead(one)
    while len(begun) < len(busy):
        time.sleep(0.01)
    ahead(kept)
    try:
        check(call(kept))
    finally:
        gate.set()
    assert threads == [threading.main_thread()]
    for one in busy:
        check(call(one))


def test_calls_take_the_interpreters_lock_soon_while_a_thread_works_and_only_then():
    gate, begun, usual = threading.Event(), threading.Event(), sys.getswitchinterval()

    def waits(a, scale):
        begun.set()
        gate.wait(30.0)
        return factor(a, scale)

    idle()
    with _background.before_threads():
        assert sys.getswitchinterval() == usual
    busy = Kept(waits, None)
    ahead(busy)
    assert begun.wait(30.0)
    first, second = _background.before_threads(), _background.before_threads()
    first.__enter__()
    second.__enter__()
    assert sys.getswitchinterval() == pytest.approx(min(usual, _background.SWITCH_INTERVAL))
    first.__exit__(None, None, None)  # in another order than they were entered, as threads do
    assert sys.getswitchinterval() < usual
    gate.set()
    idle()
    second.__exit__(None, None, None)
    assert sys.getswitchinterval() == pytest.approx(usual)


def test_a_failure_ahead_is_raised_by_the_call_and_only_there():
    attempts = []

    def fails(a, scale):
        attempts.append(threading.current_thread())
        raise ZeroDivisionError("mine")

    kept = Kept(fails, None)
    ahead(kept)
    wait(kept)
    with pytest.raises(ZeroDivisionError, match="mine"):
        call(kept)
    assert len(attempts) == 2 and attempts[1] is threading.main_thread()
    kept.ahead(object())  # no arrays


def test_a_thread_that_cannot_be_started_is_no_error(monkeypatch):
    def start(thread):
        raise RuntimeError("can't start new thread")

    kept = Kept(factor, None)
    monkeypatch.setattr(threading.Thread, "start", start)
    ahead(kept)
    monkeypatch.undo()
    assert not _programs._workers.queue
    check(call(kept))


def test_programs_that_were_not_used_for_longest_are_dropped(monkeypatch):
    monkeypatch.setattr(_programs, "MAX_PROGRAMS", 2)
    _programs.drop_programs()
    kept, other = Kept(lambda a: a + 1.0, None), Kept(lambda a: a, None)
    for size in (1, 2, 1, 3):
        kept(np.ones(size))
    assert [key.leaves[0].shape for key in kept._programs] == [(1,), (3,)]
    other(np.ones(1))
    assert len(kept._programs) == len(other._programs) == 1
    del other
    kept(np.ones(1))
    assert len(kept._programs) == 2
    _programs.drop_programs()
    assert not kept._programs and not _programs._recent


# Processes that end, are killed, interrupted or forked. One script is imported once and forks them before JAX starts.

PRELUDE = """
import json, os, signal, sys, threading, time
os.environ["BOJAX_CACHE"], log = {folder!r}, {log!r}
import jax, jax.numpy as jnp, numpy as np
from bojax import _program_store as store, _programs
from bojax._errors import StudyError
from bojax._programs import Kept
from bojax._runtime import host_scope

A = np.array([[2.0, 0.5], [0.5, 1.0]])
traced = threading.Event()

def quick(a):
    return jnp.linalg.cholesky(a)

def slow_to_trace(a):
    traced.set()
    for _ in range(200):
        time.sleep(0.01)
    return jnp.linalg.cholesky(a)

def slow_to_compile(a):  # a second of XLA
    for i in range(150):
        a = jnp.sin(a @ a + i)
    return a

def ahead(function):
    kept = Kept(function, function.__name__)
    with host_scope():
        kept.ahead(A)
    return kept

def call(kept):
    with host_scope():
        return np.asarray(kept(A)[0]).tolist()

def wait_for_xla():
    while not any(job is not None and not job.can_stop for job in list(_programs._workers.threads.values())):
        time.sleep(0.005)

def note(*values):  # whole lines, whoever writes
    fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, (json.dumps(values) + chr(10)).encode())
    os.close(fd)

def fork(work):
    pid = os.fork()
    if pid == 0:
        signal.alarm(100)
        start = time.monotonic()
        work()
        note(work.__name__, time.monotonic() - start)
        sys.exit(3)  # by the interpreter's ordinary way
    return pid

def wait(pid):
    start = time.monotonic()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code, time.monotonic() - start
"""


def run_forked(folder, code):
    """Runs a script after `PRELUDE`; returns its process and the lines that were noted."""
    log = folder.parent / "log"
    log.write_text("")
    env = {key: value for key, value in os.environ.items() if not key.startswith("JAX_")}
    done = run_python(PRELUDE.format(folder=str(folder), log=str(log)) + code, timeout=200, env=env)
    return done, [json.loads(line) for line in log.read_text().splitlines()]


@pytest.mark.long
def test_the_interpreter_exits_while_a_thread_traces_or_compiles(folder):
    done, _ = run_forked(
        folder,
        """
import warnings
warnings.simplefilter("ignore", ResourceWarning)  # a thread may be ended between opening a file and closing it

def in_trace():
    ahead(slow_to_trace)
    ahead(slow_to_trace)
    ahead(quick)  # in the queue
    traced.wait()

def in_xla():
    ahead(slow_to_compile)
    wait_for_xla()

code, seconds = wait(fork(in_trace))
assert code == 3, code
code, _ = wait(fork(in_xla))
assert code == 3, code
""",
    )
    assert not done.stderr
    assert len([file for file in folder.iterdir() if not file.suffix]) == 1  # what XLA had begun is not lost


@pytest.mark.long
def test_a_killed_process_leaves_nothing_that_matters(folder):
    _, noted = run_forked(
        folder,
        """
def kill(*args):
    os.kill(os.getpid(), signal.SIGKILL)

def while_compiling():
    ahead(slow_to_compile)
    wait_for_xla()
    kill()

def while_storing():
    os.replace = kill
    call(Kept(quick, "quick"))

def before_running():
    program = store.save
    def stored_and_killed(*args):
        program(*args)
        kill()
    store.save = stored_and_killed
    call(Kept(quick, "other"))

def afterwards():
    for name in ("quick", "other"):
        note(name, call(Kept(quick, name)))

for work in (while_compiling, while_storing, before_running):
    assert wait(fork(work))[0] == -signal.SIGKILL
left = sorted(name[:5] if name[0] == "." else name[-5:] for name in os.listdir(os.environ["BOJAX_CACHE"]))
note(left)
for name in os.listdir(os.environ["BOJAX_CACHE"]):
    if name[0] == "." or name.endswith(".lock"):
        os.utime(os.path.join(os.environ["BOJAX_CACHE"], name), (1.0, 1.0))
assert wait(fork(afterwards))[0] == 3
""",
    )
    assert ".new-" in noted[0][0] and noted[0][0].count(".lock") >= 2
    assert [name for name, _ in noted[1:3]] == ["quick", "other"]
    for _, result in noted[1:3]:
        np.testing.assert_array_equal(result, np.linalg.cholesky(A))
    assert all(len(file.name) == 40 for file in folder.iterdir()), "stale files are removed"


@pytest.mark.long
@pytest.mark.slow  # it needs cores of its own: the signal must come while a trace of a second is under way
def test_an_interrupt_ends_the_waiting_and_not_the_thread(folder):
    _, noted = run_forked(
        folder,
        """
def interrupted():
    kept = ahead(slow_to_trace)
    traced.wait()
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    start = time.monotonic()
    try:
        call(kept)
    except KeyboardInterrupt:
        note("interrupted", time.monotonic() - start < 1.5)
    threads = set(_programs._workers.threads)
    note(call(kept), len(threads))

def own_compilation():
    kept = Kept(slow_to_trace, "slow_to_trace, again")
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        call(kept)
    except KeyboardInterrupt:
        note("interrupted", not kept._jobs)
    note(call(kept), 1)

for work in (interrupted, own_compilation):
    assert wait(fork(work))[0] == 3
""",
    )
    for lines in (noted[:2], noted[3:5]):
        assert lines[0] == ["interrupted", True]
        np.testing.assert_array_equal(lines[1][0], np.linalg.cholesky(A))
        assert lines[1][1] == 1


@pytest.mark.long
def test_a_child_forked_while_a_thread_compiles_ends_and_says_what_is_wrong(folder):
    _, noted = run_forked(
        folder,
        """
def child():
    kept.ahead(A)
    try:
        kept(A)
    except StudyError as error:
        note("refused", str(error))
    _programs._workers.close()
    os._exit(3)  # as multiprocessing does; where JAX has computed, the ordinary way hangs in JAX itself

def parent():
    global kept
    kept = ahead(slow_to_trace)
    traced.wait()
    with _programs._workers.lock:  # as if a thread held it
        pid = fork(child)
    code, seconds = wait(pid)
    note(code)
    note(call(kept))

assert wait(fork(parent))[0] == 3
""",
    )
    assert noted[0][0] == "refused" and "forked" in noted[0][1]
    assert noted[1] == [3]
    np.testing.assert_array_equal(noted[2][0], np.linalg.cholesky(A))


@pytest.mark.long
def test_workers_that_start_at_once_compile_one_program_once(folder):
    _, noted = run_forked(
        folder,
        """
def worker():
    events = []
    jax.monitoring.register_event_duration_secs_listener(lambda name, *_, **__: events.append(name))
    result = call(Kept(slow_to_trace, "shared"))
    note(result, events.count("/jax/core/compile/backend_compile_duration"))

for pid in [fork(worker) for _ in range(4)]:
    assert wait(pid)[0] == 3
""",
    )
    results = [line for line in noted if line[0] != "worker"]
    assert len(results) == 4 and sum(count for _, count in results) == 1
    for result, _ in results:
        np.testing.assert_array_equal(result, np.linalg.cholesky(A))


def test_who_waits_for_another_process_waits_for_a_limited_time(folder, monkeypatch):
    fcntl = pytest.importorskip("fcntl")
    monkeypatch.setattr(store, "MAX_WAIT", 0.3)
    call(Kept(factor, "f"))
    (file,) = folder.iterdir()
    file.unlink()
    with open(file.with_suffix(".lock"), "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # by another open file, as by another process
        check(call(Kept(factor, "f")))
    assert file.exists()


def test_a_file_system_without_locks_is_enough(folder, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def flock(*args):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    start = time.monotonic()
    check(call(Kept(factor, "f")))
    assert time.monotonic() - start < 30.0


def test_programs_beyond_the_limit_are_removed_from_disk(folder, monkeypatch):
    monkeypatch.setattr(store, "MAX_BYTES", 1)
    for name in ("f", "g"):
        check(call(Kept(factor, name)))
        assert len(list(folder.iterdir())) == 1  # the newest stays


# Folders.


def test_off_stores_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("BOJAX_CACHE", "off")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    check(call(Kept(factor, "f")))
    assert not list(tmp_path.iterdir())


def test_the_folder_is_private_and_below_the_home(tmp_path, monkeypatch):
    monkeypatch.delenv("BOJAX_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    check(call(Kept(factor, "f")))
    made = tmp_path / ".cache" / "bojax" / "programs"
    assert len(list(made.iterdir())) == 1 and made.stat().st_mode & 0o777 == 0o700


def test_without_a_home_programs_are_compiled(monkeypatch):
    monkeypatch.delenv("BOJAX_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    check(call(Kept(factor, "f")))


def test_a_folder_that_others_may_write_to_is_not_used_and_named_once(folder):
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.warns(BojaxWarning, match="others may write to it"):
        check(call(Kept(factor, "f")))
    check(call(Kept(factor, "f")))  # no further warning
    assert not list(folder.iterdir())


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root gives files away")
def test_a_folder_of_another_user_is_not_used(folder):
    folder.mkdir()
    os.chown(folder, 12345, 12345)
    with pytest.warns(BojaxWarning, match="belongs to another user"):
        check(call(Kept(factor, "f")))
    assert not list(folder.iterdir())


def test_a_file_that_others_may_write_to_is_replaced(folder, compiled):
    call(Kept(factor, "f"))
    (file,) = folder.iterdir()
    file.chmod(0o666)
    compiled.clear()
    check(call(Kept(factor, "f")))
    assert compiled and file.stat().st_mode & 0o777 == 0o600


def test_a_folder_that_was_named_and_cannot_be_made_is_named_once(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BOJAX_CACHE", str(tmp_path / "file" / "folder"))
    with pytest.warns(BojaxWarning, match="compiled programs are not kept"):
        check(call(Kept(factor, "f")))


@pytest.mark.parametrize("step", ["mkstemp", "write", "replace"])
def test_a_full_disk_costs_the_store_only(folder, step, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    if step == "mkstemp":
        monkeypatch.setattr(store.tempfile, "mkstemp", full)
    elif step == "write":
        monkeypatch.setattr(store.os, "fdopen", full)
    else:
        monkeypatch.setattr(store.os, "replace", full)
    check(call(Kept(factor, "f")))
    monkeypatch.undo()
    assert not list(folder.iterdir())
