"""Worlds on disk: contents, determinism, resumption, refusal, balance."""

import itertools
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from easyvideor1.tasks import TASKS, canonical_task
from easyvideor1.toyworld import KIND_NAMES, Manifest, WorldSpec, write_world
from easyvideor1.toyworld.plan import plan_world
from easyvideor1.types import ConfigError, DataError

from .pixels import assert_box, decode
from .samples import read_scenes

SPEC = WorldSpec(seed=7, train=40, validation=16, test=16, questions_per_clip=3)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return write_world(SPEC, tmp_path_factory.mktemp("world") / "w")


def rows_of(manifest: Manifest, split: str) -> list[dict]:
    return [json.loads(line) for line in manifest.rows_path(split).read_text().splitlines()]


def planned_rows(spec: WorldSpec, split: str = "train") -> list[dict]:
    return [row for planned in plan_world(spec) if planned.name == split for row in planned.rows]


def test_every_task_and_kind_is_written(world: Manifest) -> None:
    for split in ("train", "validation", "test"):
        rows = rows_of(world, split)
        assert len(rows) == world.splits[split].rows == 3 * SPEC.clips(split)
        assert {canonical_task(row["problem_type"]) for row in rows} == set(TASKS) == set(world.splits[split].tasks)
        assert {row["kind"] for row in rows} == set(KIND_NAMES) == set(world.splits[split].kinds)
        assert len({row["problem_id"] for row in rows}) == len(rows)


def test_rows_have_the_published_columns(world: Manifest) -> None:
    for split in ("train", "validation", "test"):
        for row in rows_of(world, split):
            kind = row["data_type"]
            assert {key: bool(row[key]) for key in ("videos", "images")} == {
                "videos": kind == "video",
                "images": kind == "image",
            }
            for path in (*row["videos"], *row["images"]):
                assert (world.root / path).is_file()
                assert path.startswith(f"media/{split}/")
            assert row["data_source"] == f"toyworld/{row['kind']}"
            assert isinstance(row["answer"], str) and row["answer"]
            assert row["has_offline_trajectory"] == (split == "train") == bool(row["offline_output"])
            assert ("<video>" in row["problem"]) <= (kind == "video")
            assert ("<image>" in row["problem"]) <= (kind == "image")


def test_some_rows_lack_their_placeholder(world: Manifest) -> None:
    rows = [row for row in rows_of(world, "train") if row["data_type"] != "text"]
    bare = sum(f"<{row['data_type']}>" not in row["problem"] for row in rows)
    assert 0.02 * len(rows) < bare < 0.25 * len(rows)
    assert all("<" in row["problem"] for row in planned_rows(WorldSpec(bare_share=0, kinds=("mc_colour",), train=20)))


def test_traces_end_in_the_answer(world: Manifest) -> None:
    lengths = []
    for row in rows_of(world, "train"):
        thought, answer = row["offline_output"].removeprefix("<think>").split("</think><answer>")
        assert answer == f"{row['answer']}</answer>"
        lengths.append(len(thought.split()))
    assert min(lengths) >= 7 and max(lengths) <= 24
    assert 9 <= sum(lengths) / len(lengths) <= 16


def test_boxes_of_rows_are_on_the_pixels(tmp_path: Path) -> None:
    world = write_world(replace(SPEC, container=".mkv", codec="ffv1"), tmp_path / "lossless")
    scenes = read_scenes(world.root)
    checked = 0
    for split in ("train", "validation", "test"):
        for row in rows_of(world, split):
            if row["kind"] not in ("box", "track", "tube"):
                continue
            scene = scenes[row["clip"]]
            frames, times = decode(world.root / (*row["videos"], *row["images"])[0])
            boxes = json.loads(row["answer"])["boxes"]
            for second, box in {"0": boxes}.items() if isinstance(boxes, list) else boxes.items():
                if float(second) not in times or not scene.subject.visible_at(float(second)):
                    continue  # the end of a span may be the end of the clip
                pixels = frames[times.index(float(second))]
                truth = [value / 1000 * side for value, side in zip(box, (64, 64, 64, 64), strict=True)]
                assert_box(pixels, scene.subject, truth)
                checked += 1
    assert checked >= 20


def test_splits_share_no_clip() -> None:
    fingerprints: Counter = Counter()
    for planned in plan_world(WorldSpec(train=150, validation=60, test=60, kinds=("mc_colour",), bodies=(1, 1))):
        for clip in planned.clips:
            body = clip.scene.subject
            fingerprints[(body.name, body.motion, round(body.x), round(body.y), round(body.size), clip.media)] += 1
    assert sum(fingerprints.values()) == 270
    assert fingerprints.most_common(1)[0][1] <= 2  # equal but for speed at the most
    paths = [clip.path for planned in plan_world(SPEC) for clip in planned.clips]
    assert len(paths) == len(set(paths))


def test_same_spec_same_bytes(world: Manifest, tmp_path: Path) -> None:
    again = write_world(SPEC, tmp_path / "again")
    names = sorted(str(path.relative_to(world.root)) for path in world.root.rglob("*") if path.is_file())
    assert names == sorted(str(path.relative_to(again.root)) for path in again.root.rglob("*") if path.is_file())
    for name in names:
        assert (world.root / name).read_bytes() == (again.root / name).read_bytes(), name


def test_complete_world_is_reused_and_another_spec_refused(world: Manifest, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in world.root.rglob("*")}
    found = write_world(SPEC, world.root, lambda done, total: pytest.fail("nothing is left to write"))
    assert found.reused and found.splits == world.splits and found.spec == SPEC
    assert before == {path: path.stat().st_mtime_ns for path in world.root.rglob("*")}
    with pytest.raises(DataError, match=r"another spec \(seed is 7 there, 8 here\)"):
        write_world(replace(SPEC, seed=8), world.root)
    (tmp_path / "thesis.txt").write_text("keep me")
    with pytest.raises(DataError, match=r"no manifest\.json \(thesis\.txt\)"):
        write_world(SPEC, tmp_path)


def test_interrupted_world_is_continued(world: Manifest, tmp_path: Path) -> None:
    root = tmp_path / "w"

    def stop(done: int, total: int) -> None:
        if done == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_world(SPEC, root, stop)
    assert not (root / "train.jsonl").exists()
    kept = {path: path.stat().st_mtime_ns for path in root.rglob("*.mp4")}
    assert kept
    seen = []
    resumed = write_world(SPEC, root, lambda done, total: seen.append((done, total)))
    assert not resumed.reused
    assert seen[-1][0] == seen[-1][1] == len(seen)
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())
    assert resumed.rows_path("test").read_bytes() == world.rows_path("test").read_bytes()


def test_lost_file_is_written_again(tmp_path: Path) -> None:
    spec = WorldSpec(train=4, validation=1, test=1)
    first = write_world(spec, tmp_path / "w")
    lost = next(first.root.rglob("*.mp4"))
    content = lost.read_bytes()
    lost.unlink()
    assert not write_world(spec, first.root).reused
    assert lost.read_bytes() == content


def test_broken_manifest_is_named(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(DataError, match="not the manifest of a toyworld"):
        write_world(SPEC, tmp_path)


def test_learning_world_is_balanced() -> None:
    spec = WorldSpec(train=480, validation=0, test=0, kinds=("mc_direction", "mc_colour", "mc_shape", "yes_direction"))
    rows = planned_rows(spec)
    assert Counter(row["kind"] for row in rows) == dict.fromkeys(spec.kinds, 120)
    for kind, classes in (("mc_direction", 4), ("mc_colour", 6), ("mc_shape", 3)):
        mine = [row for row in rows if row["kind"] == kind]
        letters = Counter(row["answer"] for row in mine)
        assert len(letters) == min(4, classes)
        assert max(letters.values()) - min(letters.values()) <= 1
        right = Counter(row["options"]["ABCD".index(row["answer"])][3:] for row in mine)
        assert len(right) == classes
        assert max(right.values()) - min(right.values()) <= 1
        assert all(len(set(row["options"])) == len(letters) for row in mine)
    answers = Counter(row["answer"] for row in rows if row["kind"] == "yes_direction")
    assert answers == {"Yes": 60, "No": 60}


def test_letters_do_not_follow_from_the_question() -> None:
    rows = planned_rows(WorldSpec(train=600, validation=0, test=0, kinds=("mc_direction",), bodies=(1, 1)))
    for word in ("red", "circle"):
        letters = Counter(row["answer"] for row in rows if word in row["problem"])
        assert max(letters.values()) < 0.42 * sum(letters.values())


def test_counts_yes_no_and_preferences_are_balanced() -> None:
    rows = planned_rows(
        WorldSpec(train=240, validation=0, test=0, kinds=("count", "yes_colour", "prefer"), bare_share=0)
    )
    for kind, classes in (("count", 4), ("yes_colour", 2), ("prefer", 3)):
        answers = Counter(row["answer"] for row in rows if row["kind"] == kind)
        assert len(answers) == classes
        assert max(answers.values()) - min(answers.values()) <= 1


def test_restricted_worlds() -> None:
    rows = planned_rows(WorldSpec(train=12, tasks=("mc", "temporal grounding")))
    assert {canonical_task(row["problem_type"]) for row in rows} == {"multiple_choice", "temporal_grounding"}
    rows = planned_rows(WorldSpec(train=12, kinds=("box",), image_share=0.0))
    assert {row["data_type"] for row in rows} == {"image"}
    rows = planned_rows(WorldSpec(train=12, kinds=("mc_colour",), colours=("red", "green", "blue", "yellow")))
    assert {option[3:] for row in rows for option in row["options"]} == {"red", "green", "blue", "yellow"}
    rows = planned_rows(WorldSpec(train=20, offline_share=0.5))
    assert 0 < sum(row["has_offline_trajectory"] for row in rows) < 20
    rows = planned_rows(WorldSpec(train=3, kinds=("math_text",)))
    assert {row["data_type"] for row in rows} == {"text"}


@pytest.mark.parametrize(
    "fields",
    [
        {"questions_per_clip": 6},
        {"bodies": (3, 4), "size": (32, 32), "questions_per_clip": 2},
        {"size": (96, 32), "questions_per_clip": 5},
        {"bodies": (2, 2), "body_size": (0.4, 0.5), "vfr": True},
    ],
)
def test_crowded_worlds_still_fit(fields: dict) -> None:
    for planned in plan_world(WorldSpec(train=60, validation=5, test=5, **fields)):
        for clip in planned.clips:
            assert min(body.size for body in clip.scene.bodies) >= 0.1 * min(clip.scene.width, clip.scene.height)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"kinds": ("mc_color",)}, "mc_colour"),
        ({"tasks": ("mc",), "kinds": ("box",)}, "no question kind remains"),
        ({"kinds": ("box", "mc_direction"), "image_share": 0.0}, "box can never be asked"),
        ({"kinds": ("temporal", "distance"), "questions_per_clip": 2}, "only 1 of the kinds"),
        ({"kinds": ("box", "box")}, "twice"),
        ({"colours": ("red", "mauve", "green", "blue")}, "colours"),
        ({"bodies": (0, 2)}, "bodies"),
        ({"seconds": 0.5}, "4 frames"),
        ({"rotations": (45,)}, "rotations"),
        ({"container": ".doc"}, "container"),
        ({"bodies": (4, 4), "body_size": (0.5, 0.5), "travel": (0.7, 0.7)}, "do not fit into 64x64"),
    ],
)
def test_impossible_specs_are_refused(fields: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        list(plan_world(WorldSpec(**fields)))


def test_media_options_reach_the_files(tmp_path: Path) -> None:
    spec = WorldSpec(
        train=6,
        validation=0,
        test=0,
        kinds=("mc_direction",),
        size=(96, 64),
        vfr=True,
        rotations=(0, 90),
        container=".mkv",
        backdrop="mixed",
    )
    manifest = write_world(spec, tmp_path / "w")
    scenes = read_scenes(manifest.root)
    for row in rows_of(manifest, "train"):
        frames, times = decode(manifest.root / row["videos"][0])
        assert frames[0].shape == (64, 96, 3)
        assert times == pytest.approx(scenes[row["clip"]].times, abs=1e-3)
        assert len({round(b - a, 2) for a, b in itertools.pairwise(times)}) > 1
