"""vLLM itself, on the CPU: its prompts, log-probs and caches against the trainer's model."""

import json
import shutil

import numpy as np
import pytest
import torch

pytest.importorskip("vllm", reason="vLLM is not installed: make test-vllm")

from easyvideor1.engines import vllm as engine_module
from easyvideor1.engines.engine import Request, Sampling, generate
from easyvideor1.engines.registry import open_engine
from easyvideor1.families.family import load_family
from easyvideor1.packing.logprobs import response_logprobs
from easyvideor1.packing.micro_batch import collate
from easyvideor1.packing.prefix_tree import pack_turns
from easyvideor1.types import ConfigError, DataError, EasyVideoError
from tiny import load_frames, make_plan, make_prompt

from .serving import requests_for, tokens_of

pytestmark = pytest.mark.model

BOUND = 1e-4


@pytest.fixture
def opened():
    engines = []

    def open_(family, model, **options):
        engines.append(open_engine("vllm", family, model, load_frames, **{"batch_tokens": 8192, **options}))
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
    }


@pytest.mark.parametrize(
    ("name", "conventions"),
    [("qwen3_vl", "released"), ("qwen3_vl", "transformers"), ("qwen2_5_vl", "released"), ("qwen2_vl", "released")],
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
    found = {result.request.id: result for result in engine.results()}
    refused = {name for name, result in found.items() if result.fault is not None}
    assert {"video", "mixed", "again"} <= refused and not refused & {"text", "image", "images"}
    assert all("set model.conventions=released" in str(found[name].fault) for name in refused)
    answered = turns_of(result.trajectories for result in found.values() if result.fault is None)
    assert gap(family, model, answered) < BOUND


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
    engine, requests = opened(tiny_family, tiny_model), requests_for(prompts, n=1, greedy=True)
    generate(engine, requests)
    generate(engine, requests)
    assert engine.cached_tokens > 0, "the cache is used within a version"
    shaken(tiny_model)
    engine.update_weights(1, ((name, p.detach()) for name, p in tiny_model.named_parameters()))
    before = engine.cached_tokens
    found = generate(engine, requests)
    assert engine.cached_tokens == before
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
    results = engine.results()
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
    assert engine.prompt_tokens == 8 * len(prompt)
    computed = engine.prompt_tokens - engine.cached_tokens
    assert computed <= len(prompt) + 7 * 2 * 32, "beyond whole blocks of 32 tokens nothing is computed again"


def test_long_prompts_and_many_responses_fit(tiny_family, tiny_model, opened):
    engine = opened(tiny_family, tiny_model, batch_tokens=4096)
    long = make_prompt(tiny_family, "What moves? " * 450)
    assert len(long) > 2048
    turns = turns_of(generate(engine, [Request("r", long, 4, Sampling(max_new_tokens=8), s) for s in range(3)]))
    assert gap(tiny_family, tiny_model, turns) < BOUND


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
    found = {result.request.id: result for result in engine.results()}
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
    found = {result.request.id: result for result in engine.results()}
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
    with pytest.raises(ConfigError, match=r"of the model's did not come, such as 'model\."):
        engine.update_weights(1, list(own.items())[:5])
    with pytest.raises(EasyVideoError, match="weights of version 1 came only in part"):
        generate(engine, requests)
    engine.update_weights(1, own.items())
    assert tokens_of(generate(engine, requests)) == before


def test_random_numbers_and_threads_of_the_process_stay(tiny_family, tiny_checkpoint, opened):
    torch.manual_seed(3)
    expected, threads = torch.rand(3), torch.get_num_threads()
    torch.manual_seed(3)
    opened(tiny_family, tiny_checkpoint)
    assert torch.equal(torch.rand(3), expected) and torch.get_num_threads() == threads
    torch.set_num_threads(threads)
