"""The recipes that the package ships, by name: single files, packages with a ``recipe.yaml``, and those of real size.

Recipes of real size (``real/NAME``) are one file per model; overlays beside them say what else differs. ``+`` puts them
together: ``real/NAME+lora+gpus_1`` is ``real/NAME`` with ``real/overlays/lora`` and ``real/overlays/gpus_1`` over it.
"""

from __future__ import annotations

import importlib.resources
from pathlib import Path

from easyvideor1.config.suggest import nearest

#: The configuration of a package of a recipe, in its directory.
RECIPE_FILE = "recipe.yaml"
#: What a package says of itself.
ABOUT_FILE = "about.yaml"
#: Where the recipes of real size are.
REAL = "real"
#: What may be put over them, in that directory.
OVERLAYS = "overlays"
#: What stands between a recipe of real size and its overlays.
PLUS = "+"
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
    that package; ``real/NAME`` is ``NAME.yaml`` of the recipes of real size.
    """
    single = [file.stem for file in recipes_directory().glob("*.yaml")]
    packages = recipe_packages()
    others = [
        f"{name}/{file.stem}"
        for name in packages
        for file in (recipes_directory() / name).glob("*.yaml")
        if file.name not in (RECIPE_FILE, ABOUT_FILE)
    ]
    return sorted([*single, *packages, *others, *real_recipes()])


def real_recipes() -> list[str]:
    """Names of the recipes of real size, without overlays."""
    return sorted(f"{REAL}/{file.stem}" for file in (recipes_directory() / REAL).glob("*.yaml"))


def real_overlays() -> list[str]:
    """What may stand behind ``+`` in the name of a recipe of real size."""
    return sorted(file.stem for file in (recipes_directory() / REAL / OVERLAYS).glob("*.yaml"))


def recipe_name(written: str) -> str | None:
    """The shipped recipe that ``written`` means, as ``NAME`` or ``recipes/NAME``; ``None`` if it is none."""
    name = written.removeprefix(_PREFIX).removesuffix("/")
    if name in recipes() or _overlay(name) in real_overlays():
        return name
    first, *over = name.split(PLUS)
    return name if over and first in real_recipes() and set(over) <= set(real_overlays()) else None


def recipe_file(name: str) -> Path | None:
    """The file that a name means which ``recipe_name`` gave; ``None`` where several are put together with ``+``."""
    if PLUS in name:
        return None
    inside = recipes_directory() / name / RECIPE_FILE
    return inside if inside.is_file() else recipes_directory() / f"{name}.yaml"


def composed_text(name: str) -> str:
    """The configuration that a name with ``+`` means, as YAML. Runs are named after all of its parts."""
    first, *over = name.split(PLUS)
    bases = [first, *(f"{REAL}/{OVERLAYS}/{each}" for each in over)]
    return f"base: [{', '.join(bases)}]\nname: {'-'.join([first.removeprefix(f'{REAL}/'), *over])}\n"


def real_advice(written: str) -> str:
    """What is wrong with a name that begins like one of real size and is none; empty for other names."""
    name = written.removeprefix(_PREFIX)
    if not name.startswith(f"{REAL}/"):
        return ""
    first, *over = name.split(PLUS)
    known = real_recipes()
    if first in known:
        known = real_overlays()
        first = next((each for each in over if each not in known), "")
    near = nearest(first, known)
    hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
    return f"{first!r} is no {'overlay' if over and first in over else 'recipe'} of real size: {hint}"


def _overlay(name: str) -> str:
    """The overlay that a whole name means; empty if it means none."""
    start = f"{REAL}/{OVERLAYS}/"
    return name.removeprefix(start) if name.startswith(start) else ""
