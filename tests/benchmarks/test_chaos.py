"""The chaos suite finds what it is made for: damage it does is damage, and a broken promise is told and kept."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.chaos.commands import Template, commands, write_template
from benchmarks.chaos.faults import FAULTS, damaged
from benchmarks.chaos.judge import Judge
from benchmarks.chaos.rounds import Reference, Round, Violation, differences
from benchmarks.chaos.starts import End

ROOT = Path(__file__).parents[2]


def chaos(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.chaos", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_damage_is_damage_and_follows_from_the_seed() -> None:
    content = bytes(range(1, 256)) * 8
    for seed in range(50):
        found = damaged(content, random.Random(seed))
        assert found != content and found == damaged(content, random.Random(seed))
    assert damaged(b"", random.Random(0)) == b""


@pytest.mark.parametrize(
    ("status", "said", "well"),
    [
        (2, "error: out: Read-only file system - choose another place\n", True),
        (3, "warning\nerror: the judge is gone\n", True),
        (1, "error: out: x\n", False),
        (2, "Traceback (most recent call last):\nerror: x\n", False),
        (2, "Killed\n", False),
        (-11, "error: x\n", False),
    ],
)
def test_a_stop_needs_a_sentence_and_its_status(status: int, said: str, well: bool) -> None:
    assert End(status, said).stopped_well is well


def test_differences_are_named() -> None:
    wanted = {"a": b"1", "b": b"2", "c": b"3"}
    assert differences(wanted, {"a": b"1", "b": b"4", "d": b"5"}) == "c is missing; d is new; b is another"


@pytest.mark.model
def test_another_outcome_is_a_violation(tmp_path: Path) -> None:
    judge = Judge(tmp_path / "judge.log")
    try:
        write_template(tmp_path / "template", judge.url)
        template = Template(tmp_path / "template")
        template.copy(tmp_path / "place")
        command = commands(judge.url)["cache build"]
        wanted = Reference({"00/entry.safetensors": b"1"}, 1.0)
        round_ = Round(tmp_path / "place", command, wanted, template, judge, random.Random(0))
        with pytest.raises(Violation, match=r"the outcome differs: 00/entry.safetensors is missing; .* is new"):
            round_.finish()
        right = Reference(command.outcome(round_.out), 1.0)
        Round(tmp_path / "place", command, right, template, judge, random.Random(0)).finish()
        template.lose_media(tmp_path / "place")
        shutil.rmtree(round_.out / "frames")
        lost = Round(tmp_path / "place", command, right, template, judge, random.Random(0))
        with pytest.raises(Violation, match="with everything mended it still stops"):
            lost.finish()
    finally:
        judge.close()


def test_every_fault_is_of_one_kind() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
    assert all((fault.disturb is None) != (fault.on_disk is None) for fault in FAULTS)


@pytest.mark.slow
@pytest.mark.model
def test_a_few_rounds_hold_and_come_again(tmp_path: Path) -> None:
    names = ("killed", "damaged frames", "damaged response ledger")
    only = [word for name in names for word in ("--fault", name)]
    done = chaos("--rounds", "6", "--seed", "1", "--work", str(tmp_path / "work"), *only)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^\| all \| 6 \| .* \| 0 \|$", done.stdout, re.MULTILINE)
    kinds = re.findall(r"^ +\d+ ([\w ]+, [\w ]+): ", done.stdout, re.MULTILINE)
    assert len(kinds) == 6
    again = chaos("--rounds", "1", "--first", "4", "--seed", "1", "--work", str(tmp_path / "again"), *only)
    assert re.findall(r"^ +4 ([\w ]+, [\w ]+): ", again.stdout, re.MULTILINE) == kinds[4:5]
