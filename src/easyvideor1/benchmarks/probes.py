"""Probes: the same questions asked in another way, to see what a score rests on.

A probe's result stands beside that of the benchmark, and the two are compared question by question. A model that reads
the video loses without it; one that knows the letters loses when the options change places.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from easyvideor1.data import shuffle_options
from easyvideor1.data.formats import split_option
from easyvideor1.data.rows import PLACEHOLDER
from easyvideor1.registry import Registry
from easyvideor1.seeds import derive_seed
from easyvideor1.types import MediaPlan, Sample
from easyvideor1.video.plan import digest

#: Text of the right option in the probe of this name.
NONE_OF_THE_ABOVE = "None of the above"

# A question or an option that speaks of other options: it has no meaning when these are gone or changed.
_OF_OPTIONS = re.compile(
    r"\b(?i:which (?:one )?of (?:the|these)|of the following|following (?:options?|statements?|choices?))\b"
    r"|\b(?i:options?|choices?|above|below)\b|\b(?i:both|either|neither)\s+\(?[A-Z]\b|\([A-Z]\)"
)
_TIED = re.compile(
    r"\b(?i:(?:all|none|both|neither|any) of (?:the|these|them)|above|below)\b"
    r"|\b(?i:options?|choices?|both|and|or|either|neither)\s+\(?[A-Z]\b(?!')|\([A-Z]\)"
    r"|\A\W*(?i:both|neither|either|all|none|any)\W*\Z"
)


@dataclass(frozen=True, slots=True)
class Probe:
    """One way to ask the questions of a benchmark again.

    ``sample`` changes a question; it returns ``None`` for one that the probe cannot be made of, which is then left out.
    ``plan`` changes which frames of a video are shown. ``keeps_scorer`` is false where the changed questions are of
    another task type, which a benchmark's own scorer does not know.
    """

    name: str
    title: str
    sample: Callable[[Sample], Sample | None]
    plan: Callable[[MediaPlan], MediaPlan] | None = None
    keeps_scorer: bool = True


#: Name -> probe; users name their own as ``module:attr``.
PROBES: Registry[Probe] = Registry("probe")


def _rng(sample: Sample) -> np.random.Generator:
    """Random numbers of a question, the same in every run."""
    return np.random.default_rng(derive_seed(0, sample.id, "probe"))


def with_video(sample: Sample) -> Sample | None:
    """The sample itself, if it has a video."""
    return sample if any(ref.kind == "video" for ref in sample.media) else None


def without_video(sample: Sample) -> Sample | None:
    """The question without its videos; images stay, for they may be part of the question."""
    if with_video(sample) is None:
        return None
    text = PLACEHOLDER.sub(lambda mark: "" if mark[0] == "<video>" else mark[0], sample.question)
    return replace(sample, question=text.strip(), media=tuple(ref for ref in sample.media if ref.kind != "video"))


def one_frame(plan: MediaPlan) -> MediaPlan:
    """The frame in the middle of a plan, in the same size, repeated to one temporal step."""
    frames = list(dict.fromkeys(plan.frame_indices))
    middle = plan.frame_indices.index(frames[len(frames) // 2])
    depth = len(plan.frame_indices) // plan.grid[0]
    return _with_frames(plan, (middle,) * depth, (plan.timestamps[middle],) * depth)


def shuffled_frames(plan: MediaPlan) -> MediaPlan:
    """The frames of a plan in an order that depends on the video alone; the time stamps stay in theirs."""
    order = np.random.default_rng(derive_seed(0, plan.fingerprint, "probe")).permutation(len(plan.frame_indices))
    return _with_frames(plan, tuple(map(int, order)), plan.timestamps)


def _with_frames(plan: MediaPlan, places: tuple[int, ...], timestamps: tuple[float, ...]) -> MediaPlan:
    """A plan of the frames at these places of it."""
    indices = tuple(plan.frame_indices[place] for place in places)
    depth = len(plan.frame_indices) // plan.grid[0]
    grid = (len(indices) // depth, *plan.grid[1:])
    found = digest(plan.kind, plan.fingerprint, indices, plan.height, plan.width)
    source = plan.source
    if source is not None:  # effects are those of the frames that are shown
        source = _with_frames(source, places, timestamps)
        found = hashlib.sha256(f"{plan.digest}|{source.digest}".encode()).hexdigest()
    return replace(
        plan,
        frame_indices=indices,
        timestamps=timestamps,
        grid=grid,
        tokens=plan.tokens // plan.grid[0] * grid[0],
        digest=found,
        source=source,
    )


def right_option(sample: Sample) -> int | None:
    """Place of the right option; ``None`` if the sample is no choice among options, or its answer is not one letter."""
    if sample.task != "multiple_choice":
        return None
    letters = [split_option(option)[0] for option in sample.options]
    return letters.index(sample.answer) if letters.count(sample.answer) == 1 else None


def shuffled_options(sample: Sample) -> Sample | None:
    """The options in a random order; ``None`` where words depend on the order, or the order came out the same."""
    if right_option(sample) is None:
        return None
    rng = _rng(sample)
    changed = sample
    for _ in range(16):
        (changed,) = shuffle_options(sample, 0, rng)
        if changed.options != sample.options:
            return changed
    return None


def none_of_the_above(sample: Sample) -> Sample | None:
    """The right option's text replaced, which leaves its place right; ``None`` where options speak of others."""
    place = right_option(sample)
    if place is None or any(_TIED.search(split_option(option)[1]) for option in sample.options):
        return None
    letter = split_option(sample.options[place])[0]
    options = list(sample.options)
    options[place] = f"{letter}. {NONE_OF_THE_ABOVE}"
    return replace(sample, options=tuple(options))


def without_options(sample: Sample) -> Sample | None:
    """The question as an open one, whose reference is the right option's text."""
    place = right_option(sample)
    if place is None:
        return None
    texts = [split_option(option)[1] for option in sample.options]
    if not texts[place] or _OF_OPTIONS.search(sample.question) or any(_TIED.search(text) for text in texts):
        return None
    return replace(sample, task="open_ended", options=(), answer=texts[place])


for _probe in (
    Probe("blind", "without the video", without_video),
    Probe("one_frame", "one frame of the video", with_video, one_frame),
    Probe("shuffled_frames", "frames in random order", with_video, shuffled_frames),
    Probe("shuffled_options", "options in random order", shuffled_options),
    Probe("none_of_the_above", f"the right option is {NONE_OF_THE_ABOVE!r}", none_of_the_above),
    Probe("open", "asked without options", without_options, keeps_scorer=False),
):
    PROBES.register(_probe.name)(_probe)


def probe(name: str) -> Probe:
    """The probe of this name.

    Raises:
        ConfigError: there is none.
    """
    return PROBES.resolve(name)
