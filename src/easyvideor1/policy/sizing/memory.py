"""Peak memory of a step on its device, by phase and by part."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from easyvideor1.policy.optimizer import BUCKET_BYTES
from easyvideor1.policy.sizing.curves import ModelSizes, SharedSizes
from easyvideor1.policy.sizing.workload import Asked, MicroBatchWork, StageFacts


@dataclass(frozen=True, slots=True)
class Peak:
    """The worst moment of a phase: bytes by part."""

    phase: str
    parts: dict[str, int]

    @property
    def total(self) -> int:
        """All parts together."""
        return sum(self.parts.values())


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """How responses are generated: ``copies`` of the weights beside the trainer's on the device, and their bytes per
    number; tokens in the cache of each at a time; the longest response.

    ``reserved`` are bytes that the engines on the device take whatever they need (vLLM), ``apart`` is whether there are
    none on it.
    """

    copies: int
    weight_bytes: int
    batch_tokens: int
    max_new_tokens: int
    reserved: int = 0
    apart: bool = False


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the trainer keeps things: ``shards`` of all ``ranks`` share each layer, ``offload`` as in ``ModelConfig``.

    With ``on_cpu`` the device is the host, and offload saves nothing.
    """

    ranks: int = 1
    shards: int = 1
    offload: tuple[str, ...] = ()
    on_cpu: bool = False

    def keeps_on_host(self, what: str) -> bool:
        """Whether something is not on the device while it is not needed there."""
        return what in self.offload and not self.on_cpu


@dataclass(frozen=True, slots=True)
class Held:
    """Bytes that last for a stage: weights, gradients and moments, and the trained weights among the first."""

    weights: int
    trained: int
    gradients: int
    moments: int


def held(sizes: ModelSizes, place: Placement) -> tuple[Held, Held]:
    """What one process has on its device, and what in the memory of the host.

    Trained numbers are float32, their gradients too, and AdamW has two moments of each.
    """
    shared = sizes.shared if place.shards > 1 else SharedSizes()
    own, frozen = (math.ceil(each / place.shards) for each in (shared.trained_values, shared.frozen))
    whole = sizes.trained_values - shared.trained_values
    rest = sizes.weights - 4 * shared.trained_values - shared.frozen
    away = place.keeps_on_host("parameters")
    here, there = (whole, own) if away else (whole + own, 0)
    moments = 0 if place.keeps_on_host("optimizer") else 8 * here
    device = Held(rest if away else rest + 4 * own + frozen, 4 * here, 4 * here, moments)
    host = Held(4 * own + frozen if away else 0, 4 * there, 4 * there, 8 * (here + there) - moments)
    return device, host


def static_parts(sizes: ModelSizes, facts: StageFacts, place: Placement) -> dict[str, int]:
    """What lasts for a stage: weights, AdamW's two moments, and copies of what is trained."""
    device, _ = held(sizes, place)
    parts = {"weights": device.weights, "optimiser state": device.moments}
    if facts.reference_copy:
        parts["reference"] = device.trained
    if facts.critic:
        parts["critic"] = device.trained + device.moments
    return {name: size for name, size in parts.items() if size}


def offloaded_parts(
    sizes: ModelSizes, facts: StageFacts, batches: Sequence[MicroBatchWork], place: Placement
) -> dict[str, int]:
    """Bytes in the memory of the host for each process that trains."""
    if place.on_cpu:
        return {}
    _, host = held(sizes, place)
    copies = 1 + facts.critic
    parts = {
        "parameters": host.weights + host.gradients + host.trained * (facts.reference_copy + facts.critic),
        "optimiser state": copies * host.moments,
        "activations": int(max(_host_activations(sizes, batch) for batch in batches)) if batches else 0,
    }
    return {f"offloaded {name}": size for name, size in parts.items() if size}


def save_copy(sizes: ModelSizes, place: Placement, ranks: int, *, critic: bool, moving_reference: bool) -> int:
    """Bytes that ``async_save`` copies into the memory of the first machine, which has so many ``ranks``.

    These are trained weights in float32 and their moments: of each rank its part, and of the first what all hold whole.
    Ranks that hold what others do as well (hybrid sharding) copy nothing.
    """
    shared = sizes.shared if place.shards > 1 else SharedSizes()
    own = math.ceil(shared.trained_values / place.shards)
    values = sizes.trained_values - shared.trained_values + min(ranks, place.shards) * own
    return values * (12 * (1 + critic) + 4 * moving_reference)


def _host_activations(sizes: ModelSizes, batch: MicroBatchWork) -> float:
    return sizes.decoder(batch.tokens).host.at(batch.tokens) + sizes.vision.host.at(sizes.patches_kept(batch.patches))


def update_peak(sizes: ModelSizes, facts: StageFacts, batches: Sequence[MicroBatchWork], place: Placement) -> Peak:
    """The worst moment of an update: in the largest micro-batch, or when the optimiser moves the weights.

    The first micro-batch of a rank finds no gradients, so with a single one the worst moment is where its backward pass
    begins, or where it ends.
    """
    peaks = [micro_batch_peak(sizes, facts, batch, place, later=len(batches) > place.ranks) for batch in batches]
    device, _ = held(sizes, place)
    step = {"gradients": device.gradients}
    if place.on_cpu:  # the fused optimiser of a GPU needs nothing more
        step["optimiser's own"] = 2 * sizes.largest
    elif place.keeps_on_host("optimizer"):
        step["optimiser's own"] = min(max(BUCKET_BYTES, 2 * sizes.largest), 2 * device.gradients)
    worst = max([*peaks, step], key=lambda parts: sum(parts.values()))
    return Peak("update", {**static_parts(sizes, facts, place), **{name: size for name, size in worst.items() if size}})


def micro_batch_peak(
    sizes: ModelSizes, facts: StageFacts, batch: MicroBatchWork, place: Placement, *, later: bool
) -> dict[str, int]:
    """The worst moment of one micro-batch beside what lasts, by part; a ``later`` one finds gradients."""
    n, patches, stays = batch.tokens, sizes.patches_at_once(batch.patches), sizes.patches_kept(batch.patches)
    language, head = sizes.decoder(n), sizes.head
    gradients = held(sizes, place)[0].gradients
    tower = _tower(sizes, facts, batch)
    kept = language.kept.at(n) + batch.targets * sizes.hidden
    seen = sizes.vision.kept.at(stays)
    if place.on_cpu:  # the host is the device
        kept += language.host.at(n)
        seen += sizes.vision.host.at(stays)
    shared = sizes.shared if place.shards > 1 else SharedSizes()
    gathered = {
        "forward": shared.language.weights,
        "reference": shared.language.weights,
        "backward": shared.language.weights + shared.language.gradients,
        "end": shared.language.weights + shared.language.gradients,
        "vision": shared.vision.weights,
        "vision backward": shared.vision.weights + shared.vision.gradients,
    }
    moments = {
        "forward": (kept, language.forward.at(n), 0.0, seen),
        "logits": (kept, 0.0, head.peak(batch.targets), seen),
        "backward": (kept, language.backward.at(n), head.kept.at(batch.targets), seen),
        "end": (language.layer.at(n), language.backward.at(n), 0.0, seen),
    }
    if facts.reference_in_loss:
        moments["reference"] = (kept, language.alone.at(n), head.kept.at(batch.targets), seen)
    if patches and not facts.cached_features:
        # A chunk that will be computed again keeps nothing the first time.
        again = seen if stays else sizes.vision.kept.at(patches)
        running = seen + sizes.vision.forward.at(patches) if stays else sizes.vision.alone.at(patches)
        moments["vision"] = (0.0, 0.0, 0.0, running)
        if sizes.tower_trained:
            moments["vision backward"] = (0.0, 0.0, 0.0, again + sizes.vision.backward.at(patches))
    # Where there were none before: those of the other layers are there when the decoder's first one is reached, and all
    # of the decoder when the tower is.
    trained = max(sum(sizes.trained.values()), 1)
    own = gradients * sizes.trained["language"] // trained
    found = {"end": own - gradients * sizes.layer_trained // trained, "vision backward": own}
    parts = [
        {
            "gradients": gradients if later else found.get(name, 0),
            "gathered layers": gathered.get(name, 0),
            "activations, kept": int(remains),
            "activations, at work": int(works),
            "logits": int(logits),
            "vision tower": int(vision + tower),
        }
        for name, (remains, works, logits, vision) in moments.items()
    ]
    return max(parts, key=lambda one: sum(one.values()))


def _tower(sizes: ModelSizes, facts: StageFacts, batch: MicroBatchWork) -> int:
    """Pixels and features of the media of a micro-batch; a frozen tower's pixels are gone once it has run."""
    features = batch.visual * sizes.features
    return features + (batch.patches * sizes.pixels if sizes.tower_trained and not facts.cached_features else 0)


def engine_parts(
    sizes: ModelSizes, facts: StageFacts, engine: EngineFacts, asked: Sequence[Asked], *, prompts: int
) -> dict[str, int]:
    """What generation takes of the device beside what the trainer keeps: weights, cache and prefill of the engines.

    Args:
        sizes: of the model.
        facts: of the stage.
        engine: how responses are generated.
        asked: all prompts; the longest decide.
        prompts: of a step, at most as many in a batch.
    """
    if engine.apart:
        return {}
    if engine.reserved:
        return {"engines": engine.reserved}
    engines = max(engine.copies, 1)
    one = max(asked, key=lambda each: len(each.prompt))
    responses = max((len(each.responses) for each in asked), default=1)
    each = len(one.prompt) + responses * engine.max_new_tokens
    together = min(engines * max(engine.batch_tokens // each, 1), prompts)
    tokens = together * each
    patches = together * one.visual * sizes.merge
    filled = together * len(one.prompt)
    prefill = sizes.decoder(filled).alone.at(filled)
    if not facts.cached_features:
        running = sizes.vision.alone.at(sizes.patches_at_once(patches))
        prefill = max(prefill, running + patches * sizes.pixels)
    weights = {"engine's weights": engine.copies * sizes.all_values * engine.weight_bytes} if engine.copies else {}
    return {
        **weights,
        "KV cache": max(tokens, engine.copies * engine.batch_tokens) * sizes.key_values,
        "prefill": int(prefill),
        "logits": 3 * 4 * together * responses * sizes.vocabulary,
    }
