"""The record of trajectories: one schema for rollouts, evaluations and data curation.

A line of a JSON Lines file is one sample with its trajectories. ``trajectory_files`` writes and reads the files.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from easyvideor1.types import (
    Effect,
    FinishReason,
    MediaKind,
    Modality,
    Origin,
    Prompt,
    Sample,
    Score,
    Trajectory,
)
from easyvideor1.video.derived import effects_of, stored_plan
from easyvideor1.video.plan import effects_from_json

#: Columns of a row without which its boxes and spans cannot be drawn.
MEASURES = ("coordinates", "image_size", "video_size", "width", "height", "duration")


@dataclass(frozen=True, slots=True)
class MediaRecord:
    """Which frames of which file the model saw; ``digest`` finds them in the frame store, and is empty if it saw
    none. Frames with ``effects``, or a part of those of another plan, are made from the stored frames of ``part_of``:
    effects first."""

    kind: MediaKind
    path: str
    digest: str
    frame_indices: tuple[int, ...]
    timestamps: tuple[float, ...]
    height: int
    width: int
    part_of: str = ""
    effects: tuple[Effect, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """All fields; ``part_of`` and ``effects`` only where there are any."""
        return {name: value for name, value in asdict(self).items() if value or name not in ("part_of", "effects")}


@dataclass(frozen=True, slots=True, eq=False)
class TurnArrays:
    """One turn as a model sees it. ``prompt_ids`` is int64 ``(P,)``; the others have one value per response token.

    ``response_ids`` and ``versions`` are int64, ``response_mask`` is bool, ``logprobs`` and ``advantages`` are float32;
    the last three are ``None`` where nothing is known. Single unknown log-probs are NaN.
    """

    prompt_ids: NDArray[np.int64]
    response_ids: NDArray[np.int64]
    response_mask: NDArray[np.bool_]
    logprobs: NDArray[np.float32] | None = None
    versions: NDArray[np.int64] | None = None
    advantages: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class TrajectoryRecord:
    """One scored trajectory.

    ``response`` and ``finish`` are the last turn's, ``tokens`` counts the response tokens of all turns. ``logprob`` is
    the sum over all response tokens, ``advantage`` one number for the whole trajectory; ``None`` if there is none.
    ``off_policy`` says how a stage trains on an offline trajectory. With a ``fault`` there is no response: ``refused``
    or ``failed``, and ``score.reason`` says why. ``logprobs`` are those of the response's tokens where the text alone
    gives the same tokens again. ``turns`` are empty unless arrays were kept and read. ``responses`` are the texts of
    all turns where one of them had a fresh prompt, and empty elsewhere.
    """

    response: str
    tokens: int
    finish: FinishReason
    score: Score
    origin: Origin = "online"
    off_policy: str = ""
    logprob: float | None = None
    advantage: float | None = None
    fault: str = ""
    logprobs: tuple[float, ...] | None = None
    turns: tuple[TurnArrays, ...] = field(default=(), compare=False)
    responses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SampleRecord:
    """One sample with its trajectories: a line of a file.

    ``prompt``, ``prompt_tokens``, ``media`` and ``tokens`` (by kind: ``text``, ``image``, ``video``) are the text, the
    length and the media of the first turn's prompt. ``facets`` are what results are told apart by, such as duration or
    subject, from the row's column of this name. ``measures`` are the row's columns that say what its boxes and spans
    are measured by (``MEASURES``). ``greedy`` is the greedy response of an evaluation. A sample that could not be put
    before the model has an ``error`` and no trajectories. ``step`` is that of a rollout.
    """

    sample: str
    task: str
    question: str
    answer: str
    options: tuple[str, ...]
    prompt: str = ""
    prompt_tokens: int = 0
    media: tuple[MediaRecord, ...] = ()
    greedy: TrajectoryRecord | None = None
    trajectories: tuple[TrajectoryRecord, ...] = ()
    error: str | None = None
    source: str = ""
    modality: Modality = "text"
    tokens: Mapping[Modality, int] = field(default_factory=dict)
    facets: Mapping[str, str] = field(default_factory=dict)
    measures: Mapping[str, Any] = field(default_factory=dict)
    step: int | None = None

    @property
    def cluster(self) -> str:
        """Questions about one file stand and fall together; a sample without media is a cluster of its own."""
        return self.media[0].path if self.media else f"sample:{self.sample}"

    @property
    def seen(self) -> bool:
        """Whether the model saw any of the media."""
        return any(media.digest for media in self.media)

    @property
    def used(self) -> bool:
        """Whether a step trained on the sample."""
        return any(trajectory.advantage is not None for trajectory in self.trajectories)


def media_records(prompt: Prompt) -> tuple[MediaRecord, ...]:
    """What the model sees of each media file of a prompt."""
    return tuple(
        MediaRecord(
            *(plan.kind, ref.path, plan.digest, plan.frame_indices, plan.timestamps, plan.height, plan.width),
            part_of="" if (stored := stored_plan(plan)) is plan else stored.digest,
            effects=effects_of(plan),
        )
        for ref, plan in zip(prompt.media, prompt.plans, strict=True)
    )


def unseen_media(sample: Sample) -> tuple[MediaRecord, ...]:
    """The media of a sample that no model saw anything of."""
    return tuple(MediaRecord(ref.kind, ref.path, "", (), (), 0, 0) for ref in sample.media)


def prompt_digest(prompt: Prompt) -> str:
    """SHA-256 of the tokens and pixels of a prompt: of question, template, tokenizer, media and budgets."""
    found = hashlib.sha256(prompt.token_ids.tobytes())
    for plan in prompt.plans:
        found.update(plan.digest.encode())
    return found.hexdigest()


def prompt_tokens_by_kind(prompt: Prompt) -> dict[Modality, int]:
    """Tokens of a prompt that are text, and that stand for its images and its videos."""
    counts: dict[Modality, int] = {"text": len(prompt), "image": 0, "video": 0}
    for plan in prompt.plans:
        counts[plan.kind] += plan.tokens
        counts["text"] -= plan.tokens
    return counts


def prompt_fields(prompt: Prompt) -> dict[str, Any]:
    """The fields of ``SampleRecord`` about a prompt."""
    return {
        "prompt": prompt.text,
        "prompt_tokens": len(prompt),
        "media": media_records(prompt),
        "tokens": prompt_tokens_by_kind(prompt),
    }


def sample_record(sample: Sample, prompt: Prompt | None = None, /, **values: Any) -> SampleRecord:
    """The record of a sample and of the prompt that it was put before the model with, if it was; ``values`` are the
    other fields of ``SampleRecord``, those about the prompt included.

    Without a prompt it has the media of the sample, unseen, so that questions about one file are still one cluster.
    """
    asked = {"media": unseen_media(sample)} if prompt is None else prompt_fields(prompt)
    return SampleRecord(
        sample=sample.id,
        task=sample.task,
        question=sample.question,
        answer=sample.answer,
        options=sample.options,
        source=sample.source,
        modality=sample.modality,
        facets=_facets(sample.extra.get("facets")),
        measures={name: sample.extra[name] for name in MEASURES if sample.extra.get(name) is not None},
        **{**asked, **values},
    )


def _facets(value: Any) -> dict[str, str]:
    return {str(name): str(each) for name, each in value.items()} if isinstance(value, Mapping) else {}


def trajectory_record(
    trajectory: Trajectory,
    score: Score,
    *,
    advantage: float | None = None,
    off_policy: str = "",
    arrays: bool = False,
    turn_advantages: Sequence[NDArray[np.float32]] | None = None,
) -> TrajectoryRecord:
    """The record of a trajectory.

    Args:
        trajectory: of which any number of turns is recorded.
        score: of its last response.
        advantage: that a step trained on; ``None`` if no step did.
        off_policy: how the stage trains on offline trajectories; recorded for these only.
        arrays: whether the record holds the arrays of all turns, too; these keep the prompts in memory.
        turn_advantages: for the arrays: those of the response tokens of every turn, ``(T,)`` each.
    """
    sums = [float(turn.logprobs.sum()) for turn in trajectory.turns if turn.logprobs is not None]
    known = len(sums) == len(trajectory.turns) and not any(map(math.isnan, sums))  # an added stop token has none
    advantages: Sequence[NDArray[np.float32] | None] = turn_advantages or [None] * len(trajectory.turns)
    return TrajectoryRecord(
        response=trajectory.text,
        tokens=trajectory.response_tokens,
        finish=trajectory.finish,
        score=score,
        origin=trajectory.origin,
        off_policy=off_policy if trajectory.origin == "offline" else "",
        logprob=sum(sums) if known else None,
        advantage=advantage,
        turns=tuple(
            TurnArrays(turn.prompt.token_ids, turn.response_ids, turn.response_mask, turn.logprobs, turn.versions, own)
            for turn, own in zip(trajectory.turns, advantages, strict=True)
        )
        if arrays
        else (),
        responses=tuple(turn.text for turn in trajectory.turns) if _has_fresh_turn(trajectory) else (),
    )


def _has_fresh_turn(trajectory: Trajectory) -> bool:
    """Whether a further turn has a prompt that does not begin with the prompt and the response of the one before."""
    told = [turn.prompt.followed_by(turn.response_ids).token_ids for turn in trajectory.turns[:-1]]
    pairs = zip(told, trajectory.turns[1:], strict=True)
    return any(not np.array_equal(ids, after.prompt.token_ids[: len(ids)]) for ids, after in pairs)


def rollout_row(record: SampleRecord) -> dict[str, Any]:
    """The line of a sample with the trajectories of a rollout."""
    return {
        **({} if record.step is None else {"step": record.step}),
        "sample": record.sample,
        "task": record.task,
        "source": record.source,
        "modality": record.modality,
        "question": record.question,
        "answer": record.answer,
        "options": list(record.options),
        "prompt": record.prompt,
        "prompt_tokens": record.prompt_tokens,
        "tokens": dict(record.tokens),
        "media": [media.as_json() for media in record.media],
        "used": record.used,
        **({} if record.error is None else {"error": record.error}),
        **({"measures": dict(record.measures)} if record.measures else {}),
        "trajectories": [_trajectory_row(trajectory) for trajectory in record.trajectories],
    }


def _trajectory_row(record: TrajectoryRecord) -> dict[str, Any]:
    return {
        "origin": record.origin,
        **({"off_policy": record.off_policy} if record.off_policy else {}),
        **({"fault": record.fault} if record.fault else {}),
        "response": record.response,
        **({"responses": list(record.responses)} if record.responses else {}),
        "tokens": record.tokens,
        "finish": record.finish,
        "logprob": record.logprob,
        **({} if record.logprobs is None else {"logprobs": list(record.logprobs)}),
        "advantage": record.advantage,
        "score": score_to_json(record.score),
    }


def evaluation_row(record: SampleRecord) -> dict[str, Any]:
    """The line of an evaluated sample: its greedy response, and its sampled ones as ``samples``."""
    return {
        "sample": record.sample,
        "task": record.task,
        "question": record.question,
        "answer": record.answer,
        "options": list(record.options),
        "prompt": record.prompt,
        "prompt_tokens": record.prompt_tokens,
        "media": [media.as_json() for media in record.media],
        "greedy": None if record.greedy is None else _evaluated_row(record.greedy),
        "samples": [_evaluated_row(trajectory) for trajectory in record.trajectories],
        "error": record.error,
        "source": record.source,
        "modality": record.modality,
        "tokens": dict(record.tokens),
        **({"facets": dict(record.facets)} if record.facets else {}),
        **({"measures": dict(record.measures)} if record.measures else {}),
    }


def _evaluated_row(record: TrajectoryRecord) -> dict[str, Any]:
    return {
        "response": record.response,
        **({"responses": list(record.responses)} if record.responses else {}),
        "tokens": record.tokens,
        "finish": record.finish,
        "score": score_to_json(record.score),
    }


def score_to_json(score: Score) -> dict[str, Any]:
    """All fields of a score, ready for JSON; ``turns`` where it has rewards of turns."""
    values = {item.name: getattr(score, item.name) for item in fields(Score) if item.name != "turns"}
    return values | {"parts": dict(score.parts)} | ({"turns": list(score.turns)} if score.turns else {})


def score_from_json(row: Mapping[str, Any]) -> Score:
    """The score that ``score_to_json`` wrote."""
    return Score(**{**row, "turns": tuple(row.get("turns", ()))})


def record_from_json(row: Mapping[str, Any]) -> SampleRecord:
    """The record of any line; a missing key raises ``KeyError`` and an odd value ``TypeError`` or ``ValueError``.

    Lines of older runs lack source and tokens; their modality follows from their media.
    """
    media = tuple(media_from_json(media) for media in row["media"])
    kinds = {each.kind for each in media}
    trajectories = row["samples"] if "samples" in row else row["trajectories"]
    greedy = row.get("greedy")
    return SampleRecord(
        sample=row["sample"],
        task=row["task"],
        question=row["question"],
        answer=row["answer"],
        options=tuple(row["options"]),
        prompt=row["prompt"],
        prompt_tokens=row["prompt_tokens"],
        media=media,
        greedy=None if greedy is None else _trajectory_from_json(greedy),
        trajectories=tuple(map(_trajectory_from_json, trajectories)),
        error=row.get("error"),
        source=row.get("source", ""),
        modality=row.get("modality", "video" if "video" in kinds else "image" if kinds else "text"),
        tokens=row.get("tokens", {}),
        facets=_facets(row.get("facets")),
        measures=row.get("measures", {}),
        step=row.get("step"),
    )


def _trajectory_from_json(row: Mapping[str, Any]) -> TrajectoryRecord:
    logprobs = row.get("logprobs")
    return TrajectoryRecord(
        response=row["response"],
        tokens=row["tokens"],
        finish=cast("FinishReason", row["finish"]),
        score=score_from_json(row["score"]),
        origin=row.get("origin", "online"),
        off_policy=row.get("off_policy", ""),
        logprob=row.get("logprob"),
        advantage=row.get("advantage"),
        fault=row.get("fault", ""),
        logprobs=None if logprobs is None else tuple(logprobs),
        responses=tuple(row.get("responses", ())),
    )


def media_from_json(row: Mapping[str, Any]) -> MediaRecord:
    """The record of a medium, as ``MediaRecord.as_json`` wrote it."""
    return MediaRecord(
        kind=row["kind"],
        path=row["path"],
        digest=row["digest"],
        frame_indices=tuple(row["frame_indices"]),
        timestamps=tuple(row["timestamps"]),
        height=row["height"],
        width=row["width"],
        part_of=row.get("part_of", ""),
        effects=effects_from_json(row.get("effects", ())),
    )
