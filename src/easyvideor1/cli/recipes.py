"""``evr1 recipes``: list the shipped recipes, show one, copy its configuration, write its toy data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from easyvideor1.cli.completion import complete_recipes

if TYPE_CHECKING:
    from rich.console import Console

    from easyvideor1.config import RunConfig
    from easyvideor1.recipes.package import RecipePackage


def recipes(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Show this recipe.", autocompletion=complete_recipes)
    ] = None,
    copy: Annotated[
        Path | None, typer.Option("--copy", metavar="FILE", help="Write its configuration, to change it.")
    ] = None,
    prepare: Annotated[bool, typer.Option("--prepare", help="Write its toy data without training.")] = False,
) -> None:
    """List the recipes of published systems, or show the page of one.

    `evr1 train NAME` runs a recipe on toy data, which are written to `runs/NAME` first. For your own model and data,
    set `model.path` and `data` on the command line, or change a copy.
    """
    from rich.console import Console

    from easyvideor1.types import ConfigError

    if name is None:
        if copy is not None or prepare:
            raise ConfigError("say which recipe, for example: evr1 recipes veripo --prepare")
        _print_table(Console())
        return
    if _of_real_size(name):
        if prepare:
            raise ConfigError(f"{name} has no toy data: docs/real_data.md says what to download; leave out --prepare")
        if copy is not None:
            _copy(name, copy)
        else:
            _show_real(name, Console())
        return
    package = _package(name)
    if copy is not None:
        _copy(name, copy)
    if prepare:
        prepare_toy(package, Console(stderr=True))
        typer.echo(f"{package.root} is ready; train with: evr1 train {name}")
    if copy is None and not prepare:
        typer.echo(package.readme, nl=False)


def prepare_missing(written: str, config: RunConfig, console: Console) -> None:
    """Write the toy data of a recipe where a configuration needs them and they are not there.

    Args:
        written: the argument that names the configuration.
        config: of the run.
        console: where progress is shown.
    """
    from easyvideor1.recipes.package import find_package

    package = find_package(written)
    if package is not None and package.missing(config):
        prepare_toy(package, console)


def prepare_toy(package: RecipePackage, console: Console) -> None:
    """Write the toy data of a recipe, with progress."""
    from easyvideor1.cli.progress import progress

    with progress(f"writing {package.root}", unit="clip", console=console) as on_progress:
        package.prepare(on_progress)


def _package(name: str) -> RecipePackage:
    from easyvideor1.config.shipped import recipe_packages
    from easyvideor1.config.suggest import nearest
    from easyvideor1.recipes.package import find_package
    from easyvideor1.types import ConfigError

    package = find_package(name)
    if package is None:
        near = nearest(name, recipe_packages())
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(recipe_packages())}"
        raise ConfigError(f"{name!r} is no package of a recipe: {hint}")
    return package


def _of_real_size(name: str) -> bool:
    """Whether a name is that of recipes of real size: of one of them, or of all."""
    from easyvideor1.config.shipped import REAL, real_advice, recipe_name
    from easyvideor1.types import ConfigError

    written = name.removeprefix("recipes/").rstrip("/")
    if written == REAL:
        return True
    if recipe_name(written) is None and (advice := real_advice(written)):
        raise ConfigError(f"{name}: {advice}")
    return written.startswith(f"{REAL}/")


def _show_real(name: str, console: Console) -> None:
    """The table of all recipes of real size, or one of them as a file."""
    from easyvideor1.config.one_file import one_file
    from easyvideor1.config.shipped import REAL
    from easyvideor1.recipes.real_size import print_real

    written = name.removeprefix("recipes/").rstrip("/")
    if written == REAL:
        print_real(console)
    else:
        typer.echo(one_file(written), nl=False)


def _copy(name: str, target: Path) -> None:
    from easyvideor1.config.one_file import one_file
    from easyvideor1.files import write_text
    from easyvideor1.types import ConfigError

    if target.exists():
        raise ConfigError(f"{target} exists already; give another name or remove it first")
    write_text(target, one_file(name))
    typer.echo(f"wrote {target}; train with: evr1 train {target} model.path=... data.train.0.path=...")


def _print_table(console: Console) -> None:
    from rich.table import Table

    from easyvideor1.recipes.package import shipped_packages

    packages = shipped_packages()
    columns = ["recipe", "what it does", "about minutes"]
    if any(package.about.needs for package in packages):
        columns.append("needs")
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(
            column, justify="right" if column == "about minutes" else "left", no_wrap=column != "what it does"
        )
    for package in packages:
        about = package.about
        cells = (package.name, f"{about.system}: {about.summary}", f"{about.minutes:g}", about.needs)
        table.add_row(*cells[: len(columns)])
    console.print(table)
    console.print("Of real size, for 1, 8 and 32 GPUs: evr1 recipes real.")
    console.print("Show one: evr1 recipes NAME. Run one: evr1 train NAME. The first to try: evr1 quickstart.")
