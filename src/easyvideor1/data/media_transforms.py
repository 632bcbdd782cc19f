"""Transforms of what a sample shows: frame effects on its videos, and images that are cut from them.

They change references, not pixels: every reader of the frames makes the pictures from the entry of the store.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from easyvideor1.config.transforms import Anchors, Composite, MaskFrames, Noise, OverlayIds
from easyvideor1.data.transforms import TRANSFORMS, TransformContext
from easyvideor1.rewards.readers.time_spans import read_spans
from easyvideor1.types import ConfigError, DataError, Effect, MediaRef, Sample
from easyvideor1.video.effects import make_effect
from easyvideor1.video.sampling import clip_seconds
from easyvideor1.video.tracks import tracks_beside, tracks_file

#: Column with the reference span ``[start, end]`` in seconds, where the answer holds more than that.
SPAN_COLUMN = "span"

#: Tasks whose answer holds spans of time.
_TIMED = ("temporal_grounding", "spatial_temporal_grounding")

_MARKS = {"image": "<image>", "video": "<video>"}


def with_effect(sample: Sample, effect: Effect) -> Sample:
    """The sample with an effect on all of its videos, and on the stills of these, behind the effects they have."""
    media = [
        replace(ref, effects=(*ref.effects, effect)) if ref.kind == "video" or ref.still else ref
        for ref in sample.media
    ]
    return replace(sample, media=tuple(media))


def reference_spans(sample: Sample) -> tuple[tuple[float, float], ...]:
    """The reference spans of a sample in seconds: of its column ``span``, or of its answer.

    Raises:
        DataError: it has none.
    """
    given: Any = sample.extra.get(SPAN_COLUMN)
    if isinstance(given, list | tuple) and len(given) == 2:
        return ((float(given[0]), float(given[1])),)
    found = read_spans(sample.answer, ())
    if found is None or not found.value:
        raise DataError(
            f"the answer {sample.answer[:80]!r} has no span of time - give the row one, or a column {SPAN_COLUMN} with "
            "[start, end] in seconds"
        )
    return tuple((float(start), float(end)) for start, end in found.value)


def labelled_spans(sample: Sample) -> tuple[tuple[float, float], ...]:
    """The reference spans of a sample that is about time, or has them in the column ``span``; none of another.

    Raises:
        DataError: it is about time, and has none.
    """
    given = sample.extra.get(SPAN_COLUMN)
    labelled = isinstance(given, list | tuple) and len(given) == 2
    return reference_spans(sample) if labelled or sample.task in _TIMED else ()


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(0, 2**53))  # any reader of JSON keeps it


@TRANSFORMS.register("overlay_ids")
def overlay_ids(sample: Sample, step: int, rng: np.random.Generator, context: TransformContext) -> list[Sample]:
    """Paint the number of each tracked object on the frames of a video (STVG-R1).

    The tracks are read when the sample is made: the effect carries the digest of the file, and a video that they were
    not made for is refused when it is planned.

    Raises:
        DataError: the tracks cannot be read, or the column does not name them.
    """
    options: OverlayIds = context.options
    media = []
    for ref in sample.media:
        if ref.kind == "video" or ref.still:
            looks = options.model_dump(exclude={"name", "tracks"})
            effect = make_effect("overlay_ids", [tracks_file(tracks_path(sample, ref, options.tracks))], **looks)
            ref = replace(ref, effects=(*ref.effects, effect))
        media.append(ref)
    return [replace(sample, media=tuple(media))]


def tracks_path(sample: Sample, ref: MediaRef, column: str) -> str:
    """Where the tracks of a video are: in the column of the row, from the directory of its file; else beside the video.

    Raises:
        DataError: the row does not have the column.
    """
    if not column:
        return tracks_beside(ref.path)
    named = sample.extra.get(column)
    if not isinstance(named, str) or not named:
        raise DataError(f"the column {column!r} is {named!r} - give it the path of a tracks.json")
    file = sample.where.rpartition(":")[0]
    return os.path.abspath(os.path.join(Path(file).parent, named))  # noqa: PTH100, PTH118 - "./a/../b"


@TRANSFORMS.register("mask_frames")
def mask_frames(sample: Sample, step: int, rng: np.random.Generator, context: TransformContext) -> list[Sample]:
    """Hide frames of the videos: those at some places, or those outside of the reference span.

    Raises:
        DataError: the span is wanted and the sample has none.
    """
    options: MaskFrames = context.options
    seed = _seed(rng)
    which = {"outside": reference_spans(sample)} if options.outside_answer else {"frames": options.frames}
    effect = make_effect("mask_frames", share=options.share, seed=seed, fill=options.fill, **which)
    return [with_effect(sample, effect)]


@TRANSFORMS.register("noise")
def noise(sample: Sample, step: int, rng: np.random.Generator, context: TransformContext) -> list[Sample]:
    """Add Gaussian noise to the videos, another for every sample and step."""
    options: Noise = context.options
    return [with_effect(sample, make_effect("noise", strength=options.strength, seed=_seed(rng)))]


@TRANSFORMS.register("composite")
def composite(sample: Sample, step: int, rng: np.random.Generator, context: TransformContext) -> list[Sample]:
    """Put frames of a video side by side in every picture (SOLE-R1: first, previous, current)."""
    options: Composite = context.options
    return [with_effect(sample, make_effect("composite", **options.model_dump(exclude={"name"})))]


@TRANSFORMS.register("anchors")
def anchors(sample: Sample, step: int, rng: np.random.Generator, context: TransformContext) -> list[Sample]:
    """Show each clip between images of its first and of its last frame (PRIMO R1: initial and current state).

    The images have the size of the clip's frames and come from the same entry of the store.
    """
    options: Anchors = context.options
    media: list[MediaRef] = []
    pieces: list[str] = []
    for ref, text in zip(sample.media, _texts_before(sample.question, sample.media), strict=True):
        shown = list(_anchored(ref, options)) if ref.kind == "video" else [ref]
        media += shown
        pieces += [text, *(_MARKS[each.kind] for each in shown)]
    rest = _rest(sample.question, sample.media)
    return [replace(sample, question="".join(pieces) + rest, media=tuple(media))]


def _anchored(ref: MediaRef, options: Anchors) -> Iterable[MediaRef]:
    if options.first:
        yield replace(ref, kind="image", still="first")
    if options.clip:
        yield ref
    if options.current:
        yield replace(ref, kind="image", still="last")


def _texts_before(question: str, media: tuple[MediaRef, ...]) -> list[str]:
    """The text before each placeholder."""
    texts, at = [], 0
    for ref in media:
        place = question.index(_MARKS[ref.kind], at)
        texts.append(question[at:place])
        at = place + len(_MARKS[ref.kind])
    return texts


def _rest(question: str, media: tuple[MediaRef, ...]) -> str:
    at = 0
    for ref in media:
        at = question.index(_MARKS[ref.kind], at) + len(_MARKS[ref.kind])
    return question[at:]


@TRANSFORMS.register("require_span")
def require_span(sample: Sample, step: int, rng: np.random.Generator, context: TransformContext) -> list[Sample]:
    """Refuse a sample whose reference span lies outside of its clip; for ``data.prepare``.

    Raises:
        DataError: it has no span, or one of which nothing is in the clip.
        ConfigError: it is used elsewhere, where the length of a video is not known.
    """
    if context.probe is None:
        raise ConfigError("the transform require_span looks at videos: name it in data.prepare")
    for ref in sample.media:
        if ref.kind != "video":
            continue
        first, last = clip_seconds(context.probe(ref.path), ref.start, ref.end)
        for start, end in reference_spans(sample):
            if end < first or start > last:
                raise DataError(
                    f"the span [{start:g}, {end:g}] s lies outside of the clip [{first:g}, {last:g}] s of {ref.path} - "
                    "correct the span or the clip"
                )
    return [sample]
