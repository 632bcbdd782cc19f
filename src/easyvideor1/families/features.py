"""A cache of visual features: a frozen vision tower runs once per medium, not three times a step.

LongVILA-R1 (Chen et al. 2025, sec. 4) encodes a video once and uses the embeddings again in rollout and training. Here
they are kept on disk. Their key is made of everything that decides them: the plan (content, frames, sizes), the weights
of tower and merger, the normalisation, the dtype. A tower that is trained changes with every step, so it is refused;
weights that change in any other way give new keys, hence new entries.
"""

from __future__ import annotations

import hashlib
import math
import os
import secrets
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from easyvideor1.families.family import Family, Visual, VisualFeatures, compute_device, computing
from easyvideor1.families.inputs import LoadFrames, load_checked, load_media
from easyvideor1.families.vision_tower import tower_is_sharded
from easyvideor1.files import atomic_path
from easyvideor1.types import ConfigError, DataError, EasyVideoError, MediaPlan, MediaRef, Prompt
from easyvideor1.video import HealthLedger
from easyvideor1.video.maintenance import feature_files, feature_path
from easyvideor1.video.part import whole_steps

FORMAT = "easyvideor1-features/2"

#: A read updates the time of last use at most once in this many seconds.
TOUCH_EVERY = 3600.0
#: A full store is reduced to this share of its limit, least recently used first.
KEEP_SHARE = 0.9


class FeatureStore:
    """Features by key, one checksummed safetensors file each (``tokens``, ``deepstack.0``, ...), atomic.

    An entry that fails its checks is renamed to ``*.corrupt``, recorded in the ledger, and counts as missing. When
    ``max_bytes`` is exceeded, the least recently used entries are removed.
    """

    def __init__(self, directory: str | Path, max_bytes: int, ledger: HealthLedger | None = None) -> None:
        self.directory = Path(directory)
        self.max_bytes = max_bytes
        self.ledger = ledger if ledger is not None else HealthLedger(self.directory / "health.jsonl")
        self._verified: dict[str, tuple[int, int]] = {}
        self._bytes: int | None = None
        self._lock = threading.Lock()

    def path_of(self, key: str) -> Path:
        return feature_path(self.directory, key)

    def get(self, key: str, tokens: int | None = None) -> VisualFeatures | None:
        """The features of a key, or None; they are mapped from the file where the library can.

        An entry of another number of features than ``tokens``, if given, is damaged.

        Raises:
            EasyVideoError: the entry is there but cannot be read or set aside.
        """
        path = self.path_of(key)
        try:
            status = path.stat()
            features = _read(path, key, check=self._verified.get(key) != (status.st_ino, status.st_size))
            if tokens is not None and (wrong := [n for n in _lengths(features) if n != tokens]):
                raise ValueError(f"it holds {wrong[0]} features of a medium of {tokens} visual tokens")
            self._verified[key] = (status.st_ino, status.st_size)
            if time.time() - status.st_mtime > TOUCH_EVERY:
                with suppress(PermissionError):  # a store that may only be read has no order of use to keep
                    os.utime(path)
        except FileNotFoundError:
            return None
        except (SafetensorError, ValueError, KeyError) as error:
            self._set_aside(path, f"{type(error).__name__}: {error}")
            return None
        except OSError as error:
            raise EasyVideoError(
                f"cannot read {path}: {error}; make it readable, or set cache.features=false"
            ) from error
        return features

    def put(self, key: str, features: VisualFeatures) -> None:
        """Write an entry, and make room if the store has become too large.

        Raises:
            EasyVideoError: it cannot be written; nothing is left behind.
        """
        tensors = {"tokens": features.tokens, **{f"deepstack.{i}": part for i, part in enumerate(features.deepstack)}}
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        path = self.path_of(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(path) as temporary:
                save_file(tensors, temporary, metadata={"format": FORMAT, "key": key, "seal": _seal(key, tensors)})
            self._make_room(path)
        except (OSError, SafetensorError) as error:
            raise EasyVideoError(
                f"cannot write {path}: {error}; free space, or lower cache.features_mb, or set cache.features=false"
            ) from error

    def _make_room(self, written: Path) -> None:
        with self._lock:
            if self._bytes is None:
                self._bytes = sum(file.size for file in feature_files(self.directory))
            else:
                self._bytes += written.stat().st_size
            if self._bytes <= self.max_bytes:
                return
            found = list(feature_files(self.directory))  # other processes write and remove as well
            self._bytes = sum(file.size for file in found)
            for file in sorted(found, key=lambda file: file.used):
                if self._bytes <= KEEP_SHARE * self.max_bytes:
                    break
                if file.path != written:
                    file.path.unlink(missing_ok=True)  # whoever has it mapped keeps what it sees
                    self._bytes -= file.size

    def _set_aside(self, path: Path, detail: str) -> None:
        aside = path.with_name(f"{path.name}.{secrets.token_hex(4)}.corrupt")
        try:
            path.rename(aside)
            self.ledger.record(str(path), "corrupt_entry", detail, f"set aside as {aside.name}")
        except FileNotFoundError:
            return  # another reader was first, and recorded it
        except OSError as error:
            raise EasyVideoError(
                f"{path} is damaged ({detail}) and cannot be set aside: {error}; remove it, or make the directory "
                "writable, or set cache.features=false"
            ) from error


class FeatureCache:
    """The features that one model's frozen vision tower makes of media. Engine and trainer share the store.

    Raises:
        ConfigError: the family has none to keep, the tower or its merger is trained, or ranks share the tower.
    """

    def __init__(self, family: Family, model: Any, store: FeatureStore) -> None:
        if not family.feature_cache:
            raise ConfigError(
                f"cache.features: features of {type(family).__name__} depend on more than their medium; set it to false"
            )
        if tower_is_sharded(family, model):
            raise ConfigError(
                "cache.features: ranks share the vision tower, and would wait for each other where only one of them "
                "has something to encode; set it to false, or leave the tower whole on every rank"
            )
        self.family = family
        self.model = model
        self.store = store
        self._state: tuple[tuple[int, int], ...] = ()
        self._identity = ""
        self._refuse_training()

    def has(self, plan: MediaPlan) -> bool:
        """Whether the frames of a plan need not be read: its features are there, and whole."""
        kept, _ = self._kept(plan)
        return self.store.get(self.key(kept), kept.tokens) is not None

    def key(self, plan: MediaPlan) -> str:
        """The key of a plan's features."""
        # Tensors count how often they were written to; only then are the weights digested again.
        state = tuple((tensor.data_ptr(), tensor._version) for _, tensor in self._tensors())
        if state != self._state:
            self._refuse_training()
            self._identity, self._state = self._digest(), state
        return hashlib.sha256(f"{self._identity}|{plan.digest}|{plan.grid}".encode()).hexdigest()

    def read(self, prompts: Sequence[Prompt], load: LoadFrames) -> VisualFeatures | None:
        """Features of all media of some prompts in their order; None without media.

        What is missing is loaded, goes through the tower in one call, and is kept. Of a part of whole temporal steps
        the whole is: its features are some of the whole's, and the next turn shows others of them.

        Raises:
            ConfigError: the tower is trained.
            DataError: frames disagree with their plan, or its features with its tokens.
        """
        media = [item for prompt in prompts for item in zip(prompt.media, prompt.plans, strict=True)]
        if not media:
            return None
        self._refuse_training()
        entries = [self._kept(plan) for _, plan in media]
        keys = [self.key(kept) for kept, _ in entries]
        found: dict[str, VisualFeatures] = {}
        missing: dict[str, tuple[MediaRef, MediaPlan]] = {}
        for key, (ref, _), (kept, wanted) in zip(keys, media, entries, strict=True):
            if key in found or key in missing:
                continue
            features = self.store.get(key, kept.tokens)
            if features is None:
                missing[key] = (ref, kept) if wanted is None else (replace(ref, kind="video"), kept)
            else:
                found[key] = features
        device = compute_device(self.model)
        found = {key: features.to(device) for key, features in found.items()}
        if missing:
            found |= dict(zip(missing, self._encode(list(missing.values()), load, device), strict=True))
            for key in missing:
                self.store.put(key, found[key])
        parts = [
            found[key] if wanted is None else found[key].take(wanted)
            for key, (_, wanted) in zip(keys, entries, strict=True)
        ]
        deepstack = zip(*(part.deepstack for part in parts), strict=True)
        return VisualFeatures(
            torch.cat([part.tokens for part in parts]), tuple(torch.cat(layer) for layer in deepstack)
        )

    def _kept(self, plan: MediaPlan) -> tuple[MediaPlan, torch.Tensor | None]:
        """The plan whose features are kept for a plan, and which of its tokens are wanted; ``None`` stands for all."""
        steps = whole_steps(plan, self.family.geometry)
        if steps is None or plan.part is None or not self.family.independent_steps:
            return plan, None
        each = plan.tokens // plan.grid[0]
        return plan.part.whole, (torch.tensor(steps)[:, None] * each + torch.arange(each)).flatten()

    @torch.no_grad()
    def _encode(
        self, media: Sequence[tuple[MediaRef, MediaPlan]], load: LoadFrames, device: torch.device
    ) -> list[VisualFeatures]:
        visual = self.family.visual_inputs([load_checked(ref, plan, load) for ref, plan in media], device)
        assert visual is not None
        was_training = self.model.training
        self.model.eval()
        try:
            with computing(self.model):
                seen = self.family.encode(self.model, visual)
        finally:
            self.model.train(was_training)
        counts = [plan.tokens for _, plan in media]
        if set(_lengths(seen)) != {sum(counts)}:
            named = ", ".join(ref.path for ref, _ in media[:4]) + (", ..." if len(media) > 4 else "")
            raise DataError(
                f"the vision tower made {seen.tokens.shape[0]} features of {len(media)} media ({named}), whose plans "
                f"say {sum(counts)} visual tokens: they were made for another model family; plan again for this one"
            )
        tokens = torch.split(seen.tokens, counts)
        layers = [torch.split(layer, counts) for layer in seen.deepstack]
        return [VisualFeatures(tokens[i], tuple(layer[i] for layer in layers)) for i in range(len(media))]

    def _tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        groups = self.family.groups(self.model)
        for group in ("vision", "merger"):
            for number, module in enumerate(groups[group]):
                for name, tensor in (*module.named_parameters(), *module.named_buffers()):
                    yield f"{group}.{number}.{name}", tensor

    def _refuse_training(self) -> None:
        trained = [name for name, tensor in self._tensors() if tensor.requires_grad]
        if trained:
            raise ConfigError(
                f"cache.features: the vision tower or its merger is trained ({trained[0]}), so its features change "
                "with every step; set cache.features=false, or put vision and merger into model.freeze"
            )

    def _digest(self) -> str:
        digest = hashlib.sha256()
        dtype = getattr(self.model, "compute_dtype", torch.float32)
        geometry = asdict(self.family.geometry)
        digest.update(f"{FORMAT}|{self.family.feature_settings(self.model)}|{geometry}|{dtype}".encode())
        for name, tensor in self._tensors():
            digest.update(f"|{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
            digest.update(_raw_bytes(tensor))
        return digest.hexdigest()


def load_visual(
    prompts: Sequence[Prompt],
    family: Family,
    load: LoadFrames,
    *,
    features: FeatureCache | None = None,
    device: torch.device | None = None,
) -> Visual | None:
    """All media of some prompts as the model takes them; engine and trainer both read them here.

    Features where a cache of them is given, and no frames are read for those it has; else patches.

    Raises:
        DataError: as ``load_checked``.
    """
    if features is not None:
        return features.read(prompts, load)
    return family.visual_inputs([frames for prompt in prompts for frames in load_media(prompt, load)], device)


def _read(path: Path, key: str, *, check: bool) -> VisualFeatures:
    """Raises ``SafetensorError``, ``ValueError`` or ``KeyError`` when the file is not what was written."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
    layers = len(tensors) - 1
    if check and (metadata.get("key"), metadata.get("seal")) != (key, _seal(key, tensors)):
        raise ValueError("its checksum is wrong")
    return VisualFeatures(tensors["tokens"], tuple(tensors[f"deepstack.{i}"] for i in range(layers)))


def _lengths(features: VisualFeatures) -> list[int]:
    """Features in each of the tensors, which should be equal."""
    return [part.shape[0] for part in (features.tokens, *features.deepstack)]


def _seal(key: str, tensors: dict[str, torch.Tensor]) -> str:
    """SHA-256 over the key and, of every tensor, name, type, shape and the CRC-32 of its bytes."""
    digest = hashlib.sha256(f"{FORMAT}|{key}".encode())
    for name, tensor in sorted(tensors.items()):
        crc = zlib.crc32(_raw_bytes(tensor))
        digest.update(f"|{name}|{tensor.dtype}|{tuple(tensor.shape)}|{crc:08x}".encode())
    return digest.hexdigest()


def _raw_bytes(tensor: torch.Tensor) -> memoryview:
    flat = tensor.detach().cpu().contiguous().reshape(math.prod(tensor.shape))
    return flat.view(torch.uint8).numpy().data
