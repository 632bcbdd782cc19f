"""The SQLite behind an index of rollouts: private to its user, and made anew whenever its file is gone."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from easyvideor1.viewer.rollout_rows import GROUP_COLUMNS, MEMBER_COLUMNS

#: Changes with the tables: an index of another version is made anew.
VERSION = 3
_BUSY_SECONDS = 20.0

_TABLES = f"""
CREATE TABLE IF NOT EXISTS files (
  id INTEGER PRIMARY KEY AUTOINCREMENT, stage TEXT, step INTEGER, size INTEGER, time INTEGER, inode INTEGER,
  fault TEXT, UNIQUE (stage, step));
CREATE TABLE IF NOT EXISTS groups (id INTEGER PRIMARY KEY AUTOINCREMENT, file INTEGER, {", ".join(GROUP_COLUMNS)});
CREATE TABLE IF NOT EXISTS members (
  id INTEGER PRIMARY KEY AUTOINCREMENT, grp INTEGER, {", ".join(MEMBER_COLUMNS)});
CREATE TABLE IF NOT EXISTS state (generation INTEGER, run BLOB);
CREATE INDEX IF NOT EXISTS groups_file ON groups (file);
CREATE INDEX IF NOT EXISTS members_grp ON members (grp);
CREATE INDEX IF NOT EXISTS groups_seq ON groups (seq);
CREATE INDEX IF NOT EXISTS members_seq ON members (seq);
CREATE INDEX IF NOT EXISTS members_reward ON members (applicable, reward, seq);
CREATE INDEX IF NOT EXISTS members_tokens ON members (tokens, seq);
"""


class Store:
    """Connections to the database of one run: one per thread to a file, one for all in memory.

    Args:
        run: the directory that is indexed.
        where: the file; ``None`` keeps the database in memory.
        full_text: whether to use the full-text search of SQLite, where it has it.

    Raises:
        OSError, sqlite3.Error: the file cannot be made or used.
    """

    def __init__(self, run: Path, where: Path | None, *, full_text: bool) -> None:
        self.run, self.where = run, where
        self._wanted = full_text
        self._local = threading.local()
        self._writing = threading.RLock()
        self._opening = threading.Lock()
        self._shared: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        #: Grows whenever the database is opened anew; ids of before are then ids of something else.
        self.opened = 0
        if where is None:
            self._shared = _connected(":memory:")
            self.full_text = self._prepare(self._shared)
        else:
            self._connection()

    def _connection(self) -> sqlite3.Connection:
        """That of this thread. A file that was removed, replaced or emptied meanwhile is made again."""
        if self._shared is not None:
            return self._shared
        assert self.where is not None
        kept: tuple[int, sqlite3.Connection] | None = getattr(self._local, "kept", None)
        there = _identity(self.where)
        same = there is not None and there == self._file and kept is not None and kept[0] == self.opened
        if same and kept is not None and _version(kept[1]) == VERSION:
            return kept[1]
        if kept is not None:
            kept[1].close()
            del self._local.kept
        with self._opening:
            _make_private(self.where)
            connection = _connected(str(self.where))
            emptied = _version(connection) != VERSION
            self.full_text = self._prepare(connection)
            there = _identity(self.where)
            if there != self._file or emptied:
                self._file = there
                self.opened += 1
            self._local.kept = self.opened, connection
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> bool:
        """Make the tables where there are none; returns whether texts are found by full-text search."""
        if _version(connection) != VERSION:
            connection.execute("BEGIN IMMEDIATE")
            try:
                if (version := _version(connection)) not in (0, VERSION):
                    raise sqlite3.DatabaseError(f"made by another version ({version})")
                if version == 0:
                    for statement in _TABLES.split(";"):
                        connection.execute(statement)
                    # Begins with the time, so that a new index is never taken for one that was deleted.
                    began = time.time_ns() // 1_000_000
                    connection.execute("INSERT INTO state VALUES (?, ?)", (began, os.fsencode(self.run)))
                    self._make_texts(connection)
                    connection.execute(f"PRAGMA user_version = {VERSION}")
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")
        made = "SELECT sql FROM sqlite_master WHERE name = 'texts'"
        return "fts5" in connection.execute(made).fetchone()[0]

    def _make_texts(self, connection: sqlite3.Connection) -> None:
        """The tables of texts: ``texts`` of responses by member, ``questions`` of questions by group."""
        for name in ("texts", "questions"):
            try:
                if not self._wanted:
                    raise sqlite3.OperationalError
                connection.execute(f"CREATE VIRTUAL TABLE {name} USING fts5(text, content='')")
            except sqlite3.OperationalError:  # SQLite was built without it: texts are kept, and looked through
                connection.execute(f"CREATE TABLE {name} (text TEXT)")

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection to read with."""
        with self._writing if self._shared is not None else nullcontext():
            yield self._connection()

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """One transaction. Another process that writes is waited for."""
        with self._writing:
            connection = self._connection()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")


def cache_directory() -> Path:
    """Where indices of this user lie: ``$XDG_CACHE_HOME/easyvideor1/viewer``, ``~/.cache`` by default."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(named) if Path(named).is_absolute() else Path("~/.cache").expanduser()
    return base / "easyvideor1" / "viewer"


def file_of(run: Path, cache: Path | None) -> Path | None:
    """The file of a run's index; ``None`` without a cache."""
    if cache is None:
        return None
    digest = hashlib.sha256(os.fsencode(run.resolve())).hexdigest()[:16]
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", run.resolve().name)[:60]
    return cache / f"{name}-{digest}-v{VERSION}.sqlite"


def drop_stale(cache: Path) -> list[Path]:
    """Remove indices of earlier versions, and of runs that are gone; returns them."""
    dropped = []
    for path in sorted(cache.glob("*.sqlite")) if cache.is_dir() else []:
        version = re.search(r"-v(\d+)\.sqlite$", path.name)
        if version is None or int(version[1]) > VERSION or (int(version[1]) == VERSION and _is_of_a_run(path)):
            continue
        for one in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm"))):
            with contextlib.suppress(FileNotFoundError):
                one.unlink()
        dropped.append(path)
    return dropped


def _is_of_a_run(path: Path) -> bool:
    """Whether the run of an index is there; so it is taken of one that cannot be read."""
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=0.2)) as connection:
            (run,) = connection.execute("SELECT run FROM state").fetchone()
        return Path(os.fsdecode(run)).is_dir()
    except (sqlite3.Error, TypeError, OSError):
        return True


def _connected(where: str) -> sqlite3.Connection:
    connection = sqlite3.connect(where, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = OFF")  # an index that is lost is made again
    connection.execute("PRAGMA cache_size = -65536")
    return connection


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _make_private(path: Path) -> None:
    """A file, in a directory, that only its user may read: it repeats the texts of a run. SQLite gives the files that
    it lays beside it the same mode."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.parent.chmod(0o700)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    path.chmod(0o600)
