"""What tests of several rooms share: one tiny checkpoint, its family, and a fresh model of it."""

import atexit
import contextlib
import gc
import json
import os
import signal
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing is fetched from a hub during a test
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny tensors: threads that wait for each other only cost time

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell that runs us in the background has Ctrl-C ignored, and every process that a test starts inherits that.
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest
from hypothesis import HealthCheck, settings

gc.set_threshold(10_000, 10, 10)  # both as in evr1's own process (``easyvideor1.cli.main``)
atexit.register(gc.freeze)

# How long an example takes depends on what else the machine does; what must be fast has a test that measures it.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--engine", default="", help="module:attr of an engine for tests/engines/test_contract.py")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how golden files were compared. Here, as a parallel run loads no other conftest in its main process."""
    reports = terminalreporter.getreports("passed") + terminalreporter.getreports("failed")
    lines = [value for report in reports for name, value in report.user_properties if name == "golden"]
    if lines:
        terminalreporter.section("golden files", sep="-")
        for line in lines:
            terminalreporter.write_line(str(line))


@pytest.fixture
def serve():
    """Starts judges that behave as a function says; they end with the test."""
    from tests.rewards.judge_server import Server

    with contextlib.ExitStack() as servers:
        yield lambda behaviour: servers.enter_context(contextlib.closing(Server(behaviour)))


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random checkpoint in the real format, small enough for a forward pass in milliseconds. Read only."""
    from easyvideor1.families.tiny import write_tiny_checkpoint

    corpus = ["What moves? Answer with a letter.", "<answer>A</answer> a red circle", "<1.5 seconds><0.2 seconds>"]
    out = tmp_path_factory.mktemp("tiny") / "checkpoint"
    return write_tiny_checkpoint(out, corpus, seed=3, width=64, layers=3, vision_layers=2, vocabulary=300)


@pytest.fixture(scope="session")
def tiny_family(tiny_checkpoint: Path):
    from easyvideor1.families.family import load_family

    return load_family(tiny_checkpoint)


@pytest.fixture(scope="session")
def _loaded_model(tiny_checkpoint: Path, tiny_family):
    import torch

    return tiny_family.load_model(
        tiny_checkpoint, dtype=torch.float32, attention="sdpa", trust_remote_code=False
    ).eval()


@pytest.fixture
def tiny_model(_loaded_model):
    """A model that the test may change."""
    import copy

    return copy.deepcopy(_loaded_model)


#: Tokens that GLM-4.1V marks media with.
GLM_TOKENS = [f"<|{part}{kind}|>" for kind in ("image", "video") for part in ("begin_of_", "", "end_of_")]


@pytest.fixture(scope="session")
def family_checkpoints(tmp_path_factory):
    """Random checkpoints by family. Read only."""
    from benchmarks.family_cases import corpus

    from easyvideor1.families.tiny import TINY_FAMILIES, write_tiny_checkpoint

    root = tmp_path_factory.mktemp("families")
    sizes = {"width": 64, "layers": 3, "vision_layers": 2, "vocabulary": 400}
    return {name: write_tiny_checkpoint(root / name, corpus(), family=name, seed=1, **sizes) for name in TINY_FAMILIES}


@pytest.fixture(scope="session")
def glm_checkpoint(tmp_path_factory):
    """A random GLM-4.1V, written with transformers alone."""
    from benchmarks.family_cases import corpus
    from transformers import Glm4vConfig, Glm4vForConditionalGeneration

    from easyvideor1.families.tiny import CHAT_TEMPLATE, initialise, train_tokenizer

    out = tmp_path_factory.mktemp("glm4v")
    tokenizer = train_tokenizer(corpus(), 400)
    tokenizer.add_special_tokens({"additional_special_tokens": GLM_TOKENS})
    tokenizer.chat_template = CHAT_TEMPLATE
    for kind in ("image", "video"):
        theirs = f"<|begin_of_{kind}|><|{kind}|><|end_of_{kind}|>"
        tokenizer.chat_template = tokenizer.chat_template.replace(
            f"<|vision_start|><|{kind}_pad|><|vision_end|>", theirs
        )
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in GLM_TOKENS}
    config = Glm4vConfig(
        text_config={
            "vocab_size": 480,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "pad_token_id": tokenizer.pad_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e4,
                "mrope_section": [2, 3, 3],
                "partial_rotary_factor": 0.5,
            },
        },
        vision_config={
            "depth": 2,
            "hidden_size": 64,
            "num_heads": 2,
            "intermediate_size": 128,
            "out_hidden_size": 64,
            "image_size": 112,
        },
        **{
            f"{kind}_{ours}token_id": ids[f"<|{theirs}{kind}|>"]
            for kind in ("image", "video")
            for ours, theirs in (("start_", "begin_of_"), ("", ""), ("end_", "end_of_"))
        },
    )
    model = Glm4vForConditionalGeneration(config)
    initialise(model, 2)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    pixels = {"image_mean": [0.48, 0.46, 0.41], "image_std": [0.27, 0.26, 0.28], "patch_size": 14}
    for name, kind in (("preprocessor_config", "image"), ("video_preprocessor_config", "video")):
        own = {f"{kind}_processor_type": f"Glm4v{kind.title()}Processor", "processor_class": "Glm4vProcessor"}
        (out / f"{name}.json").write_text(json.dumps({**pixels, **own}), encoding="utf-8")
    return out
