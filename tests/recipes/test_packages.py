"""Packages of recipes: what each must have, what they say of themselves, and their toy data."""

import shutil
import tomllib
from pathlib import Path

import pytest
from benchmarks.recipe_effect import mean_interval
from benchmarks.recipes import effect_names, effect_of

from easyvideor1.config import load_config
from easyvideor1.config.shipped import recipe_packages, recipes, recipes_directory
from easyvideor1.recipes.package import find_package, shipped_packages
from easyvideor1.toyworld.spec import spec_from_json
from easyvideor1.types import ConfigError

ROOT = Path(__file__).parents[2]
PACKAGES = shipped_packages()
NAMES = [package.name for package in PACKAGES]


@pytest.mark.parametrize("package", PACKAGES, ids=NAMES)
def test_a_package_is_complete_and_small(package):
    files = {file.name for file in package.directory.iterdir() if file.name != "__pycache__"}
    assert {"recipe.yaml", "README.md", "about.yaml"} <= files
    assert [name for name in files if name.endswith(".py")] in ([], ["__init__.py"])
    assert len(package.readme.splitlines()) <= 60, "one screen"
    for words in (package.about.system, f"evr1 train {package.name}"):
        assert words in package.readme
    assert package.about.summary and package.about.evidence and package.about.minutes > 0


@pytest.mark.parametrize("package", PACKAGES, ids=NAMES)
def test_the_configuration_names_its_toy_data_and_nothing_else(package, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = load_config(package.name)
    data = config.data
    paths = [config.model.path, config.cache.dir, *(one.path for one in (*data.train, *data.validation, *data.test))]
    assert all(Path(path).is_relative_to(package.root) for path in paths)
    assert Path(config.output_dir.format(name=config.name, seed=0)).is_relative_to(package.root)
    assert package.missing(config) == list(dict.fromkeys(path for path in paths if path != config.cache.dir))
    for settings in package.about.toy.worlds.values():
        spec_from_json(settings)


@pytest.mark.parametrize("name", NAMES)
def test_the_page_of_recipes_lists_it(name):
    assert f"| `{name}` |" in (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", effect_names())
def test_an_effect_is_of_a_recipe_and_names_tests_that_are_there(name):
    effect = effect_of(name)
    assert effect.recipe in recipes()
    assert effect.tests
    for file in effect.tests:
        assert (ROOT / file.partition("::")[0]).is_file(), file


@pytest.mark.parametrize("name", effect_names())
def test_the_page_of_recipes_says_of_an_effect_what_it_says_of_itself(name):
    effect = effect_of(name)
    page = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    (row,) = [line for line in page.splitlines() if line.startswith(f"| `{name}` |") and line.count("|") == 5]
    state = row.split("|")[4].strip()
    assert state.startswith("claimed: " if effect.claimed else ("tried, not shown: ", "not measured"))
    assert ("by construction" in state) == bool(effect.by_construction)
    readme = (recipes_directory() / effect.recipe / "README.md").read_text(encoding="utf-8")
    assert not effect.by_construction or "by construction" in readme.lower()
    assert effect.equal


def test_every_file_of_a_package_is_in_the_wheel():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    source = ROOT / "src" / "easyvideor1"
    patterns = project["tool"]["setuptools"]["package-data"]["easyvideor1"]
    shipped = {file for pattern in patterns for file in source.glob(pattern)}
    files = [file for name in recipe_packages() for file in (recipes_directory() / name).rglob("*") if file.is_file()]
    data = [file for file in files if file.suffix not in (".py", ".pyc")]
    assert [file for file in data if file not in shipped] == []
    code = {file.parent for file in files if file.suffix == ".py"}
    assert [folder for folder in code if not (folder / "__init__.py").is_file()] == []


def test_names_and_paths_mean_the_same():
    assert find_package("easyvideor1").name == find_package("recipes/easyvideor1").name == "easyvideor1"
    assert find_package("easyvideor1/video_rl").name == "easyvideor1"
    assert load_config("recipes/easyvideor1") == load_config("easyvideor1")
    assert load_config("easyvideor1/unified_rl").stages[0].prompts_per_step == 512
    assert find_package("quickstart") is None and find_package("nothing") is None


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A package of one's own in the working directory, with a small world and a function of its own."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "mine"
    folder.mkdir()
    text = (recipes_directory() / "easyvideor1" / "recipe.yaml").read_text(encoding="utf-8")
    (folder / "recipe.yaml").write_text(text.replace("runs/easyvideor1/", "runs/mine/"))
    (folder / "about.yaml").write_text(
        "system: Mine\nsummary: tries\nevidence: '[I]'\nminutes: 1\n"
        "toy:\n  worlds:\n    world: {train: 3, validation: 0, test: 2, image_share: 0.0, kinds: [mc_direction]}\n"
        "  prepare: own_recipe_rows:fill\n"
    )
    code = 'def fill(root):\n    (root / "more.txt").write_text("more")\n'
    (tmp_path / "own_recipe_rows.py").write_text(code)
    return folder


@pytest.mark.model
def test_a_package_of_ones_own_is_prepared_where_something_is_missing(own):
    package = find_package("mine")
    config = load_config("mine")
    gone = ["runs/mine/warm-start", "runs/mine/world/train.jsonl", "runs/mine/world/test.jsonl"]
    assert package.missing(config) == gone
    package.prepare()
    assert package.missing(config) == [] and Path("runs/mine/more.txt").read_text() == "more"
    rows = Path("runs/mine/world/train.jsonl").read_bytes()
    shutil.rmtree("runs/mine/world/media")
    Path("runs/mine/world/test.jsonl").unlink()
    assert package.missing(config) == ["runs/mine/world/test.jsonl"]
    package.prepare()
    assert Path("runs/mine/world/train.jsonl").read_bytes() == rows
    assert list(Path("runs/mine/world/media").rglob("*.mp4"))
    assert package.missing(load_config("mine", ["model.path=lab", "data.train.0.path=lab.jsonl"])) == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("system: A\n", "summary"),
        ("system: A\nsummary: b\nevidence: c\nminutes: 1\nworlds: {}\n", "worlds"),
    ],
)
def test_what_a_package_says_of_itself_is_checked(own, text, told):
    (own / "about.yaml").write_text(text)
    with pytest.raises(ConfigError, match=rf"about.yaml: {told}"):
        find_package("mine")


def test_a_world_that_cannot_be_is_named(own):
    about = own / "about.yaml"
    about.write_text(about.read_text().replace("train: 3", "trains: 3"))
    with pytest.raises(ConfigError, match=r"about.yaml: toy.worlds.world: unknown fields in a world's spec: trains"):
        find_package("mine").prepare()


def test_a_directory_without_a_word_of_itself_is_a_configuration_only(own):
    (own / "about.yaml").unlink()
    assert find_package("mine") is None
    assert load_config("mine").name == "easyvideor1"


def test_the_interval_of_a_mean_is_students():
    # Worked out by hand: mean 2, standard deviation 1, t(0.975, 2) = 4.302653
    low, high = mean_interval([1.0, 2.0, 3.0])
    assert (low, high) == pytest.approx((2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5), abs=1e-5)
    assert mean_interval([1.0]) is None


def test_a_missing_checkpoint_of_a_recipe_says_what_writes_it():
    from easyvideor1.families.checkpoint import checkpoint_fault

    assert "`evr1 recipes veripo --prepare` writes the one" in checkpoint_fault("runs/veripo/warm-start")
    assert "`evr1 quickstart --prepare` writes the one" in checkpoint_fault("runs/quickstart/warm-start")
