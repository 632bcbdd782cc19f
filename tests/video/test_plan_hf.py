"""The ``hf`` rules against the processors of transformers, which are executed whole; and the tokens that come out."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import pytest

from easyvideor1 import video
from easyvideor1.config.schema import ImageBudget, VideoBudget
from easyvideor1.types import ConfigError, Geometry, MediaError, MediaInfo

from .oracle import ask_processors, hf_video_case, info_of, load_oracle, qwen_element, qwen_plan

QWEN2 = Geometry(patch_size=14, merge_size=2, temporal_patch_size=2)
QWEN3 = Geometry(patch_size=16, merge_size=2, temporal_patch_size=2)
GEOMETRIES = {"qwen2_vl": QWEN2, "qwen2_5_vl": QWEN2, "qwen3_vl": QWEN3}
RATES = (1.0, 8.0, 10.0, 12.5, 15.0, 22.29, 24000 / 1001, 24.0, 25.0, 30000 / 1001, 30.0, 50.0, 60.0)
SWEEP = 600

Answers = Mapping[str, list[tuple[MediaInfo, VideoBudget, dict[str, Any]]]]


def a_video(rng: random.Random) -> MediaInfo:
    """Seconds to two hours, thumbnails to 4k, some of them very thin."""
    fps = rng.choice(RATES)
    frames = max(1, round(10 ** rng.uniform(-0.3, 3.85) * fps))
    width = round(10 ** rng.uniform(1.2, 3.6))
    height = round(width * 10 ** rng.uniform(*((-0.5, 0.5) if rng.random() < 0.9 else (-1.9, 1.9))))
    return info_of(frames, fps, width, max(8, height))


def a_budget(rng: random.Random, model: str) -> VideoBudget:
    """A budget that the processor's own arguments can express: limits in whole tokens."""
    token = GEOMETRIES[model].factor ** 2
    smallest = rng.choice([4 * token, 3136, 16 * token, 128 * token])
    largest = max(rng.choice([64, 256, 320, 768, 4096]) * token, smallest)
    total = None
    if rng.random() < 0.6:
        tokens = rng.choice([512, 3000, 8192, 24576, 115_200])
        # The processor of Qwen2-VL takes 90% of the tokens it is told.
        total = tokens * token if model == "qwen3_vl" else int(tokens * token * 0.9)
    fields: dict[str, Any] = {
        "rule": rng.choice(["hf", "hf-qwen3" if model == "qwen3_vl" else "hf-qwen2"]),
        "min_pixels": smallest,
        "max_pixels": largest,
        "total_pixels": total,
    }
    if rng.random() < 0.4:
        fields["frames"] = rng.choice([1, 2, 3, 5, 8, 16, 17, 33, 64, 128])
    else:
        low = rng.choice([1, 2, 4, 5, 8])
        fields |= {"fps": rng.choice([0.2, 0.5, 1, 2, 2.5, 4, 8]), "min_frames": low}
        fields["max_frames"] = max(low, rng.choice([1, 4, 15, 32, 128, 257, 768]))
    return VideoBudget.model_validate(fields)


@pytest.fixture(scope="module")
def answers() -> Answers:
    rng = random.Random(2024)
    asked = [
        (model, a_video(rng), a_budget(rng, model), False) for model in ("qwen2_vl", "qwen2_5_vl", "qwen3_vl") * SWEEP
    ]
    for model in GEOMETRIES:  # the same on pixels, small enough to be quick
        for frames, width, height in [(30, 96, 64), (7, 65, 130), (50, 200, 40), (12, 33, 31)]:
            budget = VideoBudget(rule="hf", min_pixels=3136, max_pixels=GEOMETRIES[model].factor ** 2 * 32)
            asked.append((model, info_of(frames, 10.0, width, height), budget, True))
    given = ask_processors(
        [hf_video_case(model, info, budget, GEOMETRIES[model], real=real) for model, info, budget, real in asked]
    )
    table: dict[str, list[tuple[MediaInfo, VideoBudget, dict[str, Any]]]] = {model: [] for model in GEOMETRIES}
    for (model, info, budget, _), answer in zip(asked, given, strict=True):
        table[model].append((info, budget, answer))
    return table


@pytest.mark.parametrize("model", list(GEOMETRIES))
def test_plans_equal_the_processors(answers: Answers, model: str) -> None:
    geometry, equal, refused = GEOMETRIES[model], 0, []
    for info, budget, answer in answers[model]:
        case = f"{budget} {info.width}x{info.height} {info.frame_count}@{info.fps}: {answer}"
        if "error" in answer:
            refused.append((info, budget, answer))
            continue
        planned = video.plan(info, budget, geometry)
        read = len(answer["indices"])
        assert list(planned.frame_indices[:read]) == answer["indices"], case
        assert set(planned.frame_indices[read:]) <= {answer["indices"][-1]}, case
        assert (planned.height, planned.width) == (answer["height"], answer["width"]), case
        assert list(planned.grid) == answer["grid"], case
        assert planned.tokens == answer["tokens"], case
        assert planned.sample_fps == pytest.approx(read / info.frame_count * info.fps)
        equal += 1
    assert equal >= 500
    for info, budget, answer in refused:
        _where_the_processor_gives_up(model, info, budget, answer)


def _where_the_processor_gives_up(model: str, info: MediaInfo, budget: VideoBudget, answer: dict[str, Any]) -> None:
    """Every error of a processor is one of the documented kinds, and there the plan is what the documents say."""
    error, geometry, total = answer["error"], GEOMETRIES[model], info.frame_count
    if "aspect ratio" in error:
        with pytest.raises(MediaError, match="crop it"):
            video.plan(info, budget, geometry)
        return
    planned = video.plan(info, budget, geometry)
    if "behind the last" in error:  # one value too many of torch.arange
        assert model != "qwen3_vl"
        assert answer["indices"][-1] == total
        assert list(planned.frame_indices) == answer["indices"][:-1]
    elif "exceeds `total_num_frames" in error:
        assert budget.frames is not None
        assert budget.frames > total
        assert len(set(planned.frame_indices)) == (total // 2 * 2 or 1)
    elif "ZeroDivisionError" in error:  # less than one temporal step
        assert model != "qwen3_vl"
        assert len(planned.frame_indices) == 2
        assert len(set(planned.frame_indices)) == 1
    else:
        assert "must be larger than temporal_factor" in error, answer
        assert model == "qwen3_vl"
        assert len(planned.frame_indices) == 2
        assert len(set(planned.frame_indices)) == 1


def test_clips_are_videos_of_their_own() -> None:
    """The processors know no clips: they are given the frames of one."""
    rng = random.Random(7)
    asked = []
    for model, geometry in GEOMETRIES.items():
        for _ in range(20):
            info, budget = info_of(rng.randrange(200, 2000), 25.0), a_budget(rng, model)
            first = rng.randrange(0, 100)
            last = rng.randrange(first + 70, info.frame_count)
            asked.append((model, geometry, info, budget, first, last))
    given = ask_processors(
        [
            hf_video_case(model, info_of(last - first + 1, 25.0), budget, geometry)
            for model, geometry, _, budget, first, last in asked
        ]
    )
    compared = 0
    for (_, geometry, info, budget, first, last), answer in zip(asked, given, strict=True):
        planned = video.plan(info, budget, geometry, start=first / 25, end=last / 25)
        if "error" not in answer:
            assert list(planned.frame_indices)[: len(answer["indices"])] == [first + k for k in answer["indices"]]
            assert planned.tokens == answer["tokens"]
            compared += 1
    assert compared >= 40


@pytest.mark.parametrize("patch", [14, 16])
def test_qwen_rule_equals_its_oracle_over_a_sweep_and_the_tokens_come_out(patch: int) -> None:
    """Frames that qwen-vl-utils sampled and resized go through the processor, whose tokens are counted."""
    oracle = load_oracle()
    geometry = Geometry(patch, 2, 2)
    model = "qwen3_vl" if patch == 16 else "qwen2_5_vl"
    rng = random.Random(patch)
    plans, cases = [], []
    while len(plans) < 520:
        info = a_video(rng)
        budget = a_budget(rng, model).model_copy(update={"rule": "qwen"})
        if max(info.height, info.width) > 200 * min(info.height, info.width):
            continue  # refused by both
        planned = video.plan(info, budget, geometry)
        try:
            indices, size = qwen_plan(oracle, qwen_element(budget), info, geometry.factor)
        except ValueError as error:  # fewer frames than a temporal step, or fewer than the fixed number
            assert "nframes should in interval" in str(error)
            assert len(set(planned.frame_indices)) in (1, info.frame_count // 2 * 2)
            continue
        assert list(planned.frame_indices) == indices, (info.frame_count, info.fps, budget)
        if 0 in size:  # a side of very thin pictures that vanishes there
            assert min(planned.height, planned.width) == geometry.factor
            continue
        assert (planned.height, planned.width) == size, (info.height, info.width, budget)
        plans.append(planned)
        sampled = info_of(len(indices), info.fps, width=size[1], height=size[0])
        cases.append(hf_video_case(model, sampled, VideoBudget(), geometry) | {"sample": False, "resize": False})
    for planned, answer in zip(plans, ask_processors(cases), strict=True):
        assert list(planned.grid) == answer["grid"]
        assert planned.tokens == answer["tokens"]


def test_images_equal_the_image_processors() -> None:
    """The processor with torchvision in a sweep, and the one with Pillow on real pixels."""
    rng = random.Random(3)
    asked = []
    for model, geometry in GEOMETRIES.items():
        for backend, count in (("torchvision", 200), ("pil", 12)):
            for _ in range(count):
                width = round(10 ** rng.uniform(1.0, 3.7 if backend == "torchvision" else 2.6))
                height = max(4, round(width * 10 ** rng.uniform(-1.5, 1.5) if rng.random() < 0.3 else width * 0.7))
                smallest = rng.choice([3136, 4 * geometry.factor**2, 65_536])
                budget = ImageBudget(
                    rule="hf", min_pixels=smallest, max_pixels=rng.choice([smallest, 262_144, 1_048_576, 12_845_056])
                )
                asked.append((model, backend, geometry, height, width, budget))
    given = ask_processors(
        [
            {
                "kind": "image",
                "backend": backend,
                "model": model,
                "height": height,
                "width": width,
                "shortest": budget.min_pixels,
                "longest": budget.max_pixels,
                "patch": geometry.patch_size,
                "temporal": geometry.temporal_patch_size,
                "real": backend == "pil",
            }
            for model, backend, geometry, height, width, budget in asked
        ]
    )
    for (_, _, geometry, height, width, budget), answer in zip(asked, given, strict=True):
        planned = video.plan(MediaInfo("a.png", "image", "f" * 64, "png", width, height), budget, geometry)
        assert (planned.height, planned.width) == (answer["height"], answer["width"]), (height, width, budget)
        assert list(planned.grid) == answer["grid"]
        assert planned.tokens == answer["tokens"]


def test_hf_goes_with_the_patch_size() -> None:
    info = info_of(300, 25.0)
    for geometry, rule in ((QWEN2, "hf-qwen2"), (QWEN3, "hf-qwen3")):
        named = video.plan(info, VideoBudget.model_validate({"rule": rule}), geometry)
        assert video.plan(info, VideoBudget(rule="hf"), geometry) == named
    with pytest.raises(ConfigError, match="choose hf-qwen2 or hf-qwen3"):
        video.plan(info, VideoBudget(rule="hf"), Geometry(patch_size=4))
    assert video.plan(info, VideoBudget(rule="hf-qwen3"), Geometry(patch_size=4)).tokens > 0


def test_the_rules_are_different() -> None:
    """Else the comparisons above would prove less than they say."""
    info = info_of(301, 25.0, 1280, 720)
    plans = {
        rule: video.plan(info, VideoBudget.model_validate({"rule": rule, "fps": 1.5, "total_pixels": 500_000}), QWEN3)
        for rule in ("qwen", "hf-qwen2", "hf-qwen3", "uniform")
    }
    assert len({plan.digest for plan in plans.values()}) == 4


def test_odd_numbers_of_frames_are_filled_up_by_the_rule_of_qwen3_only() -> None:
    budget = {"frames": 5, "min_pixels": 1024}
    info = info_of(100, 25.0)
    indices = {
        rule: video.plan(info, VideoBudget.model_validate({**budget, "rule": rule}), QWEN3).frame_indices
        for rule in ("hf-qwen2", "hf-qwen3")
    }
    assert indices["hf-qwen3"] == (0, 25, 50, 74, 99, 99)
    assert indices["hf-qwen2"] == (0, 25, 50, 75)


def test_the_rule_of_qwen3_repeats_frames_as_its_processor_does() -> None:
    budget = VideoBudget(rule="hf-qwen3", frames=8, min_pixels=1024)
    assert video.plan(info_of(3, 25.0), budget, QWEN3).frame_indices == (0, 0, 1, 1, 1, 1, 2, 2)


@pytest.mark.parametrize("frames", [216_000, 1_000_003])
def test_long_videos_keep_the_arithmetic_of_the_processor(frames: int) -> None:
    """Single precision has 16 steps per frame here, and fewer: where a part begins is decided by the rounding."""
    infos = [info_of(frames - k, 30.0) for k in range(3)]
    budgets = [VideoBudget(rule="hf-qwen2", frames=count, min_pixels=1024) for count in (64, 366, 700, 768)]
    asked = [(info, budget) for info in infos for budget in budgets]
    given = ask_processors([hf_video_case("qwen2_vl", info, budget, QWEN2) for info, budget in asked])
    for (info, budget), answer in zip(asked, given, strict=True):
        assert list(video.plan(info, budget, QWEN2).frame_indices) == answer["indices"][: budget.frames]


def test_the_index_behind_the_end_is_left_out() -> None:
    info, budget = info_of(17, 10.0), VideoBudget(rule="hf-qwen2", frames=14, min_pixels=1024)
    (answer,) = ask_processors([hf_video_case("qwen2_vl", info, budget, QWEN2)])
    assert len(answer["indices"]) == 15
    assert answer["indices"][-1] == 17
    assert list(video.plan(info, budget, QWEN2).frame_indices) == answer["indices"][:14]


def test_what_the_processors_refuse_for_want_of_frames_is_planned() -> None:
    asked = [
        ("qwen2_vl", info_of(1, 10.0), VideoBudget(rule="hf")),
        ("qwen2_vl", info_of(7, 10.0), VideoBudget(rule="hf", frames=64)),
        ("qwen2_vl", info_of(50, 10.0), VideoBudget(rule="hf", min_frames=1, max_frames=1)),
        ("qwen3_vl", info_of(1, 10.0), VideoBudget(rule="hf")),
        ("qwen3_vl", info_of(50, 10.0), VideoBudget(rule="hf", min_frames=1, max_frames=1)),
    ]
    given = ask_processors([hf_video_case(model, *rest, GEOMETRIES[model]) for model, *rest in asked])
    assert all("error" in answer for answer in given), given
    planned = [video.plan(info, budget, GEOMETRIES[model]).frame_indices for model, info, budget in asked]
    assert planned == [(0, 0), (0, 1, 2, 3, 4, 5), (0, 0), (0, 0), (0, 0)]
