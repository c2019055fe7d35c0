"""Files: full disks, cut journals, deleted and foreign files and odd names are survived, or called by their name."""

import errno
import os
import pathlib
import shutil
import sqlite3
import time

import jax
import optuna
import pytest

import bojax
from bojax import cli
from bojax._errors import BojaxWarning, StudyError
from bojax.storage import _journal, _open
from tests.faults.storages import KINDS, PARAMS, asked, make, url_of

FILES = KINDS[1:]
CUT = b'{"op_code":8,"worker_id":"a","trial_id":1,"user_attr":{"loss":0.'


def values(study):
    return [trial.value for trial in study.trials if trial.state == "complete"]


def told(study, *numbers):
    for number in numbers:
        study.tell(asked(study), number)


def optunas_own(path):
    """The study as Optuna's own journal reads it."""
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(path)))
    return optuna.load_study(study_name="bojax", storage=storage)


def test_a_record_that_a_full_disk_cut_is_removed_before_the_next_one_is_written(tmp_path):
    path = tmp_path / "study.log"
    study = make(url_of("journal", tmp_path))
    told(study, 1.0, 2.0)
    whole = path.read_bytes()
    path.write_bytes(whole + CUT)
    reopened = bojax.Study(storage=url_of("journal", tmp_path))
    assert values(reopened) == [1.0, 2.0] and path.read_bytes() == whole + CUT  # reading repairs nothing
    told(reopened, 3.0)
    told(study, 4.0)
    assert path.read_bytes().startswith(whole) and CUT not in path.read_bytes()
    expected = [1.0, 2.0, 3.0, 4.0]
    assert values(study) == values(reopened) == values(bojax.Study(storage=url_of("journal", tmp_path))) == expected
    assert [trial.value for trial in optunas_own(path).trials] == expected


def broken_journal(folder, num_trials):
    """A journal whose last record was cut, behind which Optuna's own code wrote two more."""
    path = folder / "study.log"
    study = make(url_of("journal", folder))
    told(study, *map(float, range(num_trials)))
    path.write_bytes(path.read_bytes() + CUT)
    backend = optuna.storages.journal.JournalFileBackend(str(path))
    for key in ("note", "more"):
        backend.append_logs([{"op_code": 2, "worker_id": "b", "study_id": 0, "user_attr": {key: 1}}])
    return path


def test_a_journal_that_is_broken_in_the_middle_gives_back_all_that_can_be_read(tmp_path):
    path = broken_journal(tmp_path, 8)
    with pytest.raises(ValueError):
        optunas_own(path)
    with pytest.warns(BojaxWarning, match="has damaged lines") as caught:
        study = bojax.Study(storage=url_of("journal", tmp_path))
        assert values(study) == list(map(float, range(8)))
    assert len(caught) == 1
    assert (study.optuna.user_attrs["note"], study.optuna.user_attrs["more"]) == (1, 1)  # also behind the cut record
    told(study, 8.0)
    assert values(study)[-1] == 8.0
    with pytest.warns(BojaxWarning, match="has damaged lines"):
        assert values(bojax.Study(storage=url_of("journal", tmp_path))) == list(map(float, range(9)))


def test_lines_of_a_journal_that_say_nothing_are_left_out(tmp_path):
    study = make(url_of("journal", tmp_path))
    told(study, 1.0)
    path = tmp_path / "study.log"
    with open(path, "ab") as file:
        file.write(b"\x00\xff\x00\n[]\n3\n")
    with pytest.warns(BojaxWarning, match="has damaged lines"):
        told(study, 2.0)
    assert values(study) == [1.0, 2.0]
    with pytest.warns(BojaxWarning, match="has damaged lines"):
        assert values(bojax.Study(storage=url_of("journal", tmp_path))) == [1.0, 2.0]


def test_a_journal_on_a_full_disk_says_so_and_goes_on_when_there_is_space_again(tmp_path, monkeypatch):
    study = make(url_of("journal", tmp_path))
    told(study, 1.0)
    trial = asked(study)
    before = (tmp_path / "study.log").read_bytes()
    original = os.write

    def write(file, data):
        if len(data) <= 20:
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(file, data[:20])

    with monkeypatch.context() as patch:
        patch.setattr(_journal.os, "write", write)
        with pytest.raises(StudyError, match=r"study\.log' cannot be used: its disk is full .* Free some space"):
            study.tell(trial, 2.0)
    assert (tmp_path / "study.log").read_bytes() == before
    assert [t.state for t in study.trials] == ["complete", "running"]
    study.tell(trial, 2.0)
    assert values(bojax.Study(storage=url_of("journal", tmp_path))) == [1.0, 2.0]


@pytest.mark.parametrize("kind", FILES)
def test_a_limit_on_the_size_of_files_is_survived(kind, tmp_path):
    resource = pytest.importorskip("resource")
    study = make(url_of(kind, tmp_path))
    told(study, 1.0)
    trial = asked(study)
    path = next(tmp_path.glob("study.*"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 50, hard))
    try:
        with pytest.raises(StudyError, match=r"study\..* cannot be used: (its disk is full|the disk cannot be)"):
            study.tell(trial, 2.0, user_attrs={"long": "a" * 100_000})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    study.tell(trial, 2.0)
    assert values(bojax.Study(storage=url_of(kind, tmp_path))) == [1.0, 2.0]


def test_a_full_sqlite_database_says_so_and_goes_on_when_there_is_space_again(tmp_path):
    study = make(url_of("sqlite", tmp_path))
    told(study, 1.0)
    trial = asked(study)
    engine = study.optuna._storage._backend.engine

    def limit(pages):
        engine.dispose()
        with engine.connect() as connection:
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")

    limit(1)  # SQLite takes the present size then
    with pytest.raises(StudyError, match=r"study\.db' cannot be used: its disk is full"):
        study.tell(trial, 2.0, user_attrs={"long": "a" * 100_000})
    limit(10**6)
    study.tell(trial, 2.0)
    assert values(bojax.Study(storage=url_of("sqlite", tmp_path))) == [1.0, 2.0]


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_is_deleted_or_replaced_while_in_use_is_named_and_not_made_anew(kind, tmp_path):
    study = make(url_of(kind, tmp_path))
    trial = asked(study)
    path = next(tmp_path.glob("study.*"))
    shutil.copy(path, tmp_path / "copy")
    path.rename(tmp_path / "moved")
    with pytest.raises(StudyError, match=rf"{path.name}' cannot be used: it was deleted, moved or replaced"):
        study.tell(trial, 1.0)
    if kind == "sqlite":
        study.optuna._storage._backend.engine.dispose()  # what is opened anew must not create it, either
        with pytest.raises(StudyError, match=r"study\.db' cannot be used: it was deleted, moved or replaced"):
            study.tell(trial, 1.0)
    assert not path.exists()
    make(url_of(kind, tmp_path), name="other")  # another process begins anew in this place
    if kind == "sqlite":
        study.optuna._storage._backend.engine.dispose()
    with pytest.raises(StudyError, match=rf"{path.name}' cannot be used: it was deleted, moved or replaced"):
        study.tell(trial, 1.0)
    os.replace(tmp_path / "copy", path)
    reopened = bojax.Study(storage=url_of(kind, tmp_path))
    reopened.tell(trial, 1.0)
    assert values(reopened) == [1.0]


def test_a_journal_that_became_shorter_is_not_read_from_its_middle(tmp_path):
    study = make(url_of("journal", tmp_path))
    told(study, 1.0)
    os.truncate(tmp_path / "study.log", 40)
    with pytest.raises(StudyError, match="it was deleted, moved or replaced"):
        study.trials  # noqa: B018


NAMES = ["a b", "a?b", "a#b", "100%", "a{b}", "ü", "a?timeout", "a&b=c", "a'b\"c"]


@pytest.mark.parametrize("kind", FILES)
def test_files_may_have_any_name(kind, tmp_path, capsys):
    study = make(url_of(kind, tmp_path, "first?1"))
    told(study, 1.0)
    content = next(tmp_path.iterdir()).read_bytes()
    assert [path.stem for path in tmp_path.iterdir()] == ["first?1"]
    for name in NAMES:
        url = url_of(kind, tmp_path, name)
        (tmp_path / url.rpartition("/")[2]).write_bytes(content)
        assert values(bojax.Study(storage=url)) == [1.0], name
    assert cli.run(["show", url_of(kind, tmp_path, "a?b")]) == 0
    assert "best value 1" in capsys.readouterr().out
    assert {path.stem for path in tmp_path.iterdir()} == {"first?1", *NAMES}


def test_two_files_that_differ_behind_a_question_mark_are_two_files(tmp_path):
    for number in (1, 2):
        told(make(f"sqlite:///{tmp_path}/run?{number}.db"), float(number))
    assert [values(bojax.Study(storage=f"sqlite:///{tmp_path}/run?{number}.db")) for number in (1, 2)] == [[1.0], [2.0]]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run?1.db", "run?2.db"]


def test_the_file_of_a_url():
    files = {
        "sqlite:///a.db": "a.db",
        "sqlite:////x/a.db": "/x/a.db",
        "sqlite+pysqlite:///a.db?timeout=3": "a.db",
        "sqlite:///a?b.db": "a?b.db",
        "sqlite:///a%20b%3F.db": "a b?.db",
        "sqlite:///a?b.db?timeout=3": "a?b.db",
        "sqlite:///file:/x/a%3Fb.db?mode=ro&uri=true": "/x/a?b.db",
        "journal:///a?b.log": "a?b.log",
        "journal:////x/a.log": "/x/a.log",
        "sqlite:///:memory:": None,
        "sqlite://": None,
        "sqlite:///file:a?mode=memory&uri=true": None,
        "mysql://me@host/a": None,
        "grpc://host:1": None,
    }
    assert {url: _open.file_of(url) for url in files} == files


@pytest.mark.parametrize("kind", FILES)
def test_a_missing_folder_and_a_folder_in_place_of_a_file_are_named(kind, tmp_path):
    with pytest.raises(StudyError, match=r"there is no folder .*none'\. Create it first"):
        make(url_of(kind, tmp_path / "none"))
    with pytest.raises(StudyError, match="it is a folder. Name a file in it"):
        make(f"{'sqlite' if kind == 'sqlite' else 'journal'}:///{tmp_path}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("content", [b"hello\nworld\n" * 100, b"\x89PNG\r\n" + bytes(5000)])
def test_a_file_that_is_no_storage_is_named_and_left_alone(kind, content, tmp_path):
    url = url_of(kind, tmp_path)
    path = tmp_path / url.rpartition("/")[2]
    path.write_bytes(content)
    wanted = rf"{path.name}' .*is not (a SQLite database|an Optuna journal).* Choose another file"
    with pytest.raises(StudyError, match=wanted):
        make(url)
    assert path.read_bytes() == content


def test_a_database_of_another_program_is_named_and_left_alone(tmp_path):
    path = tmp_path / "study.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE bookmarks (name TEXT)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StudyError, match="a database of another program .tables bookmarks.*Choose another file"):
        make(url_of("sqlite", tmp_path))
    assert path.read_bytes() == before


def test_a_damaged_database_is_named(tmp_path):
    told(make(url_of("sqlite", tmp_path)), 1.0)
    path = tmp_path / "study.db"
    path.write_bytes(path.read_bytes()[:4096] + b"\xff" * (path.stat().st_size - 4096))
    with pytest.raises(StudyError, match=r"study\.db' cannot be opened: it is damaged\. Restore a copy"):
        bojax.Study(storage=url_of("sqlite", tmp_path))


@pytest.mark.parametrize("by_url", [False, True])
def test_a_database_that_stays_locked_is_named_in_time(by_url, tmp_path, monkeypatch):
    url = url_of("sqlite", tmp_path)
    make(url)
    if not by_url:
        monkeypatch.setattr(_open, "SQLITE_TIMEOUT", 0.3)
    study = bojax.Study(storage=url + ("?timeout=0.3" if by_url else ""))
    other = sqlite3.connect(tmp_path / "study.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    start = time.monotonic()
    with pytest.raises(StudyError, match=r"study\.db' cannot be used: another process keeps it locked"):
        study.enqueue(PARAMS)
    assert time.monotonic() - start < 10.0
    other.execute("COMMIT")
    other.close()
    study.enqueue(PARAMS)
    assert study.ask()[0].params == PARAMS


def test_a_lock_of_a_killed_process_does_not_stop_a_journal_with_a_relative_path(tmp_path, monkeypatch):
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    study = make("journal:///runs/study.log")
    lock = study.optuna._storage._backend._lock
    lock.acquire()  # as a process does that is killed before it releases it
    monkeypatch.setattr(lock, "grace_period", 1)
    told(study, 1.0)
    assert values(study) == [1.0]


@pytest.fixture
def no_home(tmp_path, monkeypatch):
    """A home that cannot be written, not even by root, and a JAX without a cache of its own."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    before = jax.config.values.get("jax_compilation_cache_dir")
    jax.config.update("jax_compilation_cache_dir", None)
    yield tmp_path
    jax.config.update("jax_compilation_cache_dir", before)


@pytest.mark.long
def test_a_home_that_cannot_be_written_costs_the_cache_only(no_home, monkeypatch, capsys):
    with pytest.warns(BojaxWarning, match="compiled programs are not kept on disk: .* Set XDG_CACHE_HOME"):
        assert bojax.enable_compilation_cache() is None
    assert jax.config.values.get("jax_compilation_cache_dir") is None
    with pytest.raises(OSError):
        bojax.enable_compilation_cache(no_home / "file")
    monkeypatch.chdir(no_home)
    pathlib.Path("module_of_mine.py").write_text(
        "def objective(params):\n    return params['n']\n\nspace = {'n': {'type': 'int', 'low': 1, 'high': 2}}\n"
    )
    monkeypatch.syspath_prepend(no_home)
    command = ["tune", "module_of_mine:objective", "--trials", "1", "--algorithm", "random_search"]
    assert cli.run(command) == 0
    output = capsys.readouterr()
    assert "best value" in output.out and "compiled programs are not kept on disk" in output.err


def test_a_user_without_a_home_gets_no_folder_of_that_name(no_home, monkeypatch):
    monkeypatch.chdir(no_home)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as where the user id is unknown
    with pytest.warns(BojaxWarning, match="no home folder"):
        assert bojax.enable_compilation_cache() is None
    assert not (no_home / "~").exists()
