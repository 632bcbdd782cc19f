"""Examples on the report page: rollouts and answers, with the frames that the model saw."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from easyvideor1.evaluation.history import RunHistory
from easyvideor1.evaluation.result import Evaluation, paired_records
from easyvideor1.records.reading import read_rollouts
from easyvideor1.records.trajectories import MediaRecord, SampleRecord
from easyvideor1.types import ConfigError, EasyVideoError, Frames
from easyvideor1.video.derived import with_effects

FrameLookup = Callable[[str], Frames | None]
#: The records of one sample in two evaluations.
Pair = tuple[SampleRecord, SampleRecord]

GROUPS_PER_STEP = 3
FRAMES_SHOWN = 8
_THUMBNAIL_HEIGHT = 128  # pixels; smaller frames are kept as they are, enlarged by the browser


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """One frame as a data URI, and its time in seconds (``None`` for an image)."""

    uri: str
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Strip:
    """The frames of one media file; without ``thumbnails``, ``missing`` says why."""

    path: str
    kind: str
    frame_count: int
    width: int
    height: int
    thumbnails: tuple[Thumbnail, ...]
    missing: str = ""


@dataclass(frozen=True, slots=True)
class StepRollouts:
    """Chosen groups of one step, each with its frames."""

    stage: str
    step: int
    group_count: int
    groups: tuple[tuple[SampleRecord, tuple[Strip, ...]], ...]


@dataclass(frozen=True, slots=True)
class Example:
    """A held-out question before and after training."""

    verdict: str
    before: SampleRecord
    after: SampleRecord
    strips: tuple[Strip, ...]


@dataclass(frozen=True, slots=True)
class Changes:
    """How many held-out questions got better, worse, or stayed, and some of each."""

    better: int
    worse: int
    same: int
    examples: tuple[Example, ...]


def first_and_last_rollouts(history: RunHistory, frames: FrameLookup, *, own_code: bool = False) -> list[StepRollouts]:
    """Groups of the first and the last step of each stage whose responses came from the policy, as far as they can be
    read."""
    found = []
    for stage in history.stages:
        for step in sorted({*list(stage.rollouts)[:1], *list(stage.rollouts)[-1:]}):
            rows = [row for row in read_rollouts(stage.rollouts[step], step)[0] if _is_online(row)]
            if rows:
                found.append(_step_rollouts(stage.name, step, rows, frames, own_code))
    return found


def _is_online(row: SampleRecord) -> bool:
    return any(trajectory.origin == "online" for trajectory in row.trajectories)


def _step_rollouts(
    stage: str, step: int, rows: Sequence[SampleRecord], frames: FrameLookup, own_code: bool
) -> StepRollouts:
    groups = tuple((row, strips(row.media, frames, own_code=own_code)) for row in choose_groups(rows, GROUPS_PER_STEP))
    return StepRollouts(stage, step, len(rows), groups)


def choose_groups(rows: Sequence[SampleRecord], count: int) -> list[SampleRecord]:
    """The groups to show: alternating task types, and of each type the group whose rewards differ most.

    A group with equal rewards gives no gradient, and shows the reader nothing.
    """
    left = sorted(range(len(rows)), key=lambda i: (-_spread(rows[i]), i))
    seen: dict[str, int] = {}
    chosen: list[SampleRecord] = []
    while left and len(chosen) < count:
        fewest = min(seen.get(rows[i].task, 0) for i in left)
        pick = next(i for i in left if seen.get(rows[i].task, 0) == fewest)
        left.remove(pick)
        seen[rows[pick].task] = seen.get(rows[pick].task, 0) + 1
        chosen.append(rows[pick])
    return chosen


def _spread(row: SampleRecord) -> float:
    totals = [trajectory.score.total for trajectory in row.trajectories]
    return float(np.std(totals)) if totals else 0.0


def changes(before: Evaluation, after: Evaluation, frames: FrameLookup, *, own_code: bool = False) -> Changes:
    """Count how greedy answers changed, and choose examples: up to 4 better, 2 worse and 2 that stayed wrong."""
    sorted_out: dict[str, list[Pair]] = {"better": [], "worse": [], "right": [], "wrong": []}
    for old, new in paired_records(before, after):
        if old.greedy is None or new.greedy is None:
            continue
        if not (old.greedy.score.applicable and new.greedy.score.applicable):
            continue
        sorted_out[_verdict(old.greedy.score.accuracy, new.greedy.score.accuracy)].append((old, new))
    examples = [
        Example(verdict, old, new, strips(new.media, frames, own_code=own_code))
        for verdict, count in (("better", 4), ("worse", 2), ("wrong", 2))
        for old, new in _by_task_in_turn(sorted_out[verdict], count)
    ]
    same = len(sorted_out["right"]) + len(sorted_out["wrong"])
    return Changes(len(sorted_out["better"]), len(sorted_out["worse"]), same, tuple(examples))


def _verdict(before: float, after: float) -> str:
    if abs(after - before) > 1e-9:
        return "better" if after > before else "worse"
    return "right" if after >= 0.5 else "wrong"


def _by_task_in_turn(pairs: Sequence[Pair], count: int) -> list[Pair]:
    turns: dict[str, int] = {}
    order = []
    for i, (_, record) in enumerate(pairs):
        turns[record.task] = turns.get(record.task, 0) + 1
        order.append((turns[record.task], i))
    return [pairs[i] for _, i in sorted(order)[:count]]


def strips(
    media: Sequence[MediaRecord],
    frames: FrameLookup,
    *,
    near: Sequence[float] = (),
    height: int = _THUMBNAIL_HEIGHT,
    own_code: bool = False,
) -> tuple[Strip, ...]:
    """The frames of a record's media, read from the store by digest.

    Args:
        media: what the model saw.
        frames: finds frames by digest.
        near: seconds whose frames are shown rather than frames from end to end, where a video has any within half a
            second.
        height: pixels of a picture at most.
        own_code: import effects that a record names as ``module:attr``; else their frames are not shown.
    """
    return tuple(_strip(item, frames, near, height, own_code) for item in media)


def _strip(item: MediaRecord, frames: FrameLookup, near: Sequence[float], height: int, own_code: bool) -> Strip:
    found, missing = None, "The frame cache does not have these frames."
    if item.digest:
        try:
            found = frames_of(item, frames, own_code=own_code)
        except EasyVideoError as error:  # an unreadable entry loses its pictures, not the page
            missing = f"The frames cannot be read: {error}"
    times = item.timestamps
    thumbnails: tuple[Thumbnail, ...] = ()
    if found is not None and len(found.pixels):
        video = item.kind == "video"
        thumbnails = tuple(
            Thumbnail(data_uri(found.pixels[i], height), float(times[i]) if video and i < len(times) else None)
            for i in _shown(len(found.pixels), times, near)
        )
    return Strip(
        path=item.path,
        kind=item.kind,
        frame_count=len(times),
        width=item.width,
        height=item.height,
        thumbnails=thumbnails,
        missing="" if thumbnails else missing,
    )


def frames_of(item: MediaRecord, frames: FrameLookup, *, own_code: bool = False) -> Frames | None:
    """The frames of a record, made from the stored ones; ``None`` if the store does not have them.

    Args:
        item: what the model saw, by a record that may have come from somebody else.
        frames: finds frames by digest.
        own_code: import effects that the record names as ``module:attr``, which may do anything.

    Raises:
        EasyVideoError: the entry cannot be read, or an effect cannot be applied again or is code and ``own_code`` is
            not set.
    """
    if not own_code and (code := effect_code(item)):
        raise ConfigError(f"they have an effect of the run's own code ({code}), which is not run here")
    found = frames(item.part_of or item.digest)
    if found is None or not item.part_of:
        return found
    if item.effects:
        found = Frames(with_effects(found, item.effects, (item.height, item.width)), found.plan)
    if item.frame_indices == found.plan.frame_indices:
        return found
    place = {index: number for number, index in enumerate(found.plan.frame_indices)}
    return Frames(found.pixels[[place[index] for index in item.frame_indices]], found.plan)


def effect_code(item: MediaRecord) -> str:
    """The first effect of a record that is no registered one but code (``module:attr``); empty if there is none."""
    return next((effect.name for effect in item.effects if ":" in effect.name), "")


def _shown(count: int, times: Sequence[float], near: Sequence[float]) -> list[int]:
    """Which of the frames are shown: at most ``FRAMES_SHOWN``, spread over those that are close to ``near``."""
    places = [i for i in range(min(count, len(times))) if any(abs(times[i] - second) <= 0.5 for second in near)]
    places = places or list(range(count))
    spread = np.linspace(0, len(places) - 1, min(FRAMES_SHOWN, len(places))).round().astype(int)
    return [places[i] for i in np.unique(spread)]


def data_uri(pixels: np.typing.NDArray[np.uint8], height: int = _THUMBNAIL_HEIGHT) -> str:
    """A frame as a data URI: lossless when it is at most ``height`` pixels high, else a reduced JPEG."""
    kind, content = picture(pixels, height)
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def picture(pixels: np.typing.NDArray[np.uint8], height: int) -> tuple[str, bytes]:
    """A frame as a file, and its media type: lossless when it is at most ``height`` pixels high, else a reduced
    JPEG."""
    image = Image.fromarray(np.ascontiguousarray(pixels))
    buffer = io.BytesIO()
    if image.height <= height:
        image.save(buffer, "PNG", optimize=True)
        return "image/png", buffer.getvalue()
    image.thumbnail((10 * height, height), Image.Resampling.LANCZOS)
    image.save(buffer, "JPEG", quality=85)
    return "image/jpeg", buffer.getvalue()
