"""The ledger of responses: resumed, refused, or named where it is damaged; and what makes two commands the same."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from easyvideor1.config import RunConfig
from easyvideor1.config.schema import JudgeConfig
from easyvideor1.curation.ledger import Known, ResponseLedger, checkpoint_digests, differences, responses_identity
from easyvideor1.records.trajectories import SampleRecord, TrajectoryRecord
from easyvideor1.types import ConfigError, DataError, Score

IDENTITY = {"k": 2, "rows": {"a.jsonl": "1"}}
GOOD = TrajectoryRecord("a\u2028b\ud800", 2, "stop", Score(1.0, 0.5, 0.9), logprobs=(-0.5, -1.25))
NONE = Score(0.0, 0.0, 0.0, applicable=False, reason="HTTP 400: no")
BAD = TrajectoryRecord("", 0, "length", NONE, fault="refused")


def record(name: str, *responses: TrajectoryRecord) -> SampleRecord:
    return SampleRecord(name, "math", "What?", "1", (), "What?", 3, trajectories=responses)


@pytest.fixture
def ledger(tmp_path: Path) -> ResponseLedger:
    ledger = ResponseLedger.open(tmp_path / "ledger", IDENTITY)
    ledger.append("p1", record("x", GOOD, BAD))
    ledger.append("p2", record("y", BAD))
    return ledger


def test_what_is_kept_comes_back(ledger: ResponseLedger) -> None:
    again = ResponseLedger.open(ledger.path, IDENTITY)
    assert (
        again.known
        == ledger.known
        == {
            "x": Known("p1", record("x", GOOD, BAD)),
            "y": Known("p2", record("y", BAD)),
        }
    )
    again.append("p2", record("y", GOOD))
    assert ResponseLedger.open(ledger.path, IDENTITY).known["y"].record == record("y", GOOD), (
        "the last line of a sample holds"
    )
    again.remove()
    again.remove()
    assert not ledger.path.exists()


def test_a_line_that_a_kill_cut_short_is_removed(ledger: ResponseLedger) -> None:
    before = ledger.path.read_bytes()
    ledger.path.write_bytes(before + b'{"sample": "z", "pro')
    again = ResponseLedger.open(ledger.path, IDENTITY)
    assert again.known == ledger.known and ledger.path.read_bytes() == before


@pytest.mark.parametrize("line", [b"{", b"[]", b'{"sample": "x"}', b'{"sample": "x", "trajectories": [{"a": 1}]}'])
def test_a_damaged_line_is_named(ledger: ResponseLedger, line: bytes) -> None:
    lines = ledger.path.read_bytes().splitlines()
    ledger.path.write_bytes(b"\n".join([lines[0], line, lines[2]]) + b"\n")
    with pytest.raises(DataError, match=r"ledger:2: this line is damaged .* remove the line, and the responses"):
        ResponseLedger.open(ledger.path, IDENTITY)
    ledger.path.write_bytes(b"\n".join([b"{", *lines[1:]]) + b"\n")
    with pytest.raises(DataError, match="ledger:1: not the first line"):
        ResponseLedger.open(ledger.path, IDENTITY)


def test_a_digit_that_a_disk_has_changed_is_no_score(ledger: ResponseLedger) -> None:
    whole = ledger.path.read_bytes()
    for place, number in ((b'"accuracy": 1.0', 2), (b'"k": 2', 1)):
        at = whole.index(place) + len(place) - 1
        ledger.path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(DataError, match=rf"ledger:{number}: .*its checksum is wrong.*remove"):
            ResponseLedger.open(ledger.path, IDENTITY)


def test_a_ledger_of_something_else_is_refused_once_it_holds_something(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    ResponseLedger.open(path, {"k": 1})
    ledger = ResponseLedger.open(path, IDENTITY)  # the start before got no answer: there is nothing to keep apart
    ledger.append("p", record("x", GOOD))
    with pytest.raises(ConfigError, match=r"k is 2 there, 3 here; the rows of a\.jsonl changed\. Restore"):
        ResponseLedger.open(path, {"k": 3, "rows": {"a.jsonl": "2"}})


def test_every_file_that_a_model_is_made_of_counts(tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors", "optimizer.safetensors", "critic.safetensors", ".gitattributes"):
        (tmp_path / name).write_bytes(b"x" * (3 << 20))
    (tmp_path / "folder").mkdir()
    before = checkpoint_digests(tmp_path)
    assert list(before) == ["config.json", "model.safetensors"]
    with (tmp_path / "model.safetensors").open("r+b") as file:  # in the middle; the size stays
        file.seek(3 << 19)
        file.write(b"y")
    after = checkpoint_digests(tmp_path)
    assert differences({"checkpoint": before}, {"checkpoint": after}) == [
        "the checkpoint's file model.safetensors changed"
    ]


def test_all_of_a_package_counts_and_nothing_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "own_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "rewards.py").write_text("from own_package.words import judge")
    (package / "words.py").write_text("def judge(sample, response): ...")
    monkeypatch.syspath_prepend(str(tmp_path))
    custom = {"math": "own_package.rewards:judge", "ocr": "easyvideor1.rewards.score:score"}
    config = RunConfig.model_validate({"rewards": {"custom": custom}})
    try:
        before = responses_identity(config, k=1, checkpoint=None)
        assert list(before["code"]) == ["own_package.rewards"]
        (package / "words.py").write_text("def judge(sample, response): return None")
        after = responses_identity(config, k=1, checkpoint=None)
    finally:
        for name in ("own_package", "own_package.rewards", "own_package.words"):
            sys.modules.pop(name, None)
    assert differences(before, after) == ["the code of own_package.rewards changed"]


def test_another_endpoint_is_another_identity() -> None:
    def asked(model: str) -> dict[str, object]:
        endpoint = JudgeConfig(url="http://localhost/v1", model=model)
        return responses_identity(RunConfig(), k=1, checkpoint=None, endpoint=endpoint)

    assert differences(asked("small"), asked("big")) == ["endpoint.model is 'small' there, 'big' here"]
    many = differences({}, {f"n{n}": n for n in range(9)})
    assert len(many) == 6 and many[-1] == "and 4 more"
