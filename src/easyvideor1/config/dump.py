"""Configurations go to text and to disk here."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import yaml

from easyvideor1.config.schema import RunConfig
from easyvideor1.config.source import RESOLVERS


class _Dumper(yaml.SafeDumper):
    """Quotes whatever YAML 1.1 or 1.2 would read as something else than text, and indents lists."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


for _tag, _pattern, _first in RESOLVERS:
    _Dumper.add_implicit_resolver(_tag, _pattern, _first)


def dump_values(values: dict[str, Any]) -> str:
    """Plain values as YAML, keys in the order given."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def dump_config(config: RunConfig, *, only_set: bool = False) -> str:
    """The configuration as YAML that ``load_config`` reads back to an equal one.

    Args:
        config: the configuration.
        only_set: leave out what was not written down, so that defaults stay defaults.
    """
    return dump_values(config.model_dump(mode="json", exclude_unset=only_set))


def write_text(path: str | Path, text: str) -> None:
    """Write a file whole or not at all: a temporary file beside it, fsync, rename.

    Raises:
        OSError: the directory cannot be made or written.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes private files; a file for people gets what any other new file would get.
        mask = os.umask(0)
        os.umask(mask)
        Path(temporary).chmod(0o666 & ~mask)
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_config(config: RunConfig, path: str | Path) -> None:
    """Write ``dump_config(config)`` to ``path``, whole or not at all."""
    write_text(path, dump_config(config))
