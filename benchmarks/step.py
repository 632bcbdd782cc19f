"""``python -m benchmarks.step``: one optimisation step, every sequence by itself beside groups that are computed once.

Three ways on one tiny model with the proportions of Qwen3-VL-2B, a prompt of about 1,000 tokens and eight responses of
about 64: the usual way (prompts and pixels repeated, all logits), ours, and TRL's ``GRPOTrainer`` where it is there.
The first two learn from the same responses to a video and are held against each other number by number. TRL takes no
videos: beside it, our whole step (generation, update, weights to the engine) is over the same number of images.

The last line is JSON. ``--scaling`` makes the table of ``docs/performance.md`` instead.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from copy import copy
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure import Package, Timing, check_packages, interleaved, table, timed, versions
from benchmarks.memory import extra_memory
from benchmarks.step_paths import SIDE, Separate, Shared, StepData, make_step_data, make_turn, render, write_model
from easyvideor1.engines.engine import Request, Sampling, generate
from easyvideor1.engines.local import LocalEngine
from easyvideor1.families.family import Family
from easyvideor1.types import Frames

TOKENS = 64
RESPONSES = 8
LENGTHS = (56, 72)
PROMPT = 1000
GOALS = {
    "logprob_speedup": (">=", 6.0),
    "update_speedup": (">=", 5.0),
    "step_speedup_vs_trl": (">=", 4.0),
    "flops_ratio_to_bound": ("<=", 1.1),
    "peak_memory_ratio": ("<=", 0.35),
    "max_logprob_error": ("<=", 1e-5),
    "max_grad_error": ("<=", 1e-4),
}


#: What steps are compared with.
TRL = (Package("trl", "TRL", "pip install trl datasets"),)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="directory for the model; a temporary one if not given")
    parser.add_argument("--rounds", type=int, default=5, help="measured repetitions of the two paths")
    parser.add_argument("--trl-steps", type=int, default=4, help="steps of TRL, the first does not count; 0: none")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--scaling", action="store_true", help="the table over prompts and responses, and no more")
    parser.add_argument("--longest", type=int, default=8192, help="longest prompt of that table")
    parser.add_argument("--memory", choices=("separate", "shared"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if not args.memory:  # that is a child of a process that has looked
        check_packages(compared=TRL if args.trl_steps and not args.scaling else ())
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory(prefix="easyvideor1-step.") as temporary:
        work = args.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        model = work / "model"
        if not (model / "config.json").is_file():
            write_model(model)
        if args.memory:
            print(json.dumps({"bytes": peak_memory(model, args.memory)}))
        elif args.scaling:
            print(scaling(model, args.longest))
        else:
            run(model, work, rounds=args.rounds, trl_steps=args.trl_steps, threads=args.threads)


def run(model: Path, work: Path, *, rounds: int, trl_steps: int, threads: int) -> None:
    """All measurements, a table of them, and the line of JSON."""
    shared = Shared.open(model)
    family = shared.policy.family
    separate = Separate.open(model, family)
    data = make_step_data(family, prompt_tokens=PROMPT, responses=RESPONSES, lengths=LENGTHS)
    found: dict[str, Any] = {**agreement(shared, separate, data), **waste(shared, data)}
    timings = {what: compare(shared, separate, data, what, rounds) for what in ("logprobs", "update")}
    rows = []
    for what, timing in timings.items():
        ratio = timing["separate"].cpu / timing["shared"].cpu
        found[f"{what.removesuffix('s')}_speedup"] = ratio
        rows.append([what, *(f"{timing[name].cpu:.2f}" for name in ("separate", "shared")), f"{ratio:.1f}x"])
    memory = {
        name: _child(["--memory", name, "--work", str(work), "--threads", str(threads)])["bytes"]
        for name in timings["update"]
    }
    found["peak_memory_ratio"] = memory["shared"] / memory["separate"]
    rows.append(
        [
            "peak MiB of an update",
            *(f"{memory[n] / 2**20:.0f}" for n in ("separate", "shared")),
            f"{1 / found['peak_memory_ratio']:.1f}x",
        ]
    )
    prompt = len(data.turns[0].prompt)
    title = f"Processor seconds; prompt of {prompt} tokens, {RESPONSES} responses of {LENGTHS[0]} to {LENGTHS[1]}"
    print(table(title, ["", "separate", "shared", "ratio"], rows))
    found["step_speedup_vs_trl"], lines = against_trl(model, work, trl_steps, threads)
    print(lines)
    print(
        table(
            "Goals",
            ["", "found", "goal"],
            [[n, _shown(found[n]), f"{sign} {goal:g}"] for n, (sign, goal) in GOALS.items()],
        )
    )
    found["versions"] = versions(("torch", "transformers", "trl"))
    print(json.dumps(found))


def compare(shared: Shared, separate: Separate, data: StepData, what: str, rounds: int) -> dict[str, Timing]:
    """Interleaved times of ``logprobs`` or ``update`` on both paths."""
    paths: dict[str, Any] = {"separate": separate, "shared": shared}
    works = {name: timed(_call(getattr(path, what), data)) for name, path in paths.items()}
    return interleaved(works, rounds, warm_up=int(rounds > 1))


def agreement(shared: Shared, separate: Separate, data: StepData) -> dict[str, float]:
    """Largest difference of log-probs, and of gradients (norm of the difference over the norm)."""
    pairs = zip(shared.logprobs(data), separate.logprobs(data), strict=True)
    apart = max((one - two).abs().max().item() for one, two in pairs)
    one, two = shared.gradients(data), separate.gradients(data)
    if one.keys() != two.keys():
        raise RuntimeError(f"gradients of different parameters: {sorted(one.keys() ^ two.keys())[:3]}")
    norm = sum(float(grad.square().sum()) for grad in two.values()) ** 0.5
    difference = sum(float((one[name] - two[name]).square().sum()) for name in two) ** 0.5
    return {"max_logprob_error": apart, "max_grad_error": difference / norm}


def waste(shared: Shared, data: StepData) -> dict[str, float]:
    """Tokens and patches that our path processes, over those that have to be; the larger of the two."""
    with shared.counted() as counts:
        shared.logprobs(data)
    tokens, patches = data.bound
    return {"flops_ratio_to_bound": max(counts["tokens"] / tokens, counts["patches"] / patches)}


def peak_memory(model: Path, name: str) -> int:
    """Most bytes that an update takes beyond what is resident before it, in a process of its own."""
    shared = Shared.open(model)
    path: Any = shared if name == "shared" else Separate.open(model, shared.policy.family)
    small = make_step_data(shared.policy.family, prompt_tokens=40, responses=1, lengths=(4, 4))
    data = make_step_data(shared.policy.family, prompt_tokens=PROMPT, responses=RESPONSES, lengths=LENGTHS)
    path.update(small)  # gradients, optimiser state and what libraries set up are there from here on
    return extra_memory(lambda: path.update(data))


def against_trl(model: Path, work: Path, steps: int, threads: int) -> tuple[float | None, str]:
    """How often our step fits into one of TRL, and lines that say so; no number where TRL is not installed."""
    if steps < 2:
        return None, "TRL: not asked for"
    if not versions(("trl",)):
        return None, "TRL: not installed here (pip install trl datasets), so it is not compared"
    family = Shared.open(model).policy.family
    images = next(n for n in range(1, 500) if len(render(family, None, "image", n, (0,))) >= PROMPT)
    options = {"steps": steps, "prompts": 1, "responses": RESPONSES, "images": images, "side": SIDE, "tokens": TOKENS}
    arguments = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    process = [*arguments, "--model", str(model), "--work", str(work / "trl"), "--threads", str(threads)]
    try:
        theirs = _child(process, module="benchmarks.step_trl")
    except RuntimeError as error:  # what we measured of ourselves is worth printing all the same
        return None, f"TRL: {error}"
    ours = our_steps(model, steps, images)
    seconds = {"TRL": theirs["cpus"][1:], "ours": [cpu for _, cpu in ours[1:]]}
    walls = {"TRL": theirs["walls"][1:], "ours": [wall for wall, _ in ours[1:]]}
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    ratio = medians["TRL"] / medians["ours"]
    rows = [[name, f"{medians[name]:.2f}", f"{statistics.median(walls[name]):.2f}"] for name in seconds]
    title = (
        f"A step of generation and update, {images} images ({theirs['prompt_tokens']} tokens), {RESPONSES} responses "
        f"of {TOKENS} tokens: {ratio:.1f}x"
    )
    return ratio, table(title, ["", "processor s", "clock s"], rows)


def our_steps(model: Path, steps: int, images: int) -> list[tuple[float, float]]:
    """Seconds (clock, processor) of whole steps: generate, update, weights to the engine."""
    shared = Shared.open(model)
    policy = shared.policy
    endless: Family = copy(policy.family)
    endless.stop_token_ids = ()  # every response has the full length, as TRL's have
    frames: dict[str, Frames] = {}
    prompts = [render(policy.family, frames, "image", images, (step,)) for step in range(steps)]
    empty = StepData((), torch.zeros(0), frames)
    engine = LocalEngine(endless, policy.model, empty.load)
    sampling = Sampling(max_new_tokens=TOKENS)

    def step(number: int) -> None:
        (group,) = generate(engine, [Request(str(number), prompts[number], RESPONSES, sampling, number)])
        turns = tuple(make_turn(prompts[number], each.turns[0].response_ids) for each in group)
        shared.update(StepData(turns, torch.linspace(-1, 1, RESPONSES), frames))
        engine.update_weights(number, policy.weights())

    return [timed(_call(step, number))() for number in range(steps)]


def scaling(model: Path, longest: int) -> str:
    """A table in Markdown: how much faster an update is, over prompt lengths and numbers of responses."""
    shared = Shared.open(model)
    separate = Separate.open(model, shared.policy.family)
    prompts = [tokens for tokens in (256, 512, 1024, 2048, 4096, 8192) if tokens <= longest]
    counts = (1, 2, 4, 8, 16)
    lines = ["| prompt | " + " | ".join(f"n = {n}" for n in counts) + " |", "|---" * (len(counts) + 1) + "|"]
    for prompt in prompts:
        cells = []
        for n in counts:
            data = make_step_data(shared.policy.family, prompt_tokens=prompt, responses=n, lengths=LENGTHS)
            rounds = 3 if prompt * n <= 4096 else 1
            shown = [compare(shared, separate, data, what, rounds) for what in ("logprobs", "update")]
            cells.append(" / ".join(f"{timing['separate'].cpu / timing['shared'].cpu:.1f}" for timing in shown))
        lines.append(f"| {prompt:,} | " + " | ".join(cells) + " |")
        print(lines[-1], file=sys.stderr, flush=True)
    return "\n".join(lines)


def _child(arguments: Sequence[str], module: str = "benchmarks.step") -> dict[str, Any]:
    """The line of JSON that a process of its own ends with."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{module} failed:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def _call(function: Callable[[Any], object], argument: object) -> Callable[[], object]:
    return lambda: function(argument)


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


if __name__ == "__main__":
    main()
