"""SEED-Bench-R1's recipe: interleaved prompts, seeded shuffling, levels, a reader stricter than the first letter."""

import json

import numpy as np
import pytest

from easyvideor1.config import load_config
from easyvideor1.data import prompt_text, shuffle_options
from easyvideor1.data.transforms import TransformContext, resolve_transforms
from easyvideor1.recipes.seed_bench_r1 import LEVELS, planning_row, write_planning_rows
from easyvideor1.rewards import Scorer, parse
from easyvideor1.toyworld import WorldSpec, write_world
from easyvideor1.types import MediaRef, OfflineTrajectory, Sample

OPTIONS = ("A. Open the door", "B. Close the door", "C. Take the cup", "D. Wash the cup")


def first_letter(response):
    """The released reading without its mathematics: the first character of the answer tag."""
    _, _, rest = response.partition("<answer>")
    content, closed, _ = rest.partition("</answer>")
    return content.strip()[:1] if closed else ""


@pytest.mark.parametrize(
    ("content", "released", "ours"),
    [
        ("B", "B", ("B",)),
        ("B. Close the door", "B", ("B",)),
        ("Answer is B", "A", ("B",)),  # the A is that of "Answer"
        ("Close the door", "C", ("B",)),  # the C is that of "Close"
        ("Do not choose A", "D", None),
        ("A or B", "A", None),
        ("A. Close the door", "A", None),  # letter and words disagree
        ("Both A and B", "B", ("A", "B")),
        ("Definitely C", "D", None),
    ],
)
def test_the_reader_is_stricter_than_the_first_letter(content, released, ours):
    response = f"<think>x</think><answer>{content}</answer>"
    assert first_letter(response) == released
    assert parse("multiple_choice", response, OPTIONS).value == ours


def test_only_the_answer_tag_counts():
    config = load_config("seed_bench_r1").rewards
    sample = Sample("1", "?", "multiple_choice", "B", options=OPTIONS)
    texts = ["<think>x</think><answer>B</answer>", "<think>B</think>", "<think>x</think><answer>A</answer> B"]
    require = Scorer(config.model_copy(update={"require_tag": True}))
    assert [require(sample, text).total for text in texts] == [1.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ("<think>The door is open, so B.</think><answer>B</answer>", 1.0),
        ("<think>First I thought of A, but close the door it is.</think><answer>B</answer>", 1.0),
        ("<think>The door is open, so B.</think><answer>C</answer>", 0.0),
        ("<think>Hm.</think><answer>B</answer>", 0.0),
    ],
)
def test_consistency_is_recorded_and_not_paid_for(response, expected):
    scorer = Scorer(load_config("seed_bench_r1").rewards)
    score = scorer(Sample("1", "?", "multiple_choice", "B", options=OPTIONS), response)
    assert score.parts["consistency"] == expected and score.total == score.accuracy


def test_the_settings_are_the_released_ones():
    config = load_config("seed_bench_r1")
    (stage,) = config.stages
    assert (stage.kl.estimator, stage.kl.coef, stage.aggregation.name) == ("k3", 0.1, "sequence")
    assert (config.rewards.accuracy_weight, config.rewards.format_weight) == (1.0, 0.0)


def test_a_prompt_is_the_clip_then_an_image_then_the_text():
    config = load_config("seed_bench_r1")
    (anchors,) = resolve_transforms(config.data.prepare)
    sample = Sample("1", "<video>\nWhat next?", "multiple_choice", "B", (MediaRef("video", "/v.mp4"),), OPTIONS)
    (shown,) = anchors(sample, 0, np.random.default_rng(0), TransformContext(None))
    assert [(ref.kind, ref.still) for ref in shown.media] == [("video", ""), ("image", "last")]
    assert prompt_text(shown, config.prompts, config.rewards).startswith("<video><image>\nWhat next?")


def test_shuffled_options_keep_the_answer_and_its_trace():
    text = "<think>The door is open, so the answer is B.</think><answer>B</answer>"
    sample = Sample("1", "?", "multiple_choice", "B", options=OPTIONS, offline=(OfflineTrajectory(text),))
    places = set()
    for seed in range(40):
        (one,) = shuffle_options(sample, 0, np.random.default_rng(seed))
        (again,) = shuffle_options(sample, 0, np.random.default_rng(seed))
        assert one == again
        assert f"{one.answer}. Close the door" in one.options
        assert one.offline[0].text == text.replace("B.", f"{one.answer}.").replace(">B<", f">{one.answer}<")
        places.add(one.answer)
    assert places == set("ABCD")


def test_steps_of_both_tasks():
    row = {"options": ["A. left", "B. right", "C. up", "D. down"], "has_offline_trajectory": True, "problem_id": "7"}
    scene = {"bodies": [{"colour": "red", "shape": "circle", "motion": "up"}]}
    on = planning_row(row, scene, "level", trained_task=True)
    back = planning_row(row, scene, "level", trained_task=False)
    assert (on["answer"], back["answer"]) == ("C", "D")
    assert on["offline_output"].endswith("<answer>C</answer>") and on["data_source"] == "level"
    assert on["problem"] != back["problem"]


@pytest.mark.model
def test_the_levels_are_files_of_their_own(tmp_path):
    spec = {"train": 4, "validation": 0, "test": 4, "image_share": 0.0, "kinds": ("mc_direction",)}
    for name, seed in (("known", 1), ("new", 2)):
        write_world(WorldSpec(seed=seed, **spec), tmp_path / name)
    write_planning_rows(tmp_path)
    config = load_config("seed_bench_r1")
    assert [source.path.rpartition("seed_bench_r1/")[2] for source in config.data.test] == [
        f"{world}/{level}.jsonl" for level, (world, _) in LEVELS.items()
    ]
    answers = {}
    for level, (world, _) in LEVELS.items():
        rows = [json.loads(line) for line in (tmp_path / world / f"{level}.jsonl").read_text().splitlines()]
        assert {row["data_source"] for row in rows} == {level} and len(rows) == 4
        answers[level] = [row["answer"] for row in rows]
    second, third = answers["level-2-new-environment"], answers["level-3-new-environment-and-task"]
    assert all(one != other for one, other in zip(second, third, strict=True)), "the same clips, the other task"
