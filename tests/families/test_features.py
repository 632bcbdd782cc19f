"""Kept features: the same results as without them, and never those of another tower."""

from __future__ import annotations

import os
import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from easyvideor1.config import ModelConfig, OptimizerConfig, RunConfig, StageConfig
from easyvideor1.engines.engine import Request, Sampling, generate
from easyvideor1.engines.registry import open_engine
from easyvideor1.families.family import VisualFeatures
from easyvideor1.families.features import FeatureCache, FeatureStore
from easyvideor1.packing.logprobs import response_logprobs
from easyvideor1.packing.micro_batch import collate
from easyvideor1.packing.prefix_tree import pack_turns
from easyvideor1.policy.policy import Policy
from easyvideor1.types import ConfigError, DataError, EasyVideoError, MediaInfo
from easyvideor1.video import part, window
from easyvideor1.video.derived import derived_frames
from easyvideor1.video.effects import make_effect, plan_effects
from easyvideor1.video.maintenance import feature_files
from easyvideor1.video.part import taken
from tiny import load_frames, make_plan, make_prompt, random_turns, update

pytestmark = pytest.mark.model

#: Of log-probs in float32, which batches of other shapes round otherwise.
ROUNDING = 5e-6

MANY = 1 << 30


def keys_of(store: FeatureStore) -> list[str]:
    return [file.key for file in feature_files(store.directory)]


@pytest.fixture
def model(tiny_family, tiny_model):
    """A model whose tower and merger are frozen, as ``model.freeze`` has them."""
    for group in ("vision", "merger"):
        for module in tiny_family.groups(tiny_model)[group]:
            module.requires_grad_(False)
    return tiny_model


@pytest.fixture
def store(tmp_path):
    return FeatureStore(tmp_path / "features", MANY)


@pytest.fixture
def prompts(tiny_family):
    video, image = make_plan("video", frames=6, height=64, width=96), make_plan("image")
    return [
        make_prompt(tiny_family, "<video>What moves?", video),
        make_prompt(tiny_family, "<image><video>Which?", image, make_plan("video", frames=2, seed=5)),
        make_prompt(tiny_family, "<video>And here?", video),
        make_prompt(tiny_family, "What?"),
    ]


class Calls:
    """Counts calls of the vision tower, and the files that were read."""

    def __init__(self, model) -> None:
        self.tower = 0
        self.files: list[str] = []
        model.model.visual.register_forward_hook(self._count)

    def _count(self, *_) -> None:
        self.tower += 1

    def load(self, ref, plan):
        self.files.append(ref.path)
        return load_frames(ref, plan)


@torch.no_grad()
def logprobs(family, model, prompts, load, features):
    turns = [turn for k, prompt in enumerate(prompts) for turn in random_turns(prompt, [4, 3], seed=k)]
    batch = collate(pack_turns(turns, share_prefix=True), family, load, features=features)
    return response_logprobs(family, model.eval(), batch)[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_log_probs_are_those_without_it_and_the_tower_rests(tiny_family, model, store, prompts, dtype) -> None:
    model.to(dtype)
    expected = logprobs(tiny_family, model, prompts, load_frames, None)
    tolerance = 1e-6 if dtype == torch.float32 else 1e-12
    calls = Calls(model)
    for attempt in range(3):
        features = FeatureCache(tiny_family, model, store if attempt < 2 else FeatureStore(store.directory, MANY))
        found = logprobs(tiny_family, model, prompts, calls.load, features)
        assert (found - expected).abs().max() < tolerance
        assert calls.tower == 1, "all media together in the first pass, none later"
        assert len(calls.files) == 3, "a medium of two prompts is read once"
    assert len(keys_of(store)) == 3


def test_what_was_kept_for_some_is_completed_for_others(tiny_family, model, store, prompts) -> None:
    expected = logprobs(tiny_family, model, prompts, load_frames, None)
    features, calls = FeatureCache(tiny_family, model, store), Calls(model)
    logprobs(tiny_family, model, prompts[:1], calls.load, features)
    assert len(calls.files) == 1
    found = logprobs(tiny_family, model, prompts, calls.load, features)
    assert (found - expected).abs().max() < ROUNDING
    assert (calls.tower, len(calls.files)) == (2, 3)


def test_the_engine_answers_the_same(tiny_family, model, store, prompts) -> None:
    sampling = Sampling(max_new_tokens=6)
    requests = [Request(str(k), prompt, 2, sampling, 100 + k) for k, prompt in enumerate(prompts)]
    calls = Calls(model)
    plain = generate(open_engine("local", tiny_family, model, load_frames, batch_tokens=65536), requests)
    calls.tower = 0
    for _ in range(2):
        engine = open_engine("local", tiny_family, model, calls.load, batch_tokens=65536, features=store)
        for expected, found in zip(plain, generate(engine, requests), strict=True):
            for one, other in zip(expected, found, strict=True):
                assert one.turns[0].response_ids.tolist() == other.turns[0].response_ids.tolist()
                assert abs(one.turns[0].logprobs - other.turns[0].logprobs).max() < ROUNDING
    assert calls.tower == 1


def test_an_optimiser_step_is_the_same(tiny_family, model, store, prompts, tiny_checkpoint) -> None:
    turns = [turn for k, prompt in enumerate(prompts) for turn in random_turns(prompt, [4, 3], seed=k)]
    advantages = torch.linspace(-1, 1, len(turns))
    options = StageConfig(name="s", kl="k3", optimizer=OptimizerConfig(lr=1e-3), micro_batch_tokens=200)
    initial = {name: tensor.clone() for name, tensor in model.named_parameters()}
    steps = []
    for features in (None, FeatureCache(tiny_family, model, store), FeatureCache(tiny_family, model, store)):
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.requires_grad:
                    parameter.copy_(initial[name])
        policy = Policy(tiny_family, model, tiny_checkpoint, ModelConfig(path=str(tiny_checkpoint)))
        policy.begin(options)
        gradients: dict[str, torch.Tensor] = {}

        def look(*_, into=gradients) -> None:
            into.update({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})

        assert policy.optimizer is not None
        policy.optimizer.register_step_pre_hook(look)
        metrics = update(policy, turns, advantages, features=features)
        steps.append((metrics, gradients))
    (expected, wanted), *others = steps
    assert expected["grad_norm"] > 0.1
    for metrics, gradients in others:
        assert metrics == pytest.approx(expected, abs=1e-5)
        assert gradients.keys() == wanted.keys()
        assert max(float((gradients[n] - wanted[n]).abs().max()) for n in wanted) < 1e-6 * expected["grad_norm"] + 1e-6
    assert torch.equal(
        others[0][1]["lm_head.weight" if "lm_head.weight" in wanted else next(iter(wanted))],
        others[1][1]["lm_head.weight" if "lm_head.weight" in wanted else next(iter(wanted))],
    )


def test_other_towers_settings_and_plans_have_other_names(tiny_family, model, store) -> None:
    features, plan = FeatureCache(tiny_family, model, store), make_plan()
    names = [features.key(plan), features.key(make_plan(seed=1))]
    with torch.no_grad():
        model.model.visual.blocks[0].mlp.linear_fc1.weight[0, 0] += 1e-3
    names.append(features.key(plan))
    with torch.no_grad():
        model.model.visual.merger.linear_fc1.bias[0] += 1e-3
    names.append(features.key(plan))
    with torch.no_grad():
        model.model.visual.deepstack_merger_list[0].linear_fc1.bias[0] += 1e-3
    names.append(features.key(plan))
    names.append(names[-1])
    with torch.no_grad():
        model.model.language_model.embed_tokens.weight[0, 0] += 1.0
    assert features.key(plan) == names.pop(), "the language model has no part in it"
    model.compute_dtype = torch.bfloat16
    names.append(FeatureCache(tiny_family, model, store).key(plan))
    model.config.vision_config.num_heads *= 2
    names.append(FeatureCache(tiny_family, model, store).key(plan))
    assert len(set(names)) == len(names)


def test_other_normalisation_has_another_name(tiny_family, model, store, monkeypatch) -> None:
    before = FeatureCache(tiny_family, model, store).key(make_plan())
    monkeypatch.setitem(tiny_family.normalisation, "video", ((0.5, 0.5, 0.5), (0.4, 0.5, 0.5)))
    assert FeatureCache(tiny_family, model, store).key(make_plan()) != before


def test_weights_that_are_copied_in_are_noticed(tiny_family, model, store, prompts) -> None:
    engine = open_engine("local", tiny_family, model, load_frames, batch_tokens=65536, features=store)
    request = [Request("a", prompts[0], 1, Sampling(max_new_tokens=3, greedy=True), 1)]
    generate(engine, request)
    engine.update_weights(1, ((name, tensor * 1.05) for name, tensor in model.state_dict().items() if "visual" in name))
    found = generate(engine, request)[0][0].turns[0].logprobs
    engine.features = None
    assert abs(found - generate(engine, request)[0][0].turns[0].logprobs).max() < ROUNDING


def test_a_tower_that_trains_is_refused(tiny_family, tiny_model, model, store, prompts) -> None:
    features = FeatureCache(tiny_family, model, store)
    next(model.model.visual.merger.parameters()).requires_grad_(True)
    with pytest.raises(ConfigError, match=r"merger is trained \(merger\.0.*model\.freeze"):
        features.read(prompts, load_frames)
    with pytest.raises(ConfigError, match=r"model\.freeze"):
        FeatureCache(tiny_family, model, store)
    assert keys_of(store) == []


@pytest.mark.parametrize("frozen", [[], ["vision"], ["merger"], ["language"]])
def test_the_configuration_says_so_before_anything_is_loaded(frozen) -> None:
    with pytest.raises(ValueError, match=r"model\.freeze"):
        RunConfig.model_validate({"cache": {"features": True}, "model": {"freeze": frozen}})
    RunConfig.model_validate({"cache": {"features": True}, "model": {"freeze": ["merger", "vision"]}})


def test_families_without_such_features_are_refused(tiny_family, model, store, monkeypatch) -> None:
    monkeypatch.setattr(tiny_family, "feature_cache", False, raising=False)
    with pytest.raises(ConfigError, match="depend on more than their medium"):
        FeatureCache(tiny_family, model, store)


def some_features(seed: int, dtype: torch.dtype = torch.float32) -> VisualFeatures:
    generator = torch.Generator().manual_seed(seed)
    parts = [torch.randn(40, 16, generator=generator).to(dtype) for _ in range(3)]
    return VisualFeatures(parts[0], tuple(parts[1:]))


def same(one: VisualFeatures, other: VisualFeatures) -> bool:
    pairs = zip((one.tokens, *one.deepstack), (other.tokens, *other.deepstack), strict=True)
    return all(torch.equal(a, b) and a.dtype == b.dtype for a, b in pairs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_an_entry_comes_back_as_it_was(store, dtype) -> None:
    key = "ab" * 32
    assert store.get(key) is None and keys_of(store) == []
    store.put(key, some_features(1, dtype))
    assert keys_of(store) == [key] and same(store.get(key), some_features(1, dtype))
    store.put(key, VisualFeatures(torch.ones(2, 3)))
    assert store.get(key).deepstack == ()


def test_a_flipped_byte_anywhere_is_found(store) -> None:
    draw, expected = random.Random(0), some_features(2)
    for attempt in range(60):
        key = f"{attempt:064x}"
        store.put(key, expected)
        path = store.path_of(key)
        content = bytearray(path.read_bytes())
        header = 8 + int.from_bytes(content[:8], "little")
        at = draw.randrange(header) if attempt % 2 else draw.randrange(header, len(content))
        content[at] ^= 1 << draw.randrange(8)
        path.write_bytes(content)
        found = FeatureStore(store.directory, MANY).get(key)
        assert found is None or same(found, expected)
        if at >= header:
            assert found is None
            assert not path.exists() and list(path.parent.glob(f"{path.name}.*.corrupt"))
    assert any(entry.reason == "corrupt_entry" for entry in store.ledger.entries())


@pytest.mark.parametrize("left", [0, 5, 60, -1])
def test_a_cut_off_file_is_no_entry(store, left) -> None:
    key = "cd" * 32
    store.put(key, some_features(3))
    path = store.path_of(key)
    path.write_bytes(path.read_bytes()[:left])
    assert store.get(key) is None
    store.put(key, some_features(3))
    assert same(store.get(key), some_features(3))


def test_damaged_features_are_computed_again(tiny_family, model, store, prompts) -> None:
    features, calls = FeatureCache(tiny_family, model, store), Calls(model)
    expected = logprobs(tiny_family, model, prompts, calls.load, features)
    path = store.path_of(features.key(prompts[0].plans[0]))
    content = bytearray(path.read_bytes())
    content[-1] ^= 0x40
    path.write_bytes(content)
    fresh = FeatureCache(tiny_family, model, FeatureStore(store.directory, MANY))
    assert (logprobs(tiny_family, model, prompts, calls.load, fresh) - expected).abs().max() < ROUNDING
    assert calls.tower == 2 and fresh.has(prompts[0].plans[0])


def test_features_are_those_of_the_frames_with_their_effects(tiny_family, model, store) -> None:
    """The store of features tells a plan, its effects and their seeds apart, and keeps what the tower makes of each."""
    clip = make_plan("video", frames=4)
    info = MediaInfo("/a", "video", clip.fingerprint, "h264", 64, 64, timestamps=clip.timestamps, duration=2.0)
    plans = [
        clip,
        *(plan_effects(clip, (make_effect("noise", seed=seed),), tiny_family.geometry, info) for seed in (1, 2)),
        plan_effects(
            clip, (make_effect("composite", columns=("first", "current"), gap=0),), tiny_family.geometry, info
        ),
    ]
    features = FeatureCache(tiny_family, model, store)

    def load(ref, plan):
        return derived_frames(load, ref, plan) or load_frames(ref, plan)

    made = [features.read([make_prompt(tiny_family, "<video>?", plan)], load) for plan in plans]
    assert len(keys_of(store)) == 4 and [len(one.tokens) for one in made] == [plan.tokens for plan in plans]
    for plan, one in zip(plans, made, strict=True):
        frames = load(None, plan)
        with torch.no_grad():
            direct = tiny_family.encode(model, tiny_family.visual_inputs([frames]))
        torch.testing.assert_close(one.tokens, direct.tokens, rtol=0, atol=1e-5)
    assert not torch.allclose(made[0].tokens, made[1].tokens, atol=1e-3)


@pytest.mark.parametrize("part", ["tokens", "deepstack"])
def test_features_of_another_number_than_the_plan_says_are_damaged(tiny_family, model, store, prompts, part) -> None:
    features, calls = FeatureCache(tiny_family, model, store), Calls(model)
    expected = logprobs(tiny_family, model, prompts, calls.load, features)
    plan = prompts[0].plans[0]
    whole = store.get(features.key(plan))
    deepstack = (whole.deepstack[0], *(layer[:-1] for layer in whole.deepstack[1:]))
    short = VisualFeatures(whole.tokens[:-1], whole.deepstack) if part == "tokens" else None
    store.put(features.key(plan), short or VisualFeatures(whole.tokens, deepstack))
    fresh = FeatureCache(tiny_family, model, FeatureStore(store.directory, MANY))
    assert (logprobs(tiny_family, model, prompts, calls.load, fresh) - expected).abs().max() < ROUNDING
    assert calls.tower == 2 and fresh.has(plan)
    ledger = fresh.store.ledger.path.read_text(encoding="utf-8")
    assert f"it holds {plan.tokens - 1} features of a medium of {plan.tokens} visual tokens" in ledger


def test_a_tower_that_makes_another_number_is_named(tiny_family, model, store, prompts) -> None:
    """A plan whose grid and tokens disagree, as of another family."""
    plan = replace(prompts[0].plans[0], tokens=prompts[0].plans[0].tokens + 1)
    prompt = replace(prompts[0], plans=(plan,))
    features = FeatureCache(tiny_family, model, store)
    with pytest.raises(
        DataError, match=rf"made {plan.tokens - 1} features .* whose plans say {plan.tokens} visual tokens"
    ):
        features.read([prompt], load_frames)
    assert keys_of(store) == []


def test_the_oldest_in_use_go_first(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, MANY)
    store.put("00" * 32, some_features(0))
    size = store.path_of("00" * 32).stat().st_size
    store = FeatureStore(tmp_path, 5 * size)
    keys = [f"{k:02x}" * 32 for k in range(5)]
    for age, key in enumerate(keys):
        store.put(key, some_features(age))
        os.utime(store.path_of(key), (1000 + age, 1000 + age))
    assert keys_of(store) == keys
    assert store.get(keys[0]) is not None  # in use again
    store.put("ff" * 32, some_features(9))
    assert keys_of(store) == [keys[0], keys[3], keys[4], "ff" * 32], "four fit into nine tenths of the limit"
    tight = FeatureStore(tmp_path, size // 2)
    tight.put("ee" * 32, some_features(8))
    assert keys_of(tight) == ["ee" * 32], "what was just computed stays"


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    store = FeatureStore(tmp_path / "file", MANY)
    with pytest.raises(EasyVideoError, match=r"cannot (write|read) .*cache\.features"):
        store.put("ab" * 32, some_features(1))


def test_windows_take_their_features_from_the_whole(tiny_family, model, store) -> None:
    """The tower runs once for a video that several turns show piece by piece."""
    whole = make_plan("video", frames=8, height=64, width=96)
    windows = [window(whole, 0, 1, tiny_family.geometry), window(whole, 1, 4, tiny_family.geometry)]
    odd = part(whole, [1, 2], tiny_family.geometry)
    prompts = [make_prompt(tiny_family, "<video>What moves?", plan) for plan in (*windows, odd, whole)]

    def load(ref, plan):
        return load_frames(ref, plan) if plan.part is None else taken(load_frames(ref, plan.part.whole), plan)

    expected = logprobs(tiny_family, model, prompts, load, None)
    calls = Calls(model)
    features = FeatureCache(tiny_family, model, store)
    for prompt, turns in zip(prompts[:2], (0, 1), strict=True):
        assert features.has(prompt.plans[0]) == bool(turns)
        logprobs(tiny_family, model, [prompt], calls.load, features)
    assert (calls.tower, len(calls.files)) == (1, 1), "the first window brings the whole"
    found = logprobs(tiny_family, model, prompts, load, features)
    assert (found - expected).abs().max() < ROUNDING
    assert calls.tower == 2 and len(keys_of(store)) == 2, "frames that are no whole steps have features of their own"
