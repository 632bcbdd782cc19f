"""A file of verdicts gives back what was put into it."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from easyvideor1.curation.filters import Verdict
from easyvideor1.curation.verdicts import VerdictFile, filter_identity
from easyvideor1.registry import load_attribute
from easyvideor1.types import ConfigError, MediaRef, OfflineTrajectory, Sample

SAMPLE = Sample("a", "?", "open_ended", "A")
IDENTITY = {"filter": "own:one", "code": "c"}


def test_traces_keep_their_turns_and_log_probs(tmp_path: Path) -> None:
    traces = (OfflineTrajectory("end", before=("first", "second")), OfflineTrajectory("one", (-0.5, -0.25)))
    verdict = Verdict(True, columns={"n": 1}, traces=traces)
    VerdictFile.open(tmp_path / "v.jsonl", IDENTITY).add(SAMPLE, verdict)
    assert VerdictFile.open(tmp_path / "v.jsonl", IDENTITY).get(SAMPLE) == verdict


def test_a_row_whose_video_was_replaced_is_judged_again(tmp_path: Path) -> None:
    video = tmp_path / "clip.mp4"
    video.write_bytes(b"one")
    sample = replace(SAMPLE, media=(MediaRef("video", str(video)),))
    verdicts = VerdictFile.open(tmp_path / "v.jsonl", IDENTITY)
    verdicts.add(sample, Verdict(True))
    assert verdicts.get(sample) == Verdict(True)
    video.write_bytes(b"another")
    assert verdicts.get(sample) is None
    video.unlink()
    assert verdicts.get(sample) is None


def test_the_identity_of_a_filter_is_all_of_its_package_and_what_it_says(tmp_path: Path, monkeypatch) -> None:
    package = tmp_path / "judging_rows"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "prompt.py").write_text("TEXT = 'is it good?'")
    (package / "own.py").write_text(
        "def keep(sample):\n    return True\n\nkeep.identity = lambda: VERSION\nVERSION = 'a'\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    keep = load_attribute("judging_rows.own:keep")
    first = filter_identity("judging_rows.own:keep", keep)
    assert first["identity"] == "a" and filter_identity("judging_rows.own:keep", keep) == first
    VerdictFile.open(tmp_path / "v.jsonl", first).add(SAMPLE, Verdict(True))
    (package / "prompt.py").write_text("TEXT = 'is it bad?'")
    changed = filter_identity("judging_rows.own:keep", keep)
    with pytest.raises(ConfigError, match="whose code changed since"):
        VerdictFile.open(tmp_path / "v.jsonl", changed)
    sys.modules["judging_rows.own"].VERSION = "b"
    assert filter_identity("judging_rows.own:keep", keep) == {**changed, "identity": "b"}
    assert "identity" not in filter_identity("judging_rows.own:keep", type("Own", (), {"identity": keep}))
    sys.modules["judging_rows.own"].VERSION = 3
    with pytest.raises(ConfigError, match="it must return a text"):
        filter_identity("judging_rows.own:keep", keep)
