"""``evr1 config``: show, document and migrate configurations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from easyvideor1.cli.completion import complete_configs, complete_overrides

app = typer.Typer(no_args_is_help=True, help="Show, check, document and migrate configurations.")

ConfigArgument = Annotated[
    str,
    typer.Argument(
        metavar="CONFIG", help="YAML file, or the name of a shipped recipe.", autocompletion=complete_configs
    ),
]
OverridesArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...",
        help="Overrides, such as stages.0.steps=5.",
        autocompletion=complete_overrides,
    ),
]
#: Of commands that generate responses and train on none.
GenerationOverrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...",
        help="Overrides, such as rollout.max_new_tokens=1024.",
        autocompletion=complete_overrides,
    ),
]
#: Of commands about the frame cache.
CacheOverrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...",
        help="Overrides, such as cache.dir=/data/frames.",
        autocompletion=complete_overrides,
    ),
]


@app.command()
def show(
    config: ConfigArgument,
    overrides: OverridesArgument = None,
    only_set: Annotated[bool, typer.Option("--only-set", help="Leave out keys that have their default value.")] = False,
) -> None:
    """Check a configuration and print it with all overrides and defaults."""
    from easyvideor1.config import dump_config, load_config

    typer.echo(dump_config(load_config(config, overrides or ()), only_set=only_set), nl=False)


@app.command()
def docs(
    directory: Annotated[Path, typer.Option("--dir", help="Directory of the pages and the schema.")] = Path("docs"),
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail if they are out of date.")] = False,
) -> None:
    """Write the generated pages of the documentation: configuration with its JSON schema, commands, metrics, papers."""
    from easyvideor1.cli.documents import stale, write_all

    if not check:
        for path in write_all(directory):
            typer.echo(f"wrote {path}")
        return
    found = stale(directory)
    for path in found:
        typer.echo(f"{path} is out of date; run: evr1 config docs --dir {directory}", err=True)
    if found:
        raise typer.Exit(1)


@app.command()
def schema() -> None:
    """Print the JSON schema of the configuration, for editors."""
    from easyvideor1.config.docs import json_schema_text

    typer.echo(json_schema_text(), nl=False)


@app.command()
def migrate(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="YAML file of EasyR1, EasyVideoR1 or an earlier version.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write; stdout by default.")] = None,
) -> None:
    """Convert a YAML file of EasyR1, EasyVideoR1 or an earlier version of this package.

    Keys without a counterpart are listed with the reason.
    """
    from easyvideor1.config.migrate import migrate_file
    from easyvideor1.files import write_text
    from easyvideor1.types import ConfigError

    if output is not None and output.exists():
        raise ConfigError(f"{output} exists already; give another name or remove it first")
    migration = migrate_file(old)
    if output is None:
        typer.echo(migration.text, nl=False)
    else:
        write_text(output, migration.text)
        typer.echo(f"wrote {output}", err=True)
    for what, keys in (
        ("not converted", migration.unsupported),
        ("without effect in that file", migration.without_effect),
    ):
        if keys:
            typer.echo(f"{what}: {len(keys)}", err=True)
        for item in keys:
            typer.echo(f"  {item.key} ({item.value}): {item.reason}", err=True)
