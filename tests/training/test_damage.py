"""Runs whose files were damaged: what can be had again is made again, and all that cannot is named."""

from __future__ import annotations

import html
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from easyvideor1.evaluation import write_report
from easyvideor1.types import ConfigError

from .runs import World, copy_run, json_lines, lasting, train

pytestmark = pytest.mark.model


def cut(file: Path, share: float = 0.5) -> None:
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])


def spoil_line(file: Path, number: int) -> None:
    lines = file.read_bytes().splitlines(keepends=True)
    lines[number - 1] = lines[number - 1][:25] + b"\n"
    file.write_bytes(b"".join(lines))


def drop_line(file: Path, number: int) -> None:
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[: number - 1] + lines[number:]))


def zero(file: Path) -> None:
    """As a file looks whose pages never reached the disk."""
    file.write_bytes(bytes(file.stat().st_size))


def words(page: Path) -> str:
    return html.unescape(re.sub(r"<[^>]+>", "", page.read_text()))


#: Damage to steps of a finished run that nothing does again; the file and the fault that have to be named.
LOST: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "rollouts cut off": (
        lambda run: cut(run / "stages/01-sft/rollouts/step_000001.jsonl"),
        "stages/01-sft/rollouts/step_000001.jsonl",
        "truncated; 1 of 2 groups can be read",
    ),
    "rollouts cut at the end of a line": (
        lambda run: drop_line(run / "stages/02-grpo/rollouts/step_000002.jsonl", 2),
        "stages/02-grpo/rollouts/step_000002.jsonl",
        "1 of 2 groups can be read",
    ),
    "rollouts gone": (
        lambda run: shutil.rmtree(run / "stages/01-sft/rollouts"),
        "stages/01-sft/rollouts",
        "no file of steps 1 to 3",
    ),
    "rollouts empty": (
        lambda run: cut(run / "stages/02-grpo/rollouts/step_000001.jsonl", 0),
        "stages/02-grpo/rollouts/step_000001.jsonl",
        "empty",
    ),
    "rollouts of zeros": (
        lambda run: zero(run / "stages/02-grpo/rollouts/step_000001.jsonl"),
        "stages/02-grpo/rollouts/step_000001.jsonl",
        "truncated; 0 of 2 groups can be read",
    ),
    "rollouts of another step": (
        lambda run: shutil.copy(
            run / "stages/02-grpo/rollouts/step_000002.jsonl", run / "stages/02-grpo/rollouts/step_000001.jsonl"
        ),
        "stages/02-grpo/rollouts/step_000001.jsonl",
        "line 1 is no group of step 1, and 1 more is bad; 0 of 2 groups can be read",
    ),
    "token arrays gone": (
        lambda run: (run / "stages/02-grpo/rollouts/step_000003.npz").unlink(),
        "stages/02-grpo/rollouts/step_000003.npz",
        "missing; the token arrays of this step are lost",
    ),
    "a broken line of metrics": (
        lambda run: spoil_line(run / "stages/02-grpo/metrics.jsonl", 2),
        "stages/02-grpo/metrics.jsonl",
        "line 2 is not valid JSON (",
    ),
    "a line of metrics gone": (
        lambda run: drop_line(run / "stages/02-grpo/metrics.jsonl", 2),
        "stages/02-grpo/metrics.jsonl",
        "no row of step 2; the curves and the canary miss these lines; the weights do not depend on them",
    ),
    "metrics that end early": (
        lambda run: drop_line(run / "stages/02-grpo/metrics.jsonl", 4),
        "stages/02-grpo/metrics.jsonl",
        "no row of step 4",
    ),
    "metrics gone": (
        lambda run: (run / "stages/01-sft/metrics.jsonl").unlink(),
        "stages/01-sft/metrics.jsonl",
        "no row of steps 1 to 3",
    ),
    "a missing clock": (
        lambda run: drop_line(run / "stages/01-sft/timings.jsonl", 1),
        "stages/01-sft/timings.jsonl",
        "no row of step 1",
    ),
    "answers in training gone": (
        lambda run: (run / "evaluations/grpo-000002.jsonl").unlink(),
        "evaluations/grpo-000002",
        "grpo-000002.jsonl",
    ),
    "totals in training of zeros": (
        lambda run: zero(run / "evaluations/sft-000002.json"),
        "evaluations/sft-000002",
        "sft-000002.json: not valid JSON",
    ),
}


@pytest.mark.parametrize("damage", LOST)
def test_what_is_lost_of_a_finished_run_is_named_and_does_not_end_it(
    finished: Path, world: World, place: Path, damage: str
) -> None:
    run = copy_run(finished, place)
    hurt, where, what = LOST[damage]
    hurt(run)
    before = lasting(run)
    summary, shown = train(world.config())
    assert "is finished" in shown and shown.count("DAMAGED: ") == 1
    assert f"DAMAGED: {where}: {what}" in shown and "`evr1 doctor runs/small` shows remedies" in shown
    assert lasting(run) == before, "what is damaged stays to be looked at"
    assert summary["accuracy_after"] is not None
    page = words(run / "report.html")
    assert "1 file of this run directory is damaged or missing" in page
    assert where in page and what.partition("; ")[0] in page


def test_a_stage_that_is_gone_is_named(finished: Path, world: World, place: Path) -> None:
    run = copy_run(finished, place)
    shutil.rmtree(run / "stages/01-sft")
    _, shown = train(world.config())
    assert "is finished" in shown
    assert "DAMAGED: stages/01-sft: missing; the record of its training is lost" in shown
    (run / "evaluations/before.json").unlink()
    _, shown = train(world.config())
    assert "DAMAGED: evaluations/before: before.json is missing; this evaluation is repeated" in shown
    assert "DAMAGED: stages/01-sft: missing; this stage is repeated" in shown
    assert lasting(run) == lasting(finished)


@pytest.mark.parametrize("name", ["before", "01-sft", "02-grpo"])
@pytest.mark.parametrize("file", ["json", "jsonl"])
def test_a_damaged_evaluation_of_the_test_questions_is_done_again(
    finished: Path, world: World, place: Path, name: str, file: str
) -> None:
    run = copy_run(finished, place)
    cut(run / f"evaluations/{name}.{file}", 0.7)
    told = f"DAMAGED: evaluations/{name}: {name}.{file}"
    write_report(run)
    assert f"{name}.{file}" in words(run / "report.html")
    _, shown = train(world.config())
    assert told in shown and "this evaluation is repeated" in shown
    assert lasting(run) == lasting(finished)
    kept = json.loads((run / "run.json").read_text())["incidents"]
    assert [one["start"] for one in kept] == [2] and kept[0]["text"].startswith(told)
    page = words(run / "report.html")
    assert "Found when the run resumed" in page and told in page
    assert "of this run directory" not in page


def test_a_checkpoint_that_is_passed_over_is_named_with_what_is_done_again(
    finished: Path, world: World, place: Path
) -> None:
    run = copy_run(finished, place)
    stage = run / "stages/02-grpo"
    cut(stage / "checkpoints/step_000004/model.safetensors")
    (stage / "checkpoints/step_000004/optimizer.safetensors").unlink()
    _, shown = train(world.config())
    told = (
        "DAMAGED: stages/02-grpo/checkpoints/step_000004: model.safetensors is not what was written (its SHA-256 "
        "differs), optimizer.safetensors is missing; this checkpoint is skipped"
    )
    again = "stage grpo: resuming after step 2 from runs/small/stages/02-grpo/checkpoints/step_000002; repeating "
    assert told in shown and f"{again}steps 3 to 4" in shown
    assert lasting(run) == lasting(finished)
    assert [one["text"] for one in json.loads((run / "run.json").read_text())["incidents"]] == [
        told,
        f"{again}steps 3 to 4",
    ]
    assert told in words(run / "report.html")


def test_without_a_whole_checkpoint_the_stage_begins_anew_and_says_why(
    finished: Path, world: World, place: Path
) -> None:
    run = copy_run(finished, place)
    for step in (2, 4):
        cut(run / f"stages/02-grpo/checkpoints/step_{step:06d}/state.json")
    _, shown = train(world.config())
    assert "checkpoints/step_000004: state.json cannot be read" in shown
    assert "checkpoints/step_000002: state.json cannot be read" in shown
    assert (
        "stage grpo: it has no complete checkpoint, so it restarts from its first step; repeating steps 1 to 4" in shown
    )
    assert lasting(run) == lasting(finished)


def test_lines_that_cannot_be_read_are_kept_beside_when_a_run_goes_on(
    finished: Path, world: World, place: Path
) -> None:
    """Step 1 is before the checkpoint, so that its row cannot be had again; steps 3 and 4 can."""
    run = copy_run(finished, place)
    stage = run / "stages/02-grpo"
    shutil.rmtree(stage / "checkpoints/step_000004")
    spoil_line(stage / "metrics.jsonl", 1)
    spoil_line(stage / "timings.jsonl", 3)
    cut(stage / "rollouts/step_000001.jsonl")
    cut(stage / "rollouts/step_000004.jsonl")
    lost = (stage / "metrics.jsonl").read_bytes().splitlines()[0]
    _, shown = train(world.config())
    assert "stages/02-grpo/metrics.jsonl: 1 line cannot be read; moved to metrics.jsonl.damaged" in shown
    assert (
        "stages/02-grpo/metrics.jsonl: no row of step 1 (metrics.jsonl.damaged keeps lines that cannot be read)"
        in shown
    )
    assert "stages/02-grpo/rollouts/step_000001.jsonl: truncated; 1 of 2 groups can be read" in shown
    assert "step_000004" not in shown, "it is repeated"
    assert (stage / "metrics.jsonl.damaged").read_bytes() == lost + b"\n"
    assert [row["step"] for row in json_lines(stage / "metrics.jsonl")] == [2, 3, 4]
    assert [row["step"] for row in json_lines(stage / "timings.jsonl")] == [1, 2, 3, 4]
    ours, theirs = lasting(run), lasting(finished)
    differ = {name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)}
    state = "checkpoints/step_000004/state.json"  # which keeps the digests of what is there
    assert differ == {
        f"stages/02-grpo/{name}"
        for name in (
            *("metrics.jsonl", "metrics.jsonl.damaged", "timings.jsonl.damaged", "rollouts/step_000001.jsonl"),
            state,
        )
    }
    shutil.rmtree(stage / "checkpoints/step_000004")
    train(world.config())
    assert (stage / "metrics.jsonl.damaged").read_bytes() == lost + b"\n"
    texts = [one["text"] for one in json.loads((run / "run.json").read_text())["incidents"]]
    assert len(texts) == len(set(texts)), "what is known is not kept twice"


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"a: [", b"- 1\n"])
def test_a_damaged_configuration_is_told_as_that(finished: Path, world: World, place: Path, content: bytes) -> None:
    run = copy_run(finished, place)
    whole = (run / "config.yaml").read_bytes()
    (run / "config.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"config\.yaml is damaged: .* Restore the file from a backup; or, .* remove"):
        train(world.config())
    (run / "config.yaml").unlink()
    shutil.rmtree(run / "stages/02-grpo/checkpoints/step_000004")
    train(world.config())
    assert (run / "config.yaml").read_bytes() == whole
