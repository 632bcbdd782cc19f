"""evr1 eval run --probe: results of probes beside the real one, compared question by question."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from easyvideor1.cli.app import app
from easyvideor1.config import write_config
from easyvideor1.evaluation.certificate import Result, find_results
from easyvideor1.files import is_sealed
from training.runs import OWN_PARTS, World

pytestmark = pytest.mark.model

RUN = CliRunner()


def of_accuracy(told: dict[str, Any]) -> dict[str, Any]:
    """The difference in accuracy that a probe.json tells."""
    (difference,) = [each for each in told["differences"] if each["metric"] == "accuracy"]
    return dict(difference)


def test_a_benchmark_and_its_probes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_parts.py").write_text(OWN_PARTS)
    write_config(world.short(), tmp_path / "run.yaml")
    words = ["eval", "run.yaml", "--data", world.rows("validation"), "--out", str(tmp_path / "out")]
    done = RUN.invoke(app, [*words, "--probe", "blind", "--probe", "shuffled_frames", "--probe", "blend"])
    assert done.exit_code == 2 and "unknown probe 'blend'" in done.stderr and not (tmp_path / "out").exists()
    done = RUN.invoke(app, [*words, "--probe", "blind", "--probe", "shuffled_frames"])
    assert done.exit_code == 0, done.stderr
    assert "without the video, beside the same" in done.stdout
    found = {result.certificate.benchmark: result for result in map(Result.load, find_results([tmp_path / "out"]))}
    assert set(found) == {"validation", "validation-blind", "validation-shuffled_frames"}
    assert len({result.certificate.digest for result in found.values()}) == 3
    real, blind = found["validation"], found["validation-blind"]
    videos = {record.sample for record in real.evaluation.records if record.modality == "video"}
    assert videos and {record.sample for record in blind.evaluation.records} == videos
    assert all(not record.media for record in blind.evaluation.records)
    told = json.loads((blind.directory / "probe.json").read_text())
    assert is_sealed(told) and told["probe"] == "blind" and told["compared_to"] == real.certificate.digest
    accuracy = {
        name: [r.greedy.score.accuracy for r in result.evaluation.records if r.sample in videos]
        for name, result in found.items()
    }
    difference = of_accuracy(told)
    change = sum(accuracy["validation-blind"]) / len(videos) - sum(accuracy["validation"]) / len(videos)
    assert difference["difference"]["mean"] == pytest.approx(change) and difference["count"] == len(videos)

    # Scored again, by a reward that finds everything right: the differences of both probes follow.
    (tmp_path / "generous.py").write_text(
        "from easyvideor1.types import Score\n\n\ndef all_right(sample, response):\n    return Score(1.0, 1.0, 1.0)\n"
    )
    write_config(world.short(rewards__custom={"*": "generous:all_right"}), tmp_path / "other.yaml")
    done = RUN.invoke(app, ["eval", "rescore", str(real.directory), "--config", "other.yaml"])
    assert done.exit_code == 0, done.output
    scored = len(real.evaluation.records)
    assert f"scoring validation: {scored}/{scored}" in done.stderr
    assert "without the video, beside the same" in done.stdout and "frames in random order" in done.stdout
    told = json.loads((blind.directory / "probe.json").read_text())
    difference = of_accuracy(told)
    assert is_sealed(told) and difference["before"] == 1.0 and not told["scored_alike"]
    assert "note: other rewards scored" in done.stdout
    assert difference["after"] == pytest.approx(sum(accuracy["validation-blind"]) / len(videos))
    # Evaluated again as at first, without a probe: so do they.
    done = RUN.invoke(app, words)
    assert done.exit_code == 0 and done.stdout.count("wrote") == 3, done.output
    difference = of_accuracy(json.loads((blind.directory / "probe.json").read_text()))
    assert difference["before"] == pytest.approx(sum(accuracy["validation"]) / len(videos))
    assert RUN.invoke(app, words).stdout.count("wrote") == 1  # nothing has changed
    shutil.rmtree(real.directory)
    done = RUN.invoke(app, ["eval", "rescore", str(blind.directory)])
    assert done.exit_code == 0 and "removed" in done.stdout and not (blind.directory / "probe.json").exists()
