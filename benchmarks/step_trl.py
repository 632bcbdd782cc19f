"""Steps of TRL's ``GRPOTrainer`` in a process of its own: ``python -m benchmarks.step_trl --model DIR ...``.

TRL takes images, not videos, so a prompt holds images that stand for frames. Every response is forced to the same
length. The last line is JSON: seconds of every step, by the clock and of the processor.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--prompts", type=int, required=True)
    parser.add_argument("--responses", type=int, required=True)
    parser.add_argument("--images", type=int, required=True)
    parser.add_argument("--side", type=int, required=True)
    parser.add_argument("--tokens", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args()
    os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

    import torch
    from tests.video.hf_processors import provide_torchvision

    # The processor must have a part for videos, which is not used, and which asks for torchvision.
    provide_torchvision()
    from trl import GRPOConfig, GRPOTrainer

    torch.set_num_threads(args.threads)
    processor, special = _processor(args.model)
    config = GRPOConfig(
        output_dir=str(args.work),
        use_cpu=True,
        bf16=False,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        max_steps=args.steps,
        per_device_train_batch_size=args.responses,
        gradient_accumulation_steps=args.prompts,
        gradient_checkpointing=False,
        learning_rate=1e-6,
        num_generations=args.responses,
        max_completion_length=args.tokens,
        beta=0.0,
        model_init_kwargs={"dtype": "float32"},
        generation_kwargs={"min_new_tokens": args.tokens, "suppress_tokens": special},
    )
    walls: list[float] = []
    cpus: list[float] = []
    seen: dict[str, int] = {}

    class Timed(GRPOTrainer):  # type: ignore[misc]
        def training_step(self, *values: Any, **options: Any) -> Any:
            wall, cpu = time.perf_counter(), time.process_time()
            out = super().training_step(*values, **options)
            walls.append(time.perf_counter() - wall)
            cpus.append(time.process_time() - cpu)
            return out

        def _generate_and_score_completions(self, *values: Any, **options: Any) -> Any:
            out = super()._generate_and_score_completions(*values, **options)
            seen.update(
                prompt_tokens=int(out["prompt_mask"].sum(1).max()), new_tokens=int(out["completion_mask"].sum())
            )
            return out

    trainer = Timed(
        model=args.model,
        reward_funcs=_reward,
        args=config,
        train_dataset=_rows(args.steps * args.prompts, args.images, args.side),
        processing_class=processor,
    )
    trainer.train()
    steps = [slice(at, at + args.prompts) for at in range(0, len(walls), args.prompts)]
    print(json.dumps({"walls": [sum(walls[s]) for s in steps], "cpus": [sum(cpus[s]) for s in steps], **seen}))


def _processor(model: str) -> tuple[Any, list[int]]:
    """The processor of a checkpoint, and the special tokens, which are not to be generated.

    Images go the way that needs no torchvision.
    """
    from transformers import AutoTokenizer, Qwen2VLImageProcessorPil, Qwen3VLProcessor, Qwen3VLVideoProcessor

    tokenizer = AutoTokenizer.from_pretrained(model)
    for name in ("image_token", "video_token", "vision_start_token", "vision_end_token"):
        token = {"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"}.get(name, f"<|{name[:-6]}|>")
        setattr(tokenizer, name, token)
        setattr(tokenizer, f"{name}_id", tokenizer.convert_tokens_to_ids(token))
    processor = Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessorPil.from_pretrained(model),
        tokenizer=tokenizer,
        video_processor=Qwen3VLVideoProcessor.from_pretrained(model),
        chat_template=tokenizer.chat_template,
    )
    return processor, tokenizer.convert_tokens_to_ids(tokenizer.all_special_tokens)


def _rows(count: int, images: int, side: int) -> Any:
    import numpy as np
    from datasets import Dataset, Features, Image, List, Value
    from PIL import Image as Picture

    rng = np.random.default_rng(0)
    rows = [
        {
            "prompt": [{"role": "user", "content": f"What moves? {number}"}],
            "images": [Picture.fromarray(rng.integers(0, 255, (side, side, 3), dtype=np.uint8)) for _ in range(images)],
        }
        for number in range(count)
    ]
    messages = [{"role": Value("string"), "content": Value("string")}]
    return Dataset.from_list(rows, features=Features({"prompt": messages, "images": List(Image())}))


def _reward(completions: list[Any], **_: Any) -> list[float]:
    return [float(len(str(completion)) % 5) for completion in completions]


if __name__ == "__main__":
    main()
