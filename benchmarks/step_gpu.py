"""``python -m benchmarks.step_gpu``: the step of ``benchmarks.step`` at the shapes of released models, on one GPU.

Random weights in the shapes of Qwen3-VL-2B (all of it trained) and 8B (adapters trained: weights, gradients and AdamW's
state in float32 would be 140 GB), computed in bfloat16 with gradient checkpointing on every path. A video prompt of
about 18,500 tokens and eight responses of about 512, as in the published runs.

Reported: how much faster log-probs and an update are than with every sequence by itself (the usual way: prompts and
pixels repeated, all logits), their distance, memory, MFU, and the longest video whose update fits. MFU counts the
operations that a step needs, each once: what is computed again in the backward pass is not counted. The last line is
JSON.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure import check_packages, table, versions
from benchmarks.released_shapes import SHAPES, random_model, weightless_model, write_shape
from benchmarks.step_paths import Separate, Shared, StepData, make_step_data
from easyvideor1.attention.flex import flex_tree_attention
from easyvideor1.attention.functions import tree_attention
from easyvideor1.config import LoraConfig, ModelConfig
from easyvideor1.families.family import Family, load_family
from easyvideor1.packing.balance import model_costs, turns_cost
from easyvideor1.packing.prefix_tree import build_forest, pack_turns
from easyvideor1.policy.policy import Policy

SIDE = 384  # pixels: 144 visual tokens per two frames
RESPONSES = 8
LENGTHS = (448, 576)
PROMPT = 18_500

#: Every sequence by itself, groups that are computed once, and those with compiled layers.
WAYS = ("separate", "shared", "compiled")

#: Dense bfloat16 operations a second by the makers' sheets.
PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="*", default=["2b", "8b"], choices=list(SHAPES))
    parser.add_argument("--prompt", type=int, default=PROMPT, help="tokens of the video prompt")
    parser.add_argument("--rounds", type=int, default=2, help="measured repetitions, after one that is not")
    parser.add_argument("--skip-attention", action="store_true")
    parser.add_argument("--ways", nargs="*", default=list(WAYS), choices=WAYS)
    parser.add_argument("--longest", type=int, default=4, help="try videos of up to so many times the prompt; 0: none")
    parser.add_argument("--profile", action="store_true", help="where the time of an update goes, of every way")
    parser.add_argument("--device", default="cuda")
    args = parser.parse_args()
    check_packages()
    device = torch.device(args.device)
    found: dict[str, Any] = {"benchmark": "step_gpu", "device": _name(device)}
    for name in args.shapes:
        with tempfile.TemporaryDirectory(prefix="easyvideor1-step.") as work:
            shape = Shape(name, Path(work), device, args.prompt, args.rounds, profile=args.profile)
            found[name] = shape.measure(args.ways, one_layer=not args.skip_attention, longest=args.longest)
            print(json.dumps({name: found[name]}), flush=True)
    found["versions"] = versions(("torch", "transformers", "triton"))
    print(json.dumps(found))


class Shape:
    """All measurements at the shape of one model."""

    def __init__(
        self, name: str, work: Path, device: torch.device, prompt: int, rounds: int, *, profile: bool = False
    ) -> None:
        self.name, self.device, self.rounds, self.prompt, self.profile = name, device, rounds, prompt, profile
        self.on_gpu = device.type == "cuda"
        self.lora = bool(SHAPES[name]["lora"])
        self.directory = write_shape(work / "model", name)
        self.family: Family = load_family(self.directory)

    def measure(self, ways: Sequence[str], *, one_layer: bool, longest: int) -> dict[str, Any]:
        """Tables on the way, and the figures."""
        data = self._data(self.prompt)
        forest = build_forest(data.turns)
        found: dict[str, Any] = {
            "prompt_tokens": len(data.turns[0].prompt),
            "row_tokens": forest.layout.length,
            "frames": len(data.turns[0].prompt.plans[0].frame_indices),
            "trained": "adapters" if self.lora else "everything",
        }
        if one_layer:
            found["attention_ms"] = self._attention(data)
        results = {way: self._way(way, data, longest) for way in ways}
        values = {way: result.pop("values", None) for way, result in results.items()}
        found |= results
        rows = [[way, *(_cell(result.get(key)) for key in _COLUMNS)] for way, result in results.items()]
        title = f"Qwen3-VL-{self.name} on {_name(self.device)}: {found['row_tokens']} tokens"
        print(table(title, ["", *_COLUMNS], rows))
        if "separate" in results and "shared" in results:
            found |= self._against(results)
            pairs = zip(values["shared"], values["separate"], strict=True)
            apart = torch.cat([(one - two).abs() for one, two in pairs])
            found |= {"mean_logprob_error": float(apart.mean()), "max_logprob_error": float(apart.max())}
        return found

    def _against(self, results: dict[str, dict[str, Any]]) -> dict[str, Any]:
        """Ratios over the separate path, of our faster way."""
        separate = results["separate"]
        found: dict[str, Any] = {}
        for what in ("logprobs", "update"):
            ours = [r[f"{what}_s"] for way, r in results.items() if way != "separate" and r.get(f"{what}_s")]
            if separate.get(f"{what}_s") and ours:
                found[f"{what.removesuffix('s')}_speedup"] = separate[f"{what}_s"] / min(ours)
        if separate.get("update_gib"):
            found["peak_memory_ratio"] = results["shared"]["update_gib"] / separate["update_gib"]
        return found

    def _way(self, way: str, data: StepData, longest: int) -> dict[str, Any]:
        """Seconds, memory and MFU of one way."""
        started = time.perf_counter()
        path = self._open(way)
        found: dict[str, Any] = {"loaded_gib": self._held()}
        needed = self._operations(data)
        for what in ("logprobs", "update"):
            try:
                values, seconds, peak = self._timed(getattr(path, what), data, 1 if way == "separate" else self.rounds)
            except torch.OutOfMemoryError:
                print(f"{way} {what}: out of memory", flush=True)
                continue
            found |= {f"{what}_s": seconds, f"{what}_gib": peak - found["loaded_gib"]}
            if what == "logprobs" and way != "compiled":
                found["values"] = values
            if self.on_gpu:
                found[f"{what}_mfu"] = needed[what] / seconds / self._peak_rate()
        if self.profile and self.on_gpu:
            self._show_profile(path, data)
        if longest and way == "shared":
            found["longest"] = self._longest(path, longest * self.prompt)
        shown = {name: value for name, value in found.items() if name != "values"}
        print(f"{way}, {time.perf_counter() - started:.0f} s in all: {json.dumps(shown)}", flush=True)
        del path
        _free()
        return found

    def _open(self, way: str) -> Any:
        """The path, with weights that are the same for every way."""
        model = random_model(self.directory, self.device, plain=way == "separate")
        lora = LoraConfig(rank=32, alpha=64, targets=("language",)) if self.lora else None
        config = ModelConfig(
            path=str(self.directory),
            dtype="bfloat16",
            gradient_checkpointing=True,
            lora=lora,
            compile=way == "compiled",
            device=str(self.device),
        )
        policy = Policy.of(self.family, model, self.directory, config)
        if way == "separate":
            return Separate(policy.model, self.family, torch.bfloat16)
        return Shared(policy, pass_tokens=10**9)

    def _timed(self, work: Callable[[StepData], Any], data: StepData, rounds: int) -> tuple[Any, float, float]:
        """What the work returned, the median of its seconds, and the most memory held, in GiB."""
        work(data)  # allocator, kernels, optimiser state
        _free()
        if self.on_gpu:
            torch.cuda.reset_peak_memory_stats()
        seconds, values = [], None
        for _ in range(rounds):
            self._wait()
            begun = time.perf_counter()
            values = work(data)
            self._wait()
            seconds.append(time.perf_counter() - begun)
        peak = torch.cuda.max_memory_allocated() / 2**30 if self.on_gpu else 0.0
        return values, statistics.median(seconds), peak

    def _show_profile(self, path: Any, data: StepData) -> None:
        from torch.profiler import ProfilerActivity, profile

        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
            path.update(data)
            self._wait()
        print(seen.key_averages().table(sort_by="self_cuda_time_total", row_limit=40, max_name_column_width=70))

    def _longest(self, path: Any, most: int) -> dict[str, Any]:
        """The longest video of up to ``most`` tokens whose update fits, to half of the first one's length."""
        best: dict[str, Any] = {}
        tokens, step = self.prompt, self.prompt
        while step >= self.prompt // 2 and tokens + step <= most:
            data = self._data(tokens + step)
            try:
                begun = time.perf_counter()
                path.update(data)
                self._wait()
            except torch.OutOfMemoryError:
                path.policy.optimizer.zero_grad(set_to_none=True)
                _free()
                step //= 2
                continue
            tokens += step
            prompt = data.turns[0].prompt
            frames = len(prompt.plans[0].frame_indices)
            best = {"tokens": len(prompt), "frames": frames, "update_s": time.perf_counter() - begun}
            print(f"longest so far: {best}", flush=True)
            step *= 2 if step < tokens else 1
        return best

    def _attention(self, data: StepData) -> dict[str, float]:
        """Milliseconds, forward and backward, of one layer's attention over the row: by parts, and by flex."""
        layout = build_forest(data.turns).layout
        text = json.loads((self.directory / "config.json").read_text())["text_config"]
        shared = text["num_key_value_heads"]
        inputs = [
            torch.randn(
                1,
                heads,
                layout.length,
                text["head_dim"],
                device=self.device,
                dtype=torch.bfloat16,
                requires_grad=True,
            )
            for heads in (text["num_attention_heads"], shared, shared)
        ]
        ways: dict[str, Callable[..., torch.Tensor]] = {"parts": tree_attention}
        if self.on_gpu:
            ways["flex"] = flex_tree_attention
        found, outputs = {}, {}
        for way, function in ways.items():

            def work(_: StepData, function: Callable[..., torch.Tensor] = function) -> torch.Tensor:
                out = function(*inputs, layout, text["head_dim"] ** -0.5)
                torch.autograd.backward(out, torch.ones_like(out))
                return out.detach()

            outputs[way], seconds, _ = self._timed(work, data, 10)
            found[way] = seconds * 1000
        if "flex" in outputs:
            apart = (outputs["parts"] - outputs["flex"]).float()
            found["difference"] = float(apart.norm() / outputs["flex"].float().norm())
        print(f"attention of one layer, forward and backward, ms: {found}", flush=True)
        return found

    def _operations(self, data: StepData) -> dict[str, float]:
        """Operations that must be done: a forward pass, and two more for gradients of activations and weights."""
        model = Policy.of(self.family, weightless_model(self.directory), self.directory, ModelConfig(path="-")).model
        costs = model_costs(self.family, model)
        units = pack_turns(data.turns, share_prefix=True)
        forward = sum(turns_cost(unit, costs) for unit in units)
        if not self.lora:
            return {"logprobs": forward, "update": 3 * forward}
        # Frozen weights have no gradient; nothing behind the frozen tower's output has one either.
        tower = costs.media(plan for plan in data.turns[0].prompt.plans)
        return {"logprobs": forward, "update": 2 * forward - tower}

    def _data(self, tokens: int) -> StepData:
        return make_step_data(self.family, prompt_tokens=tokens, responses=RESPONSES, lengths=LENGTHS, side=SIDE)

    def _peak_rate(self) -> float:
        name = _name(self.device)
        return next((rate for chip, rate in PEAKS.items() if chip in name), float("nan"))

    def _held(self) -> float:
        return torch.cuda.memory_allocated() / 2**30 if self.on_gpu else 0.0

    def _wait(self) -> None:
        if self.on_gpu:
            torch.cuda.synchronize()


_COLUMNS = ("logprobs_s", "logprobs_mfu", "logprobs_gib", "update_s", "update_mfu", "update_gib")


def _free() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


if __name__ == "__main__":
    main()
