"""What a shell completes: configurations, keys and values of overrides, run directories.

A completion that raised would print into the line that is being typed, so that what cannot be read completes nothing.
"""

from __future__ import annotations

import typing
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from easyvideor1.config.yaml_source import Keys

#: A completion, and what a shell shows beside it.
Completion = tuple[str, str]


def complete_configs(incomplete: str) -> Iterator[Completion]:
    """YAML files and directories on the way to them, and the names of shipped recipes."""
    from easyvideor1.config.shipped import recipes

    yield from ((name, "shipped recipe") for name in recipes() if name.startswith(incomplete))
    yield from ((path, "") for path in _paths(incomplete, (".yaml", ".yml")))


def complete_runs(incomplete: str) -> Iterator[Completion]:
    """Run directories here and in ``runs``, and directories on the way to them."""
    from easyvideor1.cli.doctor_run import is_run

    for path in _paths(incomplete, ()):
        yield path, "run" if is_run(path) else ""
    if not incomplete:
        yield from ((str(path), "run") for path in sorted(Path("runs").glob("*")) if is_run(str(path)))


def complete_configs_and_runs(incomplete: str) -> Iterator[Completion]:
    """What ``evr1 doctor`` takes."""
    yield from complete_configs(incomplete)
    yield from ((path, what) for path, what in complete_runs(incomplete) if what)


def complete_recipes(incomplete: str) -> Iterator[Completion]:
    """Packages of recipes."""
    from easyvideor1.config.shipped import recipe_packages

    yield from ((name, "recipe") for name in recipe_packages() if name.startswith(incomplete))


def complete_overrides(ctx: typer.Context, incomplete: str) -> Iterator[Completion]:
    """Keys of the configuration as ``key=``, or ``key=value`` where few values are possible."""
    from easyvideor1.config.keys import all_keys, dotted, fields_at, inner_models

    stages = _stage_names(ctx.params.get("config"))
    for path in all_keys():
        field = next(iter(fields_at(path)), None)
        if field is None or (inner_models(field) and not _values(field)):
            continue
        for way in _of_stages(path, stages):
            key = dotted(way)
            if not f"{key}=".startswith(incomplete) and not incomplete.startswith(f"{key}="):
                continue
            words = _first_sentence(field)
            values = _values(field)
            for text in [f"{key}={value}" for value in values] or [f"{key}="]:
                if text.startswith(incomplete):
                    yield text, words


def _of_stages(path: Keys, stages: list[str]) -> list[Keys]:
    """A key of the schema, for each stage by its name if it is one of a stage's."""
    if len(path) > 2 and path[0] == "stages" and stages:
        return [("stages", name, *path[2:]) for name in stages]
    return [path]


def _stage_names(config: object) -> list[str]:
    """The names of the stages of a configuration; none if it cannot be read."""
    from easyvideor1.config.load import read_over_bases
    from easyvideor1.types import ConfigError

    if not isinstance(config, str) or not config:
        return []
    try:
        values = read_over_bases(config)[0].values
        return [str(stage["name"]) for stage in values["stages"] if str(stage["name"]).isidentifier()]
    except (ConfigError, KeyError, TypeError):
        return []


def _values(field: FieldInfo) -> list[str]:
    """The values that a field may have, if these are words: of a ``Literal``, a switch, or a name."""
    from easyvideor1.config.base import ByName, item_marker_of, marker_of

    mark = marker_of(field)
    if isinstance(mark, ByName):
        return list(mark.names())
    if item_marker_of(field) is not None:
        return []
    return list(_words(field.annotation))


def _words(annotation: Any) -> Iterator[str]:
    if annotation is bool:
        yield from ("true", "false")
    elif typing.get_origin(annotation) is typing.Literal:
        yield from map(str, typing.get_args(annotation))
    elif typing.get_origin(annotation) not in (tuple, list, dict):
        for argument in typing.get_args(annotation):
            yield from _words(argument)


def _first_sentence(field: FieldInfo) -> str:
    text = " ".join((field.description or "").split()).replace("``", "")
    return text.partition(". ")[0].rstrip(".")


def _paths(incomplete: str, suffixes: tuple[str, ...]) -> list[str]:
    """Directories, and files with one of these suffixes, whose path begins with what is typed."""
    folder, _, begun = incomplete.rpartition("/")
    place = Path(f"{folder}/" if incomplete.startswith("/") or folder else ".")
    try:
        names = sorted(path.name for path in place.iterdir() if path.is_dir() or path.suffix in suffixes)
    except OSError:
        return []
    above = f"{folder}/" if folder or incomplete.startswith("/") else ""
    return [f"{above}{name}" for name in names if name.startswith(begun) and (begun or not name.startswith("."))]
