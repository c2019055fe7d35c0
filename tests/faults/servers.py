"""A PostgreSQL server for one test: a cluster of its own in a temporary folder, on a free port of this machine."""

import contextlib
import glob
import os
import pathlib
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import pytest

PATIENCE = 60.0
"""Seconds for the server to start, and to end."""


def folder_of_binaries():
    """Where `initdb` and `postgres` are; None if PostgreSQL is not installed."""
    found = shutil.which("initdb")
    folders = [os.path.dirname(os.path.realpath(found))] if found else []
    folders += sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)
    return next((f for f in folders if os.path.exists(os.path.join(f, "postgres"))), None)


def unprivileged_user():
    """Options of `subprocess` for a user that the server accepts: it refuses to run as root. None if there is none."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    return None


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@contextlib.contextmanager
def postgres():
    """Starts a server and gives the URL of its database; skips the test where there can be none."""
    psycopg2 = pytest.importorskip("psycopg2")
    binaries, user = folder_of_binaries(), unprivileged_user()
    if binaries is None:
        pytest.skip("PostgreSQL is not installed: run tests/services.sh")
    if user is None:
        pytest.skip("this is root, PostgreSQL refuses root, and there is no other user")
    with tempfile.TemporaryDirectory(prefix="bojax-postgres-", ignore_cleanup_errors=True) as name:
        folder, password, port = pathlib.Path(name), secrets.token_hex(8), free_port()
        (folder / "password").write_text(password)
        for path in (folder, folder / "password"):
            os.chown(path, user.get("user", -1), user.get("group", -1))
        options = {"cwd": folder, "stderr": subprocess.STDOUT, **user}
        initdb = [f"{binaries}/initdb", "-D", "data", "-U", "bojax", "--auth=scram-sha-256", "--pwfile=password"]
        initdb += ["--encoding=UTF8", "--locale=C", "--no-sync"]
        made = subprocess.run(initdb, stdout=subprocess.PIPE, text=True, timeout=PATIENCE, check=False, **options)
        assert made.returncode == 0, made.stdout
        settings = {"listen_addresses": "127.0.0.1", "unix_socket_directories": str(folder), "fsync": "off"}
        command = [f"{binaries}/postgres", "-D", "data", "-p", str(port)]
        command += [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        with open(folder / "log", "w+") as log:
            server = subprocess.Popen(command, stdout=log, **options)
            try:
                address = {"host": "127.0.0.1", "port": port, "user": "bojax", "password": password}
                end = time.monotonic() + PATIENCE
                while True:
                    try:
                        psycopg2.connect(dbname="postgres", connect_timeout=5, **address).close()
                        break
                    except psycopg2.OperationalError:
                        log.seek(0)
                        assert server.poll() is None and time.monotonic() < end, log.read()
                        time.sleep(0.1)
                yield f"postgresql+psycopg2://bojax:{password}@127.0.0.1:{port}/postgres"
            finally:
                server.send_signal(signal.SIGINT)  # ends its connections, too
                try:
                    server.wait(PATIENCE)
                except subprocess.TimeoutExpired:
                    server.kill()
                    server.wait(PATIENCE)
