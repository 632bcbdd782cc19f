"""How runs end: never quietly, never as finished when nothing was trained on, and never bound to their first place."""

from __future__ import annotations

import contextlib
import io
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

from curation.commands import EVERY_RATE, configured, evr1, numbered
from easyvideor1.cli.app import app
from easyvideor1.cli.train import train_and_report
from easyvideor1.config import RunConfig, write_config
from easyvideor1.registry import ExitError
from easyvideor1.types import ConfigError, StoppedError

from .runs import OWN_PARTS, World, json_lines, lasting, train

pytestmark = pytest.mark.model

#: Causes outside the policy that a file switches on and off, and functions that end the process.
OWN_FAULTS = """
import sys
from dataclasses import replace
from pathlib import Path

from own_parts import centred, noisy, vowels


def judge(sample, response):
    return None if Path("down").exists() else vowels(sample, response)


def lose(sample, step, rng):
    if step > 0 and Path("down").exists():
        return [replace(sample, media=tuple(replace(ref, path="gone.mp4") for ref in sample.media))]
    return [sample]


def leave(*arguments):
    sys.exit()
"""


#: An engine that fails when it closes, and before that where ``lost`` is there; a logger that notes its end.
OWN_CLOSING = """
from pathlib import Path

from easyvideor1.engines.local import LocalEngine


class Closing(LocalEngine):
    def results(self):
        if Path("lost").exists():
            raise ValueError("the first error")
        yield from super().results()

    def close(self):
        raise OSError("the server does not answer")


class Ending:
    def __init__(self, config, run_dir):
        pass

    def log(self, step, metrics):
        pass

    def finish(self):
        Path("ended").touch()
"""


@pytest.fixture
def faulty(place: Path) -> Path:
    (place / "own_faults.py").write_text(OWN_FAULTS)
    (place / "down").touch()
    return place


def stage_of(place: Path, name: str = "small") -> Path:
    return place / "runs" / name / "stages/01-rl"


def videos_only(world: World, place: Path) -> list[dict[str, str]]:
    from .runs import write_rows

    return [{"path": write_rows(place / "videos.jsonl", [row for row in world.read() if row["videos"]])}]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"rewards__custom": {"*": "own_faults:judge"}}, "does not apply"),
        ({"stages__0__transforms": ["own_faults:lose"]}, "2 with media that cannot be read"),
    ],
)
def test_a_stage_that_cannot_learn_stops_and_goes_on_later(
    world: World, faulty: Path, settings: dict[str, object], words: str
) -> None:
    config = world.short(
        data__train=videos_only(world, faulty), stages__0__steps=5, stages__0__save_every=1, **settings
    )
    write_config(config, faulty / "run.yaml")
    stopped = CliRunner(env={"COLUMNS": "300"}).invoke(app, ["train", "run.yaml"])
    assert stopped.exit_code == 3, stopped.output
    steps = [row["step"] for row in json_lines(stage_of(faulty) / "metrics.jsonl")]
    lost = steps[-3:]
    assert stopped.stderr.count("none of 2 groups could be used") == 3 and words in stopped.stderr
    assert f"no group of steps {lost[0]} to {lost[-1]} could be used" in stopped.stderr
    kept = [path.name for path in (stage_of(faulty) / "checkpoints").glob("step_*")]
    assert kept == ([] if lost[0] == 1 else [f"step_{lost[0] - 1:06d}"]), "what was not trained on is not kept as done"
    (faulty / "down").unlink()
    train(config)
    train(RunConfig.model_validate({**config.model_dump(), "name": "whole"}))
    mended, whole = (lasting(faulty / "runs" / name) for name in ("small", "whole"))
    assert {k: v for k, v in mended.items() if k != "config.yaml"} == {
        k: v for k, v in whole.items() if k != "config.yaml"
    }


def test_a_stage_shorter_than_the_limit_is_not_finished_either(world: World, faulty: Path) -> None:
    config = world.short(rewards__custom={"*": "own_faults:judge"})
    with pytest.raises(StoppedError, match=r"no group of steps 1 to 2 could be used.*correct the reward"):
        train(config)
    assert not (stage_of(faulty) / "checkpoints").exists()


def test_groups_that_all_score_the_same_are_no_such_cause(world: World, faulty: Path) -> None:
    _, shown = train(world.short(rewards__custom={"*": "own_parts:same"}, stages__0__max_unusable_steps=1))
    assert "could be used" not in shown and (stage_of(faulty) / "checkpoints/step_000002").exists()


def test_an_evaluation_of_nothing_is_no_result(world: World, faulty: Path) -> None:
    config = world.short(rewards__custom={"*": "own_faults:judge"}, data__test=[{"path": world.rows("test")}])
    with pytest.raises(
        StoppedError, match=r"evaluation before: 4 of 4 questions failed or could not be .*does not apply"
    ):
        train(config)
    assert not list((faulty / "runs/small/evaluations").glob("before*"))
    (faulty / "down").unlink()
    train(config)
    assert (faulty / "runs/small/evaluations/before.json").exists()


def test_a_filter_whose_judge_is_down_goes_on_when_it_is_back(world: World, faulty: Path) -> None:
    settings = configured(world, faulty, numbered(world, 4), rewards__custom={"*": "own_faults:judge"})
    words = ("filter", settings, "--out", faulty / "kept.jsonl", "-k", 2, *EVERY_RATE)
    stopped = evr1(*words)
    assert stopped.exit_code == 3 and "4 of 4 rows have no response that could be scored" in stopped.output
    assert not (faulty / "kept.jsonl").exists()
    (faulty / "down").unlink()
    done = evr1(*words)
    assert done.exit_code == 0 and len(json_lines(faulty / "kept.jsonl")) == 4


def test_a_filter_that_was_stopped_after_writing_is_done(world: World, place: Path) -> None:
    words = ("filter", configured(world, place), "--out", place / "kept.jsonl", "-k", 2, *EVERY_RATE)
    partial = place / "kept.jsonl.partial.jsonl"
    (place / "stop_after").write_text("4")
    assert evr1(*words).exit_code == 130
    ledger = partial.read_bytes()
    (place / "stop_after").unlink()
    assert evr1(*words).exit_code == 0
    written = (place / "kept.jsonl").read_bytes()
    partial.write_bytes(ledger)  # as a kill between the last two steps leaves it
    done = evr1(*words)
    assert done.exit_code == 0 and "is complete" in done.output and not partial.exists()
    assert (place / "kept.jsonl").read_bytes() == written
    partial.write_bytes(ledger)
    other = evr1(*words[:-4], "-k", 3, *EVERY_RATE)
    assert other.exit_code == 2 and "collected differently" in other.output and partial.exists()


@pytest.mark.parametrize(
    "settings",
    [
        {"rewards__custom": {"*": "own_faults:leave"}},
        {"stages__0__advantage": "own_faults:leave"},
        {"stages__0__objective": "own_faults:leave"},
        {"stages__0__transforms": ["own_faults:leave"]},
    ],
)
def test_an_exit_of_the_users_function_is_an_error(world: World, faulty: Path, settings: dict[str, object]) -> None:
    write_config(world.short(**settings), faulty / "run.yaml")
    done = CliRunner(env={"COLUMNS": "300"}).invoke(app, ["train", "run.yaml"])
    assert done.exit_code == 2 and "'own_faults:leave' asked to end the process" in done.stderr


def test_an_exit_is_masked_where_errors_are(world: World, faulty: Path) -> None:
    custom = {"multiple_choice": "own_faults:leave", "*": "own_parts:vowels"}
    train(world.short(rewards__custom=custom, rewards__on_error="mask", stages__0__steps=4))
    rows = json_lines(stage_of(faulty) / "metrics.jsonl")
    assert sum(row["response/not_applicable"] for row in rows) > 0
    assert any(ExitError.__name__ in key for row in rows for key in row)


def test_a_module_that_ends_the_process_when_imported_is_named(world: World, place: Path) -> None:
    (place / "script.py").write_text("import sys\nsys.exit(0)\n")
    with pytest.raises(ConfigError, match=r"'script:main'.*ends the process.*__main__"):
        train(world.short(rewards__custom={"*": "script:main"}))


def test_a_run_goes_on_where_it_was_moved_to(world: World, faulty: Path) -> None:
    (faulty / "down").unlink()
    settings = {"rewards__custom": {"*": "own_faults:judge"}, "stages__0__steps": 4, "stages__0__save_every": 1}
    train(world.short(name="whole", **settings))
    (faulty / "runs/half").mkdir(parents=True)
    shutil.copytree(faulty / "runs/whole", faulty / "runs/half", dirs_exist_ok=True)
    shutil.rmtree(faulty / "runs/half/stages/01-rl/checkpoints/step_000004")
    shutil.copytree(faulty / "runs/half", faulty / "elsewhere/moved")
    train(world.short(name="moved", output_dir="elsewhere/{name}", **settings))
    moved, whole = lasting(faulty / "elsewhere/moved"), lasting(faulty / "runs/whole")
    assert moved.pop("config.yaml") != whole.pop("config.yaml")
    assert moved == whole
    assert yaml.safe_load((faulty / "elsewhere/moved/config.yaml").read_text())["name"] == "moved"


def test_a_run_of_a_version_with_fewer_keys_goes_on(world: World, place: Path) -> None:
    config = world.short(stages__0__save_every=1)
    train(config)
    file = place / "runs/small/config.yaml"
    values = yaml.safe_load(file.read_text())
    del values["stages"][0]["max_unusable_steps"], values["evaluation"]["max_failed"], values["canary"]
    file.write_text(yaml.safe_dump(values))
    shutil.rmtree(stage_of(place) / "checkpoints/step_000002")
    train(config)
    assert (stage_of(place) / "checkpoints/step_000002").exists()


def on_disk(world: World, **changes: object) -> RunConfig:
    """A short run that saves after each of three steps."""
    return world.short(stages__0__save_every=1, stages__0__steps=3, rollout__max_new_tokens=24, **changes)


@pytest.fixture(scope="module")
def undisturbed(world: World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What the run leaves behind where there is room for it."""
    place = tmp_path_factory.mktemp("undisturbed")
    (place / "own_parts.py").write_text(OWN_PARTS)
    with contextlib.chdir(place):
        train(on_disk(world))
    return lasting(place / "runs/small")


@pytest.mark.parametrize("size", ["2m", "5m"])
def test_a_full_disk_is_one_sentence_and_the_run_goes_on(
    world: World, place: Path, undisturbed: dict[str, bytes], size: str
) -> None:
    """A disk of its own, in a mount namespace that ends with the process."""
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare(1) for a mount of its own")
    (place / "disk").mkdir()
    config = on_disk(world, output_dir="disk/{name}")
    write_config(config, place / "run.yaml")
    saved, command = place / "saved", f'"{sys.executable}" -m easyvideor1.cli train run.yaml'
    mount = f"mount -t tmpfs -o size={size} tmpfs disk"
    script = f"{mount} && {{ {command}; echo status $?; cp -a disk {saved}; }}"
    done = subprocess.run(["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True, check=False)
    if "mount" in done.stderr and "permission" in done.stderr.lower():
        pytest.skip("needs the right to mount (root, or a user namespace)")
    assert "status 2" in done.stdout, done.stdout + done.stderr
    assert "Traceback" not in done.stderr and "free some disk space" in done.stderr
    shutil.copytree(saved, place / "disk", dirs_exist_ok=True)
    train(config)
    assert {**lasting(place / "disk/small"), "config.yaml": b""} == {**undisturbed, "config.yaml": b""}


def test_an_engine_that_fails_to_close_hides_no_other_error(world: World, place: Path) -> None:
    (place / "own_closing.py").write_text(OWN_CLOSING)
    (place / "lost").touch()
    options = {"rollout__engine": "own_closing:Closing", "loggers": ["own_closing:Ending"], "stages__0__steps": 1}
    shown = io.StringIO()
    with pytest.raises(ValueError, match="the first error"):
        train_and_report(world.short(**options), Console(file=shown, width=200))
    assert "the engine cannot be closed: OSError: the server does not answer" in shown.getvalue()
    assert (place / "ended").exists(), "loggers end as well"
    for name in ("lost", "ended"):
        (place / name).unlink()
    with pytest.raises(OSError, match="the server does not answer"):
        train(world.short(**options))
    assert (place / "ended").exists()
