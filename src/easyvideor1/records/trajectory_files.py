"""Files of trajectory records: JSON Lines for people and reports, and arrays beside them for models.

Beside ``step_000001.jsonl`` the file ``step_000001.npz`` may hold what a model needs of the same trajectories: token
ids, masks, log-probs, versions of the weights and advantages, of every turn. The text is read without it.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from easyvideor1.files import is_sealed, json_bytes, write_atomic
from easyvideor1.records.reading import parse_row, read_jsonl
from easyvideor1.records.trajectories import (
    SampleRecord,
    TrajectoryRecord,
    TurnArrays,
    record_from_json,
    rollout_row,
)
from easyvideor1.types import DataError

#: Ends the name of a file of arrays, in place of ``.jsonl``.
ARRAYS = ".npz"


def write_trajectories(
    path: Path, records: Sequence[SampleRecord], row: Callable[[SampleRecord], dict[str, Any]] = rollout_row
) -> dict[str, str]:
    """Write records, and the arrays of their turns if they have any; returns the SHA-256 of each file by its name.

    Either file is there whole or not at all, and the lines come last. The same records give the same bytes.

    Args:
        path: the file of lines, ``NAME.jsonl``; arrays go to ``NAME.npz``.
        records: one per line.
        row: ``rollout_row`` or ``evaluation_row``.
    """
    contents = {path: b"".join(json_bytes(row(record)) for record in records)}
    if any(trajectory.turns for record in records for trajectory in _members(record)):
        contents = {path.with_suffix(ARRAYS): _pack(records), **contents}
    for file, content in contents.items():
        write_atomic(file, content)
    return {file.name: hashlib.sha256(content).hexdigest() for file, content in contents.items()}


def read_trajectories(path: Path, *, arrays: bool = False) -> Iterator[SampleRecord]:
    """Every record of a file of rollouts, of an evaluation, or of a ledger of data curation.

    Args:
        path: the file of lines.
        arrays: whether ``turns`` are filled in; they stay empty where no arrays were kept.

    A last line that a kill or a writer under way has cut short is left out.

    Raises:
        DataError: a file is missing or damaged; the message names the line.
    """
    records: list[SampleRecord] = []

    def fault(row: Mapping[str, Any]) -> str:
        if is_sealed(row) and "sample" not in row:
            return ""  # the first line of a ledger says what it is of
        try:
            records.append(record_from_json(row))
        except (KeyError, TypeError, ValueError) as error:
            return f"not a record of trajectories ({error!r})"
        return ""

    found = read_jsonl(path, fault)
    if found.faults:
        number, what = found.faults[0]
        raise DataError(f"{path}:{number}: {what}; the file was damaged after writing")
    turns = _read_arrays(path.with_suffix(ARRAYS)) if arrays else {}
    for place, record in enumerate(records):
        yield _with_turns(path, record, turns, place) if turns else record


def record_at(path: Path, line: int) -> SampleRecord:
    """The record of one line, without the arrays of its turns; the other lines may be damaged.

    Args:
        path: the file of lines.
        line: counts from 0 the lines that are not blank.

    Raises:
        DataError: the file is missing or has no such line, or the line is damaged.
    """
    try:
        lines = [one for one in path.read_bytes().split(b"\n") if one.strip()]
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); was this part of the run removed?") from error
    if not 0 <= line < len(lines):
        raise DataError(f"{path}: has {len(lines)} lines, none with number {line}; it was changed after writing")
    row = parse_row(lines[line])
    if isinstance(row, str):
        raise DataError(f"{path}:{line + 1}: {row}; it is being written, or was damaged after writing")
    try:
        return record_from_json(row)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}:{line + 1}: not a record of trajectories ({error!r})") from error


def with_arrays(path: Path, line: int, record: SampleRecord) -> SampleRecord:
    """The record of a line with the arrays of its turns, as far as they were kept.

    Raises:
        DataError: the arrays are damaged, or are those of other trajectories.
    """
    turns = _read_arrays(path.with_suffix(ARRAYS))
    return _with_turns(path, record, turns, line) if turns else record


def _members(record: SampleRecord) -> list[TrajectoryRecord]:
    """All trajectories of a line, the greedy one first."""
    return [*([] if record.greedy is None else [record.greedy]), *record.trajectories]


def _with_turns(
    path: Path, record: SampleRecord, turns: Mapping[tuple[int, int], list[TurnArrays]], place: int
) -> SampleRecord:
    members = [
        replace(member, turns=tuple(turns.get((place, index), ()))) for index, member in enumerate(_members(record))
    ]
    if any(sum(len(turn.response_ids) for turn in member.turns) != member.tokens for member in members):
        raise DataError(
            f"{path.with_suffix(ARRAYS)}: holds other tokens of {record.sample!r} than {path.name}; remove it, and the "
            "text can still be read"
        )
    if record.greedy is None:
        return replace(record, trajectories=tuple(members))
    return replace(record, greedy=members[0], trajectories=tuple(members[1:]))


def _pack(records: Sequence[SampleRecord]) -> bytes:
    """The arrays of all turns, end to end: ``turns`` has a row ``(line, trajectory, prompt, response tokens)`` per
    turn, and ``prompt_tokens`` the length of each prompt, which trajectories share."""
    table: list[tuple[int, int, int, int]] = []
    turns: list[TurnArrays] = []
    prompts: dict[bytes, int] = {}
    for line, record in enumerate(records):
        for member, trajectory in enumerate(_members(record)):
            for turn in trajectory.turns:
                prompt = prompts.setdefault(turn.prompt_ids.astype(np.int32).tobytes(), len(prompts))
                table.append((line, member, prompt, len(turn.response_ids)))
                turns.append(turn)
    packed = {
        "turns": np.asarray(table, dtype=np.int32).reshape(-1, 4),
        "prompt_tokens": np.asarray([len(ids) // 4 for ids in prompts], dtype=np.int32),
        "prompt_ids": np.frombuffer(b"".join(prompts), dtype=np.int32),
        "response_ids": _joined([turn.response_ids for turn in turns], turns, np.int32, -1),
        "response_mask": _joined([turn.response_mask for turn in turns], turns, np.bool_, False),
        "logprobs": _joined([turn.logprobs for turn in turns], turns, np.float32, np.nan),
        "versions": _joined([turn.versions for turn in turns], turns, np.int32, -1),
        "advantages": _joined([turn.advantages for turn in turns], turns, np.float32, np.nan),
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **packed)  # type: ignore[arg-type]
    return buffer.getvalue()


def _joined(
    values: Sequence[NDArray[Any] | None], turns: Sequence[TurnArrays], dtype: Any, unknown: float
) -> NDArray[Any]:
    parts = [
        np.full(len(turn.response_ids), unknown, dtype) if part is None else np.asarray(part, dtype)
        for part, turn in zip(values, turns, strict=True)
    ]
    return np.concatenate([np.zeros(0, dtype), *parts])


def _read_arrays(path: Path) -> dict[tuple[int, int], list[TurnArrays]]:
    """Turns by line and trajectory, both from 0; none if there is no such file."""
    if not path.exists():
        return {}
    try:
        with np.load(path, allow_pickle=False) as packed:
            found = {name: packed[name] for name in packed.files}
        ends = np.cumsum(found["prompt_tokens"])[:-1]
        prompts = np.split(found["prompt_ids"].astype(np.int64), ends)
        starts = np.cumsum(found["turns"][:, 3])[:-1]
        columns = {
            name: np.split(found[name], starts)
            for name in ("response_ids", "response_mask", "logprobs", "versions", "advantages")
        }
        turns: dict[tuple[int, int], list[TurnArrays]] = {}
        for place, (line, member, prompt, _) in enumerate(found["turns"].tolist()):
            logprobs, versions, advantages = (columns[name][place] for name in ("logprobs", "versions", "advantages"))
            turns.setdefault((line, member), []).append(
                TurnArrays(
                    prompts[prompt],
                    columns["response_ids"][place].astype(np.int64),
                    columns["response_mask"][place],
                    None if np.isnan(logprobs).all() else logprobs,
                    None if (versions < 0).all() else versions.astype(np.int64),
                    None if np.isnan(advantages).all() else advantages,
                )
            )
        return turns
    except (OSError, ValueError, KeyError, IndexError, zipfile.BadZipFile, EOFError) as error:
        raise DataError(f"{path}: damaged ({error!r}); remove it, and the text beside it can still be read") from error
