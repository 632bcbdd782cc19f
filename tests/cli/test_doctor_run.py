"""evr1 doctor RUN: what is whole passes; what is not is named, with what it means and what to do."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from easyvideor1.cli.app import app
from easyvideor1.cli.doctor_run import check_run
from easyvideor1.cli.findings import Finding
from easyvideor1.files import seal
from easyvideor1.locks import file_lock
from training.runs import OWN_PARTS, World, train

pytestmark = pytest.mark.model

RUN = CliRunner(env={"COLUMNS": "300"})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two stages, in the working directory that it was made in. Read only."""
    place = tmp_path_factory.mktemp("doctor")
    (place / "own_parts.py").write_text(OWN_PARTS)
    before = Path.cwd()
    os.chdir(place)
    try:
        train(World(place).config())
    finally:
        os.chdir(before)
    return place / "runs/small"


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "run"))


def content(run: Path) -> dict[str, bytes]:
    return {path.relative_to(run).as_posix(): path.read_bytes() for path in run.rglob("*") if path.is_file()}


def findings(run: Path) -> dict[str, Finding]:
    return {found.subject: found for found in check_run(run)}


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def set_json(file: Path, key: str, value: object) -> None:
    """Change a value of a JSON file; ``key`` may be dotted."""
    values = json.loads(file.read_text())
    *sections, last = key.split(".")
    at = values
    for section in sections:
        at = at[section]
    at[last] = value
    file.write_text(json.dumps(seal(values) if "checksum" in values else values))


def test_a_whole_run_passes_and_stays_as_it_is(whole: Path) -> None:
    before = content(whole)
    done = RUN.invoke(app, ["doctor", str(whole)])
    assert done.exit_code == 0, done.output
    assert content(whole) == before
    lines = done.stdout.splitlines()
    assert {line.split()[0] for line in lines[1:]} == {"ok"}
    for subject in (
        "lock",
        "config.yaml",
        "run.json",
        "data_report.json",
        "stages/01-sft/metrics.jsonl",
        "stages/01-sft/checkpoints/step_000003",
        "stages/02-grpo/rollouts",
        "stages/02-grpo/timings.jsonl",
        "evaluations/before",
        "evaluations/grpo-000004",
        "summary.json",
        "curves.png",
        "report.html",
    ):
        assert any(f" {subject} " in line for line in lines), subject
    assert "python" not in done.stdout, "the machine is not asked about"


def cut(name: str) -> Callable[[Path], object]:
    return lambda run: (run / name).write_bytes((run / name).read_bytes()[:-40])


def remove(name: str) -> Callable[[Path], object]:
    return lambda run: (run / name).unlink()


_LAST = "stages/02-grpo/checkpoints/step_000004"
DAMAGES: dict[str, tuple[Callable[[Path], object], str, str, str]] = {
    "config without a key": (
        lambda run: edit(run / "config.yaml", "seed: 7", "sede: 7"),
        "config.yaml",
        "sede",
        "restore it from a backup",
    ),
    "config of another seed": (
        lambda run: edit(run / "config.yaml", "seed: 7", "seed: 8"),
        "config.yaml and the record",
        "the seed is 8, but 7 in run.json",
        "restore the original config.yaml",
    ),
    "run.json cut": (cut("run.json"), "run.json", "not the status of a run", "resume the run"),
    "data report gone": (remove("data_report.json"), "data_report.json", "missing", "run the command of this run"),
    "stage gone": (
        lambda run: shutil.rmtree(run / "stages/01-sft"),
        "stages/01-sft",
        "missing, although later stages exist",
        "from a backup",
    ),
    "metrics broken": (
        lambda run: edit(run / "stages/01-sft/metrics.jsonl", '{"step": 2', '{"st": 2'),
        "stages/01-sft/metrics.jsonl",
        "line 2 is no row of a step (field 'step' is missing or no whole number); no row of step 2: the curves",
        "nothing else needs to be done",
    ),
    "clocks cut": (cut("stages/02-grpo/timings.jsonl"), "stages/02-grpo/timings.jsonl", "no row of step 4", "backup"),
    "rollouts cut": (
        cut("stages/01-sft/rollouts/step_000001.jsonl"),
        "stages/01-sft/rollouts/step_000001.jsonl",
        "truncated; 1 of 2 groups can be read",
        "backup",
    ),
    "last checkpoint": (
        cut(f"{_LAST}/model.safetensors"),
        _LAST,
        "model.safetensors is not what was written (its SHA-256 differs): the result of this stage is lost",
        "which resumes after step 2",
    ),
    "earlier checkpoint": (
        remove("stages/02-grpo/checkpoints/step_000002/optimizer.safetensors"),
        "stages/02-grpo/checkpoints/step_000002",
        "optimizer.safetensors is missing: not needed, because step 4 is intact",
        "remove it",
    ),
    "last checkpoint gone": (
        lambda run: shutil.rmtree(run / _LAST),
        "stages/02-grpo/checkpoints",
        "the last checkpoint, of step 4, is missing",
        "which repeats the steps after 2",
    ),
    "test answers cut": (
        cut("evaluations/before.jsonl"),
        "evaluations/before",
        "before.jsonl: has 3 rows where before.json says 4",
        "which repeats it",
    ),
    "validation gone": (
        remove("evaluations/sft-000002.json"),
        "evaluations/sft-000002",
        "sft-000002.json is missing",
        "metrics.jsonl still has its accuracies",
    ),
    "totals changed": (
        lambda run: set_json(run / "evaluations/02-grpo.json", "greedy.mean", 0.875),
        "evaluations/02-grpo",
        "greedy.mean is 0.875 in 02-grpo.json, but its answers give",
        "remove",
    ),
    "summary changed": (
        lambda run: set_json(run / "summary.json", "accuracy_after", 1.0),
        "summary.json",
        "accuracy_after is 1.0, but",
        "which computes it again",
    ),
    "summary gone": (remove("summary.json"), "summary.json", "missing", "which computes it again"),
    "report cut": (cut("report.html"), "report.html", "truncated or overwritten", "evr1 report"),
    "curves gone": (remove("curves.png"), "curves.png", "missing", "evr1 report"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_named_with_its_meaning_and_remedy(run: Path, damage: str) -> None:
    hurt, subject, detail, remedy = DAMAGES[damage]
    hurt(run)
    before = content(run)
    broken = {name: found for name, found in findings(run).items() if found.state == "broken"}
    assert subject in broken
    assert detail in broken[subject].detail and remedy in broken[subject].remedy
    assert len(broken) == 1, broken
    done = RUN.invoke(app, ["doctor", str(run)])
    assert done.exit_code == 1
    assert f"{len(broken)} broken" in done.stderr and subject in done.stdout
    assert content(run) == before


def test_the_report_and_the_next_start_do_what_the_doctor_says(run: Path, whole: Path, monkeypatch) -> None:
    """Damage of every kind that can be made good; afterwards the doctor finds nothing."""
    monkeypatch.chdir(run.parent)
    monkeypatch.syspath_prepend(str(whole.parents[1]))
    (run.parent / "runs").mkdir()
    run = run.rename(run.parent / "runs/small")
    cut("report.html")(run)
    cut("evaluations/before.jsonl")(run)
    cut(f"{_LAST}/model.safetensors")(run)
    remove("data_report.json")(run)
    (run / "stages/02-grpo/checkpoints/.step_000004.0123abcd.tmp").mkdir()
    found = findings(run)
    assert sum(one.state == "broken" for one in found.values()) == 4
    assert found["temporary files"].state == "note"
    shutil.copy(run / "config.yaml", "again.yaml")
    done = RUN.invoke(app, ["train", "again.yaml"])
    assert done.exit_code == 0, done.stderr
    assert [one for one in findings(run).values() if one.state == "broken"] == []
    assert findings(run)["run.json"].detail == "finished; 2 starts, which found or repaired 2 damaged items"
    assert RUN.invoke(app, ["doctor", "runs/small"]).exit_code == 0


def test_a_run_that_is_under_way_is_no_damage(run: Path) -> None:
    """Killed in the second stage: rollouts of a step without metrics, a torn line, no summary."""
    set_json(run / "run.json", "stage", "02-grpo")
    stage = run / "stages/02-grpo"
    shutil.rmtree(stage / "checkpoints/step_000004")
    for name in ("metrics.jsonl", "timings.jsonl"):
        lines = (stage / name).read_bytes().splitlines(keepends=True)
        (stage / name).write_bytes(b"".join(lines[:2]) + lines[2][:30])
    (stage / "rollouts/step_000004.jsonl").unlink()
    for name in (
        "summary.json",
        "report.html",
        "curves.png",
        "evaluations/02-grpo.json",
        "evaluations/grpo-000004.json",
    ):
        (run / name).unlink()
    found = findings(run)
    assert [one for one in found.values() if one.state == "broken"] == []
    assert found["summary.json"].state == "note"
    assert RUN.invoke(app, ["doctor", str(run)]).exit_code == 0
    with file_lock(run / ".lock") as ours:
        assert ours
        assert findings(run)["lock"].detail.startswith("a process is using this run")
    assert findings(run)["lock"].state == "ok"


def test_what_is_no_run_is_refused(tmp_path: Path, run: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = RUN.invoke(app, ["doctor", str(tmp_path / "empty")])
    assert done.exit_code == 2 and "neither a run directory" in done.stderr
    done = RUN.invoke(app, ["doctor", str(run), "seed=8"])
    assert done.exit_code == 2 and "remove 'seed=8'" in done.stderr


def test_a_run_whose_length_is_in_epochs_is_as_long_as_it_was_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_parts.py").write_text(OWN_PARTS)
    monkeypatch.chdir(tmp_path)
    train(World(tmp_path).short(stages__0__steps=None, stages__0__epochs=0.3))
    whole = tmp_path / "runs/small"
    steps = json.loads((whole / "run.json").read_text())["steps"]["rl"]
    found = findings(whole)
    assert {one.state for one in found.values()} == {"ok"}, found
    assert found["stages/01-rl/metrics.jsonl"].detail.endswith(f"{steps}")
    shutil.rmtree(whole / f"stages/01-rl/checkpoints/step_{steps:06d}")
    assert f"the last checkpoint, of step {steps}, is missing" in findings(whole)["stages/01-rl/checkpoints"].detail
