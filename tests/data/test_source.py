"""Files, policies and reports of whole sources."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from easyvideor1.config.schema import DataConfig, SourceConfig
from easyvideor1.data import BadRow, Loaded, load_source
from easyvideor1.data.bad_rows import repaired
from easyvideor1.types import ConfigError, DataError

from .conftest import Rows, row


def load(path: Path, tasks: tuple[str, ...] = (), **config: Any) -> Loaded:
    return load_source(SourceConfig(path=str(path), tasks=tasks), DataConfig(**config))


@pytest.fixture
def mixed(rows: Rows) -> Path:
    """Two sound rows (one of them numerical), a broken line, and rows with four further faults."""
    number = row(problem_id="n", problem_type="numerical", answer=3, options=None)
    changes: list[dict[str, Any]] = [{"answer": "Q"}, {"problem": None}, {"videos": ["x"]}]
    faults = [row(problem_id=f"f{i}", **change) for i, change in enumerate(changes)]
    return rows(row(), '{"problem": "cut o', *faults, row(problem_id="f3", answer=""), "[1, 2]", number)


def test_bad_rows_stop_the_run_and_the_first_are_told(mixed: Path) -> None:
    with pytest.raises(DataError) as caught:
        load(mixed)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"{mixed}: 6 of 8 rows cannot be used:"
    assert lines[1].startswith(f"  {mixed}:2: broken JSON: Unterminated string")
    assert [line.split(": ")[0].strip() for line in lines[1:6]] == [f"{mixed}:{n}" for n in range(2, 7)]
    assert lines[6] == "  ... and 1 more; all of them by field: row 2, answer 2, problem 1, videos 1"
    assert lines[7].startswith("Correct them, or set data.on_bad_row to 'skip'")


def test_bad_rows_are_skipped_and_counted(mixed: Path) -> None:
    loaded = load(mixed, on_bad_row="skip")
    assert [sample.id for sample in loaded.samples] == ["r1", "n"]
    report = loaded.report.to_dict()
    messages = report.pop("bad")
    assert report == {
        "path": str(mixed),
        "rows": 8,
        "used": 2,
        "refused": 6,
        "filtered": 0,
        "tasks": {"multiple_choice": 1, "numerical": 1},
        "reasons": {"row": 2, "answer": 2, "problem": 1, "videos": 1},
    }
    assert messages == [str(bad) for bad in loaded.bad]
    assert (
        messages[-1] == f'{mixed}:7: the row is a list, not an object - write rows as {{"problem": ..., "answer": ...}}'
    )
    assert json.loads(json.dumps(report)) == report


def test_skipping_everything_is_an_error(rows: Rows) -> None:
    with pytest.raises(DataError, match=r"1 of 1 rows cannot be used:\n.*'problem': is null(.|\n)*No usable row"):
        load(rows(row(problem=None)), on_bad_row="skip")


def test_rows_of_other_tasks_are_left_out_whatever_is_wrong_with_them(rows: Rows) -> None:
    path = rows(row(videos=["gone.mp4"]), row(problem_id="n", problem_type="number", answer=3, options=[]))
    loaded = load(path, tasks=("numeric",))
    assert ([sample.id for sample in loaded.samples], loaded.filtered, loaded.rows, loaded.bad) == (["n"], 1, 2, [])
    with pytest.raises(DataError, match="none of the 1 rows is of the tasks boolean"):
        load(rows(row()), tasks=("boolean",))
    with pytest.raises(ConfigError, match=r"tasks of the source .*unknown task type 'numbr'.*'number'"):
        load(path, tasks=("numbr",))


def test_faults_found_later_follow_the_same_policy(rows: Rows) -> None:
    loaded = load(rows(row(), row(problem_id="r2")))
    late = BadRow(loaded.samples[1].where, "videos", "is cut off after 0.5 s", "fetch it again")
    less = loaded.without({"r2": late}, "skip")
    assert ([sample.id for sample in less.samples], less.bad, less.report.reasons) == (["r1"], [late], {"videos": 1})
    assert loaded.without({}, "error") == loaded
    with pytest.raises(DataError, match=r"1 of 2 rows cannot be used:\n.*:2: field 'videos': is cut off"):
        loaded.without({"r2": late}, "error")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b" \n\n", "the file is empty"),
        (b"[]", "the file has no rows"),
        (b'[{"a": 1},\n{"b": ', r":2: broken JSON list: .*the file may be cut off"),
        (b'[{"a": 1}\n{"b": 2}]', r":2: broken JSON list: expected ',' or '\]'"),
        (b'[{"a": 1}]\nmore', "there is more text after the end of the list"),
        (b"[\xff]", "not UTF-8 at byte 1"),
        (b"PAR1 but not really", "broken Parquet file"),
        (b"\x1f\x8b\x08\x00", "is a compressed file - decompress it first"),
    ],
)
def test_files_that_are_broken_as_a_whole(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "rows.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        load(path, on_bad_row="skip")


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such data file"):
        load(tmp_path / "gone.jsonl")
    with pytest.raises(DataError, match="is a directory"):
        load(tmp_path)


def test_json_lists_know_their_lines_and_formats_are_told_from_content(rows: Rows, media: Path) -> None:
    text = "[\n" + json.dumps(row(), indent=1) + ",\n\n" + json.dumps(row(problem_id="r2")) + "\n]\n"
    last = 2 + json.dumps(row(), indent=1).count("\n") + 2
    (media / "list.jsonl").write_text("\ufeff" + text, encoding="utf-8")
    assert [sample.where for sample in load(media / "list.jsonl").samples] == [
        f"{media / 'list.jsonl'}:2",
        f"{media / 'list.jsonl'}:{last}",
    ]
    lines = rows(row(note="\u2028"), "", row(problem_id="r2"), name="lines.json")
    assert [sample.where for sample in load(lines).samples] == [f"{lines}:1", f"{lines}:3"]


def test_lines_that_cannot_be_decoded_cost_only_themselves(rows: Rows) -> None:
    path = rows(row())
    deep = b"[" * 100_000
    path.write_bytes(
        b'{"a": "\xff"}\n' + b'{"a": ' + b"9" * 5000 + b"}\n" + b'{"a": ' + deep + b"\n" + path.read_bytes()
    )
    loaded = load(path, on_bad_row="skip")
    assert [bad.where for bad in loaded.bad] == [f"{path}:{n}" for n in (1, 2, 3)]
    assert "not UTF-8 at byte 7" in loaded.bad[0].what
    assert [sample.where for sample in loaded.samples] == [f"{path}:4"]


def test_parquet_rows_equal_json_rows(rows: Rows, media: Path) -> None:
    given = [
        row(start=0.5, end=None, extra_list=[1, 2]),
        row(problem_id="r2", videos=["a.mp4"], start=None, end=None, extra_list=[]),
    ]
    parquet.write_table(pyarrow.Table.from_pylist(given), media / "rows.parquet")
    from_parquet = load(media / "rows.parquet").samples
    from_json = load(rows(*given)).samples
    assert [sample.where for sample in from_parquet] == [f"{media / 'rows.parquet'}:{n}" for n in (1, 2)]
    for one, other in zip(from_parquet, from_json, strict=True):
        assert (one.question, one.media, one.options, one.extra) == (
            other.question,
            other.media,
            other.options,
            other.extra,
        )


def test_columns_nested_beyond_reason_cost_only_their_row(rows: Rows) -> None:
    """Python gives up at some depth near 1000: in the JSON reader or in the check that follows it."""
    plain = json.dumps(row(other=0))
    deep = [plain.replace('"other": 0', '"other": ' + "[" * n + "]" * n) for n in range(800, 1200, 5)]
    loaded = load(rows(*deep, row(problem_id="sound")), on_bad_row="skip")
    assert loaded.samples[-1].id == "sound"
    whats = [bad.what for bad in loaded.bad if bad.field != "problem_id"]
    assert whats
    assert all("nested too deeply" in what or "recursion depth" in what for what in whats)


PLACEHOLDER = "<[PLHD21_never_used_51bce0c785ca2f68081bfa7d91973934]>"


def hidden(thinking: str, **changes: Any) -> dict[str, Any]:
    """A row whose reference stands inside the thinking, before a placeholder."""
    answer = f"<think>{thinking}</think>{PLACEHOLDER}"
    return row(problem_type="temporal grounding", options=None, answer=answer, **changes)


def test_a_repair_reads_references_in_the_thinking_and_is_counted(rows: Rows) -> None:
    path = rows(
        hidden('{"time": [3.4, 11.75], "boxes": {}}'),
        row(problem_id="sound", problem_type="temporal grounding", options=None, answer={"time": [1, 2]}),
    )
    with pytest.raises(DataError, match="add 'reference-in-thinking' to the 'repair' of this source"):
        load(path)
    loaded = load_source(SourceConfig(path=str(path), repair=("reference-in-thinking",)), DataConfig())
    assert [(sample.id, sample.answer) for sample in loaded.samples] == [
        ("r1", '{"time": [3.4, 11.75], "boxes": {}}'),
        ("sound", '{"time": [1, 2]}'),
    ]
    assert loaded.report.to_dict()["repaired"] == {"reference-in-thinking": 1}
    late = BadRow(loaded.samples[0].where, "videos", "is cut off", "fetch it again")
    assert "repaired" not in loaded.without({"r1": late}, "skip").report.to_dict()


@pytest.mark.parametrize(
    "changes",
    [
        {"thinking": "somewhere in the middle"},
        {"thinking": ""},
        {"thinking": '{"time": [11, 3]}'},
        {"thinking": '{"time": [3, 11]'},
        {"thinking": "[3, 11]"},
        {"thinking": '{"boxes": {}}'},
    ],
)
def test_a_row_that_stays_unreadable_is_refused_by_its_id(rows: Rows, changes: dict[str, str]) -> None:
    path = rows(hidden(changes["thinking"], problem_id=850), row())
    source = SourceConfig(path=str(path), repair=("reference-in-thinking",))
    loaded = load_source(source, DataConfig(on_bad_row="skip"))
    (bad,) = loaded.bad
    assert bad.field == "answer"
    assert bad.what.startswith("of the row 850: reference ")
    assert loaded.report.repaired == {}


@pytest.mark.parametrize(
    "answer",
    [
        '<think>{"time": [1, 2]}</think>',
        '<think>{"time": [1, 2]}</think>{"time": [3, 4]}',
        f'<think>{{"time": [1, 2]}}</think><answer>{{"time": [3, 4]}}</answer>{PLACEHOLDER}',
        f'<think>{{"time": [1, 2]}}</think><think>{{"time": [3, 4]}}</think>{PLACEHOLDER}',
        PLACEHOLDER,
    ],
)
def test_a_repair_touches_nothing_else(answer: str) -> None:
    assert repaired(answer, ("reference-in-thinking",)) == (answer, "")


def test_a_repair_that_is_unknown_is_named(rows: Rows) -> None:
    with pytest.raises(ConfigError, match="unknown repair 'charades'; known: reference-in-thinking"):
        load_source(SourceConfig(path=str(rows(row())), repair=("charades",)), DataConfig())
