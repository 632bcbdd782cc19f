"""Prompts of every kind and models whose output head can be pushed."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from easyvideor1.engines.registry import engines, open_engine
from tiny import load_frames, make_plan, make_prompt

from .worker_pool import open_worker_engine, open_worker_pool


def pytest_generate_tests(metafunc):
    if "open_any" in metafunc.fixturenames:
        own = metafunc.config.getoption("--engine")
        metafunc.parametrize(
            "open_any", [own] if own else [*engines().names(), "local-worker", "local-pool"], indirect=True
        )


@pytest.fixture
def open_any(request, tiny_family):
    """Opens the engine under test for a model."""
    opened = []
    if request.param == "vllm":
        pytest.importorskip("vllm", reason="vLLM is not installed: make test-vllm")
        from .vllm_pool import PooledVLLM

        open_one = PooledVLLM
    elif request.param == "local-worker":
        open_one = open_worker_engine
    elif request.param == "local-pool":
        open_one = open_worker_pool
    else:
        open_one = partial(open_engine, request.param)

    def open_(model, batch_tokens=65536, load=load_frames):
        opened.append(open_one(tiny_family, model, load, batch_tokens=batch_tokens))
        return opened[-1]

    yield open_
    for engine in opened:
        engine.close()


@pytest.fixture(scope="session")
def prompts(tiny_family):
    """Prompts of different lengths: text, image, video, several media."""
    return {
        "text": make_prompt(tiny_family, "What moves?"),
        "image": make_prompt(tiny_family, "<image>?", make_plan("image", height=64, width=96)),
        "video": make_prompt(tiny_family, "<video>What moves? Say it in words.", make_plan("video", frames=5)),
        "both": make_prompt(tiny_family, "<image><video>?", make_plan("image", seed=1), make_plan("video", frames=2)),
    }


@pytest.fixture(scope="session")
def kinds(tiny_family):
    """Further prompts: several media between words, one medium twice, a list of frames, and unusual text."""
    image, video = make_plan("image", height=64, width=96), make_plan("video", frames=5)
    listed = replace(make_plan("video", frames=4, seed=8), timestamps=(0.0, 0.4, 3.1, 3.2))  # frames of a list
    return {
        "images": make_prompt(tiny_family, "<image> or <image>?", image, make_plan("image", seed=1)),
        "videos": make_prompt(tiny_family, "<video> then <video>", video, make_plan("video", height=96, seed=2)),
        "interleaved": make_prompt(tiny_family, "<image> in <video> or <image>?", image, video, make_plan("image")),
        "again": make_prompt(tiny_family, "<video> is <video>?", video, video),
        "frame list": make_prompt(tiny_family, "<video>?", listed),
        "unicode": make_prompt(tiny_family, "Où est 日本 🚲, naïve?\u200b\x00\n"),
        "empty": make_prompt(tiny_family, ""),
    }


@pytest.fixture
def pushed(tiny_model):
    """The model with an output head of its own, biased towards some tokens."""

    def with_bias(biases):
        tied = tiny_model.lm_head.weight
        head = torch.nn.Linear(tied.shape[1], tied.shape[0])
        with torch.no_grad():
            head.weight.copy_(tied)
            head.bias.zero_()
            for token, bias in biases.items():
                head.bias[token] = bias
        tiny_model.lm_head = head
        return tiny_model

    return with_bias
