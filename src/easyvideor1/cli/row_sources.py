"""What ``evr1 check`` reads: a file of rows, or all sources of a configuration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from easyvideor1.config import RunConfig
    from easyvideor1.config.schema import SourceConfig

_ROWS_SUFFIXES = {".json", ".jsonl", ".parquet", ".txt"}


def sources_of(
    data: str, config: str, *, media_root: str | None = None, task: str = ""
) -> tuple[RunConfig, Sequence[SourceConfig]]:
    """The configuration to use, and the sources to read.

    Args:
        data: file of rows, or a configuration.
        config: for a file of rows, a configuration with its columns.
        media_root: for a file of rows, where its media paths start.
        task: for a file of rows, the task type of rows that name none.

    Raises:
        ConfigError: a configuration has no source, or is given together with what is for a file of rows.
    """
    from easyvideor1.config import RunConfig, load_config, located
    from easyvideor1.config.paths import require_sources
    from easyvideor1.config.schema import SourceConfig
    from easyvideor1.types import ConfigError

    if Path(data).suffix.lower() in _ROWS_SUFFIXES:
        source = SourceConfig(path=data, media_root=media_root, task=task)
        require_sources(RunConfig(), [source])
        return (load_config(config, ()) if config else RunConfig()), (source,)
    if config or media_root or task:
        option = "--config" if config else "--media-root" if media_root else "--task"
        raise ConfigError(
            f"{data} is not a file of rows (.json, .jsonl, .parquet, .txt); use {option} only with such a file"
        )
    settings = located(load_config(data, ()))
    sources = tuple(dict.fromkeys((*settings.data.train, *settings.data.validation, *settings.data.test)))
    if not sources:
        raise ConfigError(f"{data} has no source; set data.train, data.validation or data.test, or give a file of rows")
    require_sources(settings, sources)
    return settings, sources
