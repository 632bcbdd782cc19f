"""DeepVideo-R1's recipe: what its curriculum and its transform do together, worked out by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from easyvideor1.config import load_config
from easyvideor1.data import Observation, SampleStream
from easyvideor1.data.curricula import make_curriculum
from easyvideor1.data.difficulty import HINT
from easyvideor1.types import MediaRef, Sample

(STAGE,) = load_config("deepvideo_r1").stages
CHAIN = "<think>one two three four five six seven eight nine ten</think><answer>B</answer>"


def sample(name: str) -> Sample:
    return Sample(name, "<video>\nWhat moves?", "multiple_choice", "B", (MediaRef("video", f"/{name}.mp4"),))


def test_the_settings_are_those_of_its_page() -> None:
    assert (STAGE.objective.name, STAGE.aggregation.name, STAGE.kl.placement) == ("reg_grpo", "sequence", "loss")
    assert STAGE.ppo_epochs > 1, "one update per rollout would stay at the singular start"


def test_hard_samples_get_hints_and_easy_ones_noise_as_strong_as_they_differ() -> None:
    curriculum = make_curriculum(STAGE.curriculum)
    for step, name, rewards in ((1, "hard", (0.1, 0.1)), (1, "easy", (0.9, 0.9)), (2, "hard", (0.0, 1.0))):
        curriculum.observe(step, Observation(name, rewards, ("<think>no</think>", CHAIN)))
    reference = np.mean([0.1, 0.9, 0.5])
    assert curriculum.reference == pytest.approx(reference)
    curriculum.observe(3, Observation("hard", (0.1, 0.1), ("x", "y")))
    reference = np.mean([0.1, 0.9, 0.5, 0.1])
    stream = SampleStream([[sample("hard"), sample("easy"), sample("new")]], [1.0], 0, STAGE.transforms, steps=9)
    found = {one.id: one for one in stream.batch(0, 3, curriculum=curriculum)}
    assert found["new"] == sample("new")
    words = round((reference - 0.1) * 10)  # of ten words before the answer
    assert found["hard"].question.endswith(f"{HINT} " + " ".join(CHAIN[7:].split()[:words])) and words == 3
    mask, noise = (json.loads(effect.options) for effect in found["easy"].media[0].effects)
    assert mask["share"] == pytest.approx(0.5 * (0.9 - reference))
    assert noise["strength"] == pytest.approx(0.5 * (0.9 - reference))
