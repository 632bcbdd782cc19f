"""A recipe as a package: a directory with its configuration, a page, what it says of itself, and its toy data.

``recipe.yaml`` is the configuration, ``README.md`` one screen for people, ``about.yaml`` the fields of ``About``. Code,
if the recipe has any, is in its ``__init__.py``. Toy data are not shipped: they are written into ``runs/NAME`` when a
command needs them, always the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from easyvideor1.config import RunConfig
from easyvideor1.config.base import BaseConfig
from easyvideor1.config.shipped import ABOUT_FILE, RECIPE_FILE, recipe_name, recipe_packages, recipes_directory
from easyvideor1.config.yaml_source import read_yaml
from easyvideor1.recipes.toy import write_warm_start
from easyvideor1.registry import load_attribute
from easyvideor1.toyworld import WorldSpec, write_world
from easyvideor1.toyworld.spec import spec_from_json
from easyvideor1.types import ConfigError

#: What is told of worlds being written: ``(clips done, clips in all)``.
OnProgress = Callable[[int, int], None]


class Toy(BaseConfig):
    """What the configuration needs on a laptop, below ``runs/NAME``."""

    worlds: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Directory below ``runs/NAME`` -> settings of its ``WorldSpec`` (``evr1 toyworld DIR --dry-run`` lists them)."""
    warm_start: bool = True
    """Copy the checkpoint of the quickstart to ``runs/NAME/warm-start``."""
    prepare: str = ""
    """``module:attr`` of a function ``(root) -> None`` that writes what is left, such as other rows, below ``root``,
    which is ``runs/NAME``. It is called after the worlds are written, writes the same files whenever it is called, and
    each of them whole or not at all."""


class About(BaseConfig):
    """What a package says of itself."""

    system: str
    """The system that is reproduced."""
    paper: str = ""
    """Where it was published."""
    summary: str
    """What the recipe does, in one line."""
    evidence: str
    """How well the mechanism is known, with the marks of ``docs/recipes.md``."""
    minutes: float
    """What ``evr1 train NAME`` is estimated to take on a laptop."""
    needs: str = ""
    """What it needs beyond the package: an extra, a GPU, a model. Empty for nothing."""
    toy: Toy = Toy()
    """Its toy data."""


@dataclass(frozen=True, slots=True)
class RecipePackage:
    """The recipe ``name`` in ``directory``."""

    name: str
    directory: Path
    about: About

    @property
    def readme(self) -> str:
        """Its page; empty if it has none."""
        file = self.directory / "README.md"
        return file.read_text(encoding="utf-8") if file.is_file() else ""

    @property
    def root(self) -> Path:
        """Where its toy data and its runs are, from the working directory."""
        return Path("runs") / self.name

    def missing(self, config: RunConfig) -> list[str]:
        """The toy files that ``config`` names and that are not there. A configuration of other data names none."""
        data = config.data
        paths = [config.model.path, *(source.path for source in (*data.train, *data.validation, *data.test))]
        toys = [path for path in paths if Path(path).is_relative_to(self.root)]
        return [path for path in dict.fromkeys(toys) if not Path(path).exists()]

    def prepare(self, on_progress: OnProgress | None = None) -> None:
        """Write the toy data below ``root``; what is there already stays.

        Raises:
            ConfigError: ``about.yaml`` asks for a world that cannot be.
            DataError: a directory has another world.
        """
        toy = self.about.toy
        for name, settings in toy.worlds.items():
            write_world(self._world(name, settings), self.root / name, on_progress)
        if toy.warm_start:
            write_warm_start(self.root / "warm-start")
        if toy.prepare:
            load_attribute(toy.prepare, "preparation of a recipe")(self.root)

    def _world(self, name: str, settings: dict[str, Any]) -> WorldSpec:
        try:
            return spec_from_json(settings)
        except ConfigError as error:
            raise ConfigError(f"{self.directory / ABOUT_FILE}: toy.worlds.{name}: {error}") from error


def find_package(written: str) -> RecipePackage | None:
    """The package that the argument of a command means: a shipped one by name, or a directory of your own.

    ``NAME/OTHER``, a further configuration of a package, means that package. ``None`` where the argument is something
    else, such as a YAML file, or a directory without ``about.yaml``.
    """
    own = Path(written)
    if (own / RECIPE_FILE).is_file():
        return _open(own) if (own / ABOUT_FILE).is_file() else None
    name = (recipe_name(written) or "").partition("/")[0]
    return _open(recipes_directory() / name) if name in recipe_packages() else None


def shipped_packages() -> list[RecipePackage]:
    """All packages that are shipped, by name."""
    return [_open(recipes_directory() / name) for name in recipe_packages()]


def _open(directory: Path) -> RecipePackage:
    """Read a package.

    Raises:
        ConfigError: ``about.yaml`` is missing or has wrong keys.
    """
    file = directory / ABOUT_FILE
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror}); docs/recipes.md says what it holds") from error
    try:
        about = About.model_validate(read_yaml(text, str(file)).values)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place = ".".join(map(str, problem["loc"]))
        raise ConfigError(f"{file}: {place}: {problem['msg']}; docs/recipes.md says what it holds") from error
    return RecipePackage(directory.resolve().name, directory, about)
