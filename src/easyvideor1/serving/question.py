"""One question about some media, answered by an engine: what ``evr1 generate`` does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from easyvideor1.data.media import MediaCheck
from easyvideor1.data.rows import PLACEHOLDER
from easyvideor1.engines.engine import Engine, Request, Result, contract_error
from easyvideor1.serving.components import AnsweringComponents
from easyvideor1.serving.conversations import UserTurn, conversation_prompt, worded
from easyvideor1.serving.growing_text import GrowingText
from easyvideor1.types import BudgetChange, DataError, MediaKind, MediaRef, Prompt, Trajectory


@dataclass(frozen=True, slots=True)
class Question:
    """A question in words, and files. Clip and frames are those of every video.

    ``<video>`` and ``<image>`` in the text are the places of the files; without them videos come first, then images.
    ``problem_type`` words it as training does, with ``options`` under it; empty leaves it as it is.
    """

    text: str
    videos: tuple[Path, ...] = ()
    images: tuple[Path, ...] = ()
    start: float | None = None
    end: float | None = None
    fps: float | None = None
    max_frames: int | None = None
    problem_type: str = ""
    options: tuple[str, ...] = ()

    @property
    def marked(self) -> str:
        """The text with a placeholder for each file, as rows without them get theirs."""
        missing = {"video": len(self.videos), "image": len(self.images)}
        prefix = "".join(f"<{kind}>" * count for kind, count in missing.items() if f"<{kind}>" not in self.text)
        return f"{prefix}\n{self.text}" if prefix else self.text

    def media(self) -> tuple[MediaRef, ...]:
        """The files in the order of their placeholders.

        Raises:
            DataError: a file is missing or of the other kind, placeholders do not fit, or a clip is of no video.
        """
        of_videos = {"--start": self.start, "--end": self.end, "--fps": self.fps, "--max-frames": self.max_frames}
        if not self.videos and (idle := [name for name, value in of_videos.items() if value is not None]):
            raise DataError(f"{idle[0]} has no effect without --video - name the video, or leave it out")
        change = BudgetChange(fps=self.fps, max_frames=self.max_frames)
        budget = None if change == BudgetChange() else change
        check = MediaCheck()
        waiting: dict[MediaKind, list[MediaRef]] = {"video": [], "image": []}
        for path in self.videos:
            check("--video", str(path.absolute()), "video")
            waiting["video"].append(MediaRef("video", str(path.absolute()), self.start, self.end, budget))
        for path in self.images:
            check("--image", str(path.absolute()), "image")
            waiting["image"].append(MediaRef("image", str(path.absolute())))
        order: list[MediaKind] = [
            "video" if mark == "<video>" else "image" for mark in PLACEHOLDER.findall(self.marked)
        ]
        for kind, refs in waiting.items():
            if order.count(kind) != len(refs):
                what = f"the question has {order.count(kind)} <{kind}> placeholders for {len(refs)} {kind} files"
                raise DataError(f"{what} - write one for each file, or none to put the files first")
        return tuple(waiting[kind].pop(0) for kind in order)


def question_prompt(question: Question, components: AnsweringComponents) -> Prompt:
    """The prompt of a question.

    Raises:
        DataError: see ``Question.media`` and ``conversation_prompt``.
        MediaError: a file cannot be probed, or the clip is not in it.
    """
    media = question.media()
    turn = UserTurn(question.marked, media, tuple(components.plan(ref) for ref in media))
    if question.problem_type:
        turn = worded(turn, question.problem_type, components.config, question.options)
    return conversation_prompt(components.family, components.config, None, [turn])


def answer(
    engine: Engine, request: Request, components: AnsweringComponents, show: Callable[[str], object] | None = None
) -> tuple[Trajectory, ...]:
    """The responses to a request.

    Args:
        engine: has nothing else pending.
        request: one request.
        components: whose tokenizer writes the text.
        show: takes the text of the first response, piece by piece, as it grows.

    Raises:
        EasyVideoError: the request or the engine fails.
    """
    family = components.family
    text = GrowingText(family.tokenizer, request.sampling.stop, family.stop_token_ids)
    (ticket,) = engine.submit([request])
    partial: Callable[[int], Sequence[Sequence[int]]] | None = getattr(engine, "partial", None)
    for result in engine.results():
        if isinstance(result, Result):
            if result.fault is not None:
                raise result.fault
            if show is not None:
                show(text.finish(result.trajectories[0].text))
            return result.trajectories
        if show is not None and partial is not None:
            show(text.grow(partial(ticket)[0]))
    raise contract_error(engine, "left a request without a result")


def save_frames(prompt: Prompt, components: AnsweringComponents, directory: Path) -> int:
    """Write the frames of a prompt as the model sees them, as PNG files that are named by medium and time.

    Returns:
        How many there are.
    """
    from PIL import Image

    directory.mkdir(parents=True, exist_ok=True)
    count = 0
    for number, (ref, plan) in enumerate(zip(prompt.media, prompt.plans, strict=True), 1):
        for place, (pixels, seconds) in enumerate(
            zip(components.load(ref, plan).pixels, plan.timestamps, strict=True), 1
        ):
            name = (
                f"{number:02d}-{plan.kind}-{place:04d}-{seconds:.2f}s.png"
                if plan.kind == "video"
                else f"{number:02d}-image.png"
            )
            Image.fromarray(pixels).save(directory / name)
            count += 1
    return count


def seen_media(prompt: Prompt) -> list[dict[str, Any]]:
    """What the model is shown: file, size in pixels, tokens, and the times of the frames in seconds."""
    return [
        {
            "path": ref.path,
            "kind": plan.kind,
            "height": plan.height,
            "width": plan.width,
            "tokens": plan.tokens,
            **({"times": list(plan.timestamps)} if plan.kind == "video" else {}),
        }
        for ref, plan in zip(prompt.media, prompt.plans, strict=True)
    ]
