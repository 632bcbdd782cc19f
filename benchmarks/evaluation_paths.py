"""The two loops that most evaluations are, for an environment that has their packages (``benchmarks.evaluation``).

``python evaluation_paths.py vanilla|sync_vllm MODEL QUESTIONS ANSWERS``, without this project: transformers,
qwen-vl-utils with torchcodec or decord, and vLLM for the second. ``vanilla`` decodes, runs the processor and generates
question by question with batch 1. ``sync_vllm`` decodes every video first, then asks vLLM all questions at once.
``ANSWERS`` gets the texts and the seconds, without those of loading the model. A question with ``frames``, a NumPy file
of resized frames, is asked about those.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: Frames and sizes of every path, and tokens of an answer.
LIMITS = {"fps": 2.0, "max_frames": 16, "min_pixels": 1024, "max_pixels": 16384}
NEW_TOKENS = 16

Row = dict[str, str]


def frames(row: Row) -> tuple[Any, dict[str, Any]]:
    """The sampled and resized frames of a question's video, decoded anew, and what qwen-vl-utils says of them."""
    import numpy as np
    import torch
    from qwen_vl_utils import fetch_video

    asked = {"video": row["video"], **LIMITS}
    (video, about), _ = fetch_video(
        asked, image_patch_size=16, return_video_sample_fps=True, return_video_metadata=True
    )
    if "frames" in row:
        given = torch.from_numpy(np.load(row["frames"])).permute(0, 3, 1, 2).float()
        if given.shape != video.shape:
            raise ValueError(f"{row['frames']}: {tuple(given.shape)} where qwen-vl-utils has {tuple(video.shape)}")
        video = given
    return video, {**about, "frames_indices": [int(index) for index in about["frames_indices"]]}


def prompt(processor: Any, row: Row) -> str:
    """The chat of a question."""
    content = [{"type": "video"}, {"type": "text", "text": row["question"]}]
    chat = [{"role": "user", "content": content}]
    text: str = processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    return text


def vanilla(checkpoint: str) -> Callable[[list[Row]], list[str]]:
    """One question at a time."""
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor

    processor = AutoProcessor.from_pretrained(checkpoint)
    model = AutoModelForImageTextToText.from_pretrained(checkpoint, dtype=torch.float32).eval()

    def answer(rows: list[Row]) -> list[str]:
        texts = []
        for row in rows:
            video, about = frames(row)
            inputs = processor(
                text=[prompt(processor, row)],
                videos=[video],
                video_metadata=[about],
                do_sample_frames=False,
                do_resize=False,
                return_tensors="pt",
            )
            inputs.pop("video_metadata", None)
            with torch.inference_mode():
                ids = model.generate(**inputs, do_sample=False, max_new_tokens=NEW_TOKENS)
            new = ids[0, inputs["input_ids"].shape[1] :]
            texts.append(processor.tokenizer.decode(new, skip_special_tokens=True))
        return texts

    return answer


def sync_vllm(checkpoint: str) -> Callable[[list[Row]], list[str]]:
    """Every video is decoded, then everything is generated."""
    from transformers import AutoProcessor
    from vllm import LLM, SamplingParams

    processor = AutoProcessor.from_pretrained(checkpoint)
    model = LLM(
        model=checkpoint,
        max_model_len=2048,
        enforce_eager=True,
        dtype="float32",
        limit_mm_per_prompt={"video": 1, "image": 0},
        max_num_seqs=64,
        skip_mm_profiling=True,
    )
    sampling = SamplingParams(temperature=0.0, max_tokens=NEW_TOKENS)

    def answer(rows: list[Row]) -> list[str]:
        requests = []
        for row in rows:
            video, about = frames(row)
            rate = float(about["fps"])
            about = {**about, "fps": rate, "duration": about["total_num_frames"] / rate, "do_sample_frames": False}
            requests.append(
                {
                    "prompt": prompt(processor, row),
                    "multi_modal_data": {"video": [(video.numpy(), about)]},
                    "mm_processor_kwargs": {"do_resize": False},
                }
            )
        found = model.generate(requests, sampling, use_tqdm=False)
        # Its own text lacks a character that the last token leaves incomplete.
        return [processor.tokenizer.decode(one.outputs[0].token_ids, skip_special_tokens=True) for one in found]

    return answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", choices=["vanilla", "sync_vllm"])
    parser.add_argument("checkpoint")
    parser.add_argument("questions", type=Path)
    parser.add_argument("answers", type=Path)
    options = parser.parse_args()
    os.environ |= {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    import torch

    torch.set_num_threads(os.cpu_count() or 1)
    rows = [json.loads(line) for line in options.questions.read_text(encoding="utf-8").splitlines()]
    answer = {"vanilla": vanilla, "sync_vllm": sync_vllm}[options.path](options.checkpoint)
    begun = time.perf_counter()
    texts = answer(rows)
    found = {"seconds": time.perf_counter() - begun, "texts": texts, "python": sys.version.split()[0]}
    options.answers.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
