"""What a run trained leaves as plain Hugging Face directories: the whole model in any number of files, or adapters."""

import copy
import json

import pytest
import torch
from benchmarks.family_cases import CASES, load_noise, render_case
from benchmarks.float64 import in_float64
from safetensors.torch import load_file, save_file

from easyvideor1.config import LoraConfig, ModelConfig, OptimizerConfig, StageConfig
from easyvideor1.families.tiny import TINY_FAMILIES
from easyvideor1.policy.export import adapter_export, model_export
from easyvideor1.policy.policy import Policy
from easyvideor1.types import ConfigError, DataError
from tiny import random_turns, update

pytestmark = pytest.mark.model

FAMILIES = [*TINY_FAMILIES, "glm4v"]
SHARD = 100_000


@pytest.fixture(scope="module")
def checkpoints(family_checkpoints, glm_checkpoint):
    return {**family_checkpoints, "glm4v": glm_checkpoint}


def trained(checkpoint, name="", *, lr=1e-2, **options):
    """A policy after one update of every parameter that it trains."""
    family = "tests.families.glm4v:Glm4V" if name == "glm4v" else ""
    config = ModelConfig(path=str(checkpoint), family=family, device="cpu", attention="eager", **options)
    policy = Policy.open(config)
    policy.begin(StageConfig(name="stage", optimizer=OptimizerConfig(lr=lr)))
    turns = random_turns(render_case(policy.family, CASES["video"]), [5, 3], seed=1)
    update(policy, turns, torch.tensor([1.0, -0.5]), objective="sft", load=load_noise)
    policy.model.eval()
    return policy


def exported(policy, place, *, adapter=False, dtype=None, shard_bytes=SHARD):
    checkpoint, out = place / "checkpoint", place / "out"
    if not checkpoint.exists():
        checkpoint.mkdir()
        policy.save(checkpoint)
    out.mkdir()
    if adapter:
        found = adapter_export(checkpoint, policy.config, dtype=dtype)
    else:
        found = model_export(checkpoint, policy.config, dtype=dtype, shard_bytes=shard_bytes)
    found.write(out)
    assert sum(file.stat().st_size for file in out.iterdir()) == pytest.approx(found.nbytes, rel=0.2)
    return out


def opened(directory):
    """With transformers alone.

    Its weights lie in mapped files, and kernels may round otherwise where memory is not aligned: hence a copy.
    """
    from transformers import AutoModelForImageTextToText

    model, loading = AutoModelForImageTextToText.from_pretrained(
        directory, attn_implementation="eager", output_loading_info=True
    )
    assert not any(loading.values()), loading
    return copy.deepcopy(model).eval()


@pytest.mark.parametrize("name", ["qwen3_vl", "qwen3_5", "qwen3_5_moe"])
@torch.no_grad()
def test_merged_adapters_compute_the_same_function(checkpoints, name) -> None:
    """In float64 nothing is left of what float32 rounds: 1e-5 of logits, and more with linear attention."""
    pytest.importorskip("peft")
    lora = LoraConfig(rank=4, alpha=12, targets=("language", "merger"))
    with torch.enable_grad():
        policy = trained(checkpoints[name], name, lr=1e-3, lora=lora)
    base = opened(checkpoints[name])
    before = logits_of(policy.family, base)
    with in_float64(policy.model):
        applied = logits_of(policy.family, policy.model)
        merged = {key: tensor.clone() for key, tensor in policy.weights(merged=True)}
    with in_float64(base):
        assert not base.load_state_dict(merged, strict=False).unexpected_keys
        found = logits_of(policy.family, base)
    assert found.dtype == torch.float64 and (found - applied).abs().max() < 1e-10
    assert (found - before).abs().max() > 1e-3, "the adapters change something"


@torch.no_grad()
def logits_of(family, model):
    """Of a prompt with a video, in the float32 that models compute in here."""
    from easyvideor1.packing.micro_batch import collate
    from easyvideor1.packing.prefix_tree import pack_turns

    turns = random_turns(render_case(family, CASES["video"]), [4], seed=2)
    batch = collate(pack_turns(turns, share_prefix=False), family, load_noise)
    features = family.encode(model, batch.visual)
    embeddings = family.embed(model, batch.input_ids, features)
    length = batch.input_ids.shape[1]
    mask = torch.ones(length, length, dtype=torch.bool).tril()[None, None]
    return family.logits(model, family.decode(model, embeddings, batch.positions, mask))


@pytest.mark.parametrize("name", FAMILIES)
def test_the_exported_model_is_the_policy(checkpoints, name, tmp_path) -> None:
    policy = trained(checkpoints[name], name)
    wanted = logits_of(policy.family, policy.model)
    out = exported(policy, tmp_path)
    files = sorted(out.glob("*.safetensors"))
    assert len(files) > 2 and all(file.name.startswith("model-") for file in files)
    assert torch.equal(logits_of(policy.family, opened(out)), wanted)
    untrained = opened(checkpoints[name])
    assert not torch.allclose(logits_of(policy.family, untrained), wanted, atol=1e-3), "the update moved something"
    for file in files:  # none is larger than it may be, unless it holds a single tensor
        tensors = load_file(file)
        assert len(tensors) == 1 or sum(tensor.nbytes for tensor in tensors.values()) <= SHARD
    again = trained(out, name)  # it can be trained from
    assert {key for key, _ in again.weights()} == {key for key, _ in policy.weights()}


@pytest.mark.parametrize("name", FAMILIES)
def test_adapters_leave_merged_or_for_peft(checkpoints, name, tmp_path) -> None:
    peft = pytest.importorskip("peft")
    lora = LoraConfig(rank=4, alpha=12, targets=("language", "merger"))
    policy = trained(checkpoints[name], name, lr=1e-3, lora=lora)
    wanted = logits_of(policy.family, policy.model)
    for kind in ("merged", "adapter"):
        (tmp_path / kind).mkdir()
    merged = exported(policy, tmp_path / "merged")
    # A layer of linear attention makes four times as much of rounding, whatever rounds (docs/families.md).
    bound = 1e-4 if name.startswith("qwen3_5") else 1e-5
    torch.testing.assert_close(logits_of(policy.family, opened(merged)), wanted, rtol=0, atol=bound)
    apart = exported(policy, tmp_path / "adapter", adapter=True)
    assert {file.name for file in apart.glob("*.safetensors")} == {"adapter_model.safetensors"}
    base = opened(checkpoints[name])
    assert not torch.allclose(logits_of(policy.family, base), wanted, atol=1e-3)
    adapted = peft.PeftModel.from_pretrained(base, apart)
    assert torch.equal(logits_of(policy.family, adapted.get_base_model()), wanted)
    assert {file.name for file in merged.iterdir()} & {file.name for file in apart.iterdir()} >= {
        "tokenizer.json",
        "chat_template.jinja",
        "preprocessor_config.json",
    }


def test_transformers_finds_the_base_of_adapters(tiny_checkpoint, tmp_path) -> None:
    """``adapter_config.json`` names the checkpoint that the stage began with."""
    pytest.importorskip("peft")
    policy = trained(tiny_checkpoint, lora=LoraConfig(rank=4))
    wanted = logits_of(policy.family, policy.model)
    from transformers import AutoModelForImageTextToText

    model = AutoModelForImageTextToText.from_pretrained(
        exported(policy, tmp_path, adapter=True), attn_implementation="eager"
    )
    assert torch.equal(logits_of(policy.family, model.eval()), wanted)


def test_an_export_has_nothing_of_the_training(tiny_checkpoint, tmp_path) -> None:
    """Critic, optimisers, adapters and a moving reference stay in the run."""
    pytest.importorskip("peft")
    policy = trained(tiny_checkpoint, lora=LoraConfig(rank=4))
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    policy.save(checkpoint)
    for name in ("critic", "critic_optimizer", "reference"):
        save_file({"weight": torch.ones(3)}, checkpoint / f"{name}.safetensors")
    (checkpoint / "state.json").write_text("{}")
    assert {"adapters.safetensors", "optimizer.safetensors"} <= {file.name for file in checkpoint.iterdir()}
    out = exported(policy, tmp_path, shard_bytes=10**9)
    assert sorted(file.name for file in out.iterdir()) == [
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "video_preprocessor_config.json",
    ]


def test_bfloat16_is_every_weight_rounded(tiny_checkpoint, tmp_path) -> None:
    from transformers import AutoModelForImageTextToText

    policy = trained(tiny_checkpoint)
    out = exported(policy, tmp_path, dtype=torch.bfloat16, shard_bytes=10**9)
    written = load_file(out / "model.safetensors")
    assert all(torch.equal(written[name], tensor.to(torch.bfloat16)) for name, tensor in policy.weights())
    described = json.loads((out / "config.json").read_text())
    assert described["dtype"] == described["text_config"]["dtype"] == "bfloat16"
    model = AutoModelForImageTextToText.from_pretrained(out)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


def test_weights_of_two_types_load_without_loss(tiny_checkpoint, tmp_path) -> None:
    """A frozen tower is kept in bfloat16; ``config.json`` says float32, in which nothing trained is rounded."""
    from transformers import AutoModelForImageTextToText

    half = exported(trained(tiny_checkpoint), tmp_path, dtype=torch.bfloat16)
    (tmp_path / "mixed").mkdir()
    policy = trained(half, freeze=("vision", "merger"), dtype="bfloat16")
    out = exported(policy, tmp_path / "mixed", shard_bytes=10**9)
    assert {tensor.dtype for tensor in load_file(out / "model.safetensors").values()} == {torch.float32, torch.bfloat16}
    model = AutoModelForImageTextToText.from_pretrained(out)
    loaded = dict(model.named_parameters())
    assert all(torch.equal(loaded[name], tensor.float()) for name, tensor in policy.weights())


def damaged(checkpoint, out, change):
    """The checkpoint with other weights."""
    import shutil

    shutil.copytree(checkpoint, out)
    tensors = load_file(out / "model.safetensors")
    change(tensors)
    save_file(tensors, out / "model.safetensors")
    return out


NORM = "model.language_model.layers.1.input_layernorm.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop(NORM), f"the weight '{NORM}' is missing"),
        (lambda tensors: tensors.update(extra=torch.ones(2)), "the weight 'extra' is not of this model"),
        (lambda tensors: tensors.update({NORM: torch.ones(7)}), f"the weight '{NORM}' has another shape"),
        (lambda tensors: tensors.pop("model.language_model.embed_tokens.weight"), "embed_tokens.weight' is missing"),
    ],
)
def test_a_weight_that_is_missing_or_surplus_is_named(tiny_checkpoint, tmp_path, change, message) -> None:
    checkpoint = damaged(tiny_checkpoint, tmp_path / "checkpoint", change)
    with pytest.raises(ConfigError, match=message):
        model_export(checkpoint, ModelConfig(), dtype=None, shard_bytes=SHARD)


def test_experts_that_are_missing_are_named(family_checkpoints, tmp_path) -> None:
    """They lie in one tensor of a layer in transformers, and otherwise in files."""
    for name in ("qwen3_vl_moe", "qwen3_5_moe"):
        names = load_file(family_checkpoints[name] / "model.safetensors")
        expert = max(each for each in names if ".experts." in each and "down_proj" in each)
        checkpoint = damaged(family_checkpoints[name], tmp_path / name, lambda tensors: tensors.pop(expert))  # noqa: B023
        with pytest.raises(ConfigError, match=r"the weight '.*' (is missing|has another shape)"):
            model_export(checkpoint, ModelConfig(), dtype=None, shard_bytes=SHARD)


def test_what_else_is_missing_is_named(tiny_checkpoint, tmp_path) -> None:
    import shutil

    for name, message in (
        ("chat_template.jinja", "has no chat template"),
        ("preprocessor_config.json", "does not say how image pixels are normalised"),
    ):
        shutil.copytree(tiny_checkpoint, tmp_path / name)
        (tmp_path / name / name).unlink()
        with pytest.raises(ConfigError, match=message):
            model_export(tmp_path / name, ModelConfig(), dtype=None, shard_bytes=SHARD)


def test_adapters_that_cannot_leave_are_refused(tiny_checkpoint, tmp_path) -> None:
    pytest.importorskip("peft")
    with pytest.raises(ConfigError, match=r"has no adapters: it was trained without model\.lora"):
        adapter_export(tiny_checkpoint, ModelConfig(), dtype=None)
    policy = trained(tiny_checkpoint, lora=LoraConfig(rank=4))
    policy.save(tmp_path)
    file = tmp_path / "adapters.safetensors"
    adapters = load_file(file)
    save_file(adapters, file)  # as earlier versions wrote it
    with pytest.raises(ConfigError, match="does not say its alpha and its base"):
        adapter_export(tmp_path, ModelConfig(), dtype=None)
    settings = {"rank": "4", "alpha": "8.0", "dropout": "0.0", "base": str(tiny_checkpoint)}
    first = min(adapters)
    save_file({name: each for name, each in adapters.items() if name != first}, file, settings)
    with pytest.raises(DataError, match=r"lora_A\.weight' is missing, and this model's is \(4, 128\)"):
        adapter_export(tmp_path, ModelConfig(), dtype=None)
