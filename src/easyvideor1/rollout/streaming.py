"""Watching a video clip by clip, with notes in text as the only memory.

Video Streaming Thinking (Guan et al. 2026, arXiv 2603.12262) factors a response as
``p(y | q, c_K, m_K) prod_(k < K) p(z_k | c_k, m_(k-1))``: behind each of the clips ``c_1 .. c_(K-1)`` the model writes
a note ``z_k``, the notes are the memory ``m``, and the last turn answers from the memory and the last clip. Every
prompt is fresh: the clips before are gone.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from easyvideor1.config.strategies import StreamingOptions
from easyvideor1.data.rows import PLACEHOLDER
from easyvideor1.rollout.strategies import STRATEGIES, Medium, PromptBuilder
from easyvideor1.rollout.turn_texts import PlainWords, without_placeholders
from easyvideor1.types import MediaPlan, MediaRef, Prompt, Sample, Trajectory, Turn
from easyvideor1.video import window

#: Visual tokens of a clip unless the configuration says otherwise: those of the authors' launcher.
CLIP_TOKENS = 5000


@dataclass(frozen=True, slots=True)
class Clip:
    """A window of one of a sample's videos; ``label`` says which and when, such as ``0.0-3.5 s``."""

    ref: MediaRef
    plan: MediaPlan
    label: str


@STRATEGIES.register("streaming")
class Streaming:
    """Clip by clip: a note after each but the last, then the answer from the notes and the last clip.

    Several videos of a sample are watched one after the other; its images come with the last turn. A sample without a
    video has one turn. A clip has whole temporal steps and at most the budget; the last one has what is left, which is
    never nothing.
    """

    def __init__(self, prompts: PromptBuilder, options: StreamingOptions) -> None:
        self.prompts = prompts
        self.options = options
        self._plain = PlainWords(prompts.family, prompts.grammar)
        self._tokens = functools.lru_cache(maxsize=4096)(self._count_tokens)

    def start(self, sample: Sample) -> Prompt:
        """See ``Strategy``."""
        asked, media = self.prompts.media(sample)
        clips = self._clips(media)
        return self._last(asked, media, clips, "") if len(clips) < 2 else self._thought(asked, clips[0], "")

    def next(self, sample: Sample, trajectory: Trajectory) -> Prompt | None:
        """See ``Strategy``."""
        asked, media = self.prompts.media(sample)
        clips, done = self._clips(media), len(trajectory.turns)
        if done >= len(clips):
            return None
        notes = "\n".join(self._notes(clips, trajectory.turns)[0])
        if done < len(clips) - 1:
            return self._thought(asked, clips[done], notes)
        return self._last(asked, media, clips, notes)

    def max_new_tokens(self, sample: Sample, before: Trajectory | None) -> int | None:
        """See ``Strategy``."""
        if self.options.thought_tokens is None:
            return None
        clips = self._clips(self.prompts.media(sample)[1])
        done = 0 if before is None else len(before.turns)
        return self.options.thought_tokens if done < len(clips) - 1 else None

    def counts(self, sample: Sample, trajectory: Trajectory) -> Mapping[str, float]:
        """The notes of a trajectory, and those that the limit had removed when its last turn was asked."""
        clips = self._clips(self.prompts.media(sample)[1])
        thoughts = trajectory.turns[:-1]
        return {"notes": float(len(thoughts)), "notes_dropped": float(self._notes(clips, thoughts)[1])}

    def _clips(self, media: Sequence[Medium]) -> list[Clip]:
        geometry = self.prompts.family.geometry
        videos = [(ref, plan) for ref, plan in media if plan.kind == "video"]
        clips = []
        for number, (ref, plan) in enumerate(videos, 1):
            if self.options.clip_frames is not None:
                steps = self.options.clip_frames // geometry.temporal_patch_size
            else:
                steps = (self.options.clip_tokens or CLIP_TOKENS) // (plan.tokens // plan.grid[0])
            steps = max(steps, 1)
            for first in range(0, plan.grid[0], steps):
                cut = window(plan, first, min(first + steps, plan.grid[0]), geometry)
                times = f"{cut.timestamps[0]:.1f}-{cut.timestamps[-1]:.1f} s"
                clips.append(Clip(ref, cut, f"video {number}, {times}" if len(videos) > 1 else times))
        return clips[-1:] if self.options.memory_tokens == 0 else clips

    def _notes(self, clips: Sequence[Clip], thoughts: Sequence[Turn]) -> tuple[list[str], int]:
        """The lines of the memory behind some turns, and how many older ones the limit has removed."""
        lines = [f"{clip.label}: {self._plain(turn.text)}" for clip, turn in zip(clips, thoughts, strict=False)]
        kept, room = len(lines), self.options.memory_tokens
        while kept and (room := room - self._tokens(lines[kept - 1])) >= 0:
            kept -= 1
        return lines[kept:], kept

    def _count_tokens(self, line: str) -> int:
        return len(self.prompts.family.tokenizer(line + "\n", add_special_tokens=False)["input_ids"])

    def _thought(self, sample: Sample, clip: Clip, notes: str) -> Prompt:
        asked = [self.options.thought]
        if self.options.question == "shown":
            question = "\n".join([without_placeholders(sample.question), *sample.options])
            asked = [f"Question to be answered at the end: {question}", *asked]
        seen, told = f"Time: {clip.label}\n<video>", _told(notes)
        parts = [*told, seen, *asked] if self.options.memory == "before" else [seen, *told, *asked]
        return self.prompts.compose("\n".join(parts), [(clip.ref, clip.plan)])

    def _last(self, sample: Sample, media: Sequence[Medium], clips: Sequence[Clip], notes: str) -> Prompt:
        """The question with the last clip in the place of the last video."""
        if not clips:
            return self.prompts.render(sample)
        last = max(place for place, (_, plan) in enumerate(media) if plan.kind == "video")
        shown = [medium for medium in media if medium[1].kind == "image"]
        shown.insert(sum(plan.kind == "image" for _, plan in media[:last]), (clips[-1].ref, clips[-1].plan))
        gone = "(a video that is not shown)" if self.options.memory_tokens == 0 else "(a video that was shown before)"
        marks = (
            "<image>" if plan.kind == "image" else "<video>" if place == last else gone
            for place, (_, plan) in enumerate(media)
        )
        question = PLACEHOLDER.sub(lambda _: next(marks), self.prompts.text(sample))
        seen, told = f"Time: {clips[-1].label}", _told(notes)
        parts = [*told, seen, question] if self.options.memory == "before" else [question, seen, *told]
        return self.prompts.compose("\n".join(parts), shown)


def _told(notes: str) -> list[str]:
    """The notes as a part of a message; none is a part without text."""
    return [f"Notes on what came before:\n{notes}"] if notes else []
