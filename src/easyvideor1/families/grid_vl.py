"""The base of families whose vision towers take images of any size as a list of patches and their grid.

Such a model has a tower ``model.visual`` that is called with patches and ``grid_thw``, a language model
``model.language_model`` with rotary positions of three axes (M-RoPE: Wang et al. 2024, "Qwen2-VL", sec. 2.1), and
``lm_head``. A family says which class of transformers it is, how a video is written into the text, and which temporal
positions its steps take; ``docs/families.md`` shows how to add one.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from easyvideor1.attention.branches import BranchKeys
from easyvideor1.attention.functions import attention_arguments
from easyvideor1.attention.layout import Layout
from easyvideor1.families.checkpoint import normalisation, open_tokenizer, read_config, stop_token_ids
from easyvideor1.families.family import Conventions, Embeddings, VisualFeatures, VisualInputs, control_tokens
from easyvideor1.families.inputs import Normalisation, patchify_all
from easyvideor1.families.layers import make_faster
from easyvideor1.families.vision_tower import prepare_tower
from easyvideor1.types import ConfigError, DataError, Frames, Geometry, MediaPlan, MediaRef, Prompt, VisualSpan

_PLACEHOLDER = re.compile(r"<(image|video)>")
#: Stands for a response; what the chat template writes behind it is the same for every response.
_RESPONSE = "(response)"


class GridVL:
    """Base of such families. Subclasses set the class attributes and override what differs."""

    #: Name of the class in transformers.
    model_class = ""
    #: Settings of the vision tower that its weights do not show; they are part of the key of cached features.
    tower_shape: tuple[str, ...] = (
        "depth",
        "hidden_act",
        "hidden_size",
        "num_heads",
        "patch_size",
        "spatial_merge_size",
        "temporal_patch_size",
    )
    #: What ``ModelConfig.conventions`` decides in this family, in words.
    by_convention: Mapping[Conventions, str] = {
        "released": "text behind a video begins behind its last position",
        "transformers": "text behind a video begins behind its longer side, rows or columns",
    }
    shares_prefix = True
    #: True where frames attend to nothing beyond their own temporal step, whatever else is in the batch.
    feature_cache = True
    independent_steps = True

    def __init__(
        self, checkpoint: Path, *, trust_remote_code: bool = False, conventions: Conventions = "released"
    ) -> None:
        self.config = read_config(checkpoint)
        self.conventions = conventions
        self.tokenizer: Any = open_tokenizer(checkpoint, trust_remote_code=trust_remote_code)
        vision = self.config["vision_config"]
        self.geometry = Geometry(
            vision["patch_size"], vision.get("spatial_merge_size", 2), vision.get("temporal_patch_size", 2)
        )
        self._name_tokens()
        self.stop_token_ids = stop_token_ids(checkpoint, self.tokenizer)
        pad = self.tokenizer.pad_token_id
        self.pad_token_id: int = self.stop_token_ids[0] if pad is None else pad
        self.normalisation: dict[str, Normalisation] = {
            kind: normalisation(checkpoint, kind) for kind in ("image", "video")
        }

    def _name_tokens(self) -> None:
        """The tokens of media: ids from the configuration, names from the tokenizer."""
        self.image_token_id: int = self.config["image_token_id"]
        self.video_token_id: int = self.config["video_token_id"]
        self.vision_start_id: int = self.config["vision_start_token_id"]
        self.vision_end_id: int = self.config["vision_end_token_id"]
        ids = (self.image_token_id, self.video_token_id, self.vision_start_id, self.vision_end_id)
        self.visual_token_ids: tuple[int, ...] = ids
        names = self.tokenizer.convert_ids_to_tokens(list(ids))
        image, video, start, end = names
        #: What the chat template writes for a medium, and the visual token in it.
        self.marks = {"image": (start, image, end), "video": (start, video, end)}

    def video_text(self, plan: MediaPlan) -> str:
        """The text of a video, with one visual token for each of its spans."""
        return "".join(self.marks["video"])

    def span_steps(self, plan: MediaPlan) -> tuple[int, ...]:
        """Temporal steps in each span of a medium, which are as many as ``video_text`` has visual tokens."""
        return (plan.grid[0],)

    def temporal_positions(self, plan: MediaPlan, steps: int) -> NDArray[np.int64]:
        """Positions of the temporal steps of one span, ``(steps,)``, counted from the span's own."""
        return np.arange(steps)

    def render(self, text: str, refs: Sequence[MediaRef], plans: Sequence[MediaPlan], *, system: str = "") -> Prompt:
        """See ``Family.render``.

        Raises:
            DataError: placeholders, plans and visual tokens disagree, or the text writes visual tokens itself.
        """
        self._refuse_control_tokens(system)
        messages: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
        messages.append({"role": "user", "content": self._content(text, plans)})
        rendered = str(self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
        ids, spans = self._expand(self._tokenise(rendered, plans), plans)
        return Prompt(ids, tuple(refs), tuple(plans), spans, text, rendered.rstrip().endswith("<think>"))

    def extend(self, prompt: Prompt, text: str, refs: Sequence[MediaRef], plans: Sequence[MediaPlan]) -> Prompt:
        """See ``Family.extend``.

        Raises:
            DataError: as ``render``, or the chat template writes a response otherwise than it was given.
        """
        messages = [
            {"role": "user", "content": "?"},
            {"role": "assistant", "content": _RESPONSE},
            {"role": "user", "content": self._content(text, plans)},
        ]
        rendered = str(self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
        _, response, turn = rendered.partition(_RESPONSE)
        if not response:
            raise DataError("the chat template does not write responses as they are, so no turn can follow one")
        following = self._tokenise(turn, plans)
        # A response that was not cut ends with the token that the template closes it with.
        if len(following) and prompt.token_ids[-1:].tolist() == following[:1].tolist():
            following = following[1:]
        ids, spans = self._expand(following, plans)
        moved = [VisualSpan(len(prompt.plans) + s.media, len(prompt) + s.start, s.length) for s in spans]
        return Prompt(
            np.concatenate([prompt.token_ids, ids]),
            (*prompt.media, *refs),
            (*prompt.plans, *plans),
            (*prompt.spans, *moved),
            f"{prompt.text}\n\n{text}",
            turn.rstrip().endswith("<think>"),
        )

    def _content(self, text: str, plans: Sequence[MediaPlan]) -> list[dict[str, str]]:
        """A user message as chat templates take it: text and media in order."""
        self._refuse_control_tokens(text)
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
            self._check_plan(plan)
        return content

    def _tokenise(self, rendered: str, plans: Sequence[MediaPlan]) -> NDArray[np.int64]:
        """Token ids of a rendered conversation, with one visual token per span."""
        marked = self._mark_spans(rendered, plans)
        return np.asarray(self.tokenizer(marked, add_special_tokens=False)["input_ids"], dtype=np.int64)

    def _check_plan(self, plan: MediaPlan) -> None:
        _, rows, columns = plan.grid
        cell = self.geometry.merge_size**2
        sides = (rows * self.geometry.patch_size, columns * self.geometry.patch_size)
        if plan.tokens * cell != math.prod(plan.grid) or sides != (plan.height, plan.width):
            raise DataError(
                f"plan {plan.digest[:12]} says {plan.tokens} visual tokens for {plan.height} x {plan.width} pixels; "
                f"here its grid {plan.grid} has {math.prod(plan.grid) // cell} for {sides[0]} x {sides[1]}: it was "
                "made for another model family"
            )

    def _refuse_control_tokens(self, *texts: str) -> None:
        """Such a string would become the token: a visual token without pixels, or a false turn."""
        visual = {part for mark in self.marks.values() for part in mark if part}
        for token in (*sorted(visual), *control_tokens(self.tokenizer)):
            for text in texts:
                if token in text:
                    kind = "visual special token" if token in visual else "control token"
                    raise DataError(
                        f"the text contains the {kind} {token!r} at character {text.index(token)} - "
                        "remove it from the question; media are marked with <image> and <video>"
                    )

    def _mark_spans(self, rendered: str, plans: Sequence[MediaPlan]) -> str:
        """The text with one visual token per span."""
        marks = "|".join(re.escape("".join(self.marks[kind])) for kind in ("image", "video"))
        remaining = iter(plans)

        def tokens(_: re.Match[str]) -> str:
            plan = next(remaining, None)
            if plan is None:
                raise DataError(f"the chat template marks more than the {len(plans)} media of the prompt")
            return "".join(self.marks["image"]) if plan.kind == "image" else self.video_text(plan)

        return re.sub(marks, tokens, rendered)

    def _expand(
        self, ids: NDArray[np.int64], plans: Sequence[MediaPlan]
    ) -> tuple[NDArray[np.int64], tuple[VisualSpan, ...]]:
        """Repeat the visual token of every span as often as its plan says.

        Special tokens are never merged with their neighbours, so this equals tokenising the expanded text, which for a
        long video takes seconds.
        """
        wanted = [
            (media, plan.tokens // plan.grid[0] * steps)
            for media, plan in enumerate(plans)
            for steps in (self.span_steps(plan) if plan.kind == "video" else (1,))
        ]
        marks = np.flatnonzero((ids == self.image_token_id) | (ids == self.video_token_id))
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
        """M-RoPE: text advances by 1 on all three axes; a visual span takes a grid of steps, rows and columns.

        What follows a span begins behind its longer side, as in transformers since 5.3; by the released conventions,
        behind its last temporal position too (Qwen2-VL, sec. 2.1). The response goes on like text.
        """
        merge = self.geometry.merge_size
        out = np.empty((3, len(prompt)), dtype=np.int64)
        token = position = 0
        for span in prompt.spans:
            text = span.start - token
            out[:, token : span.start] = np.arange(position, position + text)
            position += text
            plan = prompt.plans[span.media]
            rows, columns = plan.grid[1] // merge, plan.grid[2] // merge
            temporal = self.temporal_positions(plan, span.length // (rows * columns))
            token = span.start + span.length
            out[0, span.start : token] = position + np.repeat(temporal, rows * columns)
            out[1, span.start : token] = position + np.tile(np.repeat(np.arange(rows), columns), len(temporal))
            out[2, span.start : token] = position + np.tile(np.arange(columns), len(temporal) * rows)
            last = int(temporal[-1]) + 1 if self.conventions == "released" else 0
            position += max(rows, columns, last)
        following = position + len(prompt) - token
        out[:, token:] = np.arange(position, following)
        return out, following

    def visual_inputs(self, frames: Sequence[Frames], device: torch.device | None = None) -> VisualInputs | None:
        """See ``Family.visual_inputs``."""
        if not frames:
            return None
        patches = patchify_all(frames, self.geometry, self.normalisation, device)
        grids = torch.tensor([f.plan.grid for f in frames], dtype=torch.int64)
        return VisualInputs(patches, grids.to(patches.device))

    def load_model(
        self, checkpoint: Path, *, dtype: torch.dtype, attention: str, trust_remote_code: bool, meta: bool = False
    ) -> Any:
        """See ``Family.load_model``."""
        import transformers

        kind = getattr(transformers, self.model_class)
        config = transformers.AutoConfig.from_pretrained(checkpoint, trust_remote_code=trust_remote_code)
        self._refuse_windows(config.get_text_config())
        if meta:
            with torch.device("meta"):
                model = kind._from_config(config, dtype=dtype, attn_implementation=attention)
        else:
            model = kind.from_pretrained(
                checkpoint,
                config=config,
                dtype=dtype,
                attn_implementation=attention,
                trust_remote_code=trust_remote_code,
            )
        tower = getattr(model.model, "visual", None)  # families may keep theirs elsewhere
        # The last bits of a product depend on how many rows it has, those of a convolution do not. Layers that carry a
        # state from token to token make up to a thousand times as much of such a difference between engine and trainer.
        if attention != "eager" and self.shares_prefix:
            make_faster(model)
        if attention != "eager" and tower is not None:
            prepare_tower(tower)
        return model

    def _refuse_windows(self, text: Any) -> None:
        """The mask says which tokens see which; layers with a window of their own would not follow it."""
        known = {"full_attention"} if self.shares_prefix else {"full_attention", "linear_attention"}
        if unknown := set(getattr(text, "layer_types", None) or ()) - known:
            raise ConfigError(
                f"model.path: this checkpoint has layers of {', '.join(sorted(unknown))}, which {type(self).__name__} "
                f"does not take; it takes {', '.join(sorted(known))}"
            )

    def encode(self, model: Any, visual: VisualInputs) -> VisualFeatures:
        """See ``Family.encode``."""
        dtype = model.model.get_input_embeddings().weight.dtype
        seen = model.model.visual(visual.pixel_patches.to(dtype), grid_thw=visual.grid_thw, return_dict=True)
        return VisualFeatures(seen.pooler_output, tuple(getattr(seen, "deepstack_features", None) or ()))

    def feature_settings(self, model: Any) -> str:
        """See ``Family.feature_settings``."""
        import transformers

        shape = {name: getattr(model.config.vision_config, name) for name in self.tower_shape}
        code = ".".join(transformers.__version__.split(".")[:2])
        settings = {"family": self.config["model_type"], "code": code, "normalisation": self.normalisation}
        return json.dumps({**settings, "tower": shape}, sort_keys=True)

    def embed(self, model: Any, input_ids: torch.Tensor, features: VisualFeatures | None) -> Embeddings:
        """See ``Family.embed``."""
        embeddings = model.model.get_input_embeddings()(input_ids)
        if torch.is_autocast_enabled(embeddings.device.type):
            # The residual stream, half of what layers keep for the backward pass, is of the computing type too.
            embeddings = embeddings.to(torch.get_autocast_dtype(embeddings.device.type))
        if features is None:
            return Embeddings(embeddings)
        visual = (input_ids == self.image_token_id) | (input_ids == self.video_token_id)
        if (tokens := int(visual.sum())) != features.tokens.shape[0]:
            raise DataError(f"{tokens} visual tokens but {features.tokens.shape[0]} visual features in a batch")
        places = visual.unsqueeze(-1).expand_as(embeddings)
        tokens_BTD = embeddings.masked_scatter(places, features.tokens.to(embeddings.dtype))
        return Embeddings(tokens_BTD, visual, features.deepstack)

    def decode(
        self,
        model: Any,
        embeddings: Embeddings,
        positions: torch.Tensor,
        mask: torch.Tensor | Layout | BranchKeys | None,
        cache: Any = None,
    ) -> torch.Tensor:
        """See ``Family.decode``."""
        further: dict[str, Any] = {}
        if embeddings.deepstack:
            further = {"visual_pos_masks": embeddings.visual, "deepstack_visual_embeds": list(embeddings.deepstack)}
        out = model.model.language_model(
            inputs_embeds=embeddings.tokens,
            position_ids=positions,
            past_key_values=cache,
            use_cache=cache is not None,
            **self.attention_arguments(model, mask, embeddings.tokens.dtype),
            **further,
        )
        hidden: torch.Tensor = out.last_hidden_state
        return hidden

    def attention_arguments(
        self, model: Any, mask: torch.Tensor | Layout | BranchKeys | None, dtype: torch.dtype
    ) -> dict[str, Any]:
        """Keyword arguments that make the language model attend as ``mask`` says."""
        return attention_arguments(mask, model.model.language_model.config, dtype)

    def logits(self, model: Any, hidden: torch.Tensor) -> torch.Tensor:
        """See ``Family.logits``."""
        out: torch.Tensor = model.lm_head(hidden)
        return out

    def groups(self, model: Any) -> dict[str, tuple[torch.nn.Module, ...]]:
        """See ``Family.groups``: the merger maps the tower's patches to tokens; the rest of the tower is vision."""
        parts = dict(model.model.visual.named_children())
        return {
            "vision": tuple(module for name, module in parts.items() if "merger" not in name),
            "merger": tuple(module for name, module in parts.items() if "merger" in name),
            "language": (model.model.language_model, model.lm_head),
        }
