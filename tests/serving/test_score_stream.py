"""A critic over a stream of frames: it is asked as in training, and what it says goes on to the next question."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from easyvideor1.data.media import write_frame_list
from easyvideor1.data.transforms import TransformContext, resolve_transforms
from easyvideor1.engines.engine import Result
from easyvideor1.serving.components import AnsweringComponents
from easyvideor1.serving.score_stream import StreamScorer
from easyvideor1.types import ConfigError, DataError, MediaRef, Sample, Trajectory, Turn

pytestmark = pytest.mark.model

GOAL = "How far is the square, in percent?"


class Saying:
    """An engine that says given texts, in order; a text that is an error is the fault of its request."""

    def __init__(self, load, texts):
        self.load, self.texts, self.asked, self.pixels, self.pending = load, list(texts), [], [], []
        self.windows, self.seeds = [], []

    def submit(self, requests):
        self.windows.append(len(requests))
        first = len(self.asked)
        self.asked += [request.prompt for request in requests]
        self.seeds += [request.seed for request in requests]
        self.pending = list(enumerate(requests, first))
        return [ticket for ticket, _ in self.pending]

    def results(self):
        while self.pending:
            ticket, request = self.pending.pop(0)
            media = zip(request.prompt.media, request.prompt.plans, strict=True)
            self.pixels.append([self.load(ref, plan).pixels.copy() for ref, plan in media])
            said = self.texts.pop(0)
            if isinstance(said, Exception):
                yield Result(ticket, request, fault=said)
                continue
            ids = np.asarray([1], dtype=np.int64)
            yield Result(
                ticket, request, (Trajectory((Turn(request.prompt, ids, np.ones(1, bool), None, "stop", said),)),)
            )

    def cancel(self, tickets):
        self.pending = [entry for entry in self.pending if entry[0] not in tickets]

    def close(self):
        pass


def critic_config(world, views, prepare):
    strategy = {"name": "recursive", "steps": 3, "views": views}
    return world.config(
        stages=[],
        evaluation={},
        rewards={},
        rollout={"strategy": strategy, "max_new_tokens": 8},
        data={"video": {"rule": "uniform", "frames": 4, "max_pixels": 4096}, "prepare": prepare},
    )


@pytest.fixture(params=["views", "composite"])
def config(request, world):
    if request.param == "views":
        return critic_config(world, ["first", "previous", "current"], [])
    return critic_config(world, ["current"], [{"name": "composite", "gap": 3}])


@pytest.fixture
def opened(config, world, tmp_path):
    with AnsweringComponents.of(config, world.checkpoint, tmp_path / "scratch") as components:
        yield components


def frames_of(seed, count=4):
    return list(np.random.default_rng(seed).integers(0, 256, (count, 48, 64, 3), dtype=np.uint8))


def answers(*values):
    return [f"<answer>{value}</answer>" for value in values]


def asked_in_training(components, frames, texts, directory):
    """The prompts of a trajectory over the same frames as a video, and their pixels."""
    directory.mkdir()
    paths = [directory / f"{number}.png" for number in range(len(frames))]
    for path, frame in zip(paths, frames, strict=True):
        Image.fromarray(frame).save(path)
    path, _ = write_frame_list([str(path) for path in paths], {}, "videos", fps=2.0, directory=directory)
    sample = Sample("row", f"<video>\n{GOAL}", "numerical", "0", (MediaRef("video", path),))
    for transform in resolve_transforms(components.config.data.prepare):
        (sample,) = transform(sample, 0, np.random.default_rng(0), TransformContext(None))
    turns, prompts = [], [components.strategy.start(sample)]
    for text in texts:
        ids = np.asarray([1], dtype=np.int64)
        turns.append(Turn(prompts[-1], ids, np.ones(1, bool), None, "stop", text))
        prompts.append(components.strategy.next(sample, Trajectory(tuple(turns))))
    assert prompts.pop() is None
    pixels = [
        [components.load(ref, plan).pixels for ref, plan in zip(prompt.media, prompt.plans, strict=True)]
        for prompt in prompts
    ]
    return prompts, pixels


def test_a_stream_is_asked_as_a_video_is_in_training(opened, tmp_path) -> None:
    frames, texts = frames_of(0), ["<answer>20</answer>", "no idea", "<answer>70</answer>"]
    engine = Saying(opened.load, texts)
    values = list(StreamScorer(opened, engine).score_stream(frames, GOAL, fps=2.0))
    assert values == [0.0, 20.0, 20.0, 70.0], "the first frame has the start, and what cannot be read is carried on"
    prompts, pixels = asked_in_training(opened, frames, texts, tmp_path / "video")
    assert [prompt.token_ids.tolist() for prompt in engine.asked] == [prompt.token_ids.tolist() for prompt in prompts]
    for mine, theirs in zip(engine.pixels, pixels, strict=True):
        assert len(mine) == len(theirs) and all(map(np.array_equal, mine, theirs))
    assert not list((tmp_path / "scratch").rglob("*.png")), "nothing stays of a stream"


def test_streams_are_asked_together_and_know_only_themselves(opened) -> None:
    one, two = frames_of(1, 3), frames_of(2, 3)
    engine = Saying(opened.load, answers(10, 50, 15, 55))
    scorer = StreamScorer(opened, engine)
    a, b = scorer.stream(GOAL), scorer.stream(GOAL)
    assert scorer.score([(a, one[0]), (b, two[0])]) == [0.0, 0.0] and engine.windows == []
    assert scorer.score([(a, one[1]), (b, two[1])]) == [10.0, 50.0]
    b.value = 99.0  # a wrong value that is fed back
    assert scorer.score([(b, two[2]), (a, one[2])]) == [15.0, 55.0] and engine.windows == [2, 2]
    told = [prompt.text.partition("view was ")[2].partition(".\n")[0] for prompt in engine.asked]
    assert told == ["0", "0", "99", "10"]
    assert (a.frames, a.carried, a.response) == (3, 0, "<answer>55</answer>")
    alone = Saying(opened.load, answers(10, 55))
    assert list(StreamScorer(opened, alone).score_stream(one, GOAL)) == [0.0, 10.0, 55.0]
    for mine, together in zip(alone.pixels, (engine.pixels[0], engine.pixels[3]), strict=True):
        assert all(map(np.array_equal, mine, together))


def test_a_stream_does_not_move_where_the_engine_fails(opened) -> None:
    frames = frames_of(3, 3)
    engine = Saying(opened.load, ["<answer>10</answer>", DataError("not now"), "<answer>30</answer>"])
    scorer = StreamScorer(opened, engine)
    stream = scorer.stream(GOAL)
    assert [scorer.score([(stream, frame)])[0] for frame in frames[:2]] == [0.0, 10.0]
    with pytest.raises(DataError, match="not now"):
        scorer.score([(stream, frames[2])])
    assert (stream.frames, stream.value) == (2, 10.0)
    assert scorer.score([(stream, frames[2])]) == [30.0]
    assert engine.asked[1].token_ids.tolist() == engine.asked[2].token_ids.tolist()


@pytest.mark.parametrize("config", ["views"], indirect=True)
def test_an_episode_draws_by_its_name(opened) -> None:
    def seeds(*episodes):
        engine = Saying(opened.load, answers(*range(len(episodes))))
        scorer = StreamScorer(opened, engine, greedy=False)
        streams = [scorer.stream(GOAL, episode=name) for name in episodes]
        for frame in frames_of(4, 2):
            scorer.score([(stream, frame) for stream in streams])
        return dict(zip(episodes, engine.seeds, strict=True))

    assert seeds("a", "b") == seeds("b", "a") and len(set(seeds("a", "b", "").values())) == 3


@pytest.mark.parametrize("config", ["views"], indirect=True)
def test_frames_that_the_number_of_frames_shrinks_are_refused(config, world, tmp_path) -> None:
    """64 x 64 pixels fit six times in 24,576, and eight times they do not."""
    video = config.data.video.model_copy(update={"total_pixels": 24_576})
    for frames, fits in ((8, False), (5, True)):
        data = config.data.model_copy(update={"video": video.model_copy(update={"frames": frames})})
        changed = config.model_copy(update={"data": data})
        with AnsweringComponents.of(changed, world.checkpoint, tmp_path / f"scratch-{frames}") as components:
            scored = StreamScorer(components, Saying(components.load, answers(10))).score_stream(frames_of(5, 2), GOAL)
            if fits:
                assert list(scored) == [0.0, 10.0]
                continue
            with pytest.raises(DataError, match=r"in a video of 8 frames, because .* leave out total_pixels"):
                list(scored)


@pytest.mark.parametrize("config", ["views"], indirect=True)
def test_wrong_input_is_named(opened, world, tmp_path) -> None:
    scorer = StreamScorer(opened, Saying(opened.load, []))
    stream = scorer.stream(GOAL)
    with pytest.raises(DataError, match=r"a frame is float64 \(4, 4, 3\) - give uint8 RGB"):
        scorer.score([(stream, np.zeros((4, 4, 3)))])
    scorer.score([(stream, frames_of(0)[0])])
    with pytest.raises(DataError, match=r"shape \(8, 8, 3\), those before \(48, 64, 3\)"):
        scorer.score([(stream, np.zeros((8, 8, 3), np.uint8))])
    with pytest.raises(DataError, match="named twice"):
        scorer.score([(stream, frames_of(0)[0])] * 2)
    with pytest.raises(DataError, match="0 frames per second"):
        scorer.stream(GOAL, fps=0)
    plain = world.config(stages=[], evaluation={}, rewards={})
    with (
        AnsweringComponents.of(plain, world.checkpoint, tmp_path / "other") as other,
        pytest.raises(ConfigError, match=r"rollout.strategy is single_turn, .* trained with it"),
    ):
        StreamScorer(other, Saying(other.load, []))
