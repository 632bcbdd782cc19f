"""The components of a server: those of a configuration, with uploads that leave nothing behind."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from easyvideor1.components import Components
from easyvideor1.config import CacheConfig, RunConfig, load_config, parse_config
from easyvideor1.data.visual_tokens import VISUAL_MISMATCH, features_fault
from easyvideor1.engines.worker_messages import WorkerMedia
from easyvideor1.types import Frames, MediaError, MediaInfo, MediaPlan, MediaRef
from easyvideor1.video import FrameSource, FrameStore, HealthLedger


def answering_config(
    checkpoint: Path, path: str | None, overrides: Sequence[str], scratch: Path, *, engine: str | None = None
) -> RunConfig:
    """The configuration of a command that answers questions.

    A run directory has that of its run. Without one and without a file, there are the defaults, and the cache of frames
    lies in ``scratch``, so that nothing stays behind in the working directory.

    Args:
        checkpoint: as it was given, a run directory perhaps.
        path: YAML file or recipe; takes the place of the run's configuration.
        overrides: ``key=value``.
        scratch: a temporary directory.
        engine: takes the place of ``rollout.engine``.

    Raises:
        ConfigError: as ``load_config``.
    """
    chosen = [*overrides, *([f"rollout.engine={engine}"] if engine else [])]
    own = checkpoint / "config.yaml"
    if path is not None or own.is_file():
        config = load_config(path or own, chosen)
    else:
        own_cache = [f"cache.dir={scratch / 'frames'}", "cache.mode=decode_only"]
        config = parse_config("", "no configuration", [*own_cache, *chosen])
    # Features are kept for many steps of training over the same media; here they would keep what users upload.
    return config.model_copy(update={"cache": config.cache.model_copy(update={"features": False})})


@dataclass
class AnsweringComponents(Components):
    """Components that plan and read uploads as other media, but keep neither their frames nor their descriptions.

    ``scratch`` is the directory that uploads lie in. ``longest`` is the longest clip in seconds.
    """

    scratch: Path = Path()
    longest: float = float("inf")

    @classmethod
    def of(
        cls, config: RunConfig, checkpoint: Path, scratch: Path, longest: float = float("inf")
    ) -> AnsweringComponents:
        """The components for a checkpoint; see ``Components.open``."""
        opened = cls.open(config, checkpoint)
        assert isinstance(opened, AnsweringComponents)
        opened.scratch, opened.longest = scratch, longest
        return opened

    @cached_property
    def uploads(self) -> FrameSource:
        """Reads uploads: into memory alone."""
        there = self.scratch / f"uploads-{os.getpid()}"
        changes = {"dir": str(there), "mode": "decode_only"}
        config: CacheConfig = self.config.cache.model_copy(update=changes)
        return FrameSource(FrameStore(there, config.codec), HealthLedger(there / "health.jsonl"), config)

    def close(self) -> None:
        """See ``MediaComponents``."""
        super().close()
        if "uploads" in self.__dict__:
            self.uploads.close()

    def plan(self, ref: MediaRef) -> MediaPlan:
        """See ``MediaComponents``.

        Raises:
            MediaError: the medium cannot be planned, or its clip is too long.
        """
        info = (self.uploads if self._is_upload(ref) else self.frames).probe(ref.path)
        if (seconds := _clip_seconds(ref, info)) > self.longest:
            what = f"{ref.path}: a clip of {seconds:.0f} s, the longest is {self.longest:g} s; give start and end"
            raise MediaError(what, path=ref.path, reason="too_long")
        return self._plan_of(ref, info)

    def load(self, ref: MediaRef, media_plan: MediaPlan) -> Frames:
        """See ``MediaComponents``."""
        if not self._is_upload(ref):
            return super().load(ref, media_plan)
        frames = self.uploads.load(ref, media_plan)
        if (fault := features_fault(ref, media_plan, frames, self.geometry)) is not None:
            raise MediaError(fault, path=ref.path, reason=VISUAL_MISMATCH)
        return frames

    def worker_media(self) -> Callable[[], WorkerMedia]:
        """See ``Components``: an engine in a process of its own keeps no uploads either."""
        return partial(open_worker_media, self.config, self.checkpoint, self.scratch)

    def _is_upload(self, ref: MediaRef) -> bool:
        return self.scratch != Path() and Path(ref.path).is_relative_to(self.scratch)


def _clip_seconds(ref: MediaRef, info: MediaInfo) -> float:
    end = info.duration if ref.end is None else min(ref.end, info.duration)
    return end - (ref.start or 0.0)


def open_worker_media(config: RunConfig, checkpoint: Path, scratch: Path) -> WorkerMedia:
    """What reads media in the process of an engine."""
    components = AnsweringComponents.of(config, checkpoint, scratch)
    return WorkerMedia(components.load, None, components.close)
