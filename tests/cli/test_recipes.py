"""evr1 recipes."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from easyvideor1.cli.app import app
from easyvideor1.config import load_config
from easyvideor1.config.shipped import recipe_packages

RUN = CliRunner()


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_the_list_has_every_package():
    done = RUN.invoke(app, ["recipes"], env={"COLUMNS": "200"})
    assert done.exit_code == 0
    assert all(name in done.stdout for name in recipe_packages())


def test_one_is_shown_and_copied(tmp_path):
    assert RUN.invoke(app, ["recipes", "easyvideor1"]).stdout.startswith("# EasyVideoR1")
    done = RUN.invoke(app, ["recipes", "easyvideor1/video_rl", "--copy", "mine.yaml"])
    assert done.exit_code == 0, done.output
    assert load_config("mine.yaml") == load_config("easyvideor1/video_rl")
    again = RUN.invoke(app, ["recipes", "easyvideor1", "--copy", "mine.yaml"])
    assert again.exit_code == 2 and "exists already" in again.stderr
    assert list(tmp_path.iterdir()) == [tmp_path / "mine.yaml"]


@pytest.mark.parametrize(
    ("words", "told"),
    [(["easyvideo"], "did you mean easyvideor1?"), (["--prepare"], "say which recipe"), (["quickstart"], "known are")],
)
def test_what_is_no_recipe_is_told(words, told):
    done = RUN.invoke(app, ["recipes", *words])
    assert done.exit_code == 2 and told in done.stderr


@pytest.mark.model
def test_training_a_recipe_writes_its_toy_data_first(tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    text = RUN.invoke(app, ["recipes", "easyvideor1", "--copy", "small/recipe.yaml"])
    assert text.exit_code == 0
    yaml = (small / "recipe.yaml").read_text().replace("runs/easyvideor1/", "runs/small/")
    (small / "recipe.yaml").write_text(yaml.replace("name: easyvideor1\n", "name: small\n"))
    world = "{train: 4, validation: 0, test: 2, image_share: 0.0, kinds: [mc_direction]}"
    about = f"system: A\nsummary: b\nevidence: c\nminutes: 1\ntoy:\n  worlds:\n    world: {world}\n"
    (small / "about.yaml").write_text(about)
    tiny = ["stages.rl.steps=1", "stages.rl.prompts_per_step=2", "stages.rl.group_size=2", "rollout.max_new_tokens=4"]
    done = RUN.invoke(app, ["train", "small", *tiny, "threads=1"])
    assert done.exit_code == 0, done.output
    assert Path("runs/small/run-0/summary.json").is_file()
    assert {path.name for path in Path("runs/small").iterdir()} == {"world", "warm-start", "frames", "run-0"}
