"""Tiny checkpoints: real format, same numbers from the same seed, impossible sizes refused."""

import pytest
import torch
from safetensors.torch import load_file

from easyvideor1.families.family import load_family
from easyvideor1.families.tiny import SPECIAL_TOKENS, TINY_FAMILIES, write_tiny_checkpoint
from easyvideor1.types import ConfigError

pytestmark = pytest.mark.model


def write(out, **options):
    sizes = {"width": 32, "layers": 1, "vision_layers": 1, "vocabulary": 280}
    return write_tiny_checkpoint(out, ["the cat sat on the mat"] * 3, **{**sizes, **options})


@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_the_seed_decides_the_weights(tmp_path, family):
    seeds = (("a", 1), ("b", 1), ("c", 2))
    files = [write(tmp_path / name, family=family, seed=seed) / "model.safetensors" for name, seed in seeds]
    assert files[0].read_bytes() == files[1].read_bytes()
    first, other = load_file(files[0]), load_file(files[2])
    assert first.keys() == other.keys()
    moved = [key for key in first if not torch.equal(first[key], other[key])]
    assert set(moved) == {key for key in first if first[key].dim() > 1 or key.endswith("A_log")}


@pytest.mark.parametrize("width", [32, 64])
def test_it_loads_and_its_matrices_keep_the_scale_of_signals(tmp_path, width):
    out = write(tmp_path / "model", width=width)
    family = load_family(out)
    model = family.load_model(out, dtype=torch.float32, attention="sdpa", trust_remote_code=False)
    weight = model.model.language_model.layers[0].mlp.up_proj.weight
    assert weight.std().item() == pytest.approx(width**-0.5, rel=0.05)
    assert model.model.language_model.embed_tokens.weight.std().item() == pytest.approx(width**-0.5, rel=0.05)
    assert model.model.visual.pos_embed.weight.std().item() == pytest.approx(0.5, rel=0.05)
    assert model.lm_head.weight.data_ptr() == model.model.language_model.embed_tokens.weight.data_ptr()


def test_any_text_can_be_encoded_and_special_tokens_are_one_token(tmp_path):
    tokenizer = load_family(write(tmp_path / "model")).tokenizer
    text = "naïve 日本 \x00 \U0001f600 12.5"
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text
    for token in SPECIAL_TOKENS:
        assert len(tokenizer(token, add_special_tokens=False)["input_ids"]) == 1


def test_writing_again_replaces_the_files_and_leaves_no_draft(tmp_path):
    write(tmp_path, seed=1)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    write(tmp_path, seed=2)
    after = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert before.keys() == after.keys() and "config.json" in after
    assert [name for name in before if before[name] != after[name]] == ["model.safetensors"]


@pytest.mark.parametrize("options", [{"width": 0}, {"width": 16}, {"width": 96}, {"width": 100}, {"vocabulary": 262}])
def test_impossible_sizes_are_refused(tmp_path, options):
    with pytest.raises(ConfigError, match="a tiny checkpoint cannot have"):
        write(tmp_path / "model", **options)
    assert not (tmp_path / "model").exists()


def test_a_family_without_a_tiny_model_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no tiny checkpoint of 'llava': choose one of qwen2_vl, "):
        write(tmp_path / "model", family="llava")
