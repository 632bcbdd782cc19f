"""``evr1 toyworld``: write a world of moving shapes with questions of every task type."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from easyvideor1.toyworld import WorldSpec


def toyworld(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Directory to write.")],
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Settings, such as seed=3 train=512 size=[96,96]."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print all settings and write nothing.")] = False,
) -> None:
    """Write seeded videos and images of moving shapes, with rows for training, validation and test."""
    from easyvideor1.cli.progress import progress
    from easyvideor1.toyworld import write_world

    spec = read_spec(settings or ())
    if dry_run:
        for field in fields(spec):
            typer.echo(f"{field.name}={json.dumps(getattr(spec, field.name))}")
        return
    with progress("writing clips", unit="clip") as on_progress:
        write_world(spec, out, on_progress)
    for name in ("train.jsonl", "validation.jsonl", "test.jsonl"):
        if (out / name).is_file():
            with (out / name).open(encoding="utf-8") as rows:
                typer.echo(f"{out / name}: {sum(1 for _ in rows)} rows")


def read_spec(settings: list[str] | tuple[str, ...]) -> WorldSpec:
    """A ``WorldSpec`` from settings ``key=value`` with YAML values.

    Raises:
        ConfigError: an unknown setting, or an invalid value.
    """
    import difflib

    from pydantic import TypeAdapter, ValidationError

    from easyvideor1.config.yaml_source import describe, parse_value
    from easyvideor1.toyworld import WorldSpec
    from easyvideor1.types import ConfigError

    known = [field.name for field in fields(WorldSpec)]
    values: dict[str, object] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise ConfigError(f"{setting!r}: write settings as key=value, such as seed=3")
        if key not in known:
            near = difflib.get_close_matches(key, known, n=3)
            raise ConfigError(
                f"{setting!r}: unknown setting; {'did you mean' if near else 'known:'} "
                f"{' or '.join(near) if near else ', '.join(known)}"
            )
        values[key] = parse_value(text, f"setting {setting!r}")
    try:
        return TypeAdapter(WorldSpec).validate_json(json.dumps(values), strict=True)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place = ".".join(map(str, problem["loc"]))
        message = str(problem["msg"]).replace("Input should be", "expected", 1)
        raise ConfigError(f"setting {place}: {message}, got {describe(problem['input'])}") from error
