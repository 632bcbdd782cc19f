"""One optimisation step of one model, computed two ways: as this package does, and with every sequence by itself."""

from __future__ import annotations

import bisect
import random
import string
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from easyvideor1.config import ModelConfig, OptimizerConfig, StageConfig
from easyvideor1.families.family import Family, VisualInputs
from easyvideor1.families.inputs import load_media
from easyvideor1.families.tiny import write_tiny_checkpoint
from easyvideor1.policy.policy import Policy
from easyvideor1.policy.update_batch import UpdateBatch
from easyvideor1.types import Frames, MediaKind, MediaPlan, MediaRef, Prompt, Turn

#: Tokens that the separate path puts into one pass; ours has the same number for ``micro_batch_tokens``.
PASS_TOKENS = 16_384

SIDE = 128  # pixels: 16 visual tokens per image, or per two frames of a video


def write_model(out: Path) -> Path:
    """A tiny Qwen3-VL with the proportions of the 2B one: per visual token as much work in the vision tower as in the
    language model, and a fifth of a text token's for its logits."""
    letters = random.Random(0)
    corpus = [" ".join("".join(letters.choices(string.ascii_lowercase, k=5)) for _ in range(6)) for _ in range(800)]
    corpus += ["What moves? <answer>A</answer>", "<1.5 seconds><0.2 seconds>"]
    return write_tiny_checkpoint(out, corpus, seed=1, width=128, layers=8, vision_layers=2, vocabulary=2048)


@dataclass(frozen=True, slots=True)
class StepData:
    """What a step trains on: groups of turns, their frames, and an advantage per turn."""

    turns: tuple[Turn, ...]
    advantages: torch.Tensor
    frames: dict[str, Frames]

    def load(self, ref: MediaRef, plan: MediaPlan) -> Frames:
        """The frames of a plan, from memory."""
        return self.frames[plan.digest]

    @property
    def bound(self) -> tuple[int, int]:
        """Tokens and patches that have to be processed: prompts and their media once, every response once."""
        prompts = {id(turn.prompt): turn.prompt for turn in self.turns}.values()
        fed = sum(max(len(turn.response_ids) - 1, 0) for turn in self.turns)
        patches = sum(int(np.prod(plan.grid)) for prompt in prompts for plan in prompt.plans)
        return sum(map(len, prompts)) + fed, patches


def make_step_data(
    family: Family,
    *,
    prompt_tokens: int,
    responses: int,
    lengths: tuple[int, int],
    groups: int = 1,
    seed: int = 0,
    side: int = SIDE,
) -> StepData:
    """Groups of random responses of ``lengths`` (from, to) to videos of noise that make ``prompt_tokens`` at least."""
    rng = np.random.default_rng(seed)
    frames: dict[str, Frames] = {}
    turns = []
    for group in range(groups):

        def length(steps: int, group: int = group) -> int:
            return len(render(family, None, "video", steps, (seed, group), side))

        steps = 1 + bisect.bisect_left(range(1, prompt_tokens), prompt_tokens, key=length)
        prompt = render(family, frames, "video", steps, (seed, group), side)
        for count in np.linspace(*lengths, responses).round().astype(int):
            turns.append(make_turn(prompt, rng.integers(300, 1500, count)))
    advantages = torch.from_numpy(rng.normal(size=len(turns))).float()
    return StepData(tuple(turns), advantages, frames)


def render(
    family: Family,
    frames: dict[str, Frames] | None,
    kind: MediaKind,
    count: int,
    seed: tuple[int, ...],
    side: int = SIDE,
) -> Prompt:
    """The prompt of one video of ``count`` temporal steps, or of ``count`` images; its frames go into ``frames``."""
    media = [2 * count] if kind == "video" else [1] * count
    plans = []
    for number, shown in enumerate(media):
        name = f"{kind}-{shown}-{number}-{seed}"
        steps, patches = (shown + 1) // 2, side // 16
        plan = MediaPlan(
            kind=kind,
            fingerprint=name,
            frame_indices=tuple(range(shown)),
            timestamps=tuple(index / 2 for index in range(shown)),
            height=side,
            width=side,
            grid=(steps, patches, patches),
            tokens=steps * patches * patches // 4,
            source_fps=2.0,
            sample_fps=2.0,
            digest=name,
        )
        plans.append(plan)
        if frames is not None:
            pixels = np.random.default_rng([len(name), number, *seed]).integers(
                0, 255, (shown, side, side, 3), np.uint8
            )
            frames[name] = Frames(pixels, plan)
    text = f"<{kind}>" * len(media) + "What moves?"
    return family.render(text, [MediaRef(kind, plan.digest) for plan in plans], plans)


def make_turn(prompt: Prompt, ids: np.ndarray[Any, Any]) -> Turn:
    """A turn of these tokens, all trained on."""
    return Turn(prompt, ids.astype(np.int64), np.ones(len(ids), dtype=bool), None, "length", "")


class Shared:
    """Our path, as a run takes it: ``Policy.logprobs`` and ``Policy.update``."""

    def __init__(self, policy: Policy, pass_tokens: int = PASS_TOKENS) -> None:
        self.policy = policy
        self.policy.begin(_stage(pass_tokens))
        self.steps = 0

    @classmethod
    def open(cls, checkpoint: Path) -> Shared:
        """Of a checkpoint, on the CPU."""
        return cls(Policy.open(ModelConfig(path=str(checkpoint), device="cpu")))

    def logprobs(self, data: StepData) -> list[torch.Tensor]:
        return list(self.policy.logprobs(data.turns, temperature=1.0, load=data.load).values())

    def update(self, data: StepData) -> None:
        self.steps += 1
        assert self.policy.options is not None
        batch = UpdateBatch.of(data.turns, data.advantages, self.policy.options)
        self.policy.forward_backward(batch, load=data.load)
        self.policy.optimizer_step(self.steps)

    def gradients(self, data: StepData) -> dict[str, torch.Tensor]:
        """Of a step's loss; the policy is changed by it."""
        assert self.policy.optimizer is not None
        return _seen_gradients(self.policy.model, self.policy.optimizer, lambda: self.update(data))

    @contextmanager
    def counted(self) -> Iterator[dict[str, int]]:
        """Tokens that the language model is given and patches that the vision tower is given, within the block."""
        with _counted(self.policy.model) as counts:
            yield counts


class Separate:
    """The usual way: transformers' model on prompt and response of every sequence, in padded batches.

    The prompt and its pixels are repeated for every response, and there are logits for every token.
    """

    def __init__(self, model: Any, family: Family, dtype: torch.dtype = torch.float32) -> None:
        self.family: Any = family
        self.model = model
        self.dtype = dtype
        self.device = next(model.parameters()).device
        options = _stage().optimizer
        self.optimizer = torch.optim.AdamW(
            [parameter for parameter in model.parameters() if parameter.requires_grad],
            lr=options.lr,
            weight_decay=options.weight_decay,
            fused=self.device.type == "cuda",
        )

    @classmethod
    def open(cls, checkpoint: Path, family: Family) -> Separate:
        """Of a checkpoint, on the CPU."""
        from transformers import Qwen3VLForConditionalGeneration

        return cls(Qwen3VLForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32), family)

    def logprobs(self, data: StepData) -> list[torch.Tensor]:
        self.model.eval()
        with torch.no_grad():
            found = [values for batch in _padded_batches(data.turns) for values in self._forward(data, batch)]
        return [values.cpu() for values in found]

    def update(self, data: StepData) -> None:
        self.model.train()
        total = sum(len(turn.response_ids) for turn in data.turns)
        done = 0
        nothing = torch.zeros((), device=self.device)
        for batch in _padded_batches(data.turns):
            values = self._forward(data, batch)
            advantages = data.advantages[done : done + len(batch)]
            loss = -sum((float(a) * v.sum() for a, v in zip(advantages, values, strict=True)), nothing) / total
            torch.autograd.backward(loss)
            done += len(batch)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1e9)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def gradients(self, data: StepData) -> dict[str, torch.Tensor]:
        """Of a step's loss; the model is changed by it."""
        return _seen_gradients(self.model, self.optimizer, lambda: self.update(data))

    def _forward(self, data: StepData, turns: Sequence[Turn]) -> list[torch.Tensor]:
        ids, mask, visual = self._inputs(data, turns)
        video, image = ids == self.family.video_token_id, ids == self.family.image_token_id
        self.model.model.rope_deltas = None
        with torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32):
            logits = self.model(
                input_ids=ids,
                attention_mask=mask if len(turns) > 1 else None,  # without padding, the fastest kernels serve
                pixel_values_videos=visual.pixel_patches,
                video_grid_thw=visual.grid_thw,
                mm_token_type_ids=image.int() + 2 * video.int(),
                use_cache=False,
            ).logits
        logits[..., torch.tensor(self.family.visual_token_ids, device=self.device)] = float("-inf")
        picked = torch.log_softmax(logits[:, :-1].float(), dim=-1).gather(-1, ids[:, 1:, None]).squeeze(-1)
        return [
            picked[row, len(turn.prompt) - 1 : len(turn.prompt) - 1 + len(turn.response_ids)]
            for row, turn in enumerate(turns)
        ]

    def _inputs(self, data: StepData, turns: Sequence[Turn]) -> tuple[torch.Tensor, torch.Tensor, VisualInputs]:
        texts = [np.concatenate([turn.prompt.token_ids, turn.response_ids]) for turn in turns]
        length = max(map(len, texts))
        ids = torch.full((len(turns), length), self.family.pad_token_id)
        mask = torch.zeros_like(ids)
        for row, text in enumerate(texts):
            ids[row, : len(text)] = torch.from_numpy(text)
            mask[row, : len(text)] = 1
        frames = [medium for turn in turns for medium in load_media(turn.prompt, data.load)]
        visual = self.family.visual_inputs(frames, self.device)
        assert visual is not None
        return ids.to(self.device), mask.to(self.device), visual


def _padded_batches(turns: Sequence[Turn]) -> list[list[Turn]]:
    batches: list[list[Turn]] = []
    for turn in turns:
        width = max(
            len(each.prompt) + len(each.response_ids) for each in ([turn] if not batches else [*batches[-1], turn])
        )
        if batches and width * (len(batches[-1]) + 1) <= PASS_TOKENS:
            batches[-1].append(turn)
        else:
            batches.append([turn])
    return batches


def _stage(pass_tokens: int = PASS_TOKENS) -> StageConfig:
    return StageConfig(
        name="benchmark",
        objective="reinforce",
        advantage="grpo",
        micro_batch_tokens=pass_tokens,
        optimizer=OptimizerConfig(lr=1e-6, max_grad_norm=1e9),
    )


def _seen_gradients(model: Any, optimizer: torch.optim.Optimizer, update: Any) -> dict[str, torch.Tensor]:
    seen: dict[str, torch.Tensor] = {}

    def look(*_: Any) -> None:
        seen.update({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})

    handle = optimizer.register_step_pre_hook(look)
    try:
        update()
    finally:
        handle.remove()
    return seen


@contextmanager
def _counted(model: Any) -> Iterator[dict[str, int]]:
    counts = {"tokens": 0, "patches": 0}

    def tokens(_: Any, __: Any, options: dict[str, Any]) -> None:
        counts["tokens"] += options["inputs_embeds"].shape[0] * options["inputs_embeds"].shape[1]

    def patches(_: Any, values: tuple[Any, ...]) -> None:
        counts["patches"] += values[0].shape[0]

    handles = [
        model.model.language_model.register_forward_pre_hook(tokens, with_kwargs=True),
        model.model.visual.register_forward_pre_hook(patches),
    ]
    try:
        yield counts
    finally:
        for handle in handles:
            handle.remove()


__all__ = ["Separate", "Shared", "StepData", "make_step_data", "make_turn", "render", "write_model"]
