"""Prompts of every kind and models whose output head can be pushed."""

from functools import partial

import pytest
import torch

from easyvideor1.engines.registry import engines, open_engine
from tiny import load_frames, make_plan, make_prompt


def pytest_generate_tests(metafunc):
    if "open_any" in metafunc.fixturenames:
        own = metafunc.config.getoption("--engine")
        metafunc.parametrize("open_any", [own] if own else engines().names(), indirect=True)


@pytest.fixture
def open_any(request, tiny_family):
    """Opens the engine under test for a model."""
    opened = []
    if request.param == "vllm":
        pytest.importorskip("vllm", reason="vLLM is not installed: make test-vllm")
        from .vllm_pool import PooledVLLM

        open_one = PooledVLLM
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
