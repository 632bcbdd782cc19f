"""The recipe of a real model that learns to see: its rows, what the tower is taught, and its checkpoint."""

import importlib.util
import re
from collections import Counter

import numpy as np
import pytest
import torch

from easyvideor1.config import load_config
from easyvideor1.config.data import DataConfig, SourceConfig
from easyvideor1.data import load_source, prompt_text
from easyvideor1.families.family import load_family
from easyvideor1.families.tiny import write_tiny_checkpoint
from easyvideor1.recipes import learns_to_see
from easyvideor1.recipes.learns_to_see import KINDS, WORDS
from easyvideor1.recipes.package import find_package
from easyvideor1.rewards import Scorer
from easyvideor1.toyworld import write_world
from easyvideor1.toyworld.scene import Body, Scene
from easyvideor1.toyworld.spec import spec_from_json
from easyvideor1.types import Completion, ConfigError

CIRCLE = Body("circle", "red", 14.0, 14.0, 14.0, "right", 4.0, appears=3.0)
SQUARE = Body("square", "blue", 14.0, 14.0, 42.0)
SCENE = Scene(56, 56, 8.0, 1.0, tuple(map(float, range(8))), (CIRCLE, SQUARE))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Rows of a small world: the settings of the recipe with few clips."""
    folder = tmp_path_factory.mktemp("learns") / "world"
    settings = {**find_package("learns_to_see").about.toy.worlds["world"], "train": 24, "test": 6}
    write_world(spec_from_json(settings), folder)
    learns_to_see.write_rows(folder, seen=16)
    return folder


def samples(world, name):
    return load_source(SourceConfig(path=str(world / f"{name}.jsonl")), DataConfig()).samples


def test_every_answer_that_is_taught_is_right(world):
    scorer = Scorer(load_config("learns_to_see").rewards)
    taught = samples(world, "see")
    assert len(taught) == 16 * 6
    for sample in taught:
        score = scorer(sample, Completion(sample.offline[0].text, "stop"))
        assert score.accuracy == 1.0, (sample.question, sample.offline[0].text, score.reason)
    forms = {re.sub(r"red|green|blue|yellow", "_", sample.offline[0].text) for sample in taught}
    assert len(forms) > 20, "answers are worded in several ways"


def test_prompts_are_the_questions_alone(world, tmp_path):
    learns_to_see.write_templates(tmp_path)
    prompts = load_config("learns_to_see", [f"prompts.templates={tmp_path}"]).prompts
    for name in ("see", "ask", "sums", "test-video", "test-blind"):
        for sample in samples(world, name):
            assert prompt_text(sample, prompts) == sample.question


def test_controls_ask_the_same_without_the_video_and_with_another_one(world):
    shown = {sample.id: sample for sample in samples(world, "test-video")}
    assert Counter(sample.source for sample in shown.values()) == dict.fromkeys(KINDS, 6)
    for name, media, share in (("blind", 0, 2), ("swapped", 1, 3)):
        found = samples(world, f"test-{name}")
        assert len(found) == len(shown) / share
        for sample in found:
            same = shown[sample.id.removeprefix(f"{name}-")]
            assert (sample.answer, sample.options) == (same.answer, same.options)
            assert len(sample.media) == media and sample.media != same.media
            assert sample.question.removeprefix("<video>\n") == same.question.removeprefix("<video>\n")


def test_no_clip_that_is_asked_about_was_taught(world):
    paths = [{ref.path for s in samples(world, name) for ref in s.media} for name in ("see", "ask", "test-video")]
    assert [len(one) for one in paths] == [16, 8, 6]
    assert len(set.union(*paths)) == 30


def test_no_sum_is_in_both_splits():
    first, second = (
        [(row["problem"], row["answer"]) for row in learns_to_see.sums(split)] for split in ("train", "test")
    )
    assert len(set(first)) == learns_to_see.SUMS["train"] and len(set(second)) == learns_to_see.SUMS["test"]
    assert not set(first) & set(second)
    for problem, answer in [*first, *second]:
        first_, sign, second_ = problem.removeprefix("What is ").rstrip("?").split()
        assert int(first_) + (1 if sign == "+" else -1) * int(second_) == int(answer) >= 0


def test_what_a_cell_shows_is_worked_out_from_the_scene():
    """A red circle in the top left quarter that comes at second 3 and moves right into the next one."""
    found = learns_to_see.counts_of(SCENE).reshape(4, 2, 2, len(WORDS))

    def told(step, row, column):
        return {WORDS[i]: float(found[step, row, column, i]) for i in np.flatnonzero(found[step, row, column])}

    assert told(0, 0, 0) == {"1": 1.0} and told(0, 1, 0) == {"1": 1.0, "blue": 1.0, "square": 1.0, "still": 1.0}
    # Its centre is at 22 and 26 in seconds 2 and 3; only the second of the two frames shows it.
    assert told(1, 0, 0) == {"2": 1.0, "red": 0.5, "circle": 0.5, "right": 0.5}
    assert told(1, 0, 1) == {"2": 1.0, "red": 0.5, "circle": 0.5, "right": 0.5}  # from 17 to 31: a fifth lies there
    assert told(3, 0, 1) == {"2": 1.0, "red": 1.0, "circle": 1.0, "right": 1.0} and told(3, 0, 0) == {"2": 1.0}


@pytest.mark.model
def test_a_tower_learns_to_name_what_it_sees(tmp_path):
    torch.manual_seed(0)
    words = " ".join(WORDS)
    write_tiny_checkpoint(tmp_path, [f" {words}"] * 50, family="qwen2_vl", width=64, layers=1, vocabulary=400)
    family = load_family(tmp_path)
    model = family.load_model(tmp_path, dtype=torch.float32, attention="sdpa", trust_remote_code=False)
    body = {name: tensor.clone() for name, tensor in model.model.language_model.state_dict().items()}
    explained = learns_to_see.teach_names(family, model, scenes=160, steps=60)
    assert explained > 0, "of clips that it has not seen; the same features for all patches explain nothing"
    assert all(torch.equal(body[name], tensor) for name, tensor in model.model.language_model.state_dict().items())


def test_missing_packages_are_named_with_the_command_that_installs_them(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        ConfigError, match="gguf is not installed: pip install gguf accelerate && pip install --no-deps"
    ):
        learns_to_see.prepare(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.model
@pytest.mark.timeout(300)
def test_the_checkpoint_says_on_text_what_the_original_says(tmp_path):
    try:
        learns_to_see.require_packages()
    except ConfigError as error:
        pytest.skip(str(error))
    original = learns_to_see.write_checkpoint(tmp_path)
    family = load_family(tmp_path)
    model = family.load_model(tmp_path, dtype=torch.float32, attention="sdpa", trust_remote_code=False)
    prompt = family.render("What is the capital of France?", [], [])
    ids = torch.from_numpy(prompt.token_ids)[None]
    positions = torch.from_numpy(family.positions(prompt)[0])[:, None]
    with torch.no_grad():
        ours = family.logits(model, family.decode(model, family.embed(model, ids, None), positions, None))
        theirs = original(ids).logits
    words = theirs.shape[-1]
    assert ours.shape[-1] == words + len(learns_to_see.VISUAL_TOKENS)
    assert (ours[..., :words] - theirs).abs().max() < 1e-3
    spread = original.model.embed_tokens.weight.std()
    visual = family.visual_inputs([learns_to_see.frames_of(family, SCENE)])
    with torch.no_grad():
        features = family.encode(model, visual).tokens
    assert features.shape == (16, 576) and 0.5 < features.square().mean().sqrt() / spread < 2
