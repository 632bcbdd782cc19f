"""evr1 toyworld."""

import json

import pytest
from typer.testing import CliRunner

from easyvideor1.cli.app import app
from easyvideor1.cli.toyworld import read_spec
from easyvideor1.toyworld import WorldSpec
from easyvideor1.types import ConfigError

RUN = CliRunner()


def test_settings_are_those_of_a_world():
    assert read_spec([]) == WorldSpec()
    spec = read_spec(["seed=3", "size=[96, 64]", "tasks=[tracking]", "vfr=true", "seconds=3"])
    assert (spec.seed, spec.size, spec.tasks, spec.vfr, spec.seconds) == (3, (96, 64), ("tracking",), True, 3.0)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("sed=3", "did you mean seed"),
        ("zzzzzz=3", "known: seed, size"),
        ("seed", "write settings as key=value"),
        ("seed=x", "setting seed: expected a valid integer, got 'x' (text)"),
        ("seed=1.5", "setting seed"),
        ("size=[a, 64]", "setting size.0"),
        ("size=[8, 8]", "at least 32 x 32"),
        ("seconds=0.1", "WorldSpec.seconds"),
    ],
)
def test_wrong_settings_are_named(setting, message):
    with pytest.raises(ConfigError) as error:
        read_spec([setting])
    assert message in str(error.value)


def test_a_dry_run_lists_every_setting_and_writes_nothing(tmp_path):
    done = RUN.invoke(app, ["toyworld", str(tmp_path / "w"), "seed=9", "--dry-run"])
    assert done.exit_code == 0
    assert "seed=9" in done.stdout.splitlines()
    assert not (tmp_path / "w").exists()


def test_a_world_is_written_whole_and_never_over_another(tmp_path):
    out = tmp_path / "world"
    done = RUN.invoke(app, ["toyworld", str(out), "train=4", "validation=2", "test=2"])
    assert done.exit_code == 0, done.output
    rows = [json.loads(line) for line in (out / "train.jsonl").read_text().splitlines()]
    assert f"{out / 'train.jsonl'}: {len(rows)} rows" in done.stdout
    assert len(rows) >= 4
    again = RUN.invoke(app, ["toyworld", str(out)])
    assert again.exit_code == 2
    assert "world of another spec" in again.stderr


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("kinds=[no_such_kind]", "no_such_kind"),
        ("questions_per_clip=40", "WorldSpec.questions_per_clip is 40"),
        ("codec=nonesuch", "no encoder 'nonesuch'"),
        ("rotations=[0,90]", ".avi cannot have a rotation"),
    ],
)
def test_a_world_that_cannot_be_written_leaves_nothing(tmp_path, setting, reason):
    out = tmp_path / "new" / "world"
    small = ["train=4", "validation=0", "test=0", "kinds=[mc_direction]", "container=.avi"]
    done = RUN.invoke(app, ["toyworld", str(out), *small, setting])
    assert done.exit_code == 2 and reason in done.stderr, done.output
    assert list(tmp_path.iterdir()) == []
    out.mkdir(parents=True)
    assert RUN.invoke(app, ["toyworld", str(out), *small, setting]).exit_code == 2
    assert list(out.iterdir()) == []
    assert RUN.invoke(app, ["toyworld", str(out), *small]).exit_code == 0


def test_an_interrupted_world_is_continued_and_a_complete_one_reused(tmp_path):
    command = ["toyworld", str(tmp_path / "world"), "train=4", "validation=2", "test=2"]
    assert RUN.invoke(app, command).exit_code == 0
    kept, lost = sorted((tmp_path / "world" / "media" / "train").iterdir())[:2]
    manifest = tmp_path / "world" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"complete": true', '"complete": false'))
    before = kept.stat().st_mtime_ns
    lost.unlink()
    for _ in range(2):
        again = RUN.invoke(app, command)
        assert again.exit_code == 0, again.output
        assert lost.is_file()
        assert kept.stat().st_mtime_ns == before


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_a_place_that_can_be_no_directory_is_named(tmp_path, name):
    (tmp_path / "file").touch()
    done = RUN.invoke(app, ["toyworld", str(tmp_path / name)])
    assert done.exit_code == 2
    assert "cannot be a directory" in done.stderr
