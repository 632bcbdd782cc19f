"""docs/benchmarks.md: its table is that of the registry, and its example works as it stands there."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from tests.video.clips import write_clip
from typer.testing import CliRunner

from easyvideor1.benchmarks import open_benchmark
from easyvideor1.benchmarks.metrics import Answered
from easyvideor1.cli.app import app
from easyvideor1.config.schema import RunConfig
from easyvideor1.records.trajectories import TrajectoryRecord, sample_record
from easyvideor1.types import Score

GUIDE = Path(__file__).parents[2] / "docs/benchmarks.md"
RUN = CliRunner()


def test_the_table_is_that_of_the_registry() -> None:
    table = re.search(r"<!-- benchmarks -->\n(.*)<!-- end of benchmarks -->", GUIDE.read_text(), re.DOTALL)
    assert table is not None
    printed = RUN.invoke(app, ["eval", "list", "--markdown"]).stdout
    assert table[1].strip() == printed.strip(), "put what `evr1 eval list --markdown` prints into docs/benchmarks.md"


def test_the_example_is_prepared_and_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    code = re.search(r"```python\n# my_benchmark.py\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    assert code is not None
    (tmp_path / "my_benchmark.py").write_text(code[1])
    release = tmp_path / "kitchen"
    (release / "clips").mkdir(parents=True)
    write_clip(release / "clips/one.mp4", 4)
    lines = ["id,clip,question,a,b,c,d,right,kind", "1,one,What boils?,tea,milk,soup,eggs,C,cook"]
    lines += ["2,one,Who stirs?,Ann,Ben,Cem,Dee,A,people", "3,one,Who eats?,Ann,Ben,Cem,Dee,B,people"]
    (release / "questions.csv").write_text("\n".join(lines) + "\n")
    done = RUN.invoke(app, ["eval", "prepare", "my_benchmark:KITCHEN", "--from", str(release)])
    assert done.exit_code == 0, done.stderr
    assert "evr1 eval CONFIG.yaml --data my_benchmark:KITCHEN=" in done.stdout
    benchmark = open_benchmark(f"my_benchmark:KITCHEN={release}")
    samples = benchmark.load(benchmark.configure(RunConfig())).samples
    assert [sample.options[2] for sample in samples] == ["C. soup", "C. Cem", "C. Cem"]
    answered = []
    for sample, accuracy in zip(samples, (1.0, 1.0, 0.0), strict=True):
        response = TrajectoryRecord("", 0, "stop", Score(accuracy, 1.0, accuracy))
        answered.append(Answered(sample_record(sample, greedy=response), response))
    assert [metric(answered) for metric in benchmark.metrics] == [pytest.approx(2 / 3), 0.75]
