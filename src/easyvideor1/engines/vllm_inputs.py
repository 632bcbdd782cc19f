"""Requests as vLLM takes them: prompts that need no processor, and sampling parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from easyvideor1.config import ModelConfig
from easyvideor1.engines.engine import Request, Sampling
from easyvideor1.families.family import Family, VisualFeatures, chosen_device, configured_model
from easyvideor1.families.features import FeatureCache
from easyvideor1.families.inputs import LoadFrames, load_media
from easyvideor1.types import ConfigError, DataError, MediaPlan, Prompt

#: Model types (``config.json``) whose inputs are known here, and whether the range of a video's tokens begins with the
#: token that opens its first span: vLLM looks for these tokens in the range to place the steps of a video.
SUPPORTED = {"qwen2_vl": False, "qwen2_5_vl": False, "qwen3_vl": True}

#: Names of the pixels, features and grids of each kind of medium.
_FIELDS = {
    "image": ("pixel_values", "image_embeds", "image_grid_thw"),
    "video": ("pixel_values_videos", "video_embeds", "video_grid_thw"),
}


def prompt_inputs(
    prompt: Prompt, family: Family, load: LoadFrames, version: int, features: FeatureCache | None = None
) -> Any:
    """The inputs of one prompt, with the frames of its media as normalised patches, or with their features.

    Args:
        prompt: with visual tokens expanded; its ids are used as they are.
        family: of the model.
        load: reads frames.
        version: of the weights: part of every key in vLLM's caches.
        features: kept of a frozen vision tower, which vLLM then need not call.

    Raises:
        MediaError: a medium cannot be read.
        DataError: frames are not those of their plan, or vLLM would place them at other positions.
    """
    from vllm.inputs import mm_input, tokens_input
    from vllm.multimodal.inputs import MultiModalFieldConfig, MultiModalKwargsItems

    ids, salt = prompt.token_ids.tolist(), str(version)
    if not prompt.plans:
        return tokens_input(ids, cache_salt=salt)
    model_type = family.config["model_type"]  # type: ignore[attr-defined]
    media = [] if features is not None else load_media(prompt, load)
    kept = None if features is None else features.read([prompt], load)
    merge = family.geometry.merge_size
    values: dict[str, torch.Tensor] = {}
    fields: dict[str, Any] = {}
    for kind, (pixels, embeds, grid) in _FIELDS.items():
        plans = [plan for plan in prompt.plans if plan.kind == kind]
        if not plans:
            continue
        values[grid] = torch.tensor([plan.grid for plan in plans], dtype=torch.int64)
        fields[grid] = MultiModalFieldConfig.batched(kind, keep_on_cpu=True)
        sizes = values[grid].prod(-1)
        if kept is not None:
            values[embeds] = _features_of(kind, prompt, kept)
            fields[embeds] = MultiModalFieldConfig.flat_from_sizes(kind, sizes // merge**2)
            continue
        visual = family.visual_inputs([frames for frames in media if frames.plan.kind == kind])
        assert visual is not None
        values[pixels] = visual.pixel_patches
        fields[pixels] = MultiModalFieldConfig.flat_from_sizes(kind, sizes)
    videos = [plan for plan in prompt.plans if plan.kind == "video"]
    if family.conventions != "released":  # type: ignore[attr-defined]
        _refuse_other_positions(prompt, family)
    if videos and model_type == "qwen2_5_vl":
        values["second_per_grid_ts"] = torch.tensor(
            [_step_seconds(plan, family) for plan in videos], dtype=torch.float64
        )
        fields["second_per_grid_ts"] = MultiModalFieldConfig.batched("video", keep_on_cpu=True)
    keys: dict[str, list[str]] = {}
    ranges: dict[str, list[Any]] = {}
    for media_index, plan in enumerate(prompt.plans):
        # Pixels depend on the plan, and what the tower makes of them on the weights.
        keys.setdefault(plan.kind, []).append(f"{plan.kind}/{plan.digest}/{plan.grid}/{version}")
        opened = plan.kind == "video" and SUPPORTED[model_type]
        ranges.setdefault(plan.kind, []).append(_token_range(prompt, media_index, opened))
    items = MultiModalKwargsItems.from_hf_inputs(values, fields)
    return mm_input(ids, items, keys, ranges, cache_salt=salt)


def _features_of(kind: str, prompt: Prompt, kept: VisualFeatures) -> torch.Tensor:
    """The features of the media of a kind, ``(T, (1 + layers) * D)``: those of DeepStack stand behind a token's own."""
    joined = torch.cat([kept.tokens, *kept.deepstack], dim=-1).cpu()
    parts = torch.split(joined, [plan.tokens for plan in prompt.plans])
    return torch.cat([part for part, plan in zip(parts, prompt.plans, strict=True) if plan.kind == kind])


def tower_only(family: Family, checkpoint: Path, config: ModelConfig) -> Any:
    """The model of a checkpoint on its device, frozen, with its vision tower alone: the rest holds no memory."""
    model = configured_model(family, config, checkpoint).requires_grad_(False).eval()
    model.compute_dtype = getattr(torch, config.dtype)
    for module in family.groups(model)["language"]:
        module.to("meta")
    for group in ("vision", "merger"):
        for module in family.groups(model)[group]:
            module.to(chosen_device(config))
    return model


def response_parameters(request: Request, index: int, stop_ids: frozenset[int]) -> Any:
    """vLLM's parameters of one response.

    Raises:
        ConfigError: vLLM does not take them.
    """
    from vllm import SamplingParams
    from vllm.exceptions import VLLMError
    from vllm.sampling_params import RequestOutputKind

    sampling = request.sampling
    drawn: dict[str, Any] = {"temperature": 0.0}
    if not sampling.greedy:
        drawn = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "repetition_penalty": sampling.repetition_penalty,
            "presence_penalty": sampling.presence_penalty,
            "frequency_penalty": sampling.frequency_penalty,
        }
    try:
        return SamplingParams(
            **drawn,
            seed=_seed(request.seed, index),
            max_tokens=sampling.max_new_tokens,
            stop_token_ids=sorted(stop_ids),
            ignore_eos=True,
            logprobs=0 if _has_logprobs(sampling) else None,
            flat_logprobs=True,
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
        )
    except (ValueError, VLLMError) as error:
        raise ConfigError(f"request {request.id!r}: vLLM refuses its sampling: {error}") from error


def _has_logprobs(sampling: Sampling) -> bool:
    """Whether vLLM's log-probs are the policy's: it computes them after penalties and cuts."""
    return sampling.greedy or not (sampling.penalises or sampling.top_p < 1 or sampling.top_k > 0)


def _seed(seed: int, index: int) -> int:
    """A seed of one response, below ``2 ** 63``; vLLM's own are neighbours, so that requests would share some."""
    key = np.array([seed % 2**64, index], dtype=np.uint64)
    return int(np.random.Generator(np.random.Philox(key=key)).integers(2**63))


def _token_range(prompt: Prompt, media_index: int, opened: bool) -> Any:
    """The range from the first to the last visual token of a medium, with a mask where text lies between them."""
    from vllm.multimodal.inputs import PlaceholderRange

    spans = [span for span in prompt.spans if span.media == media_index]
    start = spans[0].start - opened
    mask = torch.zeros(spans[-1].start + spans[-1].length - start, dtype=torch.bool)
    for span in spans:
        mask[span.start - start : span.start - start + span.length] = True
    return PlaceholderRange(start, len(mask), None if bool(mask.all()) else mask)


def _refuse_other_positions(prompt: Prompt, family: Family) -> None:
    """vLLM counts positions behind a medium as was released with the weights: see ``ModelConfig.conventions``.

    Raises:
        DataError: a video has more temporal positions than rows and columns, so that the trainer counts otherwise.
    """
    merge = family.geometry.merge_size
    for span in prompt.spans:
        plan = prompt.plans[span.media]
        rows, columns = plan.grid[1] // merge, plan.grid[2] // merge
        temporal = family.temporal_positions(plan, span.length // (rows * columns))  # type: ignore[attr-defined]
        if temporal[-1] >= max(rows, columns):
            raise DataError(
                f"{prompt.media[span.media].path}: behind this video vLLM counts positions as was released with the "
                "weights; set model.conventions=released, or rollout.engine=local"
            )


def _step_seconds(plan: MediaPlan, family: Family) -> float:
    """Seconds per temporal step that make vLLM's temporal positions those of the family.

    vLLM multiplies in float64 and cuts; transformers, and with it the trainer, in float32.
    """
    rate = family.config["vision_config"].get("tokens_per_second", 1.0)  # type: ignore[attr-defined]
    steps = np.arange(plan.grid[0])
    expected = family.temporal_positions(plan, plan.grid[0])  # type: ignore[attr-defined]
    seconds = family.geometry.temporal_patch_size / plan.sample_fps
    for candidate in (seconds, seconds * (1 + 1e-7), seconds * (1 - 1e-7)):
        if np.array_equal((steps * (candidate * rate)).astype(np.int64), expected):
            return float(candidate)
    raise DataError(
        f"a video of {plan.grid[0]} steps at {plan.sample_fps} frames per second: vLLM would round its temporal "
        "positions otherwise than the trainer; use another fps, or rollout.engine=local"
    )
