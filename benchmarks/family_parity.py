"""Families beside transformers: the same conversations through both, number by number."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.numpy import save_file
from safetensors.torch import load_file

from benchmarks.family_cases import ALL_CASES, BATCHES, Case, load_noise, plans_of, render_case
from benchmarks.float64 import in_float64
from easyvideor1.engines.engine import Request, Sampling, generate
from easyvideor1.engines.local import LocalEngine
from easyvideor1.families.family import Family, VisualInputs, load_family
from easyvideor1.families.features import load_visual
from easyvideor1.families.vision_tower import hidden_states
from easyvideor1.types import MediaRef, Prompt


@dataclass(frozen=True, slots=True)
class Parity:
    """How a batch of cases differs.

    Attributes:
        batch: the names of its cases.
        ids, grids, positions, generated: whether these are equal, the last for the tokens of greedy generation.
        pixels: largest difference of pixel tensors.
        exact_logits: largest difference of logits in float64: of what is computed.
        logits: the same in float32: of what is computed and of the order of its sums, which the number of rows in a
            product and the number of threads decide.
        rounding: largest difference between transformers' logits in float32 and its own in float64.
        vision_calls: calls of the tower for a forward pass.
    """

    batch: tuple[str, ...]
    ids: bool
    grids: bool
    positions: bool
    generated: bool
    pixels: float
    exact_logits: float
    logits: float
    rounding: float
    vision_calls: int

    @property
    def bound(self) -> float:
        """How far logits in float32 may be apart: each of the two is ``rounding`` away from what both stand for."""
        return max(1e-5, 2 * self.rounding)

    def passes(self) -> bool:
        same = self.ids and self.grids and self.positions and self.generated
        return same and self.pixels <= 1e-6 and self.exact_logits <= 1e-9 and self.logits <= self.bound


@dataclass(frozen=True, slots=True)
class Contender:
    """A checkpoint, its family if that is not found by its model type, and the batches that it is compared on."""

    checkpoint: Path
    family: str = ""
    batches: tuple[tuple[str, ...], ...] = BATCHES


def compare(contenders: Mapping[str, Contender], scratch: Path) -> dict[str, list[Parity]]:
    """Every batch of every contender, by name; ``scratch`` is an empty directory.

    Both sides compute with as many threads as torch has in this process.
    """
    families = {
        name: load_family(one.checkpoint, name=one.family, conventions="transformers")
        for name, one in contenders.items()
    }
    jobs = [
        _job(family, contenders[name], scratch / f"media.{number}.safetensors")
        for number, (name, family) in enumerate(families.items())
    ]
    (scratch / "jobs.json").write_text(json.dumps(jobs), encoding="utf-8")
    _run_oracle(scratch)
    found: dict[str, list[Parity]] = {}
    for number, (name, family) in enumerate(families.items()):
        one = contenders[name]
        model = family.load_model(one.checkpoint, dtype=torch.float32, attention="sdpa", trust_remote_code=False).eval()
        found[name] = [
            _compare(family, model, batch, load_file(scratch / f"{number}.{index}.safetensors"))
            for index, batch in enumerate(one.batches)
        ]
    return found


def _run_oracle(scratch: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.hf_oracle", str(scratch), str(torch.get_num_threads())],
        cwd=Path(__file__).resolve().parents[1],
        env={**os.environ, "TRANSFORMERS_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the oracle ended with status {done.returncode}:\n{done.stderr[-4000:]}")


def _job(family: Family, one: Contender, file: Path) -> dict[str, Any]:
    arrays = {}
    written: dict[str, dict[str, Any]] = {}
    for name in sorted({name for batch in one.batches for name in batch}):
        media = []
        for medium, made in zip(ALL_CASES[name].media, plans_of(ALL_CASES[name], family.geometry), strict=True):
            arrays[made.digest] = load_noise(MediaRef(made.kind, "noise"), made).pixels
            info = medium.info
            media.append(
                {
                    "kind": made.kind,
                    "array": made.digest,
                    "fps": info.fps,
                    "indices": made.frame_indices,
                    "total": info.frame_count,
                }
            )
        written[name] = {
            "messages": _messages(ALL_CASES[name]),
            "media": media,
            "suppressed": list(family.visual_token_ids),
        }
    save_file(arrays, file)
    return {
        "checkpoint": str(one.checkpoint),
        "media": file.name,
        "batches": [[written[name] for name in batch] for batch in one.batches],
    }


def _messages(case: Case) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = [{"role": "system", "content": case.system}] if case.system else []
    for text, response in (*case.earlier, (case.text, None)):
        content = [
            {"type": part.strip("<>")} if part in ("<image>", "<video>") else {"type": "text", "text": part}
            for part in re.split(r"(<image>|<video>)", text)
            if part
        ]
        messages.append({"role": "user", "content": content})
        if response is not None:
            messages.append({"role": "assistant", "content": response})
    return messages


@torch.no_grad()
def _compare(family: Family, model: Any, batch: tuple[str, ...], theirs: dict[str, torch.Tensor]) -> Parity:
    prompts = [render_case(family, ALL_CASES[name]) for name in batch]
    lengths = theirs["attention_mask"].sum(1).tolist()
    rows = [theirs["input_ids"][row, :length].tolist() for row, length in enumerate(lengths)]
    ids = rows == [prompt.token_ids.tolist() for prompt in prompts]
    visual = load_visual(prompts, family, load_noise)
    assert visual is None or isinstance(visual, VisualInputs)
    grids, pixels = _pixels(prompts, visual, theirs)
    placed = [family.positions(prompt) for prompt in prompts]
    positions = ids and all(
        torch.equal(torch.from_numpy(ours), theirs["positions"][:, row, : lengths[row]])
        and ("following" not in theirs or theirs["following"].tolist() == [first] * 3)
        for row, (ours, first) in enumerate(placed)
    )
    if not (ids and grids and positions):
        unknown = float("inf")
        return Parity(batch, ids, grids, positions, False, pixels, unknown, unknown, 0.0, 0)
    calls: list[int] = []
    hook = model.model.visual.register_forward_hook(lambda *_: calls.append(1))
    ours = padded_logits(family, model, prompts, visual)
    hook.remove()
    with in_float64(model):
        exact = padded_logits(family, model, prompts, visual)
    generated = True
    if len(batch) == 1:
        count = theirs["generated"].shape[1]
        generated = _generate(family, model, prompts[0], count) == theirs["generated"][0].tolist()
    logits, exact_logits, rounding = (
        _distance(one, other, lengths)
        for one, other in (
            (ours, theirs["logits"]),
            (exact, theirs["exact_logits"]),
            (theirs["logits"], theirs["exact_logits"]),
        )
    )
    return Parity(
        batch, ids, grids, positions, generated, pixels, exact_logits, logits, rounding, vision_calls=len(calls)
    )


def _distance(one: torch.Tensor, other: torch.Tensor, lengths: Sequence[int]) -> float:
    """Largest difference of logits ``(B, T, V)`` at tokens that are no padding."""
    apart = (one.double() - other.double()).abs()
    return max(float(apart[row, :length].max()) for row, length in enumerate(lengths))


def _pixels(
    prompts: Sequence[Prompt], visual: VisualInputs | None, theirs: dict[str, torch.Tensor]
) -> tuple[bool, float]:
    """Whether grids are equal, and how far patches are apart; the oracle keeps images and videos apart."""
    if visual is None:
        return "image_grid_thw" not in theirs and "video_grid_thw" not in theirs, 0.0
    kinds = [plan.kind for prompt in prompts for plan in prompt.plans]
    pieces = torch.split(visual.pixel_patches, visual.grid_thw.prod(1).tolist())
    same, distance = True, 0.0
    for kind, grid, values in (
        ("image", "image_grid_thw", "pixel_values"),
        ("video", "video_grid_thw", "pixel_values_videos"),
    ):
        mine = [index for index, found in enumerate(kinds) if found == kind]
        if not mine:
            same &= grid not in theirs
            continue
        same &= torch.equal(visual.grid_thw[mine], theirs[grid])
        ours = torch.cat([pieces[index] for index in mine])
        if ours.shape != theirs[values].shape:
            return False, float("inf")
        distance = max(distance, float((ours - theirs[values]).abs().max()))
    return same, distance


def padded_logits(family: Family, model: Any, prompts: Sequence[Prompt], visual: VisualInputs | None) -> torch.Tensor:
    """Logits ``(B, T, V)`` of prompts as rows, padded behind."""
    length = max(len(prompt) for prompt in prompts)
    ids = torch.full((len(prompts), length), family.pad_token_id)
    positions = torch.zeros(3, len(prompts), length, dtype=torch.int64)
    for row, prompt in enumerate(prompts):
        ids[row, : len(prompt)] = torch.from_numpy(prompt.token_ids)
        positions[:, row, : len(prompt)] = torch.from_numpy(family.positions(prompt)[0])
    mask = torch.ones(length, length, dtype=torch.bool).tril().expand(len(prompts), 1, -1, -1)
    return family.logits(model, hidden_states(family, model, ids, positions, mask, visual))


def _generate(family: Family, model: Any, prompt: Prompt, count: int) -> list[int]:
    stops, family.stop_token_ids = family.stop_token_ids, ()  # the oracle goes on behind them, too
    try:
        engine = LocalEngine(family, model, load_noise)
        ((trajectory,),) = generate(engine, [Request("r", prompt, 1, Sampling(greedy=True, max_new_tokens=count), 0)])
    finally:
        family.stop_token_ids = stops
    return [int(token) for token in trajectory.turns[0].response_ids]
