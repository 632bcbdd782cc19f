"""The recipes that the package ships, by name: single files, and packages with a ``recipe.yaml``."""

from __future__ import annotations

import importlib.resources
from pathlib import Path

#: The configuration of a package of a recipe, in its directory.
RECIPE_FILE = "recipe.yaml"
#: What a package says of itself.
ABOUT_FILE = "about.yaml"
#: People also write a name as the path that it has in the sources.
_PREFIX = "recipes/"


def recipes_directory() -> Path:
    """Where the package keeps its recipes."""
    return Path(str(importlib.resources.files("easyvideor1") / "recipes"))


def recipe_packages() -> list[str]:
    """Names of the shipped recipes that are packages."""
    return sorted(file.parent.name for file in recipes_directory().glob(f"*/{RECIPE_FILE}"))


def recipes() -> list[str]:
    """Names of all configurations that the package ships.

    ``NAME`` is the file ``NAME.yaml``, or ``recipe.yaml`` of the package ``NAME``; ``NAME/OTHER`` is ``OTHER.yaml`` of
    that package.
    """
    single = [file.stem for file in recipes_directory().glob("*.yaml")]
    packages = recipe_packages()
    others = [
        f"{name}/{file.stem}"
        for name in packages
        for file in (recipes_directory() / name).glob("*.yaml")
        if file.name not in (RECIPE_FILE, ABOUT_FILE)
    ]
    return sorted([*single, *packages, *others])


def recipe_name(written: str) -> str | None:
    """The shipped recipe that ``written`` means, as ``NAME`` or ``recipes/NAME``; ``None`` if it is none."""
    name = written.removeprefix(_PREFIX).removesuffix("/")
    return name if name in recipes() else None


def recipe_file(name: str) -> Path:
    """The file of one of ``recipes()``."""
    inside = recipes_directory() / name / RECIPE_FILE
    return inside if inside.is_file() else recipes_directory() / f"{name}.yaml"
