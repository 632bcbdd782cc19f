"""What decides whether a prompt can be made, as the digest under which ``CheckCache`` remembers that it can."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import av

from easyvideor1.config import ModelConfig
from easyvideor1.data import check_key
from easyvideor1.families.family import Family
from easyvideor1.types import Geometry, MediaRef
from easyvideor1.video.media_files import FileVersion, is_unchanged, media_version

#: Files of a checkpoint that decide no prompt: weights, and what the trainer keeps beside them.
_NO_PROMPT_SUFFIXES = frozenset({".safetensors", ".bin", ".pt", ".pth", ".gguf"})
_NO_PROMPT_NAMES = (".", "model", "pytorch_model", "optimizer", "critic", "state", "training_args")


class PromptChecks:
    """Makes the keys of prompt checks under one model, system prompt and limit.

    A key names a medium by its file's version, not by its plan: what probing says of an unchanged file is the same, and
    a start that finds everything known need not even read what is remembered of its probes.

    Where what decides a prompt cannot be told (a family outside this package, code of the checkpoint's own, a template
    that writes the date, a frame effect of the user's own), nothing is remembered: the key is ``None``.

    Args:
        config: names the family and its conventions.
        family: that renders.
        checkpoint: its directory.
        geometry: how media are cut.
        system: the system prompt.
        limit: the most tokens that a prompt may have.
    """

    def __init__(
        self, config: ModelConfig, family: Family, checkpoint: Path, geometry: Geometry, system: str, limit: int
    ) -> None:
        kind = type(family)
        own = not kind.__module__.startswith("easyvideor1.") or config.trust_remote_code
        template = str(family.tokenizer.chat_template)
        self._identity = ""
        if not own and "strftime_now" not in template:
            deciding = (
                *(kind.__module__, kind.__qualname__, config.conventions, template, _digests(checkpoint)),
                *(repr(geometry), system, limit, av.library_versions["libavformat"]),
            )
            self._identity = hashlib.sha256(repr(deciding).encode()).hexdigest()

    def key(
        self, text: str, media: Sequence[MediaRef], budgets: Sequence[str]
    ) -> tuple[bytes | None, list[FileVersion]]:
        """The key of a prompt, and the versions of its media as they are now.

        Args:
            text: the user message.
            media: of the sample, in order.
            budgets: the budget in force for each, as text.

        Raises:
            MediaError: a file is missing or no regular file.
        """
        if not self._identity or any(":" in effect.name for ref in media for effect in ref.effects):
            return None, []
        versions = [media_version(ref.path) for ref in media]
        named = [
            (ref.kind, ref.start, ref.end, budget, version, *((ref.still, ref.effects) if _is_derived(ref) else ()))
            for ref, budget, version in zip(media, budgets, versions, strict=True)
        ]
        return check_key("prompt", self._identity, text, named), versions


def _is_derived(ref: MediaRef) -> bool:
    return bool(ref.still or ref.effects)


def still_there(versions: Sequence[FileVersion]) -> bool:
    """Whether the files of a check that was just passed are those that its key names."""
    return all(map(is_unchanged, versions))


def _digests(checkpoint: Path) -> tuple[tuple[str, str], ...]:
    """SHA-256 of the files that tokenizer, chat template and configuration are read from, by name."""
    files = [
        file
        for file in sorted(checkpoint.iterdir())
        if file.is_file() and file.suffix not in _NO_PROMPT_SUFFIXES and not file.name.startswith(_NO_PROMPT_NAMES)
    ]
    return tuple((file.name, hashlib.sha256(file.read_bytes()).hexdigest()) for file in files)
