"""Qwen3-VL: timestamps are text, every temporal step is its own visual span, DeepStack features enter early layers."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from easyvideor1.models.attention import Layout, attention_arguments
from easyvideor1.models.family import FAMILIES, Visual, VisualFeatures, VisualInputs
from easyvideor1.models.inputs import Normalisation, patchify_all
from easyvideor1.types import ConfigError, DataError, Frames, Geometry, MediaPlan, MediaRef, Prompt, VisualSpan

#: Settings of the vision tower that its weights do not tell.
_TOWER_SHAPE = (
    "depth",
    "hidden_act",
    "hidden_size",
    "num_heads",
    "patch_size",
    "spatial_merge_size",
    "temporal_patch_size",
    "num_position_embeddings",
    "deepstack_visual_indexes",
)

_PLACEHOLDER = re.compile(r"<(image|video)>")


@FAMILIES.register("qwen3_vl")
class Qwen3VL:
    """Adapter of Qwen3-VL (dense) over transformers' own classes."""

    shares_prefix = True
    feature_cache = True  # frames attend to nothing beyond their own temporal step

    def __init__(self, checkpoint: Path, *, trust_remote_code: bool = False) -> None:
        from transformers import AutoTokenizer

        config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
        self.tokenizer: Any = AutoTokenizer.from_pretrained(checkpoint, trust_remote_code=trust_remote_code)
        if not self.tokenizer.chat_template:
            raise ConfigError(f"model.path: {str(checkpoint)!r} has no chat template (chat_template.jinja)")
        vision = config["vision_config"]
        self.geometry = Geometry(vision["patch_size"], vision["spatial_merge_size"], vision["temporal_patch_size"])
        self.image_token_id: int = config["image_token_id"]
        self.video_token_id: int = config["video_token_id"]
        self.vision_start_id: int = config["vision_start_token_id"]
        self.vision_end_id: int = config["vision_end_token_id"]
        self.visual_token_ids = (self.image_token_id, self.video_token_id, self.vision_start_id, self.vision_end_id)
        names = self.tokenizer.convert_ids_to_tokens(list(self.visual_token_ids))
        self._image_token, self._video_token, self._vision_start, self._vision_end = names
        self.stop_token_ids = _stop_token_ids(checkpoint, self.tokenizer)
        pad = self.tokenizer.pad_token_id
        self.pad_token_id: int = self.stop_token_ids[0] if pad is None else pad
        self.normalisation: dict[str, Normalisation] = {
            kind: _normalisation(checkpoint, kind) for kind in ("image", "video")
        }

    def render(self, text: str, refs: Sequence[MediaRef], plans: Sequence[MediaPlan], *, system: str = "") -> Prompt:
        """See ``Family.render``.

        Raises:
            DataError: placeholders, plans and visual tokens disagree, or the text writes visual tokens itself.
        """
        self._refuse_visual_tokens(text, system)
        content: list[dict[str, str]] = []
        position = 0
        for match in _PLACEHOLDER.finditer(text):
            if match.start() > position:
                content.append({"type": "text", "text": text[position : match.start()]})
            content.append({"type": match.group(1)})
            position = match.end()
        if position < len(text):
            content.append({"type": "text", "text": text[position:]})
        kinds = [part["type"] for part in content if part["type"] != "text"]
        if kinds != [plan.kind for plan in plans]:
            raise DataError(f"the prompt has placeholders {kinds} but media {[plan.kind for plan in plans]}")
        for plan in plans:
            if plan.tokens * self.geometry.merge_size**2 != math.prod(plan.grid):
                raise DataError(
                    f"plan {plan.digest[:12]} says {plan.tokens} visual tokens, its grid {plan.grid} has "
                    f"{math.prod(plan.grid) // self.geometry.merge_size**2}: it was made for another model family"
                )
        messages: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
        messages.append({"role": "user", "content": content})
        rendered = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        marked = self._mark_spans(rendered, plans)
        ids = np.asarray(self.tokenizer(marked, add_special_tokens=False)["input_ids"], dtype=np.int64)
        expanded, spans = self._expand(ids, plans)
        return Prompt(expanded, tuple(refs), tuple(plans), spans, text)

    def _refuse_visual_tokens(self, *texts: str) -> None:
        """Such a string would become the token, and with it pixels or their brackets that nothing stands behind."""
        for token in (self._image_token, self._video_token, self._vision_start, self._vision_end):
            for text in texts:
                if token in text:
                    raise DataError(
                        f"the text contains the visual special token {token!r} at character {text.index(token)} - "
                        "remove it from the question; media are marked with <image> and <video>"
                    )

    def _mark_spans(self, rendered: str, plans: Sequence[MediaPlan]) -> str:
        """The text with one visual token per span; the spans of a video follow their timestamps."""
        image = re.escape(self._vision_start + self._image_token + self._vision_end)
        video = re.escape(self._vision_start + self._video_token + self._vision_end)
        remaining = iter(plans)

        def tokens(_: re.Match[str]) -> str:
            plan = next(remaining, None)
            if plan is None:
                raise DataError(f"the chat template marks more than the {len(plans)} media of the prompt")
            if plan.kind == "image":
                return f"{self._vision_start}{self._image_token}{self._vision_end}"
            span = f"{self._vision_start}{self._video_token}{self._vision_end}"
            return "".join(f"<{second:.1f} seconds>{span}" for second in self._step_seconds(plan))

        return re.sub(f"{image}|{video}", tokens, str(rendered))

    def _step_seconds(self, plan: MediaPlan) -> Iterator[float]:
        """Each temporal step is labelled with the mean of its first and last frame's time."""
        depth, times = self.geometry.temporal_patch_size, plan.timestamps
        for step in range(plan.grid[0]):
            first = times[min(step * depth, len(times) - 1)]
            last = times[min(step * depth + depth - 1, len(times) - 1)]
            yield (first + last) / 2

    def _expand(
        self, ids: NDArray[np.int64], plans: Sequence[MediaPlan]
    ) -> tuple[NDArray[np.int64], tuple[VisualSpan, ...]]:
        """Repeat the visual token of every span as often as its plan says.

        Special tokens are never merged with their neighbours, so this equals tokenising the expanded text, which for a
        long video takes seconds.
        """
        steps = [plan.grid[0] if plan.kind == "video" else 1 for plan in plans]
        wanted = [(media, plan.tokens // steps[media]) for media, plan in enumerate(plans) for _ in range(steps[media])]
        marks = np.flatnonzero(np.isin(ids, (self.image_token_id, self.video_token_id)))
        if len(marks) != len(wanted):
            raise DataError(
                f"the prompt marks {len(marks)} visual spans, but the plans say {len(wanted)}: the chat template does "
                "not mark every medium once, or the tokenizer splits visual tokens"
            )
        counts = np.ones(len(ids), dtype=np.int64)
        counts[marks] = [length for _, length in wanted]
        starts = np.cumsum(counts) - counts
        pairs = zip(starts[marks].tolist(), wanted, strict=True)
        return np.repeat(ids, counts), tuple(VisualSpan(media, start, length) for start, (media, length) in pairs)

    def positions(self, prompt: Prompt) -> tuple[NDArray[np.int64], int]:
        """Interleaved M-RoPE (Qwen3-VL): text advances by 1; a visual span takes one temporal position, a grid of rows
        and columns, and advances by its longer side."""
        merge = self.geometry.merge_size
        out = np.empty((3, len(prompt)), dtype=np.int64)
        token = position = 0
        for span in (*prompt.spans, None):
            stop = len(prompt) if span is None else span.start
            out[:, token:stop] = np.arange(position, position + stop - token)
            position += stop - token
            if span is None:
                return out, position
            _, height, width = prompt.plans[span.media].grid
            rows, columns = height // merge, width // merge
            end = span.start + span.length
            out[0, span.start : end] = position
            out[1, span.start : end] = position + np.repeat(np.arange(rows), columns)
            out[2, span.start : end] = position + np.tile(np.arange(columns), rows)
            token, position = end, position + max(rows, columns)
        raise AssertionError("the last element of the loop returns")

    def visual_inputs(self, frames: Sequence[Frames], device: torch.device | None = None) -> VisualInputs | None:
        if not frames:
            return None
        patches = patchify_all(frames, self.geometry, self.normalisation, device)
        grids = torch.tensor([f.plan.grid for f in frames], dtype=torch.int64)
        return VisualInputs(patches, grids.to(patches.device))

    def load_model(self, checkpoint: Path, *, dtype: torch.dtype, attention: str, trust_remote_code: bool) -> Any:
        from transformers import Qwen3VLForConditionalGeneration

        return Qwen3VLForConditionalGeneration.from_pretrained(
            checkpoint, dtype=dtype, attn_implementation=attention, trust_remote_code=trust_remote_code
        )

    def encode(self, model: Any, visual: VisualInputs) -> VisualFeatures:
        dtype = model.model.get_input_embeddings().weight.dtype
        seen = model.model.visual(visual.pixel_patches.to(dtype), grid_thw=visual.grid_thw, return_dict=True)
        return VisualFeatures(seen.pooler_output, tuple(seen.deepstack_features))

    def feature_settings(self, model: Any) -> str:
        import transformers

        shape = {name: getattr(model.config.vision_config, name) for name in _TOWER_SHAPE}
        code = ".".join(transformers.__version__.split(".")[:2])
        settings = {"family": "qwen3_vl", "code": code, "normalisation": self.normalisation, "tower": shape}
        return json.dumps(settings, sort_keys=True)

    def hidden_states(
        self,
        model: Any,
        input_ids: torch.Tensor,
        positions: torch.Tensor,
        mask: torch.Tensor | Layout,
        visual: Visual | None,
        cache: Any = None,
    ) -> torch.Tensor:
        embeddings = model.model.get_input_embeddings()(input_ids)
        visual_mask = deepstack = None
        if visual is not None:
            seen = visual if isinstance(visual, VisualFeatures) else self.encode(model, visual)
            visual_mask = (input_ids == self.image_token_id) | (input_ids == self.video_token_id)
            if (tokens := int(visual_mask.sum())) != seen.tokens.shape[0]:
                raise DataError(f"{tokens} visual tokens but {seen.tokens.shape[0]} visual features in a batch")
            scatter = visual_mask.unsqueeze(-1).expand_as(embeddings)
            embeddings = embeddings.masked_scatter(scatter, seen.tokens.to(embeddings.dtype))
            deepstack = list(seen.deepstack)
        out = model.model.language_model(
            inputs_embeds=embeddings,
            **attention_arguments(mask, model.model.language_model.config, embeddings.dtype),
            position_ids=positions,
            past_key_values=cache,
            use_cache=cache is not None,
            visual_pos_masks=visual_mask,
            deepstack_visual_embeds=deepstack,
        )
        hidden: torch.Tensor = out.last_hidden_state
        return hidden

    def logits(self, model: Any, hidden: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = model.lm_head(hidden)
        return out

    def groups(self, model: Any) -> dict[str, tuple[torch.nn.Module, ...]]:
        tower = model.model.visual
        return {
            "vision": (tower.patch_embed, tower.pos_embed, tower.blocks),
            "merger": (tower.merger, tower.deepstack_merger_list),
            "language": (model.model.language_model, model.lm_head),
        }


def _stop_token_ids(checkpoint: Path, tokenizer: Any) -> tuple[int, ...]:
    """End-of-turn tokens: those of the generation config if there is one, else the tokenizer's."""
    file = checkpoint / "generation_config.json"
    stop = json.loads(file.read_text(encoding="utf-8")).get("eos_token_id") if file.is_file() else None
    stop = tokenizer.eos_token_id if stop is None else stop
    if stop is None:
        raise ConfigError(f"model.path: {str(checkpoint)!r} names no end-of-sequence token")
    return (stop,) if isinstance(stop, int) else tuple(stop)


def _normalisation(checkpoint: Path, kind: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Channel mean and deviation from the processor files, which differ by kind in some checkpoints."""
    own = "video_preprocessor_config.json" if kind == "video" else "preprocessor_config.json"
    settings: dict[str, Any] = {}
    joint = checkpoint / "processor_config.json"
    if joint.is_file():
        nested = json.loads(joint.read_text(encoding="utf-8"))
        settings = nested.get(f"{kind}_processor", {})
    if not settings and (checkpoint / own).is_file():
        settings = json.loads((checkpoint / own).read_text(encoding="utf-8"))
    if "image_mean" not in settings or "image_std" not in settings:
        raise ConfigError(
            f"model.path: {str(checkpoint)!r} does not say how {kind} pixels are normalised: "
            f"{own} or processor_config.json must hold image_mean and image_std"
        )
    return tuple(settings["image_mean"]), tuple(settings["image_std"])
