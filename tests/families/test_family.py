"""Which adapter a checkpoint gets, and what is said of those that get none."""

import json
import shutil

import numpy as np
import pytest

from easyvideor1.config import RewardConfig
from easyvideor1.families.family import load_family
from easyvideor1.rewards import Scorer
from easyvideor1.types import ConfigError, Geometry, Sample, Trajectory, Turn

pytestmark = pytest.mark.model


@pytest.fixture
def copied(tiny_checkpoint, tmp_path):
    return shutil.copytree(tiny_checkpoint, tmp_path / "copied")


def test_the_family_reads_its_facts_from_the_checkpoint(tiny_checkpoint):
    family = load_family(tiny_checkpoint)
    assert family.geometry == Geometry(16, 2, 2)
    names = ["<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"]
    assert list(family.visual_token_ids) == family.tokenizer.convert_tokens_to_ids(names)
    assert family.stop_token_ids == (family.tokenizer.convert_tokens_to_ids("<|im_end|>"),)
    assert family.pad_token_id == family.tokenizer.convert_tokens_to_ids("<|endoftext|>")


def test_a_directory_without_a_checkpoint(tmp_path):
    with pytest.raises(ConfigError, match=r"has no config\.json, so it is not a checkpoint; give the directory"):
        load_family(tmp_path)


def test_a_damaged_config(tmp_path):
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(ConfigError, match="is not JSON"):
        load_family(tmp_path)


def test_an_unknown_model_type_names_the_known_ones(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")
    with pytest.raises(ConfigError, match=r"'llama'; supported: .*qwen3_vl"):
        load_family(tmp_path)


def test_a_checkpoint_without_normalisation(copied):
    (copied / "video_preprocessor_config.json").unlink()
    image = json.loads((copied / "preprocessor_config.json").read_text(encoding="utf-8"))
    assert load_family(copied).normalisation["video"] == (tuple(image["image_mean"]), tuple(image["image_std"]))
    (copied / "preprocessor_config.json").unlink()
    with pytest.raises(ConfigError, match=r"how image pixels are normalised: preprocessor_config\.json"):
        load_family(copied)


def test_a_chat_template_of_older_checkpoints(copied):
    template = (copied / "chat_template.jinja").read_text(encoding="utf-8")
    (copied / "chat_template.jinja").unlink()
    (copied / "chat_template.json").write_text(json.dumps({"chat_template": template}), encoding="utf-8")
    assert load_family(copied).tokenizer.chat_template == template


def test_a_checkpoint_without_a_chat_template(copied):
    (copied / "chat_template.jinja").unlink()
    with pytest.raises(ConfigError, match="no chat template"):
        load_family(copied)


def test_several_stop_tokens(copied):
    file = copied / "generation_config.json"
    file.write_text(json.dumps({"eos_token_id": [2, 0]}), encoding="utf-8")
    assert load_family(copied).stop_token_ids == (2, 0)
    file.unlink()
    assert load_family(copied).stop_token_ids == (2,)  # the tokenizer's own


@pytest.mark.parametrize(("ending", "opens"), [("", False), ("<think>\n", True), ("<think>\n\n</think>\n\n", False)])
def test_a_prompt_says_whether_its_template_opens_the_thinking(copied, ending, opens):
    template = (copied / "chat_template.jinja").read_text(encoding="utf-8")
    (copied / "chat_template.jinja").write_text(template + ending.replace("\n", "{{ '\\n' }}"), encoding="utf-8")
    prompt = load_family(copied).render("Is it red? Give it in <answer> </answer>.", (), ())
    assert prompt.opens_thinking is opens
    turn = Turn(prompt, np.arange(2), np.ones(2, dtype=bool), None, "stop", "It is red, so <answer>Yes</answer>")
    said = Scorer(RewardConfig())(Sample("a", "?", "boolean", "Yes"), Trajectory((turn,)).completion)
    assert said.accuracy == (0.0 if opens else 1.0)
