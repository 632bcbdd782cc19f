"""What a survey keeps: taken up again, refused, or named where it is damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from easyvideor1.curation.ledger import Known, Response, SurveyLedger
from easyvideor1.types import ConfigError, DataError

IDENTITY = {"k": 2, "rows": {"a.jsonl": "1"}}
GOOD = Response("a\u2028b\ud800", True, 1.0, 0.9, True, (-0.5, -1.25))
BAD = Response("", False, 0.0, 0.0, False, None, "refused", "HTTP 400: no")


@pytest.fixture
def ledger(tmp_path: Path) -> SurveyLedger:
    ledger = SurveyLedger.open(tmp_path / "ledger", IDENTITY)
    ledger.append("x", "p1", (GOOD, BAD))
    ledger.append("y", "p2", (BAD,))
    return ledger


def test_what_is_kept_comes_back(ledger: SurveyLedger) -> None:
    again = SurveyLedger.open(ledger.path, IDENTITY)
    assert again.known == ledger.known == {"x": Known("p1", (GOOD, BAD)), "y": Known("p2", (BAD,))}
    again.append("y", "p2", (GOOD,))
    assert SurveyLedger.open(ledger.path, IDENTITY).known["y"].responses == (GOOD,), "the last line of a sample holds"
    again.remove()
    again.remove()
    assert not ledger.path.exists()


def test_a_line_that_a_kill_cut_short_is_removed(ledger: SurveyLedger) -> None:
    before = ledger.path.read_bytes()
    ledger.path.write_bytes(before + b'{"id": "z", "pro')
    again = SurveyLedger.open(ledger.path, IDENTITY)
    assert again.known == ledger.known and ledger.path.read_bytes() == before


@pytest.mark.parametrize("line", [b"{", b"[]", b'{"id": "x"}', b'{"id": "x", "prompt": "p", "responses": [{"a": 1}]}'])
def test_a_damaged_line_is_named(ledger: SurveyLedger, line: bytes) -> None:
    lines = ledger.path.read_bytes().splitlines()
    ledger.path.write_bytes(b"\n".join([lines[0], line, lines[2]]) + b"\n")
    with pytest.raises(DataError, match=r"ledger:2: this line is damaged .* remove the line, and its row is asked"):
        SurveyLedger.open(ledger.path, IDENTITY)
    ledger.path.write_bytes(b"\n".join([b"{", *lines[1:]]) + b"\n")
    with pytest.raises(DataError, match="ledger:1: this is not the first line"):
        SurveyLedger.open(ledger.path, IDENTITY)


def test_a_digit_that_a_disk_has_changed_is_no_score(ledger: SurveyLedger) -> None:
    whole = ledger.path.read_bytes()
    for place, number in ((b'"accuracy": 1.0', 2), (b'"k": 2', 1)):
        at = whole.index(place) + len(place) - 1
        ledger.path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(DataError, match=rf"ledger:{number}: .*its checksum is wrong.*remove"):
            SurveyLedger.open(ledger.path, IDENTITY)


def test_a_ledger_of_something_else_is_refused_once_it_holds_something(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    SurveyLedger.open(path, {"k": 1})
    ledger = SurveyLedger.open(path, IDENTITY)  # the start before got no answer: there is nothing to keep apart
    ledger.append("x", "p", (GOOD,))
    with pytest.raises(ConfigError, match=r"k is 2 there, 3 here; the rows of a\.jsonl changed\. Restore"):
        SurveyLedger.open(path, {"k": 3, "rows": {"a.jsonl": "2"}})
