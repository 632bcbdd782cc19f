"""What families are compared on: prompts with media of every kind and order, planned as a run plans them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from easyvideor1.config.schema import ImageBudget, VideoBudget
from easyvideor1.families.family import Family
from easyvideor1.types import Frames, Geometry, MediaInfo, MediaPlan, MediaRef, Prompt
from easyvideor1.video import plan


@dataclass(frozen=True, slots=True)
class Medium:
    """An image (``frames`` is 0) or a video of noise."""

    frames: int
    height: int
    width: int
    fps: float = 0.0

    @property
    def info(self) -> MediaInfo:
        name = f"{self.frames}/{self.height}/{self.width}/{self.fps}"
        if not self.frames:
            return MediaInfo(name, "image", name, "png", self.width, self.height)
        times = tuple(index / self.fps for index in range(self.frames))
        duration = self.frames / self.fps
        return MediaInfo(name, "video", name, "h264", self.width, self.height, 0, self.fps, duration, times)


@dataclass(frozen=True, slots=True)
class Case:
    """A question with placeholders, the media of the whole conversation in order, and a system message.

    ``earlier`` are the questions before it, each with its response.
    """

    text: str
    media: tuple[Medium, ...] = ()
    system: str = ""
    earlier: tuple[tuple[str, str], ...] = ()


_SMALL, _WIDE, _TALL = Medium(0, 70, 70), Medium(0, 60, 150), Medium(0, 200, 90)
_CLIP = Medium(24, 90, 120, 12.0)
_LONG = Medium(400, 64, 64, 25.0)  # more temporal steps than rows or columns
_SLOW = Medium(9, 100, 60, 1.5)
_UNEVEN = Medium(61, 72, 128, 23.976)

CASES: dict[str, Case] = {
    "text": Case("What is 12.5 of naïve 日本?"),
    "image": Case("<image>What is it?", (_SMALL,)),
    "video": Case("<video>What moves?", (_CLIP,)),
    "video, system": Case("<video>What moves?", (_SLOW,), "Be brief."),
    "long video": Case("See <video>: what moves?", (_LONG,)),
    "video, odd rate": Case("<video>", (_UNEVEN,)),
    "images": Case("<image> or <image> or <image>?", (_SMALL, _TALL, _WIDE)),
    "videos": Case("<video><video>Same?", (_CLIP, _LONG)),
    "image, video": Case("<image> Is it in <video>?", (_TALL, _UNEVEN)),
    "video, image": Case("In <video> is <image>?", (_LONG, _WIDE), "Look twice."),
    "interleaved": Case("<video> <image> then <video> and <image>?", (_CLIP, _SMALL, _SLOW, _TALL)),
}

#: Conversations of several turns.
CONVERSATIONS: dict[str, Case] = {
    "second turn, text": Case("Why 12.5?", earlier=(("What is red?", "It is a circle.\n\nYes. "),)),
    "second turn, video": Case("And in <video>?", (_CLIP, _SLOW), earlier=(("<video>What moves?", "naïve 日本"),)),
    "third turn": Case(
        "<image> or <video>?",
        (_CLIP, _SMALL, _TALL, _UNEVEN),
        "Be brief.",
        (("<video> <image>?", "<answer>A</answer>"), ("Sure?", "")),
    ),
}

ALL_CASES = {**CASES, **CONVERSATIONS}

#: Cases that are computed together: text, images and videos in one batch, in several orders.
BATCHES: tuple[tuple[str, ...], ...] = (
    *((name,) for name in CASES),
    ("text", "image", "video"),
    ("interleaved", "text", "images"),
    ("video, image", "image, video", "long video", "text"),
)


def plans_of(case: Case, geometry: Geometry) -> list[MediaPlan]:
    """The plans under budgets that leave pictures small: a few tokens a frame."""
    budgets: dict[str, ImageBudget | VideoBudget] = {
        "image": ImageBudget(min_pixels=32 * 32, max_pixels=160 * 160),
        "video": VideoBudget(min_pixels=32 * 32, max_pixels=96 * 96, max_frames=24, min_frames=2, fps=2.0),
    }
    infos = [medium.info for medium in case.media]
    return [plan(info, budgets[info.kind], geometry) for info in infos]


def render_case(family: Family, case: Case) -> Prompt:
    """The prompt of a case as a family makes it, turn by turn."""
    plans = plans_of(case, family.geometry)
    refs = [MediaRef(made.kind, made.fingerprint) for made in plans]
    prompt, start = None, 0
    for text, response in (*case.earlier, (case.text, None)):
        own = slice(start, start + text.count("<image>") + text.count("<video>"))
        if prompt is None:
            prompt = family.render(text, refs[own], plans[own], system=case.system)
        else:
            prompt = family.extend(prompt, text, refs[own], plans[own])
        if response is not None:
            ids = family.tokenizer(response, add_special_tokens=False)["input_ids"]
            prompt = prompt.followed_by(np.asarray([*ids, family.stop_token_ids[0]], dtype=np.int64))
        start = own.stop
    assert prompt is not None
    return prompt


def load_noise(ref: MediaRef, made: MediaPlan) -> Frames:
    """Pixels that depend on the plan alone: they stand for the store."""
    rng = np.random.default_rng(int(made.digest[:12], 16))
    shape = (len(made.frame_indices), made.height, made.width, 3)
    return Frames(rng.integers(0, 256, shape, dtype=np.uint8), made)


def corpus() -> Sequence[str]:
    """What tokenizers of tiny checkpoints are trained on."""
    texts = [f"{case.system} {case.text}" for case in CASES.values()]
    return [*texts, *(f"<{second / 10:.1f} seconds>" for second in range(200))]
