"""What differs between model families, behind one small interface.

A family is found by the ``model_type`` of the checkpoint's ``config.json``, or named by ``model.family``. Adding one is
a file that registers a class, and a line in ``MODULES``; ``docs/families.md`` shows both.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from easyvideor1.attention.branches import BranchKeys
from easyvideor1.attention.functions import register
from easyvideor1.attention.layout import Layout
from easyvideor1.attention.sequence_parallel import RowExchange
from easyvideor1.config import ModelConfig
from easyvideor1.families.checkpoint import read_config
from easyvideor1.families.torchvision_import import import_torchvision
from easyvideor1.registry import Registry
from easyvideor1.types import ConfigError, Frames, Geometry, MediaPlan, MediaRef, Prompt


@dataclass(frozen=True, slots=True)
class VisualInputs:
    """All media of a batch for one call of the vision tower.

    ``pixel_patches`` is ``(patches, channels * temporal_patch_size * patch_size ** 2)``; ``grid_thw`` is int64
    ``(media, 3)``, in patches; media are in prompt order. Where several rows hold the same media, these are here once,
    and ``repeats``, int64, says for every visual token of all rows which of the tower's features it is given. Where
    several ranks compute a row together, these are the media that this one encodes, and ``exchange`` says which of
    their features go to whom; a rank that has none to encode has a picture here whose features go to nobody.
    """

    pixel_patches: torch.Tensor
    grid_thw: torch.Tensor
    repeats: torch.Tensor | None = None
    exchange: RowExchange | None = None

    def to(self, device: torch.device) -> VisualInputs:
        repeats = None if self.repeats is None else self.repeats.to(device)
        return VisualInputs(self.pixel_patches.to(device), self.grid_thw.to(device), repeats, self.exchange)

    def take(self, tokens: torch.Tensor) -> VisualInputs:
        """The same pixels, whose features ``tokens`` (int64) go to the visual tokens."""
        return VisualInputs(self.pixel_patches, self.grid_thw, tokens.to(self.pixel_patches.device))


@dataclass(frozen=True, slots=True)
class VisualFeatures:
    """What the vision tower and its merger make of media: all that the language model sees of them.

    ``tokens`` is ``(V, D)``, a row per visual token in prompt order. ``deepstack`` are further tensors of that shape
    that enter early decoder layers; families without such features have none.
    """

    tokens: torch.Tensor
    deepstack: tuple[torch.Tensor, ...] = ()

    def to(self, device: torch.device) -> VisualFeatures:
        return VisualFeatures(self.tokens.to(device), tuple(part.to(device) for part in self.deepstack))

    def take(self, tokens: torch.Tensor) -> VisualFeatures:
        """The features ``tokens``, int64."""
        tokens = tokens.to(self.tokens.device)
        return VisualFeatures(self.tokens[tokens], tuple(part[tokens] for part in self.deepstack))


@dataclass(frozen=True, slots=True)
class Embeddings:
    """What a language model starts from: token embeddings with visual features in their places.

    ``tokens`` is ``(B, T, D)``. ``visual`` is bool ``(B, T)``, true at visual tokens, or ``None`` if there is none.
    ``deepstack`` are the features that enter early layers at those tokens, each ``(V, D)``, row by row.
    """

    tokens: torch.Tensor
    visual: torch.Tensor | None = None
    deepstack: tuple[torch.Tensor, ...] = ()

    def columns(self, start: int, stop: int) -> Embeddings:
        """Tokens ``[start, stop)`` of every row: a chunk of a prefill, or a slice of a sequence."""
        if self.visual is None:
            return Embeddings(self.tokens[:, start:stop])
        inside = torch.zeros_like(self.visual)
        inside[:, start:stop] = True
        kept = inside[self.visual]
        return Embeddings(
            self.tokens[:, start:stop], self.visual[:, start:stop], tuple(part[kept] for part in self.deepstack)
        )


#: Media of a batch as a model takes them: pixels for its vision tower, or what that tower made of them before.
Visual = VisualInputs | VisualFeatures


#: Whether a family follows transformers or the code released with the weights, where they differ: see
#: ``ModelConfig.conventions``.
Conventions = Literal["released", "transformers"]


class Family(Protocol):
    """The adapter of one model family; its only state is tokenizer and processor settings.

    It is made as ``Class(checkpoint, trust_remote_code=..., conventions=...)``, without loading weights.
    """

    geometry: Geometry
    tokenizer: Any
    stop_token_ids: tuple[int, ...]
    pad_token_id: int
    #: Tokens that stand for pixels or bracket them; never sampled, never trained on.
    visual_token_ids: tuple[int, ...]
    #: Whether responses may branch off a prompt within one row; without, each has a row of its own.
    shares_prefix: bool
    #: Whether the features of a medium depend on it alone, so that they may be kept and given in its place.
    feature_cache: bool
    #: Whether patches attend to their own temporal step alone, so that ranks may each encode some steps of a medium.
    independent_steps: bool

    def render(self, text: str, refs: Sequence[MediaRef], plans: Sequence[MediaPlan], *, system: str = "") -> Prompt:
        """Chat template, visual-token expansion and tokenisation of one user message with placeholders."""
        ...

    def extend(self, prompt: Prompt, text: str, refs: Sequence[MediaRef], plans: Sequence[MediaPlan]) -> Prompt:
        """A prompt whose ids end with a response, followed by the next user message and the turn boundaries around it.

        Nothing of the earlier ids is tokenised again. Where the tokenizer allows it, the ids are those that the chat
        template gives for the whole conversation: ``extend(render(a) + response, b)``, with ``Prompt.followed_by``.
        """
        ...

    def positions(self, prompt: Prompt) -> tuple[NDArray[np.int64], int]:
        """Rotary positions ``(3, T)`` of a prompt, and the position of the first response token."""
        ...

    def visual_inputs(self, frames: Sequence[Frames], device: torch.device | None = None) -> VisualInputs | None:
        """Normalised patches of all media together, on ``device`` (the CPU if None); ``None`` without media."""
        ...

    def load_model(
        self, checkpoint: Path, *, dtype: torch.dtype, attention: str, trust_remote_code: bool, meta: bool = False
    ) -> Any:
        """The transformers model of this family.

        Weights go from the files to their place: no second copy is made. With ``meta`` there are none: parameters have
        shapes only (device ``meta``), for whoever fills them from elsewhere, such as all ranks but the first.
        """
        ...

    def encode(self, model: Any, visual: VisualInputs) -> VisualFeatures:
        """One call of the vision tower and its merger for all media, each once."""
        ...

    def feature_settings(self, model: Any) -> str:
        """Everything else that decides features, as text: normalisation, shape and code of the vision tower."""
        ...

    def embed(self, model: Any, input_ids: torch.Tensor, features: VisualFeatures | None) -> Embeddings:
        """Embeddings of ``input_ids``, int64 ``(B, T)``, with ``features`` at their visual tokens, row by row.

        Raises:
            DataError: there are not as many features as visual tokens.
        """
        ...

    def decode(
        self,
        model: Any,
        embeddings: Embeddings,
        positions: torch.Tensor,
        mask: torch.Tensor | Layout | BranchKeys | None,
        cache: Any = None,
    ) -> torch.Tensor:
        """Last hidden states ``(B, T, D)`` of the language model.

        Args:
            model: what ``load_model`` returned.
            embeddings: what the layers start from.
            positions: int64 ``(3, B, T)``.
            mask: bool ``(B, 1, T, S)``, true where a query may look at a key; or the layout of one packed row, for
                a model that was loaded with ``attention.PREFIX_TREE``, or the keys of growing responses, for such a
                model too. ``attention_arguments`` turns each into what transformers takes. None: every token sees those
                before it.
            cache: transformers cache with the ``S - T`` keys before ``embeddings``.
        """
        ...

    def logits(self, model: Any, hidden: torch.Tensor) -> torch.Tensor:
        """Logits ``(..., V)`` of hidden states ``(..., D)``."""
        ...

    def groups(self, model: Any) -> dict[str, tuple[torch.nn.Module, ...]]:
        """Modules by group: ``vision``, ``merger``, ``language``."""
        ...


def compute_device(model: Any) -> torch.device:
    """Where a model computes: where its parameters are, unless they are kept on the host (``model.offload``)."""
    found: torch.device = getattr(model, "compute_device", None) or next(model.parameters()).device
    return found


def computing(model: Any, device: torch.device | None = None) -> AbstractContextManager[None]:
    """The type a model computes in: autocast to its ``compute_dtype``, which ``Policy.open`` sets.

    Parameters stay float32; a model without the attribute computes in the type of its parameters. ``device`` is
    ``compute_device(model)``, for callers that know it: finding it takes as long as a small layer.
    """
    dtype = getattr(model, "compute_dtype", torch.float32)
    kind = (compute_device(model) if device is None else device).type
    context: AbstractContextManager[None] = torch.autocast(kind, dtype=dtype, enabled=dtype != torch.float32)
    return context


@contextmanager
def evaluating(modules: Sequence[dict[str, Any]]) -> Iterator[None]:
    """Within, modules are in evaluation mode; afterwards each is in the mode in which it was.

    As ``model.eval()`` and ``model.train()``, for callers that switch at every token: those go through the tree of
    modules and through ``Module.__setattr__``, which takes a tenth of a step of a tiny model.

    Args:
        modules: their attributes, ``vars(module)`` for each of ``model.modules()``.
    """
    training = [attributes for attributes in modules if attributes["training"]]
    for attributes in training:
        attributes["training"] = False
    try:
        yield
    finally:
        for attributes in training:
            attributes["training"] = True


@contextmanager
def untouched_memory() -> Iterator[None]:
    """New tensors are left as they are, also where torch is asked for deterministic algorithms and would fill them."""
    settings: Any = torch.utils.deterministic
    filled = settings.fill_uninitialized_memory
    settings.fill_uninitialized_memory = False
    try:
        yield
    finally:
        settings.fill_uninitialized_memory = filled


@functools.lru_cache(maxsize=8)
def control_tokens(tokenizer: Any) -> Mapping[str, int]:
    """The special tokens of a tokenizer, which steer a model and are no text: typed into a question they would begin
    turns or end them. Tags such as ``<think>`` are text in the tokenizers of Qwen, and are not among them."""
    added = {token.content: ids for ids, token in tokenizer.added_tokens_decoder.items() if token.special}
    named = {token: tokenizer.convert_tokens_to_ids(token) for token in tokenizer.all_special_tokens}
    return {token: ids for token, ids in {**added, **named}.items() if token.strip()}


FAMILIES: Registry[type[Any]] = Registry("model family")


#: Modules that register families when they are imported.
MODULES = ("qwen2_vl", "qwen3_vl")


def family_names() -> list[str]:
    """The families that come with this package; each is named as the ``model_type`` that it is for."""
    import_torchvision()  # before anything imports transformers, which would stumble over a broken one
    for name in MODULES:
        importlib.import_module(f"easyvideor1.families.{name}")
    return FAMILIES.names()


def load_family(
    checkpoint: str | Path,
    *,
    trust_remote_code: bool = False,
    name: str = "",
    conventions: Conventions = "released",
) -> Family:
    """The adapter for a checkpoint directory.

    Args:
        checkpoint: a Hugging Face checkpoint.
        trust_remote_code: let it run Python of its own.
        name: a family's name or ``module:attr``; found by the checkpoint's ``model_type`` if empty.
        conventions: see ``ModelConfig.conventions``.

    Raises:
        ConfigError: there is no checkpoint, or its ``model_type`` has no adapter.
    """
    directory = Path(checkpoint)
    model_type = read_config(directory).get("model_type", "")
    known = family_names()
    if not name and model_type not in known:
        raise ConfigError(
            f"model.path: {str(directory)!r} is of model_type {model_type!r}; supported: {', '.join(known)}. An "
            "adapter of your own is named by model.family=module:attr"
        )
    if name in known and model_type in known and name != model_type:
        raise ConfigError(
            f"model.family: {name!r} is not the family of {str(directory)!r}, which is of model_type {model_type!r}; "
            "leave model.family empty to have it found"
        )
    kind = FAMILIES.resolve(name or model_type)
    family: Family = kind(directory, trust_remote_code=trust_remote_code, conventions=conventions)
    return family


def configured_family(config: ModelConfig, checkpoint: str | Path) -> Family:
    """The adapter for ``checkpoint`` as ``config`` says.

    Raises:
        ConfigError: as ``load_family``.
    """
    return load_family(
        checkpoint,
        trust_remote_code=config.trust_remote_code,
        name=config.family,
        conventions=config.conventions,
    )


def conventions_in_words(config: ModelConfig, checkpoint: Path) -> tuple[str, str]:
    """What ``config.conventions`` means for prompts of this checkpoint, and what the other convention would mean.

    Both are empty where the family does not say so, or is not known. Neither tokenizer nor weights are read.

    Raises:
        ConfigError: ``config.json`` of the checkpoint cannot be read, or the family cannot be imported.
    """
    name = config.family or read_config(checkpoint).get("model_type", "")
    if name not in family_names() and ":" not in name:
        return "", ""
    words: Mapping[Conventions, str] = getattr(FAMILIES.resolve(name), "by_convention", {})
    other: Conventions = "transformers" if config.conventions == "released" else "released"
    return words.get(config.conventions, ""), words.get(other, "")


def configured_model(family: Family, config: ModelConfig, checkpoint: Path, meta: bool = False) -> Any:
    """The model of ``checkpoint`` as ``config`` says, with float32 parameters, whatever it computes in.

    In bfloat16 a weight of 0.02 has steps of 1e-4, so that updates of 1e-6 would be rounded away.
    """
    implementation: str = config.attention
    if family.shares_prefix and implementation == "sdpa":
        implementation = register()
    return family.load_model(
        checkpoint, dtype=torch.float32, attention=implementation, trust_remote_code=config.trust_remote_code, meta=meta
    )


def chosen_device(config: ModelConfig) -> torch.device:
    """Where models live: what the config names, or the first GPU, or the CPU.

    Raises:
        ConfigError: the config names no device, or a GPU that torch does not find.
    """
    if config.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(config.device)
    except RuntimeError:
        raise ConfigError(f"model.device {config.device!r} is not a device; write auto, cpu, cuda or cuda:1") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = f"torch {torch.__version__} finds {torch.cuda.device_count()} GPUs"
        raise ConfigError(f"model.device {config.device!r} does not exist: {found}; set model.device=auto")
    return device
