"""What a step computes: its micro-batches, as training will cut them, and its operations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from easyvideor1.algorithms.token_batch import stage_needs
from easyvideor1.config import StageConfig
from easyvideor1.packing.balance import Costs, MicroBatchRows, split_rows, turns_cost
from easyvideor1.packing.prefix_tree import build_forest, media_of, pack_turns
from easyvideor1.policy.sizing.curves import ModelSizes
from easyvideor1.types import MediaPlan, Prompt, Turn


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt and the lengths in tokens of the responses that it is trained with."""

    prompt: Prompt
    responses: tuple[int, ...]

    @property
    def visual(self) -> int:
        """Visual tokens of the prompt."""
        return sum(plan.tokens for plan in self.prompt.plans)


@dataclass(frozen=True, slots=True)
class MicroBatchWork:
    """One micro-batch: tokens that are fed (padding too), pairs of a query and a key that it sees, response tokens, and
    of its media, each once, visual tokens, patches, bytes of frames and operations of the vision tower."""

    tokens: int
    pairs: int
    targets: int
    visual: int
    patches: int
    frames: int
    media: float


def micro_batches(asked: Sequence[Asked], options: StageConfig, costs: Costs, *, shared: bool) -> list[MicroBatchWork]:
    """The micro-batches of an update on some prompts, cut as training cuts them.

    Responses are of random tokens, so that they share nothing but their prompt.

    Args:
        asked: prompts of a step.
        options: of the stage.
        costs: of the model.
        shared: whether the family's responses branch off their prompts (``Family.shares_prefix``).
    """
    rng = np.random.default_rng(0)
    turns = [_turn(one.prompt, length, rng) for one in asked for length in one.responses]
    groups = [number for number, one in enumerate(asked) for _ in one.responses]
    together = groups if stage_needs(options) & {"group_ids", "pairs"} else list(range(len(turns)))
    rows = pack_turns(turns, share_prefix=shared, together=together)
    batches = split_rows(rows, options.micro_batch_tokens, lambda unit: turns_cost(unit, costs), together)
    return [_work(batch, costs) for batch in batches]


def _turn(prompt: Prompt, length: int, rng: np.random.Generator) -> Turn:
    ids = rng.integers(0, 2**31, length)
    return Turn(prompt, ids, np.ones(length, dtype=bool), None, "length", "")


def _work(rows: MicroBatchRows, costs: Costs) -> MicroBatchWork:
    turns = [turn for row in rows for turn in row.turns]
    targets = sum(len(turn.response_ids) for turn in turns)
    if all(row.shared for row in rows):
        forest = build_forest(turns)
        tokens, pairs = forest.layout.length, forest.layout.pairs
        plans = [plan for each in forest.stretches for _, plan in media_of(each, turns[each.turn].prompt)]
    else:
        longest = max(row.row_length for row in rows)
        tokens, pairs = longest * len(rows), len(rows) * longest * (longest + 1) // 2
        plans = list({(p.digest, p.grid): p for turn in turns for p in turn.prompt.plans}.values())
    return MicroBatchWork(tokens, pairs, targets, *_media(plans), costs.media(plans))


def _media(plans: Iterable[MediaPlan]) -> tuple[int, int, int]:
    """Visual tokens, patches, and bytes of frames."""
    visual = patches = frames = 0
    for plan in plans:
        visual += plan.tokens
        patches += plan.grid[0] * plan.grid[1] * plan.grid[2]
        frames += len(plan.frame_indices) * plan.height * plan.width * 3
    return visual, patches, frames


@dataclass(frozen=True, slots=True)
class StepFlops:
    """Floating-point operations of one step, two per weight and token of every matrix product."""

    prefill: float
    decoding: float
    generation_vision: float
    scoring: float
    update_language: float
    update_vision: float

    @property
    def trainer(self) -> float:
        """What trainer and reference do."""
        return self.scoring + self.update_language + self.update_vision

    @property
    def vision(self) -> float:
        """Of the vision tower."""
        return self.generation_vision + self.update_vision

    @property
    def language(self) -> float:
        """Of the decoder and the logits."""
        return self.prefill + self.decoding + self.scoring + self.update_language


@dataclass(frozen=True, slots=True)
class StageFacts:
    """What a stage asks of the trainer, from its options and the model's.

    ``reference`` is a forward pass for a KL, ``reference_copy`` whether that is of a copy; ``several`` is whether
    log-probs are computed before the first update.
    """

    generates: bool
    reference: bool
    reference_copy: bool
    reference_in_loss: bool
    critic: bool
    several: bool
    epochs: int
    checkpointing: bool
    weights_learn: bool
    cached_features: bool


def stage_facts(options: StageConfig, *, checkpointing: bool, lora: bool, cached_features: bool) -> StageFacts:
    """The facts of a stage; see ``StageFacts``."""
    needs = stage_needs(options)
    reference = bool(needs & {"ref_logprobs", "full_kl"})
    return StageFacts(
        generates=options.trajectories == "policy",
        reference=reference,
        reference_copy=reference and options.kl.reference != "adapter-off",
        reference_in_loss=reference and options.kl.placement == "loss",
        critic="values" in needs,
        several=options.mini_batches * options.ppo_epochs > 1,
        epochs=options.ppo_epochs,
        checkpointing=checkpointing,
        weights_learn=not lora,
        cached_features=cached_features,
    )


def step_flops(
    asked: Sequence[Asked], batches: Sequence[MicroBatchWork], sizes: ModelSizes, facts: StageFacts
) -> StepFlops:
    """Operations of a step on some prompts, whose micro-batches are ``batches``.

    A backward pass costs two forward passes, or one where the weights are frozen under adapters; that of attention two
    and a half, since fused kernels compute the scores again (Dao 2023, sec. 3.1: five products in place of two).
    Recomputation costs another forward pass, of a vision tower that learns in chunks one more, and of MLPs in chunks
    too. Logits are computed twice (``packing.logprobs``).
    """
    costs = sizes.costs
    products = sum(batch.tokens for batch in batches) * costs.token
    pairs = sum(batch.pairs for batch in batches) * costs.pair
    language = products + pairs
    logits = sum(batch.targets for batch in batches) * costs.target
    vision = 0.0 if facts.cached_features else sum(batch.media for batch in batches)
    backward = 2 if facts.weights_learn else 1
    again = sum(batch.tokens for batch in batches if batch.tokens > sizes.mlp_chunk) * sizes.computed_again
    forward = 1 + facts.checkpointing
    layers = products * (forward + backward) + pairs * (forward + 2.5) + again
    update = facts.epochs * (layers + logits * (2 + backward))
    scoring = (language + logits) * (facts.reference * (facts.epochs if facts.reference_in_loss else 1) + facts.several)
    passes_of_tower = 3 + facts.checkpointing + (sizes.vision_chunk > 0) if sizes.tower_trained else 1
    seen = vision * facts.epochs * passes_of_tower
    if facts.critic:
        scoring += language
        update += facts.epochs * layers
        seen += vision * facts.epochs * passes_of_tower
    prefill = decoding = 0.0
    if facts.generates:
        for one in asked:
            length = len(one.prompt)
            prefill += length * costs.token + length * (length + 1) // 2 * costs.pair
            for new in one.responses:
                decoding += new * (costs.token + costs.target) + new * (length + new / 2) * costs.pair
    generated = vision if facts.generates else 0.0
    return StepFlops(prefill, decoding, generated, scoring, update, seen)


def with_micro_batch(options: StageConfig, tokens: int) -> StageConfig:
    """The stage with another bound of tokens."""
    return options.model_copy(update={"micro_batch_tokens": tokens})


def longest_first(asked: Sequence[Asked], count: int) -> list[Asked]:
    """The ``count`` prompts whose micro-batches are the largest, by tokens of prompt and responses."""
    return sorted(asked, key=lambda one: -(len(one.prompt) + sum(one.responses)))[:count]


def shortened(asked: Sequence[Asked], share: float) -> list[Asked]:
    """The same questions with videos of a smaller number of frames: ``share`` of their temporal steps, at least one.

    Times and texts of steps stay, so that the prompts come out a little longer than they would.
    """
    return [replace(one, prompt=_with_fewer_steps(one.prompt, share)) for one in asked]


def _with_fewer_steps(prompt: Prompt, share: float) -> Prompt:
    plans = []
    keep = np.ones(len(prompt), dtype=bool)
    for media, plan in enumerate(prompt.plans):
        if plan.kind != "video":
            plans.append(plan)
            continue
        steps = max(int(plan.grid[0] * share), 1)
        frames = max(round(len(plan.frame_indices) * steps / plan.grid[0]), 1)
        spans = [span for span in prompt.spans if span.media == media]
        left = plan.tokens // plan.grid[0] * steps
        for span in spans:
            dropped = max(span.length - left, 0)
            keep[span.start + span.length - dropped : span.start + span.length] = False
            left -= span.length - dropped
        plans.append(
            replace(
                plan,
                grid=(steps, *plan.grid[1:]),
                tokens=plan.tokens // plan.grid[0] * steps,
                frame_indices=plan.frame_indices[:frames],
                timestamps=plan.timestamps[:frames],
            )
        )
    return _kept(prompt, keep, tuple(plans))


def _kept(prompt: Prompt, keep: np.ndarray, plans: tuple[MediaPlan, ...]) -> Prompt:
    before = np.concatenate([[0], np.cumsum(keep)])
    spans = tuple(
        replace(span, start=int(before[span.start]), length=int(before[span.start + span.length] - before[span.start]))
        for span in prompt.spans
    )
    spans = tuple(span for span in spans if span.length)
    return replace(prompt, token_ids=prompt.token_ids[keep], plans=plans, spans=spans)
