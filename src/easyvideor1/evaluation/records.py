"""One evaluated sample, as it is kept in ``evaluations/NAME.jsonl``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, cast

from easyvideor1.records.rows import (
    MediaRecord,
    media_records,
    prompt_tokens_by_kind,
    score_to_json,
)
from easyvideor1.types import FinishReason, Modality, Prompt, Sample, Score, Trajectory


@dataclass(frozen=True, slots=True)
class Response:
    """One scored response; ``tokens`` counts every turn, ``finish`` is the last turn's."""

    response: str
    tokens: int
    finish: FinishReason
    score: Score


@dataclass(frozen=True, slots=True)
class Record:
    """One sample with its greedy and sampled responses.

    A sample that could not be put before the model has ``error`` and neither prompt nor responses. ``tokens`` are those
    of the prompt by kind: ``text``, ``image``, ``video``.
    """

    sample: str
    task: str
    question: str
    answer: str
    options: tuple[str, ...]
    prompt: str = ""
    prompt_tokens: int = 0
    media: tuple[MediaRecord, ...] = ()
    greedy: Response | None = None
    samples: tuple[Response, ...] = ()
    error: str | None = None
    source: str = ""
    modality: Modality = "text"
    tokens: Mapping[Modality, int] = field(default_factory=dict)

    @property
    def cluster(self) -> str:
        """Questions about one file stand and fall together; a sample without media is a cluster of its own."""
        return self.media[0].path if self.media else f"sample:{self.sample}"


def failed_record(sample: Sample, error: str) -> Record:
    """The record of a sample that could not be rendered or read."""
    return Record(
        sample.id,
        sample.task,
        sample.question,
        sample.answer,
        sample.options,
        error=error,
        source=sample.source,
        modality=sample.modality,
    )


def answered_record(sample: Sample, prompt: Prompt, greedy: Response, samples: tuple[Response, ...]) -> Record:
    """The record of a sample with its responses."""
    return Record(
        sample=sample.id,
        task=sample.task,
        question=sample.question,
        answer=sample.answer,
        options=sample.options,
        prompt=prompt.text,
        prompt_tokens=len(prompt),
        media=media_records(prompt),
        greedy=greedy,
        samples=samples,
        source=sample.source,
        modality=sample.modality,
        tokens=prompt_tokens_by_kind(prompt),
    )


def response_of(trajectory: Trajectory, score: Score) -> Response:
    """A trajectory and its score, without the tensors."""
    return Response(trajectory.text, trajectory.response_tokens, trajectory.finish, score)


def _response_to_json(response: Response) -> dict[str, Any]:
    return {
        "response": response.response,
        "tokens": response.tokens,
        "finish": response.finish,
        "score": score_to_json(response.score),
    }


def record_to_json(record: Record) -> dict[str, Any]:
    """The row of ``evaluations/NAME.jsonl``."""
    return {
        "sample": record.sample,
        "task": record.task,
        "question": record.question,
        "answer": record.answer,
        "options": list(record.options),
        "prompt": record.prompt,
        "prompt_tokens": record.prompt_tokens,
        "media": [asdict(media) for media in record.media],
        "greedy": None if record.greedy is None else _response_to_json(record.greedy),
        "samples": [_response_to_json(response) for response in record.samples],
        "error": record.error,
        "source": record.source,
        "modality": record.modality,
        "tokens": dict(record.tokens),
    }


def _response_from_json(row: Mapping[str, Any]) -> Response:
    return Response(row["response"], row["tokens"], cast("FinishReason", row["finish"]), Score(**row["score"]))


def _media_from_json(row: Mapping[str, Any]) -> MediaRecord:
    return MediaRecord(
        kind=row["kind"],
        path=row["path"],
        digest=row["digest"],
        frame_indices=tuple(row["frame_indices"]),
        timestamps=tuple(row["timestamps"]),
        height=row["height"],
        width=row["width"],
    )


def record_from_json(row: Mapping[str, Any]) -> Record:
    """The inverse of ``record_to_json``; a missing key raises ``KeyError`` and an odd one ``TypeError``.

    Rows of older runs lack source and tokens; their modality follows from their media.
    """
    media = tuple(_media_from_json(media) for media in row["media"])
    kinds = {each.kind for each in media}
    return Record(
        sample=row["sample"],
        task=row["task"],
        question=row["question"],
        answer=row["answer"],
        options=tuple(row["options"]),
        prompt=row["prompt"],
        prompt_tokens=row["prompt_tokens"],
        media=media,
        greedy=None if row["greedy"] is None else _response_from_json(row["greedy"]),
        samples=tuple(_response_from_json(response) for response in row["samples"]),
        error=row.get("error"),
        source=row.get("source", ""),
        modality=row.get("modality", "video" if "video" in kinds else "image" if kinds else "text"),
        tokens=row.get("tokens", {}),
    )
