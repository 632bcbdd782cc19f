"""Configurations go to text and to disk here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from easyvideor1.config.schema import RunConfig
from easyvideor1.config.yaml_source import RESOLVERS
from easyvideor1.files import write_text


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


def write_config(config: RunConfig, path: str | Path) -> None:
    """Write ``dump_config(config)`` to ``path``, whole or not at all."""
    write_text(path, dump_config(config))
