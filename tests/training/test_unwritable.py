"""Places that nothing can be written to: said at once, in one sentence, by every verb that writes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from curation.commands import configured, evr1

from .runs import World, train

pytestmark = pytest.mark.model

#: Starts the verbs one after the other, on a disk of its own that is read-only; prints status and words of each.
STARTS = """
import json, sys
from typer.testing import CliRunner
from easyvideor1.cli.app import app
for words in json.loads(sys.argv[1]):
    done = CliRunner(env={"COLUMNS": "300"}).invoke(app, words)
    print(json.dumps([words[0], done.exit_code, done.stderr]))
"""


def commands(world: World, place: Path, target: str) -> dict[str, list[str]]:
    """Each verb with ``target`` as the place for what it makes; everything else of it is sound."""
    settings = configured(world, place)
    with_test = f"data.test=[{{path: {world.rows('test')}}}]"
    survey = ["--out", f"{target}/rows.jsonl", "-k", "1"]
    return {
        "train": ["train", settings, f"output_dir={target}/run"],
        "eval": ["eval", settings, with_test, "--out", f"{target}/evaluations"],
        "filter": ["filter", settings, *survey],
        "trajectories": ["trajectories", "collect", settings, *survey],
        "export": ["export", "runs/small", f"{target}/exported"],
    }


@pytest.fixture
def trained(world: World, place: Path) -> Path:
    train(world.short())
    return place


@pytest.mark.parametrize("verb", ["train", "eval", "filter", "trajectories", "export"])
def test_a_file_where_a_directory_is_needed(world: World, trained: Path, verb: str) -> None:
    (trained / "taken").write_text("mine")
    done = evr1(*commands(world, trained, "taken")[verb])
    assert done.exit_code == 2, done.output
    (sentence,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "taken" in sentence and "a file exists where a directory is needed; choose another path" in sentence
    assert "questions" not in done.output and "sampling responses" not in done.output, "nothing was computed before"
    assert (trained / "taken").read_text() == "mine"


def test_a_file_in_the_place_of_the_run(world: World, place: Path) -> None:
    (place / "taken").write_text("mine")
    done = evr1("train", configured(world, place), "output_dir=taken")
    assert done.exit_code == 2
    assert "taken: File exists - a file exists where a directory is needed; choose another path" in done.stderr


def test_a_read_only_disk(world: World, trained: Path) -> None:
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare(1) for a mount of its own")
    (trained / "disk").mkdir()
    words = commands(world, trained, "disk")
    mount = "mount -t tmpfs tmpfs disk && mkdir disk/evaluations && mount -o remount,ro disk"
    start = ["unshare", "--mount", "sh", "-c", f'{mount} && exec "$@"', "sh"]
    if subprocess.run([*start, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("needs the right to mount (root, or a user namespace)")
    done = subprocess.run(
        [*start, sys.executable, "-c", STARTS, json.dumps(list(words.values()))],
        capture_output=True,
        text=True,
        check=True,
    )
    ends = [json.loads(line) for line in done.stdout.splitlines()]
    assert [verb for verb, _, _ in ends] == list(words)
    for verb, status, said in ends:
        assert status == 2, f"{verb}: {said}"
        (sentence,) = [line for line in said.splitlines() if line.startswith("error: ")]
        assert "disk" in sentence and "Read-only file system - " in sentence and "choose another directory" in sentence
        assert "Traceback" not in said and "evaluating" not in said


def test_a_cache_that_cannot_be_written(world: World, place: Path) -> None:
    (place / "taken").write_text("mine")
    done = evr1("train", configured(world, place), "cache.dir=taken")
    assert done.exit_code == 2
    assert "taken" in done.stderr and "set cache.dir" in done.stderr and "Traceback" not in done.stderr
    assert not (place / "runs/small/stages").exists()
