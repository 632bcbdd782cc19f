"""The certificate of an evaluation: all that decides responses and scores, from a configuration and its files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from easyvideor1 import __version__
from easyvideor1.benchmarks import Benchmark
from easyvideor1.components import Components
from easyvideor1.config import RewardConfig
from easyvideor1.evaluation.certificate import Certificate
from easyvideor1.families.checkpoint import checkpoint_digests
from easyvideor1.files import file_digest

#: Of ``ModelConfig``: what is in the digests of the files, or decides no response.
_NO_RESPONSE = frozenset({"path", "device", "compile", "trust_remote_code", "freeze", "gradient_checkpointing"})
#: Of sampled responses alone: greedy ones ignore them.
_WARM = ("temperature", "top_p", "top_k", "repetition_penalty", "presence_penalty", "frequency_penalty")
#: Files of a checkpoint's directory that decide what its model says.
_DECIDING = frozenset({".safetensors", ".bin", ".pt", ".pth", ".gguf", ".json", ".jinja", ".model", ".txt", ".py"})


def certify(
    components: Components,
    benchmark: Benchmark | None,
    *,
    name: str,
    target: str = "",
    prompts: Sequence[str] = (),
    refused: int = 0,
) -> Certificate:
    """The certificate of an evaluation that is about to begin.

    Args:
        components: of its configuration and checkpoint.
        benchmark: that is asked; ``None`` for the rows of ``data.test``.
        name: of the benchmark, as its directory is called.
        target: what the command line names the benchmark by, so that its scorer is found again.
        prompts: the digest of every question's prompt, in order; empty where no prompt could be made.
        refused: rows that could not be asked.

    Raises:
        OSError: a file of the checkpoint cannot be read.
    """
    config = components.config
    sampling = config.evaluation.model_dump(mode="json", include={"samples", "max_samples", *_WARM})
    sampling |= {key: getattr(config.rollout, key) for key in ("top_p", "top_k") if sampling[key] is None}
    if not config.evaluation.samples:
        sampling = {key: value for key, value in sampling.items() if key not in _WARM}
    engine = config.rollout.model_dump(mode="json", include={"engine", "strategy", "max_new_tokens", "batch_tokens"})
    asking: dict[str, Any] = {
        "model": _model(components),
        "engine": engine,
        "sampling": {**sampling, "seed": config.seed},
        "frames": {
            "image": config.data.image.model_dump(mode="json"),
            "video": config.data.video.model_dump(mode="json"),
            "codec": config.cache.codec,
        },
        "prompts": {
            "system": config.prompts.system,
            "thinking": config.prompts.thinking,
            "templates": _digests(config.prompts.templates, "*.j2"),
            "max_tokens": config.data.max_prompt_tokens,
        },
        "shown": {
            "subtitles": benchmark.subtitles if benchmark else "",
            "probe": benchmark.probe.name if benchmark and benchmark.probe else "",
        },
        "versions": _versions(config.rollout.engine),
        "questions": {"count": len(prompts), "refused": refused, "prompts": _of_all(prompts)},
    }
    scoring: dict[str, Any] = {
        **reward_facts(config.rewards),
        "metrics": [metric.name for metric in benchmark.metrics] if benchmark else ["accuracy"],
        "scorer": _scorer(benchmark),
        "benchmark": target.partition("=")[0],
    }
    return Certificate(name, benchmark.version if benchmark else "", model_label(components), asking, scoring)


def reward_facts(rewards: RewardConfig) -> dict[str, Any]:
    """What of ``Certificate.scoring`` follows from the settings of the rewards and from this version."""
    return {
        "rewards": rewards.model_dump(mode="json"),
        "judge_templates": _digests(rewards.judge.templates, "*.j2"),
        "easyvideor1": __version__,
    }


def model_label(components: Components) -> str:
    """A name of the model for tables: that of the endpoint's, or the directory's; ``RUN-STAGE-STEP`` of a checkpoint in
    a run."""
    if components.config.rollout.engine == "endpoint":
        return components.config.rollout.endpoint.model
    path = components.checkpoint.resolve()
    if path.name.startswith("step_") and path.parent.name == "checkpoints" and len(path.parts) > 5:
        return "-".join((path.parents[3].name, path.parents[1].name, path.name))
    return path.name


def _model(components: Components) -> dict[str, Any]:
    config = components.config
    if config.rollout.engine == "endpoint":
        endpoint = config.rollout.endpoint
        return {"endpoint": endpoint.url, "name": endpoint.model, "extra_body": endpoint.extra_body}
    found = {
        file: digest
        for file, digest in checkpoint_digests(components.checkpoint).items()
        if Path(file).suffix in _DECIDING and file != "state.json"
    }
    weights = {file: digest for file, digest in found.items() if file.endswith((".safetensors", ".bin", ".pt", ".pth"))}
    values = config.model.model_dump(mode="json", exclude=set(_NO_RESPONSE))
    return {
        **values,
        "weights": _of_all([f"{file} {digest}" for file, digest in sorted(weights.items())]),
        "files": {file: digest[:16] for file, digest in sorted(found.items()) if file not in weights},
    }


def _versions(engine: str) -> dict[str, str]:
    packages = ["torch", "transformers", "av", *(["vllm"] if engine == "vllm" else [])]
    return {"easyvideor1": __version__, **{name: _version(name) for name in packages}}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def _scorer(benchmark: Benchmark | None) -> str:
    scorer = None if benchmark is None else benchmark.scorer or benchmark.scoring
    return "" if scorer is None else f"{scorer.__module__}:{getattr(scorer, '__qualname__', type(scorer).__qualname__)}"


def _digests(directory: str | None, pattern: str) -> dict[str, str]:
    return {} if directory is None else {file.name: file_digest(file) for file in sorted(Path(directory).glob(pattern))}


def _of_all(digests: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps(list(digests)).encode()).hexdigest()
