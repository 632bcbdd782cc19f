"""What a newcomer copies from the README works: the quickstart, the three files, the commands, the Python lines."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SMALL = [
    "stages.grpo.steps=2",
    "stages.grpo.prompts_per_step=4",
    "stages.grpo.group_size=4",
    "evaluation.max_samples=16",
    "threads=1",
]

pytestmark = pytest.mark.model


def evr1(*words, cwd):
    """Run ``evr1`` as a user does, in a process of its own."""
    command = [sys.executable, "-m", "easyvideor1.cli", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=environment, check=False)


def rows_of(file):
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A directory in which a small quickstart has been run, and the README's Python files lie."""
    directory = tmp_path_factory.mktemp("newcomer")
    done = evr1("quickstart", *SMALL, cwd=directory)
    assert done.returncode == 0, done.stderr
    (directory / "shown.txt").write_text(done.stdout)
    for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        if named := re.match(r"# (my_\w+\.py)\n", block):
            (directory / named[1]).write_text(block, encoding="utf-8")
    return directory


def test_quickstart_leaves_a_whole_run_directory(home):
    run = home / "runs" / "quickstart" / "run-0"
    summary = json.loads((run / "summary.json").read_text())
    assert summary["seed"] == 0
    assert summary["steps"] == 2
    assert summary["seconds"] > 0
    for moment in ("before", "after"):
        low, high = summary[f"accuracy_{moment}_interval"]
        assert 0 <= low <= summary[f"accuracy_{moment}"] <= high <= 1
    for name in ("config.yaml", "run.json", "data_report.json", "curves.png", "report.html"):
        assert (run / name).stat().st_size > 0
    rollouts = [
        json.loads(line) for line in (run / "stages/01-grpo/rollouts/step_000001.jsonl").read_text().splitlines()
    ]
    assert len(rollouts) == 4
    assert all(len(row["trajectories"]) == 4 for row in rollouts)
    assert "data:image" in (run / "report.html").read_text(encoding="utf-8")


def test_the_users_own_functions_are_used(home):
    command = re.search(r"evr1 train quickstart name=mine (.*?)\n```", README, re.DOTALL)
    words = command[1].replace("\\\n", " ").split()
    done = evr1("train", "quickstart", "name=mine", *words, *SMALL, cwd=home)
    assert done.returncode == 0, done.stderr
    run = home / "runs" / "mine" / "run-0"
    metrics = rows_of(run / "stages/01-grpo/metrics.jsonl")
    assert all("policy/ratio" in row and "policy/clip_fraction" not in row for row in metrics if "loss" in row)
    groups = [
        json.loads(line)
        for file in sorted(run.glob("stages/*/rollouts/*.jsonl"))
        for line in file.open(encoding="utf-8")
    ]
    choices = [t["score"] for row in groups if row["task"] == "multiple_choice" for t in row["trajectories"]]
    assert choices
    for score in choices:
        assert score["total"] == pytest.approx(0.8 * score["accuracy"] + 0.2 * score["format"])
    for row in groups:
        if row["used"]:
            totals = [t["score"]["total"] for t in row["trajectories"]]
            mean = sum(totals) / len(totals)
            assert [t["advantage"] for t in row["trajectories"]] == pytest.approx([x - mean for x in totals], abs=1e-6)


def test_the_python_lines_run(home):
    (block,) = (b for b in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "Components.open" in b)
    done = subprocess.run([sys.executable, "-c", block], cwd=home, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "(8, 64, 64, 3)" in done.stdout


def test_own_videos(home):
    """Every command of the section, as it is typed; training is cut short, as in the other tests."""
    section = README.partition("## Train on your own videos\n")[2].partition("\n## ")[0]
    script = "\n".join(re.findall(r"```bash\n(.*?)```", section, re.DOTALL))
    script, cut = re.subn(r"^evr1 train .*$", r"\g<0> stages.grpo.steps=2 threads=1", script, flags=re.MULTILINE)
    assert cut == 1
    (home / "bin").mkdir()
    command = home / "bin/evr1"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m easyvideor1.cli "$@"\n')
    command.chmod(0o755)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PATH": f"{command.parent}{os.pathsep}{os.environ['PATH']}"}
    words = ["bash", "-ec", script]
    done = subprocess.run(words, cwd=home, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    rows = [row for split in ("train", "test") for row in rows_of(home / f"my_data/{split}.jsonl")]
    assert len(rows) == 6 and len({row["videos"][0] for row in rows}) == 3
    assert "cache/frames: 3 built, 0 present, 0 failed" in done.stdout
    assert len(rows_of(home / "runs/first/stages/01-grpo/metrics.jsonl")) == 2
    assert "checkpoint: runs/first/stages/01-grpo/checkpoints/step_000002, the last complete one" in done.stderr
    assert "test: 2 questions, 0 refused, 0 failed" in done.stdout
    known = {key for row in rows for key in row}
    assert known <= set(re.findall(r"`(\w+)`", section.partition("| column | |")[2].partition("\n\n")[0]))


def test_the_quickstart_ends_with_a_command_that_works(home):
    *_, last = home.joinpath("shown.txt").read_text().splitlines()
    typed = shlex.split(last.removeprefix("next: "))
    assert last.startswith("next: ") and (typed[0] == "evr1" or Path(home, typed[0]).name == "evr1")
    done = evr1("config", "show", *typed[2:], cwd=home)
    assert done.returncode == 0 and "name: short" in done.stdout


def test_every_command_of_the_table_exists(home):
    shown = evr1("--help", cwd=home).stdout
    verbs = set(re.findall(r"^\| `evr1 (\w+)", README, re.MULTILINE))
    assert {"quickstart", "train", "eval", "cache", "toyworld", "export", "doctor", "config"} <= verbs
    assert all(verb in shown for verb in verbs)
