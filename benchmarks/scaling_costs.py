"""Unit costs of a training step: what is counted or measured here, and what is assumed.

Every field of ``Hardware`` and ``Workload`` is an assumption unless its comment says otherwise; ``docs/scaling.md``
lists them with their reasons.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.released_shapes import write_shape
from easyvideor1.config import StageConfig
from easyvideor1.families.family import load_family
from easyvideor1.packing.balance import Costs, MicroBatchRows, model_costs, rank_shares, split_rows, turns_cost
from easyvideor1.packing.prefix_tree import pack_turns
from easyvideor1.policy.sizing.devices import BANDWIDTH_UTILISATION, GPUS
from easyvideor1.policy.update_batch import UpdateBatch
from easyvideor1.rewards.score import score
from easyvideor1.training.ranks.line import Line
from easyvideor1.training.ranks.shares import Share, ShareSender
from easyvideor1.training.ranks.wire import Receiver
from easyvideor1.types import Frames, MediaPlan, MediaRef, Prompt, Turn, VisualSpan
from easyvideor1.video.store import FrameStore


@dataclass(frozen=True, slots=True)
class Model:
    """What a model asks of a device: operations of a forward pass (counted from its modules), and bytes."""

    costs: Costs
    parameters: float
    layers: int
    #: Keys and values of one token, in bytes.
    key_values: float
    #: Parameters that every rank keeps whole: embeddings and logits.
    whole: float


@dataclass(frozen=True, slots=True)
class Hardware:
    """A cluster of GPUs. Bytes and operations per second, seconds."""

    gpus: int
    per_node: int = 8
    #: What a pass of the trainer and a prefill reach, and what a step of decoding reads (see ``policy.sizing``).
    arithmetic: float = GPUS["h200-141gb"].bfloat16 * 0.25
    memory: float = GPUS["h200-141gb"].bandwidth * BANDWIDTH_UTILISATION
    #: Seconds of a step of decoding beside reading weights and keys: scheduling, sampling, launches.
    step_overhead: float = 5e-3
    #: Bytes of a GPU that keys and values of an engine may take.
    cache: float = 70e9
    #: Bytes per second of a ring within a node (NVLink), and of one through all network cards of a node (8 x 400 Gb/s).
    ring_in_node: float = 300e9
    ring_between_nodes: float = 200e9
    #: One card: what the first rank sends.
    card: float = 40e9
    #: New weights by gloo from the first rank to engines on the GPUs of ranks, however many they are.
    through_cpu: float = 1e9
    #: Of one hop of a collective.
    hop_in_node: float = 10e-6
    hop_between_nodes: float = 30e-6
    #: The shared store of frames, and what one node takes from it.
    store: float = 40e9
    store_per_node: float = 10e9
    #: Processes that score answers, per node.
    scorers: int = 16
    #: Spread of the speed of GPUs (standard deviation of its logarithm).
    uneven: float = 0.03


@dataclass(frozen=True, slots=True)
class Workload:
    """What is asked in a step: prompts with a video each, and responses whose lengths are log-normal."""

    prompts: int = 256
    group: int = 8
    #: Tokens of the longest video, and text. Videos have uniform lengths between ``least`` and 1 of the longest.
    video_tokens: int = 32_768
    text_tokens: int = 300
    least: float = 0.3
    #: Pixels of a visual token are two frames of 32 x 32 in three bytes.
    bytes_per_token: int = 2 * 32 * 32 * 3
    #: Median and spread (standard deviation of the logarithm) of the tokens of a response, and their limit.
    median: float = 450.0
    spread: float = 0.6
    limit: int = 4096
    #: Passes without gradients before the update: of a reference, or of the old policy.
    scoring: int = 1
    #: Whether responses of a prompt share its computation, and its prefill.
    shared: bool = True


@dataclass(frozen=True, slots=True)
class Controller:
    """What one process does for all samples: seconds per sample, bytes per sample. All measured here but ``result``."""

    #: Bytes of one sample in the first call of a step, which goes to one rank, and in each further one to the same
    #: rank; seconds to pack and to unpack it.
    call_bytes: float
    again_bytes: float
    pack: float
    unpack: float
    #: Seconds per sample to plan micro-batches, which the first rank does for the whole step.
    plan: float
    #: Seconds to score one answer (of one scorer).
    score: float
    #: Bytes per second that the first rank hands out to others, at least.
    line: float
    #: Bytes per second that one process reads from a frame store in the page cache, checksum included.
    read: float
    #: Seconds of the trainer's process to take a finished response: an assumption.
    result: float = 0.5e-3


def released_8b() -> Model:
    """The published 8B shape of Qwen3-VL, counted from its modules; no weights are made."""
    with tempfile.TemporaryDirectory() as directory:
        path = write_shape(Path(directory), "8b")
        family = load_family(path)
        model = family.load_model(path, dtype=torch.float32, attention="sdpa", trust_remote_code=False, meta=True)
        text = model.config.get_text_config()
        embeddings = {
            id(p): p.numel()
            for m in (model.get_input_embeddings(), model.get_output_embeddings())
            for p in m.parameters()
        }
        return Model(
            costs=model_costs(family, model),
            parameters=float(sum(p.numel() for p in model.parameters())),
            layers=text.num_hidden_layers,
            key_values=2.0 * text.num_hidden_layers * text.num_key_value_heads * text.head_dim * 2,
            whole=float(sum(embeddings.values())),
        )


def _timed(work: Callable[[], object], repetitions: int = 7) -> float:
    """Least seconds of several repetitions."""
    found = []
    for _ in range(repetitions):
        begun = time.perf_counter()
        work()
        found.append(time.perf_counter() - begun)
    return min(found)


def _plan(number: int, frames: int, side: int) -> MediaPlan:
    steps, patches = frames // 2, side // 16
    return MediaPlan(
        kind="video",
        fingerprint=f"{number}",
        frame_indices=tuple(range(frames)),
        timestamps=tuple(index / 2 for index in range(frames)),
        height=side,
        width=side,
        grid=(steps, patches, patches),
        tokens=steps * (side // 32) ** 2,
        source_fps=30.0,
        sample_fps=2.0,
        digest=f"{number:064x}",
    )


def _turns(prompts: int, group: int, tokens: int) -> list[Turn]:
    """Responses to prompts with a video of 166 frames: the mean of the workload."""
    rng, turns = np.random.default_rng(0), []
    for number in range(prompts):
        plan = _plan(number, 166, 512)
        ids = np.full(plan.tokens + 300, 151_656)  # visual tokens all have one id
        ids[:300] = rng.integers(0, 150_000, 300)
        media = (MediaRef("video", f"/media/{number}.mp4"),)
        prompt = Prompt(ids, media=media, plans=(plan,), spans=(VisualSpan(0, 300, plan.tokens),))
        for _ in range(group):
            turns.append(
                Turn(
                    prompt=prompt,
                    response_ids=rng.integers(0, 150_000, tokens),
                    response_mask=np.ones(tokens, dtype=bool),
                    logprobs=-rng.exponential(size=tokens).astype(np.float32),
                    finish="stop",
                    text="x" * 4 * tokens,
                    versions=np.zeros(tokens, dtype=np.int64),
                )
            )
    return turns


def measured(costs: Costs, prompts: int = 8, group: int = 8) -> Controller:
    """The controller's costs, measured on this machine with the code that a run uses."""
    turns = _turns(prompts, group, 512)
    options = StageConfig(name="scaling", micro_batch_tokens=32_768)
    batch = UpdateBatch.of(turns, torch.randn(len(turns)), options)

    def plan() -> list[list[MicroBatchRows]]:
        together = list(range(len(turns)))
        rows = pack_turns(turns, share_prefix=True, together=together)
        found = split_rows(rows, options.micro_batch_tokens, lambda unit: turns_cost(unit, costs), together)
        return rank_shares(found, prompts, lambda batch: sum(turns_cost(unit, costs) for unit in batch))

    # A step asks for log-probs of its turns, and then for an update with them. Each prompt is another rank's.
    parts = plan()
    sender = ShareSender(range(len(parts)))

    def pack(sender: ShareSender, what: UpdateBatch | list[Turn]) -> list[bytes]:
        return [data for _, data in sender.pack([Share.of(what, part) for part in parts])]

    first, again = pack(sender, turns), pack(sender, batch)

    answer = "<think>" + "because of the red car " * 80 + "</think> <answer>B</answer>"
    count = len(turns)
    return Controller(
        call_bytes=sum(map(len, first)) / count,
        again_bytes=sum(map(len, again)) / count,
        pack=_timed(lambda: pack(ShareSender(range(len(parts))), turns)) / count,
        unpack=_timed(lambda: [Receiver().unpack(data) for data in first]) / count,
        plan=_timed(plan) / count,
        score=_timed(lambda: [score("multiple_choice", answer, "B", options=("A. a", "B. b")) for _ in range(50)]) / 50,
        line=_line_rate(),
        read=_read_rate(),
    )


def _line_rate(megabytes: int = 32) -> float:
    """Bytes per second through the store that ranks are called by: the whole round trip of one reader, itself.

    Rates of calls to many ranks that follow from it are lower bounds, and seconds upper bounds: part of a round trip is
    the reader's, and readers work side by side.
    """
    line = Line("127.0.0.1", 0, serves=True)
    value = np.random.default_rng(0).integers(0, 256, megabytes << 20, dtype=np.uint8).tobytes()
    line.put_bytes("call", value)
    return len(value) / _timed(lambda: line.get("call", bytes))


def _read_rate() -> float:
    """Bytes per second of a frame store, first reads of a process, which verify; the files are in the page cache."""
    plan = _plan(0, 64, 512)
    pixels = np.random.default_rng(0).integers(0, 256, (64, 512, 512, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as directory:
        FrameStore(directory).put(Frames(pixels, plan))

        def read() -> None:
            frames = FrameStore(directory).get(plan)
            assert frames is not None
            frames.pixels.sum()

        return pixels.nbytes / _timed(read)
