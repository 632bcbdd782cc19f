"""How rollouts and evaluations alike put down on disk what the model saw and what a response was worth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from easyvideor1.types import MediaKind, Modality, Prompt, Score


@dataclass(frozen=True, slots=True)
class MediaRecord:
    """Which frames of which file the model saw; ``digest`` finds them in the frame store."""

    kind: MediaKind
    path: str
    digest: str
    frame_indices: tuple[int, ...]
    timestamps: tuple[float, ...]
    height: int
    width: int


def media_records(prompt: Prompt) -> tuple[MediaRecord, ...]:
    """What the model sees of each media file of a prompt."""
    return tuple(
        MediaRecord(plan.kind, ref.path, plan.digest, plan.frame_indices, plan.timestamps, plan.height, plan.width)
        for ref, plan in zip(prompt.media, prompt.plans, strict=True)
    )


def prompt_tokens_by_kind(prompt: Prompt) -> dict[Modality, int]:
    """Tokens of a prompt that are text, and that stand for its images and its videos."""
    counts: dict[Modality, int] = {"text": len(prompt), "image": 0, "video": 0}
    for plan in prompt.plans:
        counts[plan.kind] += plan.tokens
        counts["text"] -= plan.tokens
    return counts


def score_to_json(score: Score) -> dict[str, Any]:
    """All fields of a score, ready for JSON."""
    return {
        "accuracy": score.accuracy,
        "format": score.format,
        "total": score.total,
        "parts": dict(score.parts),
        "parsed": score.parsed,
        "applicable": score.applicable,
        "reason": score.reason,
        "found": score.found,
    }
