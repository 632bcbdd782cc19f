"""vLLM itself, on the CPU: its prompts, log-probs and caches against the trainer's model."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("vllm", reason="vLLM is not installed: make test-vllm")

from easyvideor1.config import LoraConfig, ModelConfig
from easyvideor1.engines import vllm as engine_module
from easyvideor1.engines.engine import Request, Sampling, finished, generate
from easyvideor1.engines.registry import open_engine
from easyvideor1.engines.vllm_weights import content_sum, held_sums
from easyvideor1.families.family import load_family
from easyvideor1.families.features import FeatureStore
from easyvideor1.packing.logprobs import response_logprobs
from easyvideor1.packing.micro_batch import collate
from easyvideor1.packing.prefix_tree import pack_turns
from easyvideor1.policy.adapters import add_adapters, weights
from easyvideor1.types import ConfigError, DataError, EasyVideoError
from tiny import load_frames, make_plan, make_prompt

from .serving import requests_for, tokens_of
from .vllm_pool import PooledVLLM

pytestmark = pytest.mark.model

BOUND = 1e-4
#: Times of frames that a list names, of which the family makes positions or text.
LISTED = (0.0, 0.4, 3.1, 3.2, 3.3, 5.0, 8.0)


@pytest.fixture
def opened():
    engines = []

    def open_(family, model, **options):
        options = {"batch_tokens": 8192, **options}
        if isinstance(model, Path):
            engines.append(open_engine("vllm", family, model, load_frames, **options))
        else:
            engines.append(PooledVLLM(family, model, load_frames, **options))
        return engines[-1]

    yield open_
    for engine in engines:
        engine.close()


def load_model(family, checkpoint):
    return family.load_model(checkpoint, dtype=torch.float32, attention="sdpa", trust_remote_code=False).eval()


def shaken(model, seed=1):
    """The model, with all weights moved a little."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    return model


def turns_of(groups):
    return [trajectory.last for group in groups for trajectory in group]


@torch.no_grad()
def gap(family, model, turns, temperature=1.0):
    """The largest difference between the engine's log-probs and the trainer's."""
    batch = collate(pack_turns(turns, share_prefix=True), family, load_frames)
    expected, _ = response_logprobs(family, model, batch, temperature=temperature)
    return float((batch.engine_logprobs - expected).abs().max())


def all_prompts(family):
    """Text, image, video, and several of them between words; for patches of 14 pixels where the family has them."""

    def plan(kind, **options):
        made = make_plan(kind, **options)
        factor = family.geometry.factor
        rows, columns = made.height // 32, made.width // 32
        patches = (made.grid[0], 2 * rows, 2 * columns)
        size = {"height": rows * factor, "width": columns * factor, "grid": patches}
        return type(made)(**{name: getattr(made, name) for name in made.__slots__} | size)

    wide, video = plan("image", height=64, width=96), plan("video", frames=7, fps=1.5)
    return {
        "text": make_prompt(family, "What moves?"),
        "image": make_prompt(family, "<image>?", wide),
        "images": make_prompt(family, "<image> or <image>?", wide, plan("image", seed=1)),
        "video": make_prompt(family, "<video>What moves? Say it in words.", video),
        "videos": make_prompt(
            family, "<video> then <video>", plan("video", frames=2), plan("video", seed=2, height=96)
        ),
        "mixed": make_prompt(family, "<image> in <video> or <image>?", plan("image", seed=3), video, wide),
        "again": make_prompt(family, "<video> is <video>?", video, video),
        "frame list": make_prompt(family, "<video>?", replace(video, digest="f" * 64, timestamps=LISTED)),
    }


@pytest.mark.parametrize(
    ("name", "conventions"),
    [
        ("qwen3_vl", "released"),
        ("qwen3_vl", "transformers"),
        ("qwen2_5_vl", "released"),
        ("qwen2_vl", "released"),
    ],
)
def test_logprobs_are_the_trainers_for_every_kind_of_prompt(
    name, conventions, family_checkpoints, opened, record_property
):
    family = load_family(family_checkpoints[name], conventions=conventions)
    model = load_model(family, family_checkpoints[name])
    prompts = all_prompts(family)
    engine = opened(family, model)
    for sampling in ({}, {"temperature": 0.7}, {"greedy": True}):
        turns = turns_of(generate(engine, requests_for(prompts, n=2, max_new_tokens=24, **sampling)))
        found = {
            turn_name: gap(family, model, turns[2 * i : 2 * i + 2], sampling.get("temperature", 1.0))
            for i, turn_name in enumerate(prompts)
        }
        record_property(f"gap/{name}/{conventions}/{sampling}", max(found.values()))
        print(name, conventions, sampling, max(found.values()))
        assert max(found.values()) < BOUND, found


@pytest.mark.parametrize("name", ["qwen2_5_vl", "qwen2_vl"])
def test_prompts_whose_positions_vllm_counts_otherwise_are_refused(name, family_checkpoints, opened):
    family = load_family(family_checkpoints[name], conventions="transformers")
    model, prompts = load_model(family, family_checkpoints[name]), all_prompts(family)
    engine = opened(family, model)
    engine.submit(requests_for(prompts, n=1))
    found = {result.request.id: result for result in finished(engine)}
    refused = {name for name, result in found.items() if result.fault is not None}
    assert {"video", "mixed", "again"} <= refused and not refused & {"text", "image", "images"}
    assert all("set model.conventions=released" in str(found[name].fault) for name in refused)
    answered = turns_of(result.trajectories for result in found.values() if result.fault is None)
    assert gap(family, model, answered) < BOUND


def test_models_that_vllm_is_not_tested_with_are_refused(family_checkpoints, opened):
    family = load_family(family_checkpoints["qwen3_vl_moe"])
    with pytest.raises(ConfigError, match="has not been tested with models of type 'qwen3_vl_moe'; tested are"):
        opened(family, family_checkpoints["qwen3_vl_moe"])


def test_image_and_video_pixels_are_normalised_apart(tiny_checkpoint, tmp_path, opened):
    checkpoint = shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint")
    for file, mean in (("preprocessor_config", 0.4), ("video_preprocessor_config", 0.6)):
        path = checkpoint / f"{file}.json"
        if path.is_file():
            path.write_text(
                json.dumps({**json.loads(path.read_text()), "image_mean": [mean] * 3, "image_std": [0.3] * 3})
            )
    family = load_family(checkpoint)
    assert family.normalisation["image"] != family.normalisation["video"]
    model = load_model(family, checkpoint)
    turns = turns_of(generate(opened(family, checkpoint), requests_for(all_prompts(family), n=1)))
    assert gap(family, model, turns) < BOUND


def test_after_an_update_nothing_old_is_served(tiny_family, tiny_model, prompts, opened):
    video = prompts["video"].plans[0]
    more = {"words": make_prompt(tiny_family, "Look: <video> Say it in words.", video)}
    engine, requests = opened(tiny_family, tiny_model), requests_for(prompts | more, n=1, greedy=True)
    counted = [engine.stats()]
    for _ in range(2):
        generate(engine, requests)
        counted.append(engine.stats())
    assert counted[2]["cached_tokens"] > counted[1]["cached_tokens"] == 0, "the cache is used within a version"
    assert counted[1]["media_encoded"] == 4 and counted[1]["media_hits"] >= 1, "one video of two prompts is seen once"
    assert counted[2]["media_encoded"] == 4
    assert counted[2]["prompt_tokens"] == 2 * sum(len(request.prompt) for request in requests)
    assert counted[1]["prefilled_tokens"] == counted[1]["prompt_tokens"]
    assert counted[2]["new_tokens"] > counted[1]["new_tokens"] > 0
    shaken(tiny_model)
    engine.update_weights(1, ((name, p.detach()) for name, p in tiny_model.named_parameters()))
    found = generate(engine, requests)
    after = engine.stats()
    assert after["cached_tokens"] == counted[2]["cached_tokens"] and after["media_encoded"] == 8
    assert after["stale_hits"] == 0
    assert after["prefilled_tokens"] - counted[2]["prefilled_tokens"] == counted[1]["prompt_tokens"]
    size = sum(p.numel() * p.element_size() for p in tiny_model.parameters())
    assert after["sync_bytes"] - counted[2]["sync_bytes"] == size and after["sync_seconds"] > 0
    fresh = generate(opened(tiny_family, tiny_model), requests)
    assert tokens_of(found) == tokens_of(fresh)
    for one, other in zip(turns_of(found), turns_of(fresh), strict=True):
        np.testing.assert_allclose(one.logprobs, other.logprobs, rtol=0, atol=1e-6)
    assert gap(tiny_family, tiny_model, turns_of(found)) < BOUND


def test_an_update_in_the_middle_of_responses(tiny_family, tiny_model, prompts, opened):
    engine = opened(tiny_family, tiny_model)
    requests = [
        Request(name, prompt, 2, Sampling(max_new_tokens=4 if name == "text" else 40, greedy=True), 0)
        for name, prompt in prompts.items()
    ]
    tickets = engine.submit(requests)
    results = finished(engine)
    first = next(results)
    assert first.ticket == tickets[0]
    shaken(tiny_model)
    engine.update_weights(5, ((name, p.detach()) for name, p in tiny_model.named_parameters()))
    turns = [trajectory.last for result in results for trajectory in result.trajectories]
    for turn in turns:
        assert set(turn.versions.tolist()) == {0, 5} and len(turn.response_ids) == 40
        batch = collate(pack_turns([turn], share_prefix=True), tiny_family, load_frames)
        with torch.no_grad():
            expected, _ = response_logprobs(tiny_family, tiny_model, batch, temperature=1.0)
        new = torch.from_numpy(turn.versions == 5)
        assert (batch.engine_logprobs - expected)[new].abs().max() < BOUND, "nothing older was seen by later tokens"
        assert (batch.engine_logprobs - expected)[~new].abs().max() > BOUND


def test_a_prompt_is_prefilled_once_for_all_its_responses(tiny_family, tiny_model, opened):
    engine = opened(tiny_family, tiny_model)
    prompt = make_prompt(tiny_family, "<video>?", make_plan("video", frames=40))
    generate(engine, [Request("r", prompt, 8, Sampling(max_new_tokens=3), 0)])
    counted = engine.stats()
    assert counted["prompt_tokens"] == 8 * len(prompt)
    begun = (len(prompt) - 1) % 32 + 1  # of the last block of 32 tokens, which no two responses share
    assert counted["prefilled_tokens"] == len(prompt) + 7 * begun
    assert counted["cached_tokens"] == 7 * (len(prompt) - begun)
    assert counted["media_encoded"] == 1
    print("prefill_per_prompt", counted["prefilled_tokens"] / len(prompt))


def test_responses_grow_between_pauses(tiny_family, tiny_model, prompts, opened):
    engine = opened(tiny_family, tiny_model)
    (ticket,) = engine.submit([Request("r", prompts["video"], 2, Sampling(max_new_tokens=9), 3)])
    assert engine.partial(ticket) == [[], []]
    seen, result = [], None
    for result in engine.results():
        if result is None:
            seen.append(engine.partial(ticket))
    assert [len(ids) for ids, _ in seen] == list(range(1, len(seen) + 1)) and len(seen) >= 7
    for index, trajectory in enumerate(result.trajectories):
        ids = trajectory.last.response_ids.tolist()
        assert all(ids[: len(grown[index])] == grown[index] for grown in seen)
    with pytest.raises(KeyError):
        engine.partial(ticket)


def test_prompts_that_come_in_chunks_are_answered_alike(tiny_family, tiny_model, opened):
    engine = opened(tiny_family, tiny_model, batch_tokens=4096)
    long = make_prompt(tiny_family, "What moves? " * 450)
    assert len(long) > 4096 / 2, "two of them take more than one step"
    others = [make_prompt(tiny_family, f"{word} " * 450) for word in ("moves?", "What")]
    requests = [Request("r", prompt, 4, Sampling(max_new_tokens=8), 7) for prompt in (*others, long)]
    together = generate(engine, requests)
    assert gap(tiny_family, tiny_model, turns_of(together)) < BOUND
    assert tokens_of(together) == [tokens_of(generate(engine, [request]))[0] for request in requests]


def test_what_vllm_cannot_take_is_the_fault_of_its_request(tiny_family, tiny_model, prompts, opened):
    engine = opened(tiny_family, tiny_model, batch_tokens=4096)
    text = prompts["text"]
    engine.submit(
        [
            Request("long", text, 1, Sampling(max_new_tokens=8000), 0),
            Request("hot", text, 1, Sampling(temperature=5.0), 0),
            Request("fine", text, 1, Sampling(max_new_tokens=2), 0),
        ]
    )
    found = {result.request.id: result for result in finished(engine)}
    assert isinstance(found["long"].fault, DataError) and "raise rollout.batch_tokens" in str(found["long"].fault)
    assert isinstance(found["hot"].fault, ConfigError) and "temperature must be in [0, 2]" in str(found["hot"].fault)
    assert found["fine"].fault is None


def test_a_response_to_another_prompt_is_a_fault(tiny_family, tiny_model, prompts, opened, monkeypatch):
    engine = opened(tiny_family, tiny_model)
    true = engine_module.prompt_inputs

    def other(prompt, *rest):
        inputs = true(prompt, *rest)
        if prompt is prompts["image"]:
            inputs["prompt_token_ids"] = [*inputs["prompt_token_ids"], 7]
        return inputs

    monkeypatch.setattr(engine_module, "prompt_inputs", other)
    engine.submit(requests_for(prompts))
    found = {result.request.id: result for result in finished(engine)}
    assert found.keys() == prompts.keys()
    assert isinstance(found["image"].fault, EasyVideoError) and "'image': vLLM worked on" in str(found["image"].fault)
    assert all(result.fault is None for name, result in found.items() if name != "image")


def test_penalties_are_those_of_the_local_engine(tiny_family, tiny_model, prompts, opened):
    local = open_engine("local", tiny_family, tiny_model, load_frames, batch_tokens=65_536)
    engine = opened(tiny_family, tiny_model)
    plain = tokens_of(generate(engine, requests_for(prompts, n=1, max_new_tokens=24, greedy=True)))
    for penalty in ({"repetition_penalty": 1.6}, {"presence_penalty": 1.5}, {"frequency_penalty": 0.8}):
        requests = requests_for(prompts, n=1, max_new_tokens=24, top_k=1, temperature=0.8, **penalty)
        found = generate(engine, requests)
        assert tokens_of(found) == tokens_of(generate(local, requests)) != plain
        assert all(turn.logprobs is None for turn in turns_of(found)), "vLLM has those after penalties only"


def test_neighbouring_seeds_share_no_response(tiny_family, tiny_model, prompts, opened):
    requests = [Request("r", prompts["text"], 4, Sampling(max_new_tokens=12), seed) for seed in (3, 4, 2**64 - 1, -1)]
    groups = tokens_of(generate(opened(tiny_family, tiny_model), requests))
    assert groups[2] == groups[3], "a seed is taken modulo 2 ** 64"
    assert len({tuple(ids) for group in groups[:3] for ids in group}) == 12


def test_weights_that_came_in_part_are_not_used(tiny_family, tiny_model, prompts, opened):
    engine, requests = opened(tiny_family, tiny_model), requests_for(prompts)
    before = tokens_of(generate(engine, requests))
    own = {name: p.detach().clone() for name, p in tiny_model.named_parameters()}
    engine.submit(requests)
    assert next(engine.results()) is None, "some are running"
    with pytest.raises(ConfigError, match=r"of the model's did not come, such as 'model\."):
        engine.update_weights(1, list(own.items())[:5])
    with pytest.raises(EasyVideoError, match="weights of version 1 came only in part"):
        generate(engine, requests)
    engine.update_weights(1, own.items())
    assert tokens_of(generate(engine, requests)) == before


def test_weights_that_come_under_another_number_of_threads_are_multiplied_rightly(
    tiny_family, tiny_checkpoint, prompts, opened
):
    model = load_model(tiny_family, tiny_checkpoint)
    requests = requests_for({name: prompts[name] for name in ("text", "video")})
    threads = torch.get_num_threads()
    try:
        engines = []
        for version, number in enumerate((1, 2, 1), start=1):
            torch.set_num_threads(number)
            engines.append(opened(tiny_family, tiny_checkpoint))
            for engine in engines:
                engine.update_weights(version, shaken(model).named_parameters())
                assert gap(tiny_family, model, turns_of(generate(engine, requests))) < BOUND
                shaken(model, seed=version)
                engine.update_weights(version, model.named_parameters())
                assert gap(tiny_family, model, turns_of(generate(engine, requests))) < BOUND
    finally:
        torch.set_num_threads(threads)


def test_both_sides_hold_the_same_after_an_update(tiny_family, tiny_model, tiny_checkpoint, opened, tmp_path):
    engine = opened(tiny_family, tiny_model)
    (before,) = engine._core.apply_model(held_sums)
    shaken(tiny_model)
    engine.update_weights(1, ((name, p.detach()) for name, p in tiny_model.named_parameters()))
    tiny_model.save_pretrained(checkpoint := shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint"))
    fresh = opened(tiny_family, checkpoint)
    (sums,), (expected,) = (each._core.apply_model(held_sums) for each in (engine, fresh))
    assert sums == expected and sum(sums[part] != before[part] for part in sums) == len(sums) >= 5
    digests, others = (each._core.collective_rpc("compute_weight_checksums") for each in (engine, fresh))
    assert digests == others, "vLLM's own sums, which on the CPU do not see the matrices"

    def spoil(model):
        model.language_model.model.layers[1].input_layernorm.weight.data[3] += 1

    true = engine._core.reset_mm_cache
    engine._core.reset_mm_cache = lambda: (true(), engine._core.apply_model(spoil))
    with pytest.raises(EasyVideoError, match=r"vLLM holds other values than it was given, in 1 parts .* layer 1;"):
        engine.update_weights(2, ((name, p.detach()) for name, p in tiny_model.named_parameters()))


def test_a_model_with_an_output_head_of_its_own(tiny_checkpoint, opened, tmp_path):
    checkpoint = shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint")
    model = load_model(load_family(checkpoint), checkpoint)
    model.config.tie_word_embeddings = model.config.text_config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(0.1 * torch.randn(model.lm_head.weight.shape))
    model.save_pretrained(checkpoint)
    family = load_family(checkpoint)
    model = load_model(family, checkpoint)
    assert model.lm_head.weight is not model.get_input_embeddings().weight
    engine, requests = opened(family, model), requests_for(all_prompts(family), n=1)
    first = generate(engine, requests)
    assert gap(family, model, turns_of(first)) < BOUND
    shaken(model)
    engine.update_weights(1, ((name, p.detach()) for name, p in model.named_parameters()))
    second = generate(engine, requests)
    assert tokens_of(second) != tokens_of(first) and gap(family, model, turns_of(second)) < BOUND


def test_an_update_fails_where_vllm_keeps_older_keys(tiny_family, tiny_model, opened, monkeypatch):
    engine = opened(tiny_family, tiny_model)
    weights = [(name, parameter.detach()) for name, parameter in tiny_model.named_parameters()]
    with monkeypatch.context() as patch:
        patch.setattr(engine._core, "reset_prefix_cache", lambda **options: False)
        with pytest.raises(EasyVideoError, match="did not empty its prefix cache"):
            engine.update_weights(1, weights)
    engine.update_weights(1, weights)
    assert engine.version == 1


def test_sums_tell_values_apart_in_any_order():
    values = torch.randn(70, 30)
    assert content_sum(values) == content_sum(values.T) == content_sum(torch.cat([values, torch.zeros(5, 30)]))
    other = values.clone()
    other[3, 3] = torch.nextafter(other[3, 3], torch.tensor(9.0))
    assert content_sum(other) != content_sum(values) != content_sum(values.bfloat16())


def adapted(family, checkpoint, **options):
    """A model with adapters that change what it says."""
    model = load_model(family, checkpoint)
    add_adapters(family, model, LoraConfig(**{"rank": 4, "alpha": 8.0, **options}))
    return moved(model.eval())


def moved(model, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_" in name:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.mark.parametrize("name", ["qwen3_vl", "qwen2_5_vl", "qwen2_vl"])
def test_adapters_alone_are_sent_once_the_base_is_there(name, family_checkpoints, opened):
    family = load_family(family_checkpoints[name], conventions="released")
    model = adapted(family, family_checkpoints[name])
    prompts = all_prompts(family)
    engine = opened(family, model)
    assert engine.takes_adapters
    with pytest.raises(ConfigError, match="adapters came, and the weights that they change did not"):
        engine.update_weights(1, weights(model, merged=False, base=False))
    engine.update_weights(1, weights(model, merged=False))
    sent = engine.stats()["sync_bytes"]
    first = generate(engine, requests_for(prompts, n=2, max_new_tokens=24))
    assert gap(family, model, turns_of(first)) < BOUND
    moved(model, seed=1)
    engine.update_weights(2, weights(model, merged=False, base=False))
    size = sum(p.numel() * p.element_size() for n, p in model.named_parameters() if ".lora_" in n)
    assert engine.stats()["sync_bytes"] - sent == size < sent / 10
    second = generate(engine, requests_for(prompts, n=2, max_new_tokens=24))
    assert tokens_of(second) != tokens_of(first) and engine.stats()["stale_hits"] == 0
    assert gap(family, model, turns_of(second)) < BOUND
    own = dict(weights(model, merged=False, base=False))
    (_, half), *rest = own.items()
    with pytest.raises(ConfigError, match="adapters did not come"):
        engine.update_weights(3, rest)
    with pytest.raises(ConfigError, match=r"the adapter .* has shape"):
        engine.update_weights(3, {**own, next(iter(own)): half[:2]}.items())
    assert engine.version == 2
    assert tokens_of(generate(engine, requests_for(prompts, n=2, max_new_tokens=24))) == tokens_of(second)


def test_adapters_of_the_tower_are_merged(tiny_checkpoint, opened):
    family = load_family(tiny_checkpoint)
    model = adapted(family, tiny_checkpoint, targets=("language", "merger"))
    engine = opened(family, model)
    assert not engine.takes_adapters
    engine.update_weights(1, weights(model, merged=True))
    assert gap(family, model, turns_of(generate(engine, requests_for(all_prompts(family), n=1)))) < BOUND


def test_an_engine_of_a_checkpoint_takes_adapters(tiny_checkpoint, opened):
    family = load_family(tiny_checkpoint)
    model = adapted(family, tiny_checkpoint)
    config = ModelConfig(path=str(tiny_checkpoint), lora=LoraConfig(rank=4, alpha=8.0))
    engine, prompts = opened(family, tiny_checkpoint, config=config), all_prompts(family)
    base = load_model(family, tiny_checkpoint)
    assert gap(family, base, turns_of(generate(engine, requests_for(prompts, n=1)))) < BOUND
    engine.submit(requests_for(prompts, n=1))
    results = engine.results()
    assert next(results) is next(results) is None
    engine.update_weights(1, weights(model, merged=False, base=False))
    turns = turns_of(result.trajectories for result in results if result is not None)
    assert len(turns) == len(prompts) and all((turn.versions == 1).all() for turn in turns), "drawn again"
    assert gap(family, model, turns) < BOUND


def tower_calls(engine):
    calls = []
    engine._core.apply_model(lambda model: calls.append(0) or hook(model, calls))
    calls.clear()
    return calls


def hook(model, calls):
    model.visual.register_forward_pre_hook(lambda *_: calls.append(1) or None)


@pytest.mark.parametrize("name", ["qwen3_vl", "qwen2_5_vl", "qwen2_vl"])
def test_kept_features_stand_in_for_pixels(name, family_checkpoints, opened, tmp_path):
    family = load_family(family_checkpoints[name], conventions="released")
    model = load_model(family, family_checkpoints[name]).requires_grad_(False)
    prompts, store = all_prompts(family), FeatureStore(tmp_path, 1 << 26)
    pixels = opened(family, model)
    expected = generate(pixels, requests_for(prompts, n=2, max_new_tokens=24))
    engine = opened(family, model, features=store)
    calls = tower_calls(engine)
    found = generate(engine, requests_for(prompts, n=2, max_new_tokens=24))
    assert not calls and tokens_of(found) == tokens_of(expected)
    assert gap(family, model, turns_of(found)) < BOUND
    if name == "qwen3_vl":
        own = opened(family, family_checkpoints[name], features=store)
        calls = tower_calls(own)
        assert tokens_of(generate(own, requests_for(prompts, n=2, max_new_tokens=24))) == tokens_of(found)
        shaken(model)
        own.update_weights(1, ((each, p.detach()) for each, p in model.named_parameters()))
        assert gap(family, model, turns_of(generate(own, requests_for(prompts, n=2)))) < BOUND, "its tower follows"
        assert not calls


def test_random_numbers_and_threads_of_the_process_stay(tiny_family, tiny_checkpoint, opened):
    torch.manual_seed(3)
    expected, threads = torch.rand(3), torch.get_num_threads()
    torch.manual_seed(3)
    opened(tiny_family, tiny_checkpoint)
    assert torch.equal(torch.rand(3), expected) and torch.get_num_threads() == threads
    torch.set_num_threads(threads)
