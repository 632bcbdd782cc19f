"""evr1 report."""

import json

from typer.testing import CliRunner

from easyvideor1.cli.app import app
from easyvideor1.config import RunConfig, StageConfig, write_config

RUN = CliRunner()


def test_page_and_curves_are_made_again(tmp_path):
    run = tmp_path / "run"
    stage = run / "stages" / "01-rl"
    stage.mkdir(parents=True)
    write_config(RunConfig(name="mine", stages=(StageConfig(name="rl", steps=3),)), run / "config.yaml")
    rows = [{"step": step, "loss": 1 / step, "reward/total": step / 4} for step in (1, 2, 3)]
    (stage / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = RUN.invoke(app, ["report", str(run)])
    assert done.exit_code == 0, done.output
    assert (run / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert "mine" in (run / "report.html").read_text()
    first = (run / "report.html").read_bytes()
    (run / "report.html").unlink()
    RUN.invoke(app, ["report", str(run)])
    assert (run / "report.html").read_bytes() == first


def test_what_is_no_run_is_refused(tmp_path):
    for place in (tmp_path / "none", tmp_path):
        done = RUN.invoke(app, ["report", str(place)])
        assert done.exit_code == 2
        assert "run directory" in done.stderr
    assert list(tmp_path.iterdir()) == []
