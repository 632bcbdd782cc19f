"""Where the files are that a configuration names: as given from the working directory, else beside its YAML file.

What was written down stays what it is: ``config.yaml`` of a run, and all that tells one run from another, hold the
paths as given. Whoever reads files works with ``located(config)``.
"""

from __future__ import annotations

import difflib
import importlib.util
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

from easyvideor1.config.schema import BaseConfig, RunConfig, SourceConfig
from easyvideor1.types import ConfigError, DataError

S = TypeVar("S", bound=BaseConfig)
#: A split, or the part of one that the ``datasets`` library takes by ``train[:10%]``.
_SPLIT = re.compile(r"\w[\w-]*(?:\[[\d:%-]*\])?")
_HUB_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*")
#: What ends so is a file that was mistyped, and no data set.
_FILES = (".json", ".jsonl", ".parquet")


def split_of(path: str) -> tuple[str, str]:
    """The path of a source without its ``@split``, and the split, empty if none is named.

    A file whose own name has an ``@`` is itself.
    """
    base, _, split = path.rpartition("@")
    return (base, split) if base and _SPLIT.fullmatch(split) and not Path(path).exists() else (path, "")


def is_hub_name(path: str) -> bool:
    """Whether the path of a source names a data set on the Hub: ``owner/name@split``, where nothing is there."""
    base, split = split_of(path)
    named = _HUB_NAME.fullmatch(base) is not None and not base.endswith(_FILES)
    return bool(split) and named and not Path(base).exists()


def found(config: RunConfig, path: str) -> str:
    """``path`` if that is there from the working directory, else beside the YAML file if it is there, else ``path``.

    A ``@split`` behind a path stays behind it.
    """
    beside = _beside(config, path)
    if beside is None or Path(split_of(path)[0]).exists():
        return path
    return beside if Path(split_of(beside)[0]).exists() else path


def as_written(config: RunConfig, path: str) -> str:
    """A path below the directory of the YAML file as seen from there, however that was named; any other as it is."""
    folder = config.read_from.folder
    if folder is None:
        return path
    below, here = (Path(os.path.abspath(one)) for one in (path, folder))  # noqa: PTH100 - tidies ".."
    return str(below.relative_to(here)) if below.is_relative_to(here) else path


def located(config: RunConfig) -> RunConfig:
    """The configuration with every path that exists as it is found; nothing is required to exist.

    These are the paths of sources, benchmarks, media roots, templates and the model. What a run writes (``output_dir``,
    ``cache.dir``, ``rewards.judge.cache_dir``) stays relative to the working directory.
    """
    data = config.data
    splits = {
        split: tuple(located_source(config, source) for source in getattr(data, split))
        for split in ("train", "validation", "test")
    }
    stages = [_with(stage, sources=tuple(found(config, path) for path in stage.sources)) for stage in config.stages]
    judge = _with(config.rewards.judge, templates=_found(config, config.rewards.judge.templates))
    return _with(
        config,
        data=_with(data, **splits),
        stages=tuple(stages),
        model=_with(config.model, path=found(config, config.model.path)),
        prompts=_with(config.prompts, templates=_found(config, config.prompts.templates)),
        rewards=_with(config.rewards, judge=judge),
        evaluation=_with(
            config.evaluation, benchmarks=tuple(_target(config, target) for target in config.evaluation.benchmarks)
        ),
    )


def _target(config: RunConfig, target: str) -> str:
    """A benchmark as it is named, with its location as that is found."""
    name, named, location = target.partition("=")
    return f"{name}={found(config, location)}" if named and location else found(config, name)


def located_source(config: RunConfig, source: SourceConfig) -> SourceConfig:
    """A source with its paths as they are found."""
    path, root = found(config, source.path), _found(config, source.media_root)
    changes = {key: value for key, value in (("path", path), ("media_root", root)) if value != getattr(source, key)}
    return source.model_copy(update=changes)


def require_sources(config: RunConfig, sources: Iterable[SourceConfig]) -> None:
    """Make sure that the files of some sources, and the directories that a prompt needs, are there.

    Raises:
        DataError: a file of rows is not there, or is a directory; the message names every place and what is near.
        ConfigError: the same of a media root or a directory of templates.
    """
    for source in sources:
        path = found(config, source.path)
        if is_hub_name(path):
            if importlib.util.find_spec("datasets") is None:
                what = not_found(config, source.path, "data file")
                raise DataError(f"{what}; for a data set on the Hub: pip install 'easyvideor1[datasets]'")
        elif not Path(split_of(path)[0]).exists():
            raise DataError(not_found(config, split_of(source.path)[0], "data file"))
        if source.media_root is not None:
            _require_directory(config, f"media_root of {source.path}", source.media_root)
    if config.prompts.templates is not None:
        _require_directory(config, "prompts.templates", config.prompts.templates)
    if config.rewards.judge.url and config.rewards.judge.templates is not None:
        _require_directory(config, "rewards.judge.templates", config.rewards.judge.templates)


def not_found(config: RunConfig, path: str, kind: str) -> str:
    """``PATH: no such KIND``, every place where it was looked for, and what is there of a similar name, if anything."""
    places = looked_for(config, path)
    return (
        f"{path}: no such {kind}: looked for {' and '.join(places)}; {path_advice(path, places) or 'correct the path'}"
    )


def looked_for(config: RunConfig, path: str) -> list[str]:
    """The absolute places of a path, in the order in which they are tried."""
    beside = _beside(config, path)
    return list(dict.fromkeys(os.path.abspath(place) for place in (path, beside) if place is not None))  # noqa: PTH100


def path_advice(path: str, places: Iterable[str | Path]) -> str:
    """What may have been meant by a path that is at none of the places; empty if nothing suggests itself."""
    if path.startswith("~"):
        return f"'~' is not read as your home directory here, write {os.path.expanduser(path)}"  # noqa: PTH111
    near = near_names(places)
    return f"did you mean {' or '.join(near)}?" if near else ""


def near_names(places: Iterable[str | Path]) -> list[str]:
    """Up to three paths that are there and whose last name is like that of a place that is not."""
    near: list[str] = []
    for place in map(Path, places):
        try:
            names = [entry.name for entry in os.scandir(place.parent)]
        except OSError:
            continue  # no such directory, or not ours to read: then nothing is near
        near += [str(place.parent / name) for name in difflib.get_close_matches(place.name, names, n=3, cutoff=0.6)]
    return list(dict.fromkeys(near))[:3]


def _require_directory(config: RunConfig, key: str, path: str) -> None:
    if not Path(found(config, path)).is_dir():
        raise ConfigError(f"{key}: {not_found(config, path, 'directory')}")


def _beside(config: RunConfig, path: str) -> str | None:
    folder = config.read_from.folder
    return None if folder is None or not path or Path(path).is_absolute() else str(folder / path)


def _found(config: RunConfig, path: str | None) -> str | None:
    return None if path is None else found(config, path)


def _with(section: S, **changes: Any) -> S:
    """A copy with what differs changed; what was set and what was left to its default stay told apart."""
    differing = {key: value for key, value in changes.items() if value != getattr(section, key)}
    return section.model_copy(update=differing) if differing else section
