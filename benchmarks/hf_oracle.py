"""Processors and models of transformers as oracles of the families, run in a process of their own.

``python -m benchmarks.hf_oracle DIRECTORY THREADS`` reads ``DIRECTORY/jobs.json``: a list of jobs, each a checkpoint
and batches of conversations whose media lie beside it as arrays. Every batch goes through the checkpoint's processor,
as it is, and through its model, in float32 and in float64; what comes out is written as
``DIRECTORY/JOB.BATCH.safetensors``.

The processors need torchvision. Where it is missing, the stand-ins that the oracle of planning brings take its place,
in this process only: nothing else may believe that torchvision is there.
"""

from __future__ import annotations

import inspect
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file
from safetensors.torch import save_file
from tests.video.hf_processors import provide_torchvision

from benchmarks.float64 import in_float64

#: Tokens that are generated greedily after every single prompt.
GENERATED = 6


def main() -> None:
    provide_torchvision()
    directory = Path(sys.argv[1])
    torch.set_num_threads(int(sys.argv[2]))
    for number, job in enumerate(json.loads((directory / "jobs.json").read_text(encoding="utf-8"))):
        arrays = load_file(directory / job["media"])
        answer = _Model(Path(job["checkpoint"]))
        for index, batch in enumerate(job["batches"]):
            save_file(answer(batch, arrays), directory / f"{number}.{index}.safetensors")


class _Model:
    def __init__(self, checkpoint: Path) -> None:
        import transformers

        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        self.processor = _processor(checkpoint)
        self.processor.tokenizer.padding_side = "right"
        self.model = transformers.AutoModelForImageTextToText.from_pretrained(
            checkpoint, dtype=torch.float32, attn_implementation="sdpa"
        ).eval()
        self.model.generation_config.eos_token_id = None  # it goes on behind them

    @torch.no_grad()
    def __call__(self, batch: list[dict[str, Any]], arrays: dict[str, Any]) -> dict[str, torch.Tensor]:
        inputs = self._inputs(batch, arrays)
        base = self.model.model
        base.rope_deltas = None
        out = {
            "input_ids": inputs["input_ids"],
            "attention_mask": inputs["attention_mask"],
            "positions": self._positions(inputs),
            "logits": self.model(**inputs).logits,
        }
        for name in ("pixel_values", "pixel_values_videos", "image_grid_thw", "video_grid_thw"):
            if name in inputs:
                out[name] = inputs[name]
        if len(batch) == 1:
            # Where the next token goes: the position of one that is there.
            text = {"input_ids": 0, "mm_token_type_ids": 0, "attention_mask": 1}
            longer = {name: torch.nn.functional.pad(inputs[name], (0, 1), value=value) for name, value in text.items()}
            out["following"] = self._positions({**inputs, **longer})[:, 0, -1]
            base.rope_deltas = None
            whole = self.model.generate(
                **inputs, max_new_tokens=GENERATED, do_sample=False, suppress_tokens=batch[0]["suppressed"]
            )
            out["generated"] = whole[:, inputs["input_ids"].shape[1] :]
        base.rope_deltas = None
        with in_float64(self.model):
            out["exact_logits"] = self.model(**inputs).logits
        return {name: tensor.contiguous() for name, tensor in out.items()}

    def _positions(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        function = self.model.model.get_rope_index
        known = inspect.signature(function).parameters
        positions: torch.Tensor = function(**{name: value for name, value in inputs.items() if name in known})[0]
        return positions

    def _inputs(self, batch: list[dict[str, Any]], arrays: dict[str, Any]) -> dict[str, torch.Tensor]:
        from transformers.video_utils import VideoMetadata

        texts, images, videos, metadata = [], [], [], []
        for case in batch:
            texts.append(
                self.processor.apply_chat_template(case["messages"], tokenize=False, add_generation_prompt=True)
            )
            for medium in case["media"]:
                pixels = torch.from_numpy(np.array(arrays[medium["array"]])).permute(0, 3, 1, 2)
                if medium["kind"] == "image":
                    images.append(pixels[0])
                    continue
                videos.append(pixels)
                metadata.append(
                    VideoMetadata(
                        total_num_frames=medium["total"], fps=medium["fps"], frames_indices=list(medium["indices"])
                    )
                )
        given: dict[str, Any] = {}
        if images:
            given["images"] = images
        if videos:
            given |= {"videos": videos, "video_metadata": metadata, "do_sample_frames": False}
        inputs = self.processor(text=texts, padding=True, do_resize=False, return_tensors="pt", **given)
        return {name: torch.as_tensor(value) for name, value in inputs.items()}


def _processor(checkpoint: Path) -> Any:
    """The classes that the checkpoint names; the automatic one imports those of all models, for which torchvision's
    stand-ins do not suffice."""
    import transformers

    image = json.loads((checkpoint / "preprocessor_config.json").read_text(encoding="utf-8"))
    video = json.loads((checkpoint / "video_preprocessor_config.json").read_text(encoding="utf-8"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
    return getattr(transformers, image["processor_class"])(
        getattr(transformers, image["image_processor_type"]).from_pretrained(checkpoint),
        tokenizer,
        getattr(transformers, video["video_processor_type"]).from_pretrained(checkpoint),
        chat_template=tokenizer.chat_template,
    )


if __name__ == "__main__":
    main()
