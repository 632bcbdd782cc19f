"""An index of a run's rollouts in SQLite, filled by a thread while pages are shown.

It lies in the user's cache and holds what lists and filters need. The run's files stay what counts: a file that was
changed, replaced or removed is read again or forgotten, by its size, time and inode.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from easyvideor1.viewer.rollout_filter import Filter, ordered, selected
from easyvideor1.viewer.rollout_reading import Line, State, files_of, lines_of, state_of
from easyvideor1.viewer.rollout_rows import GROUP_COLUMNS, MEMBER_COLUMNS
from easyvideor1.viewer.rollout_store import Store, file_of

_LOG = logging.getLogger(__name__)
#: Results of searches that are kept, for the windows of a list.
_KEPT = 24


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
    """The ids that a filter leaves, in order; of responses or of groups. ``key`` finds them again for a while.

    ``wanted`` is the filter, and ``opened`` the number of the database that the ids are of.
    """

    key: str
    ids: Sequence[int]
    wanted: Filter
    opened: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a file is not in the index, and the state that it had; ``unread`` if it could not be read at all."""

    state: State
    fault: str
    unread: bool = False


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
        where = file_of(run, cache)
        try:
            self._store = Store(run, where, full_text=full_text)
        except (OSError, sqlite3.Error) as error:
            if where is None:
                raise
            _LOG.warning("%s: cannot be used (%s); the index of rollouts is kept in memory", where, error)
            self._store = Store(run, None, full_text=full_text)
        self.where = self._store.where
        self._filling = threading.Lock()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        #: Files that could not be indexed, with the state that they had.
        self._refused: dict[tuple[str, int], Refusal] = {}
        self._refusals = 0
        self._searches: OrderedDict[str, Search] = OrderedDict()
        self._keeping = threading.Lock()
        self._choices: tuple[int, Choices] | None = None

    # Filling

    def refresh(self) -> None:
        """Begin to read what is new or changed, if nobody does yet."""
        with self._starting:
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
            with self._store.reading() as connection:
                known = {(stage, step): tuple(rest) for stage, step, *rest in connection.execute(_KNOWN)}
            for key in known.keys() - there.keys():
                self._forget(key)
            for key in self._refused.keys() - there.keys():
                self._refuse(key, None)
            for key, (path, state) in reversed(there.items()):
                refused = self._refused.get(key)
                if known.get(key) != state and (refused is None or refused.state != state or refused.unread):
                    self._try(key, path, state)

    def _try(self, key: tuple[str, int], path: Path, state: State) -> None:
        """Index one file; where that cannot be done, note why. Reading is tried again with the next look."""
        try:
            self._read(key, path)
        except FileNotFoundError:
            return  # gone since it was listed
        except OSError as error:
            self._refuse(key, Refusal(state, f"cannot be read ({error.strerror or error})", unread=True))
        except (OverflowError, UnicodeEncodeError) as error:  # a name or a number that SQLite does not take
            self._refuse(key, Refusal(state, f"cannot be indexed ({error})"))
        else:
            self._refuse(key, None)

    def _refuse(self, key: tuple[str, int], why: Refusal | None) -> None:
        if self._refused.get(key) == why:
            return
        self._refusals += 1
        # Replaced, not changed: others read it meanwhile.
        others = {other: kept for other, kept in self._refused.items() if other != key}
        self._refused = others if why is None else {**others, key: why}

    def _forget(self, key: tuple[str, int]) -> None:
        with self._store.write() as connection:
            _remove(connection, key)
            connection.execute("DELETE FROM files WHERE stage = ? AND step = ?", key)
            connection.execute("UPDATE state SET generation = generation + 1")

    def _read(self, key: tuple[str, int], path: Path) -> None:
        """Read one file, and put it in the place of what was known of it."""
        with path.open("rb") as file:
            state = state_of(os.fstat(file.fileno()))
            content = file.read()
        lines, fault = lines_of(content, key)
        with self._store.write() as connection:
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
        with self._store.reading() as connection:
            known = {(stage, step): tuple(rest) for stage, step, *rest in connection.execute(_KNOWN)}
            (groups,) = connection.execute("SELECT COUNT(*) FROM groups").fetchone()
            (rollouts,) = connection.execute("SELECT COUNT(*) FROM members").fetchone()
            faults = connection.execute(
                "SELECT stage, step, fault FROM files WHERE fault != '' ORDER BY 1, 2"
            ).fetchall()
        refused = self._refused
        read = sum(
            known.get(key) == state or (key in refused and refused[key].state == state)
            for key, (_, state) in there.items()
        )
        faults += [(*key, one.fault) for key, one in refused.items()]
        named = tuple(
            (f"stages/{stage}/rollouts/step_{step:06d}.jsonl", fault) for stage, step, fault in sorted(faults)
        )
        return Progress(read, len(there), groups, rollouts, named)

    def generation(self) -> int:
        """A number that grows when the index, or what is known to be wrong with it, changes."""
        with self._store.reading() as connection:
            return int(connection.execute("SELECT generation FROM state").fetchone()[0]) + self._refusals

    def search(self, wanted: Filter, key: str = "") -> Search:
        """What a filter leaves; by the key of an earlier search with it the same again, as long as that is kept."""
        generation = self.generation()
        found = self._searches.get(key)
        if found is not None and found.wanted == wanted and found.opened == self._store.opened:
            return found
        everything = self._kept(generation, Filter(by=wanted.by, order=wanted.order), lambda: self._ordered(wanted))
        chosen = selected(wanted, full_text=self._store.full_text)
        if chosen is None:
            return everything

        def left() -> list[int]:
            with self._store.reading() as connection:
                ids = {row[0] for row in connection.execute(*chosen)}
            return [one for one in everything.ids if one in ids]

        return self._kept(generation, wanted, left)

    def _ordered(self, wanted: Filter) -> list[int]:
        with self._store.reading() as connection:
            return [row[0] for row in connection.execute(ordered(wanted.by, wanted.order))]

    def _kept(self, generation: int, wanted: Filter, find: Callable[[], Sequence[int]]) -> Search:
        """What was found with a filter, or is found now."""
        opened = self._store.opened
        key = hashlib.sha256(f"{opened} {generation} {wanted}".encode(errors="replace")).hexdigest()[:20]
        if (found := self._searches.get(key)) is None:
            found = Search(key, find(), wanted, opened)
            with self._keeping:
                self._searches[key] = found
                while len(self._searches) > _KEPT:
                    self._searches.popitem(last=False)
        return found

    def place_of(self, search: Search, group: tuple[str, int, int], near: int) -> int:
        """Where a group ``(stage, step, line)``, or one of its responses, stands in a search; -1 if it does not.

        ``near`` is where it stood before: of several responses the nearest is meant.
        """
        by_response = search.wanted.by == "response"
        asked = "SELECT id FROM groups WHERE stage = ? AND step = ? AND line = ?"
        if by_response:
            asked = f"SELECT id FROM members WHERE grp IN ({asked})"
        with self._store.reading() as connection:
            mine = {row[0] for row in connection.execute(asked, group)}
        if 0 <= near < len(search.ids) and search.ids[near] in mine:
            return near
        places = [place for place, one in enumerate(search.ids) if one in mine]
        return min(places, key=lambda place: abs(place - near), default=-1)

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
        with self._store.reading() as connection:
            found = connection.execute(asked, (json.dumps(list(ids)),)).fetchall()
        return {row[0]: dict(zip(plain, row, strict=True)) for row in found}

    def choices(self) -> Choices:
        """What the index can be filtered by now."""
        generation = self.generation()
        if self._choices is None or self._choices[0] != generation:
            self._choices = generation, self._find_choices()
        return self._choices[1]

    def _find_choices(self) -> Choices:
        with self._store.reading() as connection:
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
            scored = "SELECT MIN(reward), MAX(reward) FROM members WHERE applicable = 1"
            rewards = connection.execute(scored).fetchone()
        return Choices(named, dict(zip(("first", "last", "low", "high"), (*steps, *rewards), strict=True)))


_KNOWN = "SELECT stage, step, size, time, inode FROM files"


def _remove(connection: sqlite3.Connection, key: tuple[str, int]) -> None:
    """Take the groups of a file out. Their texts stay, under ids that are never given again, and are found no more."""
    mine = "SELECT id FROM groups WHERE file IN (SELECT id FROM files WHERE stage = ? AND step = ?)"
    connection.execute(f"DELETE FROM members WHERE grp IN ({mine})", key)
    connection.execute(f"DELETE FROM groups WHERE id IN ({mine})", key)


def _insert(table: str, columns: Sequence[str]) -> str:
    names = ", ".join(column.split()[0] for column in columns)
    return f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * len(columns))})"
