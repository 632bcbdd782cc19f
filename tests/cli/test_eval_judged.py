"""evr1 eval prepare and run on a benchmark whose answers a judge grades, from a release to the printed numbers."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.benchmarks.releases import verdict
from tests.benchmarks.releases.video_mmlu import FIXTURES
from tests.rewards.judge_server import Server, chat
from typer.testing import CliRunner

from easyvideor1.cli.app import app
from easyvideor1.config import write_config
from easyvideor1.evaluation.certificate import Result, find_results
from training.runs import OWN_PARTS, World

pytestmark = pytest.mark.model

RUN = CliRunner()


def behave(number: int, body: dict[str, Any]) -> tuple[int, dict[str, str], str]:
    """A model with one caption for all videos, and a judge that reads "X" in it and finds it right; the question about
    a ball gets no verdict."""
    if body["model"] == "captioner":
        return chat("On the board stands X.")
    if len(body["messages"]) == 1:
        return chat("ready")
    system, user = (message["content"] for message in body["messages"][:2])
    if "Reply with the answer alone" in user:
        return chat("X")
    return chat("I cannot say.") if "What falls?" in user else chat(verdict(system, correct=True, score=5))


def test_captions_are_judged_and_a_missing_verdict_counts_and_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_parts.py").write_text(OWN_PARTS)
    release = FIXTURES[0].write(tmp_path / "release")
    video = next(row["videos"][0] for row in world.read("validation") if row["videos"])
    (release / "youtube_videos").mkdir()
    for name in ("a", "b", "c"):
        shutil.copy(video, release / "youtube_videos" / f"{name}.mp4")
    prepared = RUN.invoke(app, ["eval", "prepare", "video_mmlu", "--from", str(release)])
    assert prepared.exit_code == 0, prepared.output
    write_config(world.short(), tmp_path / "run.yaml")
    server = Server(behave)
    words = ["eval", "run", "run.yaml", "evaluation.samples=0", "evaluation.max_failed=0.5", "rollout.engine=endpoint"]
    words += [f"rollout.endpoint.url={server.url}", "rollout.endpoint.model=captioner"]
    words += ["--data", f"video_mmlu={release}", "--out", str(tmp_path / "out")]
    try:
        shutil.move(release / "evr1", tmp_path / "prepared")
        done = RUN.invoke(app, words)
        assert done.exit_code == 2 and not server.bodies
        assert "benchmark video_mmlu: its answers are graded by a language model: set rewards.judge.url" in done.stderr
        gone = Server(behave)
        gone.close()
        away = (f"rewards.judge.url={gone.url}", "rewards.judge.model=m", "rewards.judge.retries=1")
        done = RUN.invoke(app, [*words, *away])
        assert done.exit_code == 2 and not server.bodies
        assert f"benchmark video_mmlu: the judge at {gone.url} does not answer" in done.stderr
        assert "in 2 attempts - start it, or correct rewards.judge: url" in done.stderr
        assert not (release / "evr1").exists() and "checking rows" not in done.stderr
        shutil.move(tmp_path / "prepared", release / "evr1")
        judge = (f"rewards.judge.url={server.url}", "rewards.judge.model=m", "rewards.judge.retries=0")
        with pytest.warns(RuntimeWarning, match="the judge's reply is no verdict"):
            done = RUN.invoke(app, [*words, *judge])
    finally:
        server.close()
    assert done.exit_code == 0, done.output
    (found,) = map(Result.load, find_results([tmp_path / "out"]))
    scores = {record.sample: record.greedy.score for record in found.evaluation.records if record.greedy}
    assert [scores[name].applicable for name in ("a.mp4", "b.mp4", "c.mp4")] == [True, True, False]
    assert "1 with not scored: the judge's reply is no verdict: c.mp4" in done.stdout
    # All three questions of Math are right; the one of Physics has no verdict and stays in the mean.
    assert "overall 50.00" in done.stdout
    # Of the three answers "X" one is the reference word by word: in a caption with two questions, half of it.
    assert "agree on 25.0% of 2 judged answers: right by the judge alone 1.5" in done.stdout
