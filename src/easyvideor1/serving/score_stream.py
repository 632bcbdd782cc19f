"""A trained critic of progress as a reward: frames come one at a time, and each gets a value at once.

SOLE-R1 (arXiv 2603.28730) rewards an agent with nothing but what such a critic says. Its prompts here are those of the
strategy ``recursive``, which the critic was trained with: same sizes of frames, same effects, same words. A budget
under which the size depends on the number of frames is refused: a stream does not know how many will come.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from easyvideor1.components.preparing import prepared
from easyvideor1.config.media import VideoBudget
from easyvideor1.data.media import write_frame_list
from easyvideor1.data.transforms import resolve_transforms
from easyvideor1.engines.engine import Engine, Request, generate
from easyvideor1.rollout.recursive import Recursive
from easyvideor1.rollout.strategies import CheckedStrategy
from easyvideor1.seeds import derive_seed
from easyvideor1.serving.components import AnsweringComponents, answering_config
from easyvideor1.types import BudgetChange, ConfigError, DataError, MediaRef, Prompt, Sample
from easyvideor1.video.plan import video_rule
from easyvideor1.video.resize import video_size

Picture = NDArray[np.uint8]

#: Where each view is among the frames that a prompt is made of. The current one is there twice, so that they are whole
#: temporal steps of every family.
_PLACES: Mapping[str, int] = {"first": 0, "previous": 1, "current": 2}
_FRAMES = 4


@dataclass(slots=True, eq=False)
class Stream:
    """One episode: its goal, the frames that later prompts show, and the last value.

    Attributes:
        episode: what sampling is seeded by.
        goal: the question about every frame, as the rows of the training had it, without ``<video>``.
        fps: frames per second, for the times that prompts tell.
        value: of the last frame, between ``low`` and ``high`` of the strategy. It may be overwritten: the next prompt
            tells what stands here.
        frames: how many have been seen.
        carried: how many responses stated no value, so that the one before stood.
        response: the last one, as text.
    """

    number: int
    episode: str | int
    goal: str
    fps: float
    value: float
    frames: int = 0
    carried: int = 0
    response: str = ""
    _first: Path = field(default=Path(), repr=False)
    _previous: Path = field(default=Path(), repr=False)
    _shape: tuple[int, ...] = field(default=(), repr=False)


class StreamScorer:
    """Gives values of frames by a model that was trained with ``rollout.strategy: recursive``.

    The first frame of a stream has the value ``start`` of the strategy; no question is asked about it. Every further
    frame costs one response. A response without a value carries the last value on.

    Args:
        components: with uploads in ``scratch``; frames are kept there as long as a prompt may show them.
        engine: has nothing else pending. ``rollout.engine: endpoint`` asks a server, such as ``evr1 serve``.
        greedy: take the likeliest token each time, so that equal episodes have equal values; else sampling is that of
            the configuration.

    Raises:
        ConfigError: the configuration has another strategy.
    """

    def __init__(self, components: AnsweringComponents, engine: Engine, *, greedy: bool = True) -> None:
        strategy = components.strategy
        inner = strategy.strategy if isinstance(strategy, CheckedStrategy) else strategy
        if not isinstance(inner, Recursive):
            raise ConfigError(
                f"rollout.strategy is {components.config.rollout.strategy.name}, and frames of a stream are asked "
                "about as the strategy recursive does - give the configuration of a critic that was trained with it"
            )
        self.strategy = inner
        self._limit = components.config.data.max_prompt_tokens
        self._components = components
        self._engine = engine
        self._sampling = replace(components.sampling(), greedy=greedy)
        self._transforms = resolve_transforms(components.config.data.prepare, "data.prepare")
        self._streams = 0
        self._held = ExitStack()

    @classmethod
    def open(
        cls, checkpoint: str | Path, config: str, overrides: Sequence[str] = (), *, greedy: bool = True
    ) -> StreamScorer:
        """The critic of a checkpoint; to be closed.

        Args:
            checkpoint: a directory with a model, such as ``evr1 export`` writes or a run keeps.
            config: YAML file or recipe that it was trained with, such as ``config.yaml`` of its run.
            overrides: ``key=value``.
            greedy: as for the class.

        Raises:
            ConfigError: there is no such checkpoint, or the configuration has another strategy.
        """
        with ExitStack() as held:
            scratch = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="evr1-stream-")))
            settings = answering_config(Path(checkpoint), config, overrides, scratch)
            components = held.enter_context(AnsweringComponents.of(settings, Path(checkpoint), scratch))
            engine = components.open_engine()
            held.callback(engine.close)
            scorer = cls(components, engine, greedy=greedy)
            scorer._held = held.pop_all()
        return scorer

    def __enter__(self) -> StreamScorer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close what ``open`` has opened."""
        self._held.close()

    def stream(self, goal: str, fps: float = 1.0, episode: str = "") -> Stream:
        """A new episode.

        Args:
            goal: the question, as the rows of the training had it.
            fps: frames per second.
            episode: a name by which sampling is seeded where it is not greedy, so that an episode has the same values
                whatever other streams there are. Empty: the place in the order in which streams are opened.

        Raises:
            DataError: the rate is not above 0.
        """
        if not fps > 0:
            raise DataError(f"a stream of {fps} frames per second - give a rate above 0")
        self._streams += 1
        return Stream(self._streams, episode or self._streams, goal, fps, self.strategy.options.start)

    def score_stream(
        self, frames: Iterable[Picture], goal: str, fps: float = 1.0, episode: str = ""
    ) -> Iterator[float]:
        """The value of each frame of an episode, as soon as the frame is there.

        Args:
            frames: uint8 RGB ``(H, W, 3)`` of one size; taken one at a time.
            goal: the question, as the rows of the training had it.
            fps: frames per second.
            episode: as for ``stream``.

        Raises:
            DataError: a frame has another form, its size in training is not known, or the prompt is too long.
            EasyVideoError: the engine fails.
        """
        stream = self.stream(goal, fps, episode)
        try:
            for frame in frames:
                yield self.score([(stream, frame)])[0]
        finally:
            self.end(stream)

    def score(self, arrived: Sequence[tuple[Stream, Picture]]) -> list[float]:
        """The values of the next frames of some streams, each another one; the engine has all questions at once.

        Raises:
            DataError: as ``score_stream``, or a stream is named twice.
            EasyVideoError: the engine fails. No stream has moved then: the same frames may be scored again.
        """
        if len({stream.number for stream, _ in arrived}) < len(arrived):
            raise DataError("a stream is named twice - score its frames one after the other")
        files = [self._kept(stream, frame) for stream, frame in arrived]
        asked = [place for place, (stream, _) in enumerate(arrived) if stream.frames]
        requests = [self._request(arrived[place][0], files[place]) for place in asked]
        found = dict(zip(asked, generate(self._engine, requests), strict=True)) if requests else {}
        for place, (stream, frame) in enumerate(arrived):
            if place in found:
                (trajectory,) = found[place]
                value = self.strategy.read(trajectory.last)
                stream.response = trajectory.text
                stream.carried += value is None
                stream.value = stream.value if value is None else value
            self._move(stream, files[place], frame.shape)
        return [stream.value for stream, _ in arrived]

    def end(self, stream: Stream) -> None:
        """Remove the frames of a stream."""
        shutil.rmtree(self._directory(stream), ignore_errors=True)

    def _directory(self, stream: Stream) -> Path:
        return self._components.scratch / f"stream-{stream.number}"

    def _kept(self, stream: Stream, frame: Picture) -> Path:
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[-1] != 3:
            raise DataError(f"a frame is {frame.dtype} {frame.shape} - give uint8 RGB of the shape (height, width, 3)")
        if stream.frames and frame.shape != stream._shape:
            raise DataError(f"a frame has the shape {frame.shape}, those before {stream._shape} - give one size")
        path = self._directory(stream) / f"{stream.frames}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(frame).save(path)
        return path

    def _request(self, stream: Stream, current: Path) -> Request:
        name = f"stream-{stream.number}-{stream.frames}"
        seed = derive_seed(self._components.config.seed, stream.episode, stream.frames)
        return Request(name, self._prompt(stream, current, name), 1, self._sampling, seed)

    def _prompt(self, stream: Stream, current: Path, name: str) -> Prompt:
        pictures = [str(path) for path in (stream._first, stream._previous, current, current)]
        path, _ = write_frame_list(pictures, {}, "frames", fps=1.0, directory=current.parent)
        ref = MediaRef("video", path, budget=BudgetChange(frames=_FRAMES))
        row = Sample(name, f"<video>\n{stream.goal}", "numerical", "0", (ref,))
        samples = prepared(row, self._transforms, self._components.config.seed, self._components.uploads.probe)
        if not samples:
            raise DataError("data.prepare drops the frames of a stream - leave out the transform that does")
        (sample,) = samples
        self._check_size(sample.media[0])
        video = sample.media[0], self._components.plan(sample.media[0])
        now = stream.frames / stream.fps
        seconds = {"first": 0.0, "previous": (stream.frames - 1) / stream.fps, "current": now}
        prompt = self.strategy.ask(sample, video, _PLACES, seconds, stream.value)
        if len(prompt) > self._limit:
            raise DataError(
                f"the prompt has {len(prompt)} tokens, data.max_prompt_tokens is {self._limit} - lower the pixels of "
                "data.video to what the critic was trained with, or raise the limit"
            )
        return prompt

    def _check_size(self, ref: MediaRef) -> None:
        """Refuse frames whose size in training depends on how many a video had: here each is sized as one of four."""
        components = self._components
        budget, info = components.budget(ref), components.uploads.probe(ref.path)
        assert isinstance(budget, VideoBudget)
        rule = video_rule(budget.rule, components.geometry)
        limits = components.config.data.video
        most = limits.frames or limits.max_frames
        here, then = (video_size(rule, info, budget, components.geometry, count) for count in (_FRAMES, most))
        if here != then:
            raise DataError(
                f"frames of {info.height} x {info.width} pixels become {here[0]} x {here[1]} in a stream, and "
                f"{then[0]} x {then[1]} in a video of {most} frames, because limits of all frames together shrink "
                "(data.video.total_pixels, or the rule's own) - set data.video.max_pixels to the size that the critic "
                "was trained with and leave out total_pixels, or data.video.max_frames to the most frames that its "
                "videos had"
            )

    def _move(self, stream: Stream, current: Path, shape: tuple[int, ...]) -> None:
        if stream.frames == 0:
            stream._first = current
        elif stream._previous != stream._first:
            stream._previous.unlink()
        stream._previous, stream._shape = current, shape
        stream.frames += 1
