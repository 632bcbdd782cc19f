"""How a batch of the local engine keeps what it has computed: keys that branch off prompts, or a row per response."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from easyvideor1.attention.branches import Branches, BranchKeys
from easyvideor1.attention.functions import joins_parts, takes_layout
from easyvideor1.families.family import Family
from easyvideor1.families.features import FeatureCache, load_visual
from easyvideor1.families.inputs import LoadFrames
from easyvideor1.families.vision_tower import hidden_states
from easyvideor1.packing.micro_batch import Places, one_row, texts_of
from easyvideor1.packing.prefix_tree import Forest, build_forest
from easyvideor1.types import ConfigError, Prompt, Turn

#: Texts are packed into one row from this share of columns on that are saved.
SHARED = 0.15


@dataclass(frozen=True, slots=True, eq=False)
class Texts:
    """``R`` responses that grow: their prompts, in order, the prompt of each, and its ``t`` tokens so far.

    ``parents`` is int64 ``(R,)``, in order; ``said`` int64 ``(R, t)``.
    """

    prompts: Sequence[Prompt]
    parents: NDArray[np.int64]
    said: NDArray[np.int64]

    def turns(self) -> list[Turn]:
        """What is fed: the prompts where nothing was said yet, else every prompt with a response to it."""
        if not self.said.shape[1]:
            return [_turn(prompt, self.said[0]) for prompt in self.prompts]
        return [_turn(self.prompts[parent], ids) for parent, ids in zip(self.parents, self.said, strict=True)]


def _turn(prompt: Prompt, ids: NDArray[np.int64]) -> Turn:
    # The last token of a response is never fed, so that one stands behind these.
    whole = np.append(ids, 0)
    return Turn(prompt, whole, np.ones(len(whole), dtype=bool), None, "length", "")


class Decoder(Protocol):
    """Computes the hidden states that the next tokens of ``R`` responses are drawn from."""

    #: Tokens that the last prefill computed.
    computed: int
    #: Whether steps have the same shapes and addresses until ``reserve`` says otherwise, or ``select`` is called. Then
    #: several may be made before they are counted.
    static: bool

    def prefill(self, texts: Texts, load: LoadFrames, limit: int) -> torch.Tensor:
        """Compute everything anew; responses come to have at most ``limit`` tokens. Returns ``(R, D)``."""
        ...

    def feed(self, ids_R: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        """Add a token to every response, its token ``at``, int64 ``(1,)``. Returns ``(R, D)``."""
        ...

    def advance(self, steps: int) -> None:
        """So many tokens were fed."""
        ...

    def reserve(self, steps: int) -> bool:
        """So many tokens will be fed. Returns whether anything moved for that."""
        ...

    def select(self, kept: torch.Tensor) -> None:
        """Keep these responses, int64 in order."""
        ...


def open_decoder(family: Family, model: Any, features: FeatureCache | None) -> Decoder:
    """The decoder that fits a model."""
    if family.shares_prefix and takes_layout(model):
        return BranchDecoder(family, model, features)
    return RowDecoder(family, model, features)


def static_shapes(device: torch.device) -> bool:
    """Whether steps of equal shapes pay: on a GPU, which takes longer to be told of a step than to make it."""
    return device.type == "cuda"


class BranchDecoder:
    """Responses branch off their prompts: see ``attention.branches``.

    Prefixes that prompts share, such as a video with several questions, are computed once: a prefill is one packed row,
    as in the trainer. Where they share little, or torch lacks the kernels for that (a GPU in float32), every prompt is
    a row, padded behind: attention to many short texts is faster in one call.
    """

    def __init__(self, family: Family, model: Any, features: FeatureCache | None) -> None:
        self.family, self.model, self.features = family, model, features
        self.device = next(model.parameters()).device
        self.static = static_shapes(self.device)
        self.computed = 0
        text = model.config.get_text_config()
        width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        dtype = getattr(model, "compute_dtype", torch.float32)
        self._packs = joins_parts(self.device, dtype, width)
        self._keys: BranchKeys | None = None
        self._following = torch.empty(0)

    def prefill(self, texts: Texts, load: LoadFrames, limit: int) -> torch.Tensor:
        """See ``Decoder``."""
        self._keys = None  # its memory is wanted
        self._refuse_windows(max(map(len, texts.prompts)) + limit)
        turns, said = texts.turns(), texts.said.shape[1]
        forest, places = build_forest(turns) if self._packs else None, Places()
        if forest is not None and _shared(forest, turns) >= SHARED:
            packed = one_row(turns, self.family, forest=forest, places=places)
            ids, positions, layout = packed.ids, packed.positions, packed.layout
            columns, media = packed.columns, packed.media
        else:
            ids, positions, columns = _rows(turns, self.family, places)
            layout, media = None, [turn.prompt for turn in turns]
        visual = load_visual(media, self.family, load, features=self.features, device=self.device)
        first = np.searchsorted(texts.parents, np.arange(len(texts.prompts)))
        lengths = np.array([len(prompt) for prompt in texts.prompts], dtype=np.int64)
        prompts = np.zeros((len(lengths), lengths.max()), dtype=np.int64)
        for row, length in enumerate(lengths):
            prompts[row, :length] = columns[first[row] if said else row][:length]
        own = np.zeros((len(texts.parents), said), dtype=np.int64)
        if said:
            own = np.stack([column[-said:] for column in columns])
        branches = Branches(*(self._on_device(each) for each in (prompts, lengths, own, texts.parents)))
        keys = BranchKeys(branches, layout, limit=limit, static=self.static)
        hidden = hidden_states(
            self.family,
            self.model,
            self._on_device(ids),
            self._on_device(positions),
            keys,
            None if visual is None else visual.to(self.device),
        )
        keys.filled()
        self._keys, self.computed = keys, ids.size if layout is not None else sum(len(column) for column in columns)
        ends = np.array([column[-1] for column in columns], dtype=np.int64)
        following = np.array([places[id(prompt)][1] for prompt in texts.prompts], dtype=np.int64)
        self._following = self._on_device(following[texts.parents])
        ends = ends if said else ends[texts.parents]
        return hidden.flatten(0, 1).index_select(0, self._on_device(ends))

    def feed(self, ids_R: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        """See ``Decoder``."""
        assert self._keys is not None
        self._keys.begin(at)
        positions = (self._following + at)[None, None].expand(3, 1, -1)
        return hidden_states(self.family, self.model, ids_R[None], positions, self._keys, None)[0]

    def advance(self, steps: int) -> None:
        """See ``Decoder``."""
        assert self._keys is not None
        self._keys.length += steps

    def reserve(self, steps: int) -> bool:
        """See ``Decoder``."""
        assert self._keys is not None
        return self._keys.reserve(steps)

    def select(self, kept: torch.Tensor) -> None:
        """See ``Decoder``."""
        assert self._keys is not None
        self._keys.select(kept)
        self._following = self._following[kept]

    def _refuse_windows(self, length: int) -> None:
        """Raise ``ConfigError`` if a layer must not see all keys of a text of this length."""
        text = self.model.config.get_text_config()
        window = getattr(text, "sliding_window", None)
        if window is not None and window < length and "sliding_attention" in (getattr(text, "layer_types", None) or ()):
            raise ConfigError(
                f"model.attention: layers of this model see the last {window} tokens only, prompt and response may "
                f"have {length}, and responses that share the keys of their prompt see them all; set model.attention "
                "to eager"
            )

    def _on_device(self, array: NDArray[np.int64]) -> torch.Tensor:
        return torch.from_numpy(array).to(self.device)


class RowDecoder:
    """Every response has a row of its own and a copy of its prompt's keys, in a cache of transformers.

    For families whose layers carry a state from token to token, and for attention that takes a mask alone. Prompts are
    still prefilled once.
    """

    static = False

    def __init__(self, family: Family, model: Any, features: FeatureCache | None) -> None:
        self.family, self.model, self.features = family, model, features
        self.device = next(model.parameters()).device
        self.computed = 0
        self._cache: Any = None
        self._following = self._mask = torch.empty(0)
        self._prefilled = self._said = 0

    def prefill(self, texts: Texts, load: LoadFrames, limit: int) -> torch.Tensor:
        """See ``Decoder``.

        Padding stands behind the texts, where no token of theirs sees it: attention is causal, and no mask of ``T x T``
        is made. Layers that carry a state from token to token would carry it into that state, so for them padding
        stands before the texts, under a mask.
        """
        from transformers import DynamicCache

        turns, self._said = texts.turns(), texts.said.shape[1]
        before = not self.family.shares_prefix
        places = Places()
        ids, positions, columns = _rows(turns, self.family, places, before=before)
        length = ids.shape[1]
        real = np.zeros(ids.shape, dtype=bool)
        real.reshape(-1)[np.concatenate(columns)] = True
        prompts = [turn.prompt for turn in turns]
        visual = load_visual(prompts, self.family, load, features=self.features, device=self.device)
        keys = torch.from_numpy(real).to(self.device)[:, None, None, :]
        mask = None
        if before:
            causal = torch.ones(length, length, dtype=torch.bool, device=self.device).tril()
            # Padding queries see themselves, so that no row of the softmax is empty.
            mask = (causal & keys) | torch.eye(length, dtype=torch.bool, device=self.device)
        self._cache = DynamicCache(config=self.model.config.get_text_config())
        hidden = hidden_states(
            self.family,
            self.model,
            torch.from_numpy(ids).to(self.device),
            torch.from_numpy(positions).to(self.device),
            mask,
            None if visual is None else visual.to(self.device),
            self._cache,
        )
        following = np.array([places[id(prompt)][1] for prompt in texts.prompts], dtype=np.int64)
        self._following = torch.from_numpy(following[texts.parents]).to(self.device)
        ends = torch.from_numpy(np.array([column[-1] for column in columns], dtype=np.int64)).to(self.device)
        found = hidden.flatten(0, 1)[ends]
        self.computed, self._prefilled = int(real.sum()), length
        if not self._said:
            copies = torch.from_numpy(texts.parents).to(self.device)
            self._cache.reorder_cache(copies)  # any selection of rows, not for beams alone
            found, keys = found[copies], keys[copies]
        # What is fed stands behind what is here; all of it is seen.
        self._mask = torch.ones(len(keys), 1, 1, length + limit - self._said, dtype=torch.bool, device=self.device)
        self._mask[..., :length] = keys
        return found

    def feed(self, ids_R: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        """See ``Decoder``."""
        positions = (self._following + at)[None, :, None].expand(3, -1, -1)
        mask = self._mask[..., : self._prefilled + 1]
        return hidden_states(self.family, self.model, ids_R[:, None], positions, mask, None, self._cache)[:, 0]

    def advance(self, steps: int) -> None:
        """See ``Decoder``."""
        self._prefilled += steps

    def reserve(self, steps: int) -> bool:
        """See ``Decoder``; its cache grows by itself."""
        return False

    def select(self, kept: torch.Tensor) -> None:
        """See ``Decoder``."""
        self._cache.reorder_cache(kept)
        self._mask, self._following = self._mask[kept], self._following[kept]


def _shared(forest: Forest, turns: Sequence[Turn]) -> float:
    """The share of the columns of padded rows that one packed row would not have."""
    padded = len(turns) * max(len(turn.prompt) + len(turn.response_ids) - 1 for turn in turns)
    return 1 - forest.layout.length / padded


def _rows(
    turns: Sequence[Turn], family: Family, places: Places, *, before: bool = False
) -> tuple[NDArray[np.int64], NDArray[np.int64], tuple[NDArray[np.int64], ...]]:
    """Ids ``(B, L)``, positions ``(3, B, L)``, and the columns of every text where rows are laid end to end."""
    texts = texts_of(turns, family, places)
    length = max(len(ids) for ids, _ in texts)
    ids = np.full((len(texts), length), family.pad_token_id, dtype=np.int64)
    positions = np.zeros((3, len(texts), length), dtype=np.int64)
    columns = []
    for row, (own_ids, own_positions) in enumerate(texts):
        start = length - len(own_ids) if before else 0
        own = slice(start, start + len(own_ids))
        ids[row, own], positions[:, row, own] = own_ids, own_positions
        columns.append(row * length + np.arange(own.start, own.stop))
    return ids, positions, tuple(columns)
