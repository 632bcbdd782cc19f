"""Peak memory of a step on its device, by phase and by part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from easyvideor1.policy.sizing.curves import ModelSizes
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
    number; tokens in the cache at a time; the longest response."""

    copies: int
    weight_bytes: int
    batch_tokens: int
    max_new_tokens: int


def static_parts(sizes: ModelSizes, facts: StageFacts) -> dict[str, int]:
    """What lasts for a stage: weights, AdamW's two moments, and copies of what is trained."""
    trained = sum(sizes.trained.values())
    parts = {"weights": sizes.weights, "optimiser state": 8 * sizes.trained_values}
    if facts.reference_copy:
        parts["reference"] = trained
    if facts.critic:
        parts["critic"] = trained + 8 * sizes.trained_values
    return parts


def update_peak(sizes: ModelSizes, facts: StageFacts, batches: Sequence[MicroBatchWork], *, on_cpu: bool) -> Peak:
    """The worst moment of an update: in the largest micro-batch, or when the optimiser moves the weights.

    The first micro-batch finds no gradients, so with a single one the worst moment is where its backward pass begins,
    or where it ends.
    """
    peaks = [_micro_batch_peak(sizes, facts, batch, later=len(batches) > 1) for batch in batches]
    static, gradients = static_parts(sizes, facts), 4 * sizes.trained_values
    step = {"gradients": gradients}
    if on_cpu:  # the fused optimiser of a GPU needs nothing more
        step["optimiser's own"] = 2 * sizes.largest
    worst = max([*peaks, step], key=lambda parts: sum(parts.values()))
    return Peak("update", {**static, **{name: size for name, size in worst.items() if size}})


def _micro_batch_peak(sizes: ModelSizes, facts: StageFacts, batch: MicroBatchWork, *, later: bool) -> dict[str, int]:
    """The parts of the worst moment of one micro-batch."""
    n, patches = batch.tokens, batch.patches
    language, head = sizes.language, sizes.head
    gradients = 4 * sizes.trained_values
    tower = _tower(sizes, facts, batch)
    kept = language.kept.at(n) + batch.targets * sizes.hidden
    seen = sizes.vision.kept.at(patches) if sizes.tower_trained else 0.0
    moments = {
        "forward": (kept, language.forward.at(n), 0.0, seen),
        "logits": (kept, 0.0, head.peak(batch.targets), seen),
        "backward": (kept, language.backward.at(n), head.kept.at(batch.targets), seen),
        "end": (language.layer.at(n), language.backward.at(n), 0.0, seen),
    }
    if facts.reference_in_loss:
        moments["reference"] = (kept, language.alone.at(n), head.kept.at(batch.targets), seen)
    if patches and not facts.cached_features:
        running = seen + sizes.vision.forward.at(patches) if sizes.tower_trained else sizes.vision.alone.at(patches)
        moments["vision"] = (0.0, 0.0, 0.0, running)
        if sizes.tower_trained:
            moments["vision backward"] = (0.0, 0.0, 0.0, seen + sizes.vision.backward.at(patches))
    # Where there were none before: the decoder's are there when its first layer is reached, the tower's are not.
    own = 4 * sizes.trained_values * sizes.trained["language"] // max(sum(sizes.trained.values()), 1)
    late = ("end", "vision backward")
    parts = [
        {
            "gradients": gradients if later else own if name in late else 0,
            "activations, kept": int(stays),
            "activations, at work": int(works),
            "logits": int(logits),
            "vision tower": int(vision + tower),
        }
        for name, (stays, works, logits, vision) in moments.items()
    ]
    return max(parts, key=lambda one: sum(one.values()))


def _tower(sizes: ModelSizes, facts: StageFacts, batch: MicroBatchWork) -> int:
    """Pixels and features of the media of a micro-batch; a frozen tower's pixels are gone once it has run."""
    features = batch.visual * sizes.features
    return features + (batch.patches * sizes.pixels if sizes.tower_trained and not facts.cached_features else 0)


def generation_peak(
    sizes: ModelSizes, facts: StageFacts, engine: EngineFacts, asked: Sequence[Asked], *, prompts: int
) -> Peak:
    """The worst moment of generation: the trainer's own beside weights, cache and prefill of the engine.

    Args:
        sizes: of the model.
        facts: of the stage.
        engine: how responses are generated.
        asked: all prompts; the longest decide.
        prompts: of a step, at most as many in a batch.
    """
    one = max(asked, key=lambda each: len(each.prompt))
    responses = max((len(each.responses) for each in asked), default=1)
    each = len(one.prompt) + responses * engine.max_new_tokens
    together = min(max(engine.batch_tokens // each, 1), prompts)
    tokens = together * each
    patches = together * one.visual * sizes.merge
    prefill = sizes.language.alone.at(together * len(one.prompt))
    if not facts.cached_features:
        prefill = max(prefill, sizes.vision.alone.at(patches) + patches * sizes.pixels)
    parts = static_parts(sizes, facts)
    if engine.copies:
        parts["engine's weights"] = engine.copies * sizes.all_values * engine.weight_bytes
    parts["KV cache"] = max(tokens, engine.batch_tokens if engine.copies else 0) * sizes.key_values
    parts["prefill"] = int(prefill)
    parts["logits"] = 3 * 4 * together * responses * sizes.vocabulary
    return Peak("generation", parts)
