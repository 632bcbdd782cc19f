"""Weights come in from another checkpoint in place, and leave under the names of Hugging Face checkpoints."""

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

import tiny
from easyvideor1.config import LoraConfig, ModelConfig, OptimizerConfig, StageConfig
from easyvideor1.families.tiny import write_tiny_checkpoint
from easyvideor1.policy.policy import Policy
from easyvideor1.types import ConfigError
from tiny import make_plan, make_prompt, random_turns

pytestmark = pytest.mark.model

KINDS = {
    "whole": {},
    "frozen tower in bfloat16": {"freeze": ("vision", "merger"), "dtype": "bfloat16"},
    "adapters": {"lora": LoraConfig(rank=4)},
    "adapters in bfloat16": {"lora": LoraConfig(rank=4, targets=("language", "merger")), "dtype": "bfloat16"},
}


def stage(**options):
    return StageConfig(**{"name": "stage", "optimizer": OptimizerConfig(lr=1e-2), **options})


@pytest.fixture(scope="module")
def turns(tiny_family):
    return random_turns(make_prompt(tiny_family, "<image>?", make_plan("image")), [5, 3], seed=1)


def open_policy(checkpoint, kind):
    if "lora" in KINDS[kind]:
        pytest.importorskip("peft")
    return Policy.open(ModelConfig(path=str(checkpoint), device="cpu", **KINDS[kind]))


def update(policy, turns, step=1):
    return tiny.update(policy, turns, torch.tensor([1.0, -0.5]), objective="sft", step=step)


@pytest.mark.parametrize("kind", KINDS)
def test_loading_in_place_is_opening(tiny_checkpoint, turns, tmp_path, kind) -> None:
    """What follows is the same to the bit: a next stage, whose reference is the policy as it begins."""
    policy = open_policy(tiny_checkpoint, kind)
    policy.begin(stage())
    update(policy, turns)
    policy.save(tmp_path)
    objects = dict(policy.model.named_parameters())
    update(policy, turns, 2)  # is forgotten
    policy.load(tmp_path)
    opened = open_policy(tmp_path, kind)
    assert all(p is objects[name] for name, p in policy.model.named_parameters())
    for (name, p), (_, wanted) in zip(policy.model.named_parameters(), opened.model.named_parameters(), strict=True):
        assert p.dtype == wanted.dtype and torch.equal(p, wanted), name
    assert (policy.model.training, policy.checkpoint) == (opened.model.training, tmp_path)
    options = stage(
        kl={"estimator": "k3", "coef": 0.1, "reference": "adapter-off" if "lora" in KINDS[kind] else "initial"}
    )
    found = []
    for each in (policy, opened):
        each.begin(options)
        found.append([update(each, turns, step) for step in (1, 2)])
    assert found[0] == found[1] and found[0][0]["policy/kl"] == pytest.approx(0, abs=1e-6)


def test_weights_are_read_one_at_a_time(tiny_checkpoint, tmp_path) -> None:
    """A checkpoint with the names of the model never becomes a second model."""
    policy = open_policy(tiny_checkpoint, "whole")
    load, kinds = policy.family.load_model, []

    def watched(*args, meta, **options):
        kinds.append("shapes" if meta else "whole")
        return load(*args, meta=meta, **options)

    policy.family.load_model = watched
    shaken = {name: tensor + 1 for name, tensor in load_file(tiny_checkpoint / "model.safetensors").items()}
    shutil.copytree(tiny_checkpoint, tmp_path / "shaken")
    save_file(shaken, tmp_path / "shaken" / "model.safetensors")
    policy.load(tmp_path / "shaken")
    assert kinds == ["shapes"]
    assert all(torch.equal(tensor, shaken[name]) for name, tensor in policy.weights())


@pytest.mark.parametrize("stored", ["safetensors", "pickle"])
def test_older_names_are_read_and_never_two_models(tiny_checkpoint, tmp_path, stored) -> None:
    """As released checkpoints of Qwen2-VL have them. What is no safetensors file is loaded by transformers."""
    policy = open_policy(tiny_checkpoint, "whole")
    whole = sum(p.numel() for p in policy.model.parameters())
    load, held = policy.family.load_model, []

    def watched(*args, meta, **options):
        held.append((meta, sum(p.numel() for p in policy.model.parameters())))
        return load(*args, meta=meta, **options)

    policy.family.load_model = watched
    older = shutil.copytree(tiny_checkpoint, tmp_path / "older")
    tensors = load_file(older / "model.safetensors")
    renamed = {name.removeprefix("model."): tensor for name, tensor in tensors.items()}
    if stored == "safetensors":
        save_file(renamed, older / "model.safetensors")
    else:
        (older / "model.safetensors").unlink()
        torch.save(renamed, older / "pytorch_model.bin")
    policy.load(older)
    assert held == [(True, whole), *([(False, 0)] if stored == "pickle" else [])]
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in policy.weights())


def test_a_checkpoint_of_another_model_changes_nothing(tiny_checkpoint, tmp_path) -> None:
    other = write_tiny_checkpoint(tmp_path / "other", ["a"], width=64, layers=1, vision_layers=2, vocabulary=300)
    policy = open_policy(tiny_checkpoint, "whole")
    before = {name: tensor.clone() for name, tensor in policy.weights()}
    with pytest.raises(ConfigError, match=r"checkpoint of another model: .* tensors differ"):
        policy.load(other)
    assert all(torch.equal(tensor, before[name]) for name, tensor in policy.weights())
    assert policy.checkpoint == tiny_checkpoint


@pytest.mark.parametrize("kind", KINDS)
def test_weights_leave_under_the_names_of_the_checkpoint(tiny_checkpoint, turns, tmp_path, kind) -> None:
    policy = open_policy(tiny_checkpoint, kind)
    policy.begin(stage())
    update(policy, turns)
    policy.save(tmp_path)
    written = load_file(tmp_path / "model.safetensors")
    leaving = dict(policy.weights(merged=True))
    assert leaving.keys() == written.keys()
    assert all(torch.equal(tensor.float(), written[name].float()) for name, tensor in leaving.items())
    apart = dict(policy.weights(merged=False))
    own = {p.data_ptr() for p in policy.model.parameters()}
    assert all(tensor.data_ptr() in own for tensor in apart.values()), "nothing is copied"
    adapters = {name for name in apart if ".lora_" in name}
    assert apart.keys() - adapters == written.keys() and bool(adapters) == ("lora" in KINDS[kind])
    assert all(name.endswith(("lora_A.weight", "lora_B.weight")) for name in adapters)
