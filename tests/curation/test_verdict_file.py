"""A file of verdicts gives back what was put into it."""

from __future__ import annotations

from pathlib import Path

from easyvideor1.curation.filters import Verdict
from easyvideor1.curation.verdicts import VerdictFile
from easyvideor1.types import OfflineTrajectory, Sample

SAMPLE = Sample("a", "?", "open_ended", "A")
IDENTITY = {"filter": "own:one", "code": "c"}


def test_traces_keep_their_turns_and_log_probs(tmp_path: Path) -> None:
    traces = (OfflineTrajectory("end", before=("first", "second")), OfflineTrajectory("one", (-0.5, -0.25)))
    verdict = Verdict(True, columns={"n": 1}, traces=traces)
    VerdictFile.open(tmp_path / "v.jsonl", IDENTITY).add(SAMPLE, verdict)
    assert VerdictFile.open(tmp_path / "v.jsonl", IDENTITY).get(SAMPLE) == verdict
