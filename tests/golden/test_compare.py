"""Where two golden files differ, and how that is told."""

from __future__ import annotations

import copy
import math
from pathlib import Path

from .compare import Tolerance, differences, read, told, write
from .made_with import differences as other_origin
from .parting import until_they_part

RECORDED = {"loss": [0.5, 1.5], "ids": [1, 2, 3], "text": "Give the letter.", "right": True, "sha256": "ab"}
NEAR = Tolerance(1e-6, 1e-6)


def changed(**values):
    return {**RECORDED, **values}


def places(found, tolerance=None):
    return [str(one) for one in differences(RECORDED, found, tolerance)]


def test_equal_contents_differ_nowhere(tmp_path: Path) -> None:
    write(tmp_path / "a.gz", {"torch": "2"}, {**RECORDED, "nan": math.nan, "text": "\ud800 lone, \u00e9"})
    made_with, content = read(tmp_path / "a.gz")
    assert made_with == {"torch": "2"}
    assert list(differences(content, read(tmp_path / "a.gz")[1], None)) == []
    write(tmp_path / "b.gz", made_with, content)
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


def test_a_float_is_exact_or_near() -> None:
    near, far = changed(loss=[0.5, 1.5000001]), changed(loss=[0.5, -1.5])
    assert places(near) == ["  loss[1]\n    recorded 1.5\n    found    1.5000001"]
    assert places(near, NEAR) == []
    (one,) = places(far, NEAR)
    assert "loss[1]" in one and "found    -1.5, -3 from it; accepted is within 1e-06 + 1e-06 times the value" in one
    assert places(changed(loss=[0.5, math.nan]), NEAR) and places(changed(loss=[0.5, math.inf]), NEAR)


def test_all_else_is_exact_with_a_tolerance_too() -> None:
    for tolerance in (None, NEAR):
        (one,) = places(changed(ids=[1, 9, 3]), tolerance)
        assert one == "  ids, from position 1\n    recorded [1, 2, 3]\n    found    [1, 9, 3]"
        (one,) = places(changed(text="Give the number."), tolerance)
        assert one.startswith("  text, from position 9\n    recorded 'Give the letter.'")
        assert places(changed(right=False), tolerance) == ["  right\n    recorded True\n    found    False"]
        assert places(changed(right=1), tolerance) == ["  right\n    recorded True\n    found    1"]
        assert places(changed(new=3), tolerance) == ["  new\n    recorded nothing\n    found    3"]
        assert places(changed(loss=[0.5]), tolerance) == ["  loss[1]\n    recorded 1.5\n    found    nothing"]
    assert len(places(changed(sha256="cd"))) == 1
    assert places(changed(sha256="cd"), NEAR) == [], "digests of floats say nothing where floats may differ"


def test_a_long_list_is_shown_where_it_parts() -> None:
    ids = list(range(500))
    (one,) = differences({"ids": ids}, {"ids": [*ids[:250], 7, *ids[250:]]}, None)
    assert one.key == "ids, from position 250 (length 500, now 501)"
    assert len(one.found) < 100 and "249, 7, 250" in one.found


def test_a_message_shows_the_first_difference_of_every_record() -> None:
    recorded = {name: {"values": [1.0, 2.0], "text": "same"} for name in "abc"}
    found = {name: {"values": [-1.0, -2.0], "text": "same"} for name in "abc"}
    assert told(list(differences(recorded, found, None)), 2).splitlines() == [
        "  a > values[0]",
        "    recorded 1.0",
        "    found    -1.0",
        "    (and 1 more in a > values)",
        "  b > values[0]",
        "    recorded 1.0",
        "    found    -1.0",
        "    (and 1 more in b > values)",
        "  ... and 2 more places, the last of them c > values[0]",
    ]


def test_what_two_origins_differ_in() -> None:
    assert other_origin({"torch": "2", "numpy": "1"}, {"torch": "2", "numpy": "1"}) == []
    assert other_origin({"torch": "2"}, {"torch": "3"}) == ["torch 2 there, 3 here"]


def run_of(responses: str) -> dict:
    steps = {
        str(number): {"metrics": {"step": number}, "rollouts": [{"trajectories": [{"response": response}]}]}
        for number, response in enumerate(responses, 1)
    }
    stages = {name: {"steps": copy.deepcopy(steps), "weights": {}} for name in ("01-a", "02-b")}
    return {"stages": stages, "evaluations": {"before": [], "01-a": [], "02-b": []}}


def test_runs_are_compared_until_a_drawn_token_parts_them() -> None:
    recorded, found = run_of("abcdefgh"), run_of("abcdefgh")
    assert until_they_part(recorded, found) == (recorded, found, "")
    steps = found["stages"]["02-b"]["steps"]
    steps["7"]["rollouts"][0]["trajectories"][0]["response"] = "other"
    theirs, mine, note = until_they_part(recorded, found)
    assert "at step 7 of 02-b" in note and theirs == mine
    assert theirs["stages"]["01-a"] == recorded["stages"]["01-a"]
    assert list(theirs["stages"]["02-b"]["steps"]) == list("123456") and "weights" not in theirs["stages"]["02-b"]
    assert set(theirs["evaluations"]) == {"before", "01-a"}
    steps["3"]["rollouts"][0]["trajectories"][0]["response"] = "too early"
    assert until_they_part(recorded, found) == (recorded, found, "")
