"""An index of a run's rollouts in SQLite, filled by a thread while pages are shown.

It lies in the user's cache and holds what lists and filters need. The run's files stay what counts: a file that was
changed, replaced or removed is read again or forgotten, by its size, time and inode.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from easyvideor1.viewer.rollout_filter import Filter, ordered, selected
from easyvideor1.viewer.rollout_reading import Line, files_of, lines_of, state_of
from easyvideor1.viewer.rollout_rows import GROUP_COLUMNS, MEMBER_COLUMNS

_LOG = logging.getLogger(__name__)
#: Changes with the tables: an index of another version is made anew.
VERSION = 2
_BUSY_SECONDS = 20.0
#: Results of searches that are kept, for the windows of a list.
_KEPT = 24

_TABLES = f"""
CREATE TABLE IF NOT EXISTS files (
  id INTEGER PRIMARY KEY AUTOINCREMENT, stage TEXT, step INTEGER, size INTEGER, time INTEGER, inode INTEGER,
  fault TEXT, UNIQUE (stage, step));
CREATE TABLE IF NOT EXISTS groups (id INTEGER PRIMARY KEY AUTOINCREMENT, file INTEGER, {", ".join(GROUP_COLUMNS)});
CREATE TABLE IF NOT EXISTS members (
  id INTEGER PRIMARY KEY AUTOINCREMENT, grp INTEGER, {", ".join(MEMBER_COLUMNS)});
CREATE TABLE IF NOT EXISTS state (generation INTEGER);
CREATE INDEX IF NOT EXISTS groups_file ON groups (file);
CREATE INDEX IF NOT EXISTS members_grp ON members (grp);
CREATE INDEX IF NOT EXISTS groups_seq ON groups (seq);
CREATE INDEX IF NOT EXISTS members_seq ON members (seq);
CREATE INDEX IF NOT EXISTS members_reward ON members (reward, seq);
CREATE INDEX IF NOT EXISTS members_tokens ON members (tokens, seq);
"""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an index is: files read of those there, groups and rollouts in it, and ``(file, fault)`` of damage."""

    read: int
    files: int
    groups: int
    rollouts: int
    faults: tuple[tuple[str, str], ...]

    @property
    def done(self) -> bool:
        return self.read >= self.files


@dataclass(frozen=True, slots=True)
class Search:
    """The ids that a filter leaves, in order; of responses or of groups. ``key`` finds them again for a while."""

    key: str
    ids: Sequence[int]


@dataclass(frozen=True, slots=True)
class Choices:
    """``named`` are the values of ``task``, ``source`` and ``stage`` with their numbers of groups, ``ranges`` the
    ``first`` and ``last`` step, and the rewards from ``low`` to ``high``; ``None`` in an empty index."""

    named: Mapping[str, Sequence[tuple[str, int]]]
    ranges: Mapping[str, float | None]


class RolloutIndex:
    """The index of one run.

    Args:
        run: its directory.
        cache: where indices lie; ``None`` keeps this one in memory.
        full_text: whether to use the full-text search of SQLite, where it has it.
    """

    def __init__(self, run: Path, cache: Path | None, *, full_text: bool = True) -> None:
        self.run = run
        self.where = _file_of(run, cache)
        self._local = threading.local()
        self._shared: sqlite3.Connection | None = None
        self._lock = threading.RLock()
        self._filling = threading.Lock()
        self._thread: threading.Thread | None = None
        self._searches: OrderedDict[str, Search] = OrderedDict()
        self._keeping = threading.Lock()
        self._choices: tuple[int, Choices] | None = None
        self._wanted = full_text
        try:
            self._open()
        except (OSError, sqlite3.Error) as error:
            if self.where is None:
                raise
            _LOG.warning("%s: cannot be used (%s); the index of rollouts is kept in memory", self.where, error)
            self.where = None
            self._open()

    def _open(self) -> None:
        if self.where is None:
            self._shared = self._connected(":memory:")
        else:
            self.where.parent.mkdir(parents=True, exist_ok=True)
        with self._write() as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version not in (0, VERSION):
                raise sqlite3.DatabaseError(f"made by another version ({version})")
            for statement in _TABLES.split(";"):
                connection.execute(statement)
            if not connection.execute("SELECT 1 FROM state").fetchone():
                connection.execute("INSERT INTO state VALUES (0)")
                self._make_texts(connection)
            connection.execute(f"PRAGMA user_version = {VERSION}")
        made = "SELECT sql FROM sqlite_master WHERE name = 'texts'"
        self.full_text = "fts5" in self._reader().execute(made).fetchone()[0]

    def _make_texts(self, connection: sqlite3.Connection) -> None:
        """The tables of texts: ``texts`` of responses by member, ``questions`` of questions by group."""
        for name in ("texts", "questions"):
            try:
                if not self._wanted:
                    raise sqlite3.OperationalError
                connection.execute(f"CREATE VIRTUAL TABLE {name} USING fts5(text, content='')")
            except sqlite3.OperationalError:  # SQLite was built without it: texts are kept, and looked through
                connection.execute(f"CREATE TABLE {name} (text TEXT)")

    def _connected(self, where: str) -> sqlite3.Connection:
        connection = sqlite3.connect(where, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = OFF")  # an index that is lost is made again
        connection.execute("PRAGMA cache_size = -65536")
        return connection

    def _reader(self) -> sqlite3.Connection:
        if self._shared is not None:
            return self._shared
        if not hasattr(self._local, "connection"):
            self._local.connection = self._connected(str(self.where))
        found: sqlite3.Connection = self._local.connection
        return found

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock if self._shared is not None else nullcontext():
            yield self._reader()

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        """One transaction. Another process that writes is waited for."""
        with self._lock:
            connection = self._reader()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    # Filling

    def refresh(self) -> None:
        """Begin to read what is new or changed, if nobody does yet."""
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                return
            self._thread = threading.Thread(target=self._fill_in_thread, name=f"index {self.run.name}", daemon=True)
            self._thread.start()

    def _fill_in_thread(self) -> None:
        try:
            self.fill()
        except (OSError, sqlite3.Error) as error:
            _LOG.warning("%s: the index of rollouts was not completed: %s", self.run, error)

    def fill(self) -> None:
        """Read what is new or changed; the latest steps first."""
        with self._filling:
            there = files_of(self.run)
            with self._reading() as connection:
                known = {(stage, step): tuple(rest) for stage, step, *rest in connection.execute(_KNOWN)}
            for key in known.keys() - there.keys():
                self._forget(key)
            for key, (path, state) in reversed(there.items()):
                if known.get(key) != state:
                    self._read(key, path)

    def _forget(self, key: tuple[str, int]) -> None:
        with self._write() as connection:
            _remove(connection, key)
            connection.execute("DELETE FROM files WHERE stage = ? AND step = ?", key)
            connection.execute("UPDATE state SET generation = generation + 1")

    def _read(self, key: tuple[str, int], path: Path) -> None:
        """Read one file, and put it in the place of what was known of it."""
        try:
            with path.open("rb") as file:
                state = state_of(os.fstat(file.fileno()))
                content = file.read()
        except OSError as error:  # gone since it was listed, or not ours to read
            _LOG.debug("%s: %s", path, error)
            return
        lines, fault = lines_of(content, key)
        with self._write() as connection:
            kept = connection.execute(f"{_KNOWN} WHERE stage = ? AND step = ?", key).fetchone()
            if kept is not None and tuple(kept[2:]) == state:
                return  # another process was here first
            _remove(connection, key)
            row = connection.execute(
                "INSERT OR REPLACE INTO files (stage, step, size, time, inode, fault) VALUES (?, ?, ?, ?, ?, ?)",
                (*key, *state, fault),
            )
            for line in lines:
                self._add(connection, row.lastrowid or 0, line)
            connection.execute("UPDATE state SET generation = generation + 1")

    def _add(self, connection: sqlite3.Connection, file: int, line: Line) -> None:
        group = connection.execute(_insert("groups", ("file", *GROUP_COLUMNS)), (file, *line.group)).lastrowid
        connection.execute("INSERT INTO questions (rowid, text) VALUES (?, ?)", (group, line.question))
        for values, text in zip(line.members, line.responses, strict=True):
            member = connection.execute(_insert("members", ("grp", *MEMBER_COLUMNS)), (group, *values)).lastrowid
            connection.execute("INSERT INTO texts (rowid, text) VALUES (?, ?)", (member, text))

    # Reading

    def progress(self) -> Progress:
        """How far the index is."""
        there = files_of(self.run)
        with self._reading() as connection:
            known = {(stage, step): tuple(rest) for stage, step, *rest in connection.execute(_KNOWN)}
            (groups,) = connection.execute("SELECT COUNT(*) FROM groups").fetchone()
            (rollouts,) = connection.execute("SELECT COUNT(*) FROM members").fetchone()
            faults = connection.execute(
                "SELECT stage, step, fault FROM files WHERE fault != '' ORDER BY 1, 2"
            ).fetchall()
        read = sum(known.get(key) == state for key, (_, state) in there.items())
        named = tuple((f"stages/{stage}/rollouts/step_{step:06d}.jsonl", fault) for stage, step, fault in faults)
        return Progress(read, len(there), groups, rollouts, named)

    def generation(self) -> int:
        """A number that grows when the index changes."""
        with self._reading() as connection:
            return int(connection.execute("SELECT generation FROM state").fetchone()[0])

    def search(self, wanted: Filter, key: str = "") -> Search:
        """What a filter leaves; by the key of an earlier search the same again, as long as that is kept."""
        if key and (found := self._searches.get(key)) is not None:
            return found
        generation = self.generation()
        everything = self._kept(f"{generation} {wanted.by} {wanted.order}", lambda: self._ordered(wanted))
        chosen = selected(wanted, full_text=self.full_text)
        if chosen is None:
            return everything

        def left() -> list[int]:
            with self._reading() as connection:
                ids = {row[0] for row in connection.execute(*chosen)}
            return [one for one in everything.ids if one in ids]

        return self._kept(f"{generation} {wanted}", left)

    def _ordered(self, wanted: Filter) -> list[int]:
        with self._reading() as connection:
            return [row[0] for row in connection.execute(ordered(wanted.by, wanted.order))]

    def _kept(self, asked: str, find: Callable[[], Sequence[int]]) -> Search:
        """What was found under a name, or is found now."""
        key = hashlib.sha256(asked.encode(errors="replace")).hexdigest()[:20]
        if (found := self._searches.get(key)) is None:
            found = Search(key, find())
            with self._keeping:
                self._searches[key] = found
                while len(self._searches) > _KEPT:
                    self._searches.popitem(last=False)
        return found

    def groups(self, ids: Sequence[int]) -> list[dict[str, Any]]:
        """Groups by id, in that order; those that are gone are left out. Each has its ``members``."""
        groups = self._rows("groups", "id", ids)
        for row in groups.values():
            row["members"] = []
        for row in self._rows("members", "grp", list(groups)).values():
            groups[row["grp"]]["members"].append(row)
        return [groups[one] for one in ids if one in groups]

    def members(self, ids: Sequence[int]) -> list[dict[str, Any]]:
        """Responses by id, in that order, each with its ``group``; those that are gone are left out."""
        members = self._rows("members", "id", ids)
        groups = self._rows("groups", "id", list({row["grp"] for row in members.values()}))
        found = [members[one] for one in ids if one in members]
        return [{**row, "group": groups[row["grp"]]} for row in found if row["grp"] in groups]

    def _rows(self, table: str, column: str, ids: Sequence[int]) -> dict[int, dict[str, Any]]:
        names = ("id", "file", *GROUP_COLUMNS) if table == "groups" else ("id", "grp", *MEMBER_COLUMNS)
        plain = [name.split()[0] for name in names]
        asked = f"SELECT {', '.join(plain)} FROM {table} WHERE {column} IN (SELECT value FROM json_each(?)) ORDER BY id"
        with self._reading() as connection:
            found = connection.execute(asked, (json.dumps(list(ids)),)).fetchall()
        return {row[0]: dict(zip(plain, row, strict=True)) for row in found}

    def choices(self) -> Choices:
        """What the index can be filtered by now."""
        generation = self.generation()
        if self._choices is None or self._choices[0] != generation:
            self._choices = generation, self._find_choices()
        return self._choices[1]

    def _find_choices(self) -> Choices:
        with self._reading() as connection:
            named = {
                column: [
                    (str(value), int(count))
                    for value, count in connection.execute(
                        f"SELECT {column}, COUNT(*) FROM groups GROUP BY 1 ORDER BY 1"
                    )
                ]
                for column in ("task", "source", "stage")
            }
            steps = connection.execute("SELECT MIN(step), MAX(step) FROM files").fetchone()
            rewards = connection.execute("SELECT MIN(reward), MAX(reward) FROM members").fetchone()
        return Choices(named, dict(zip(("first", "last", "low", "high"), (*steps, *rewards), strict=True)))


_KNOWN = "SELECT stage, step, size, time, inode FROM files"


def cache_directory() -> Path:
    """Where indices of this user lie: ``$XDG_CACHE_HOME/easyvideor1/viewer``, ``~/.cache`` by default."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(named) if Path(named).is_absolute() else Path("~/.cache").expanduser()
    return base / "easyvideor1" / "viewer"


def _file_of(run: Path, cache: Path | None) -> Path | None:
    if cache is None:
        return None
    digest = hashlib.sha256(os.fsencode(run.resolve())).hexdigest()[:16]
    name = re.sub(r"[^\w.-]+", "-", run.resolve().name)[:60]
    return cache / f"{name}-{digest}-v{VERSION}.sqlite"


def _remove(connection: sqlite3.Connection, key: tuple[str, int]) -> None:
    """Take the groups of a file out. Their texts stay, under ids that are never given again, and are found no more."""
    mine = "SELECT id FROM groups WHERE file IN (SELECT id FROM files WHERE stage = ? AND step = ?)"
    connection.execute(f"DELETE FROM members WHERE grp IN ({mine})", key)
    connection.execute(f"DELETE FROM groups WHERE id IN ({mine})", key)


def _insert(table: str, columns: Sequence[str]) -> str:
    names = ", ".join(column.split()[0] for column in columns)
    return f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * len(columns))})"
