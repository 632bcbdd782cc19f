"""``evr1 eval report`` on results on disk."""

from __future__ import annotations

from pathlib import Path

from tests.evaluation.results import answered, certificate, write_result
from typer.testing import CliRunner

from easyvideor1.cli.app import app

RUN = CliRunner(env={"COLUMNS": "200"})


def test_report_is_written_as_five_files(tmp_path: Path) -> None:
    for model, right in (("small", 10), ("large", 20)):
        records = [answered(i, "A" if i < right else "B") for i in range(24)]
        write_result(tmp_path / "out", certificate(model), records)
    done = RUN.invoke(app, ["eval", "report", str(tmp_path / "out"), "--out", str(tmp_path / "report")])
    assert done.exit_code == 0, done.output
    written = sorted(path.name for path in (tmp_path / "report").iterdir())
    assert written == ["report.csv", "report.html", "report.json", "report.md", "report.tex"]
    assert all(name in done.stdout for name in written)
    assert "| large | **83.3 [" in (tmp_path / "report" / "report.md").read_text()


def test_place_without_results_is_refused(tmp_path: Path) -> None:
    done = RUN.invoke(app, ["eval", "report", str(tmp_path), "--out", str(tmp_path / "report")])
    assert done.exit_code != 0 and "no result" in done.output + done.stderr
    done = RUN.invoke(app, ["eval", "report", str(tmp_path / "none")])
    assert done.exit_code != 0 and "no such directory" in done.output + done.stderr
    assert not (tmp_path / "report" / "report.html").exists()
