"""The prediction for one stage, and what to change where it does not fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from easyvideor1.config import ModelConfig, RunConfig, StageConfig
from easyvideor1.policy.sizing.curves import ModelSizes
from easyvideor1.policy.sizing.devices import BANDWIDTH_UTILISATION, Device
from easyvideor1.policy.sizing.memory import EngineFacts, Peak, Placement, engine_parts, static_parts, update_peak
from easyvideor1.policy.sizing.workload import (
    Asked,
    MicroBatchWork,
    StageFacts,
    StepFlops,
    longest_first,
    micro_batches,
    shortened,
    stage_facts,
    step_flops,
)

#: Bounds of a micro-batch are proposed in steps of so many tokens.
GRAIN = 1024
#: Tokens that MLPs compute at a time where that is proposed: little beside a row that would need it.
CHUNK = 4096
#: Prompts that the largest micro-batches are looked for among.
WORST = 16


@dataclass(frozen=True)
class Problem:
    """One stage of a run on a device, or on one for each of its ranks, with the prompts that it may draw."""

    config: RunConfig
    options: StageConfig
    asked: tuple[Asked, ...]
    sizes: ModelSizes
    shared: bool
    device: Device

    @cached_property
    def facts(self) -> StageFacts:
        """What the stage asks of the trainer."""
        model = self.config.model
        return stage_facts(
            self.options,
            checkpointing=model.gradient_checkpointing,
            lora=model.lora is not None,
            cached_features=self.config.cache.features,
        )

    @property
    def place(self) -> Placement:
        """Where a rank keeps things."""
        cluster = self.config.cluster
        shards = cluster.shard_size or cluster.ranks
        return Placement(cluster.ranks, shards, self.config.model.offload, self.device.on_cpu)

    @cached_property
    def engine(self) -> EngineFacts:
        """How responses are generated."""
        rollout, cluster = self.config.rollout, self.config.cluster
        vllm = rollout.engine == "vllm"
        by_ray = rollout.placement == "ray" and rollout.gpus_per_worker > 0
        shares = cluster.engine_share(rollout.workers, rollout.gpus_per_worker) > 0
        apart = rollout.engine == "endpoint" or (by_ray and not shares)
        # The first of several ranks generates with weights of its own.
        own = vllm or cluster.ranks > 1
        here = cluster.engines_per_gpu(rollout.workers, rollout.gpus_per_worker) if shares else rollout.workers
        copies = 0 if apart else max(here, int(own))
        reserved = int(copies * rollout.vllm.share * self.device.memory) if vllm and not self.device.on_cpu else 0
        itemsize = self.sizes.compute_bytes if vllm else 4
        return EngineFacts(copies, itemsize, rollout.batch_tokens, rollout.max_new_tokens, reserved, apart)

    @property
    def generating_devices(self) -> int:
        """Devices that generate side by side: those of the engines that Ray places on GPUs; else one."""
        rollout, cluster = self.config.rollout, self.config.cluster
        if rollout.placement != "ray" or not rollout.workers or rollout.gpus_per_worker == 0:
            return 1
        return max(rollout.workers // cluster.engines_per_gpu(rollout.workers, rollout.gpus_per_worker), 1)

    @cached_property
    def worst(self) -> list[MicroBatchWork]:
        """Micro-batches of a step on the longest prompts."""
        few = longest_first(self.asked, min(self.options.prompts_per_step, WORST))
        return micro_batches(few, self.options, self.sizes.costs, shared=self.shared)

    @cached_property
    def peaks(self) -> tuple[Peak, ...]:
        """The worst moments of the phases of a step."""
        return (self.updating, self.generating) if self.facts.generates else (self.updating,)

    @cached_property
    def updating(self) -> Peak:
        """The worst moment of an update. An engine sleeps meanwhile, unless it may work steps ahead."""
        peak = update_peak(self.sizes, self.facts, self.worst, self.place)
        if not (self.facts.generates and self.config.rollout.max_staleness):
            return peak
        return Peak(peak.phase, {**peak.parts, "generation meanwhile": sum(self._engine_parts.values())})

    @cached_property
    def generating(self) -> Peak:
        """The worst moment of generation: what the trainer keeps, and the engines."""
        return Peak("generation", {**static_parts(self.sizes, self.facts, self.place), **self._engine_parts})

    @cached_property
    def _engine_parts(self) -> dict[str, int]:
        prompts = self.options.prompts_per_step
        return engine_parts(self.sizes, self.facts, self.engine, self.asked, prompts=prompts)

    @property
    def peak(self) -> Peak:
        """The worst of them."""
        return max(self.peaks, key=lambda peak: peak.total)

    @property
    def fits(self) -> bool:
        """Whether the device has room for it."""
        return self.peak.total <= self.device.usable

    def with_stage(self, **changes: object) -> Problem:
        """The same with other options of the stage."""
        return replace(self, options=self.options.model_copy(update=changes))

    def with_rollout(self, **changes: object) -> Problem:
        """The same with other options of generation."""
        rollout = self.config.rollout.model_copy(update=changes)
        return replace(self, config=self.config.model_copy(update={"rollout": rollout}))


@dataclass(frozen=True, slots=True)
class StepTime:
    """Expected seconds of a step, by phase."""

    prefill: float
    decoding: float
    trainer: float

    @property
    def total(self) -> float:
        """All phases, one after the other."""
        return self.prefill + self.decoding + self.trainer


def typical_step(problem: Problem) -> tuple[StepFlops, StepTime]:
    """Operations and seconds of a step on prompts that are typical: every so-manieth of them in order of length."""
    ordered = longest_first(problem.asked, len(problem.asked))
    count = problem.options.prompts_per_step
    chosen = [ordered[int((number + 0.5) * len(ordered) / count) % len(ordered)] for number in range(count)]
    batches = micro_batches(chosen, problem.options, problem.sizes.costs, shared=problem.shared)
    flops = step_flops(chosen, batches, problem.sizes, problem.facts)
    return flops, _seconds(problem, chosen, flops)


def _seconds(problem: Problem, chosen: Sequence[Asked], flops: StepFlops) -> StepTime:
    """Arithmetic by the device's rate; a step of decoding reads all weights and the keys of its batch, too. Engines on
    GPUs of their own, or on those of ranks, share the prompts evenly."""
    device, sizes, engine = problem.device, problem.sizes, problem.engine
    rate = device.rate(problem.config.model.dtype)
    side_by_side = min(problem.generating_devices, len(chosen))  # the responses to a prompt stay in one engine
    decoding = 0.0
    if problem.facts.generates:
        new = engine.max_new_tokens
        cached = sum(len(one.prompt) + len(one.responses) * new / 2 for one in chosen) / side_by_side
        batches = max(-(-int(cached) // engine.batch_tokens), 1)
        read = batches * new * sizes.all_values * sizes.compute_bytes + new * cached * sizes.key_values
        decoding = max(flops.decoding / side_by_side / rate, read / (device.bandwidth * BANDWIDTH_UTILISATION))
    trainer = flops.trainer / rate / problem.config.cluster.ranks
    return StepTime((flops.prefill + flops.generation_vision) / side_by_side / rate, decoding, trainer)


def largest_that_fits(low: int, high: int, fits: Callable[[int], bool]) -> int | None:
    """The largest multiple of ``GRAIN`` in the range that fits, if fitting ones are all below those that do not."""
    best = None
    first, last = -(-low // GRAIN), high // GRAIN
    while first <= last:
        middle = (first + last) // 2
        if fits(middle * GRAIN):
            best, first = middle * GRAIN, middle + 1
        else:
            last = middle - 1
    return best


def best_micro_batch(problem: Problem) -> int | None:
    """The largest bound of a micro-batch that fits and makes a difference; None if none does."""
    total = sum(len(one.prompt) + sum(one.responses) for one in problem.asked)
    most = max(min(total, 16 * max(len(o.prompt) + sum(o.responses) for o in problem.asked)), GRAIN)

    def fits(tokens: int) -> bool:
        tried = problem.with_stage(micro_batch_tokens=tokens)
        return tried.updating.total <= tried.device.usable

    return largest_that_fits(GRAIN, -(-most // GRAIN) * GRAIN, fits)


def best_batch_tokens(problem: Problem) -> int | None:
    """The largest number of tokens in the engine's cache that fits; None if none does, or it is not what decides."""
    if not problem.facts.generates or problem.engine.reserved or problem.engine.apart:
        return None
    longest = max(len(one.prompt) + len(one.responses) * problem.engine.max_new_tokens for one in problem.asked)

    def fits(tokens: int) -> bool:
        tried = problem.with_rollout(batch_tokens=tokens)
        return tried.generating.total <= tried.device.usable

    most = longest * problem.options.prompts_per_step
    return largest_that_fits(GRAIN, -(-most // GRAIN) * GRAIN, fits)


def best_utilisation(problem: Problem) -> float | None:
    """The largest share of the device for each vLLM, in steps of 0.05, that fits and holds its weights and the longest
    prompt with one response; None if none does, or it is not what decides."""
    engine, sizes, memory = problem.engine, problem.sizes, problem.device.memory
    if not problem.facts.generates or not engine.reserved:
        return None
    longest = max(len(one.prompt) for one in problem.asked) + engine.max_new_tokens
    least = sizes.all_values * engine.weight_bytes + longest * sizes.key_values
    room = problem.device.usable - problem.generating.total + engine.reserved
    share = min(int(20 * room / (engine.copies * memory)), 19) / 20
    return share if share * memory >= least else None


@dataclass(frozen=True, slots=True)
class Remedy:
    """Changes of the configuration that together make a stage fit, and the peak that they lead to."""

    changes: tuple[str, ...]
    peak: int


#: What a model takes under another configuration; measuring it is the caller's.
SizesOf = Callable[[ModelConfig], ModelSizes]


def remedies(problem: Problem, sizes_of: SizesOf) -> list[Remedy]:
    """What makes a stage fit that does not: each change by itself, and if none is enough, all of them up to one."""
    found = []
    for key, changed in _changes(problem, sizes_of):
        if changed.fits:
            found.append(Remedy((key,), changed.peak.total))
    if found:
        return found
    applied: tuple[str, ...] = ()
    current = problem
    for step in (
        _checkpointed,
        _smaller_batches,
        _mlps_in_chunks,
        _computing_in_bfloat16,
        _offloaded,
        _with_adapters,
        _fewer_frames,
    ):
        for key, changed in step(current, sizes_of):
            if changed.peak.total < current.peak.total:
                current, applied = changed, (*applied, key)
        if current.fits:
            return [Remedy(applied, current.peak.total)]
    return []


def _changes(problem: Problem, sizes_of: SizesOf) -> Iterator[tuple[str, Problem]]:
    steps = (
        _smaller_batches,
        _checkpointed,
        _mlps_in_chunks,
        _computing_in_bfloat16,
        _offloaded,
        _fewer_frames,
        _with_adapters,
    )
    for step in steps:
        yield from step(problem, sizes_of)


def _with_model(problem: Problem, sizes_of: SizesOf, **changes: object) -> Problem:
    model = ModelConfig.model_validate(problem.config.model.model_dump() | changes)
    return replace(problem, config=problem.config.model_copy(update={"model": model}), sizes=sizes_of(model))


def _checkpointed(problem: Problem, sizes_of: SizesOf) -> Iterator[tuple[str, Problem]]:
    if not problem.config.model.gradient_checkpointing:
        yield "model.gradient_checkpointing=true", _with_model(problem, sizes_of, gradient_checkpointing=True)


def _mlps_in_chunks(problem: Problem, sizes_of: SizesOf) -> Iterator[tuple[str, Problem]]:
    """Where a row is long enough to gain by it."""
    model = problem.config.model
    dropout = model.lora is not None and model.lora.dropout > 0
    longest = max((batch.tokens for batch in problem.worst), default=0)
    if not model.mlp_chunk and not dropout and longest > 2 * CHUNK:
        yield f"model.mlp_chunk={CHUNK}", _with_model(problem, sizes_of, mlp_chunk=CHUNK)


def _computing_in_bfloat16(problem: Problem, sizes_of: SizesOf) -> Iterator[tuple[str, Problem]]:
    if problem.config.model.dtype != "bfloat16":
        yield "model.dtype=bfloat16", _with_model(problem, sizes_of, dtype="bfloat16")


def _offloaded(problem: Problem, sizes_of: SizesOf) -> Iterator[tuple[str, Problem]]:
    """What may go to the host, one after the other; a processor has nothing else."""
    if problem.device.on_cpu:
        return
    for what in ("activations", "optimizer"):
        model = problem.config.model
        if what in model.offload or (what == "activations" and not model.gradient_checkpointing):
            continue
        offload = (*model.offload, what)
        problem = _with_model(problem, sizes_of, offload=offload)
        yield f"model.offload=[{','.join(offload)}]", problem


def _with_adapters(problem: Problem, sizes_of: SizesOf) -> Iterator[tuple[str, Problem]]:
    model = problem.config.model
    if model.lora is None and "language" not in model.freeze:
        lora = {"rank": 16, "alpha": 32.0, "targets": ["language"]}
        yield "model.lora={rank: 16}", _with_model(problem, sizes_of, lora=lora)


def _smaller_batches(problem: Problem, sizes_of: SizesOf) -> Iterator[tuple[str, Problem]]:
    """Smaller micro-batches if the update is too large, a smaller cache of the engine if generation is, or both."""
    changed, words = problem, []
    too_large = [peak.phase for peak in problem.peaks if peak.total > problem.device.usable]
    if "update" in too_large:
        tokens = best_micro_batch(problem) or GRAIN
        if tokens < problem.options.micro_batch_tokens:
            changed = changed.with_stage(micro_batch_tokens=tokens)
            words.append(f"stages.{_place(problem)}.micro_batch_tokens={tokens}")
    if "generation" in too_large:
        tokens = best_batch_tokens(problem) or GRAIN
        share = best_utilisation(problem)
        if share is not None:
            changed = changed.with_rollout(
                vllm=problem.config.rollout.vllm.model_copy(update={"gpu_memory_utilization": share})
            )
            words.append(f"rollout.vllm.gpu_memory_utilization={share:g}")
        elif tokens < problem.engine.batch_tokens and not problem.engine.reserved:
            changed = changed.with_rollout(batch_tokens=tokens)
            words.append(f"rollout.batch_tokens={tokens}")
    if words:
        yield " ".join(words), changed


def _place(problem: Problem) -> int:
    names = [stage.name for stage in problem.config.stages]
    return names.index(problem.options.name)


def _fewer_frames(problem: Problem, sizes_of: SizesOf) -> Iterator[tuple[str, Problem]]:
    """The largest number of frames per video that fits; the largest videos decide."""
    frames = [len(plan.frame_indices) for one in problem.asked for plan in one.prompt.plans if plan.kind == "video"]
    if not frames:
        return
    most = max(frames)

    def changed(limit: int) -> Problem:
        fewer = [
            shortened([one], min(limit / max(_frames(one), 1), 1.0))[0] if _frames(one) > limit else one
            for one in problem.asked
        ]
        return replace(problem, asked=tuple(fewer))

    low, high, best = 2, most - 1, None
    while low <= high:
        middle = (low + high) // 2
        if changed(middle).fits:
            best, low = middle, middle + 1
        else:
            high = middle - 1
    limit = (best or 2) // 2 * 2
    if limit >= 2:
        key = "frames" if problem.config.data.video.frames is not None else "max_frames"
        yield f"data.video.{key}={limit}", changed(limit)


def _frames(one: Asked) -> int:
    return max((len(plan.frame_indices) for plan in one.prompt.plans if plan.kind == "video"), default=0)
