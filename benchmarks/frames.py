"""Benchmark of frames: decoding against qwen-vl-utils, the store against ``torch.save``, and their effect on a step.

``python -m benchmarks.frames [--work DIR]``. Generated films and stores are kept under ``--work`` (by default a
temporary directory) and reused. Tables come first; the last line is JSON. Ratios by processor time are per core: every
decoder has one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.decoders import (
    FPS,
    MAX_FRAMES,
    MAX_PIXELS,
    MIN_PIXELS,
    OURS,
    PEERS,
    Decoder,
    DecoderError,
    ffmpeg_libraries,
)
from benchmarks.films import long_film, short_film
from benchmarks.measure import (
    Package,
    by_round,
    check_packages,
    interleaved,
    machine_scaling,
    table,
    timed,
    versions,
)
from benchmarks.steps import FULL_STEP, StepSize, compare_steps
from benchmarks.stores import FLOAT32, MEMCPY, compare_codecs
from easyvideor1.config import CacheConfig, VideoBudget
from easyvideor1.families.inputs import patch_shape, patchify
from easyvideor1.types import Frames, Geometry, MediaRef
from easyvideor1.video import FrameStore, HealthLedger, build, decode, plan, probe

GEOMETRY = Geometry()
BUDGET = VideoBudget(rule="qwen", fps=FPS, max_frames=MAX_FRAMES, min_pixels=MIN_PIXELS, max_pixels=MAX_PIXELS)
REFERENCE = Path(__file__).resolve().parents[2] / "shared" / "reference" / "videos"

#: Packages whose versions a result depends on.
PACKAGES = ("av", "torch", "numpy", "pillow", "zstandard", "qwen-vl-utils", "torchcodec", "decord", "torchvision")

#: Decoders to compare with, all three through qwen-vl-utils.
COMPARED = tuple(
    Package(module, name)
    for module, name in (
        ("qwen_vl_utils", "qwen-vl-utils"),
        ("torchcodec", "torchcodec"),
        ("decord", "decord"),
        ("torchvision", "torchvision"),
    )
)

Result = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Size:
    """The amount of work to measure."""

    seconds: int = 600
    clips: int = 50
    rounds: int = 3
    read_rounds: int = 9
    plans: int = 20_000
    step_rounds: int = 7
    step: StepSize = FULL_STEP
    picture: tuple[int, int] = (1280, 720)
    real_files: tuple[str, ...] = ("video_r1_example.mp4", "nasa_13013.mp4")


QUICK = Size(seconds=10, clips=2, rounds=1, read_rounds=2, plans=500, step_rounds=1)


def main(arguments: list[str] | None = None) -> Result:
    """Run everything and print it; returns what the last line holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="directory for films and stores; kept")
    parser.add_argument("--quick", action="store_true", help="a few seconds of everything, to see that it works")
    parser.add_argument("--only", choices=sorted(SECTIONS), nargs="+", help="these sections only")
    options = parser.parse_args(arguments)
    size = QUICK if options.quick else Size()
    check_packages(compared=COMPARED)
    torch.set_num_threads(1)
    with ExitStack() as stack:
        work = options.work or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="frames-")))
        work.mkdir(parents=True, exist_ok=True)
        begun = time.perf_counter()
        result: Result = {"benchmark": "frames", "seconds_of_film": size.seconds, "clips": size.clips}
        for name in options.only or SECTIONS:
            result |= SECTIONS[name](work, size)
        result["versions"] = {"python": platform.python_version(), **versions(PACKAGES)}
        result["cores"] = os.cpu_count()
        result["wall_seconds"] = round(time.perf_counter() - begun, 1)
    print(json.dumps(result))
    return result


def _film(work: Path, size: Size) -> Path:
    return long_film(work, size.seconds, size.picture)


def measure_decoding(work: Path, size: Size) -> Result:
    """Every decoder on a long film, on short clips and on real files."""
    missing: dict[str, str] = {}
    rows, result, rates = [], Result(), dict[str, dict[str, float]]()
    with ExitStack() as stack:
        decoders: list[Decoder] = []
        for name in (OURS, *PEERS):
            libraries = ffmpeg_libraries(work / "ffmpeg") if name == "torchcodec" else None
            try:
                decoders.append(stack.enter_context(Decoder(name, libraries)))
            except DecoderError as error:
                missing[name] = str(error)
                print(f"not compared with {name}, which does not load: {error}", file=sys.stderr)
        inputs = {"long": [_film(work, size)], "short": [short_film(work, seed) for seed in range(size.clips)]}
        inputs["real"] = _real_files(work, size)
        for kind, paths in inputs.items():
            able = [decoder for decoder in decoders if paths and _can_read(decoder, paths, missing)]
            works = {decoder.name: partial(decoder.decode_all, paths) for decoder in able}
            timings = interleaved(works, size.rounds) if works else {}
            for decoder in able:
                timing = timings[decoder.name]
                rates.setdefault(kind, {})[decoder.name] = decoder.frames / timing.cpu
                rate = f"{decoder.frames / timing.cpu:.1f}"
                rows.append((kind, decoder.name, str(decoder.frames), f"{timing.wall:.2f}", f"{timing.cpu:.2f}", rate))
    print(table("Decoding, one thread each", ("input", "decoder", "frames", "wall s", "cpu s", "frames/cpu s"), rows))
    for name, reason in missing.items():
        print(f"  not compared: {name}: {reason}")
    keys = {
        "long": "decode_vs_qwen_vl_utils",
        "short": "decode_vs_qwen_vl_utils_short",
        "real": "decode_vs_qwen_vl_utils_real",
    }
    for kind, key in keys.items():
        found = rates.get(kind, {})
        peers = [rate for name, rate in found.items() if name != OURS]
        result[key] = _ratio(found[OURS], max(peers)) if peers and OURS in found else None
    return {**result, "decode_frames_per_cpu_second": _rounded(rates), "peers_missing": missing}


def _can_read(decoder: Decoder, paths: list[Path], missing: dict[str, str]) -> bool:
    """One untimed pass, which also warms the page cache; what cannot be read is a finding and not an end."""
    try:
        decoder.decode_all(paths if len(paths) > 1 else [])
    except DecoderError as error:
        missing[f"{decoder.name} on {paths[0].name} ff."] = str(error)
        return False
    return True


def _real_files(work: Path, size: Size) -> list[Path]:
    """Copies (their times are changed) of real H.264 files that every decoder can read."""
    copies = []
    for name in size.real_files:
        if (REFERENCE / name).exists():
            copies.append(work / name)
            shutil.copyfile(REFERENCE / name, copies[-1])
    return copies


def measure_store(work: Path, size: Size) -> Result:
    """All codecs on the long film and, beside it, on a real file."""
    frames = None
    # The figures are those of the film, which comes last.
    for path in (*_real_files(work, size)[:1], _film(work, size)):
        frames = decode(str(path), plan(probe(str(path)), BUDGET, GEOMETRY))
        compared = compare_codecs(frames, work, size.read_rounds)
        where = f"{path.name}: {len(frames.pixels)} frames of {frames.plan.width}x{frames.plan.height}"
        print(compared.show(f"Store, {where}, read into memory, warm"))
    assert frames is not None
    default, walls = CacheConfig().codec, {name: timing.wall for name, timing in compared.reads.items()}
    return {
        "default_codec": default,
        "bytes_vs_float32": round(compared.share(default), 4),
        "near_lossless_bytes_vs_float32": round(compared.share("jpeg"), 4),
        "near_lossless_psnr_db": round(compared.kept["jpeg"].psnr, 2),
        "read_vs_float32_pt": _ratio(walls[FLOAT32], walls[default]),
        "read_vs_memcpy": _ratio(walls[default], walls[MEMCPY]),
        "read_ms": {name: round(wall * 1e3, 2) for name, wall in walls.items()},
        **_measure_patches(frames, size),
    }


def _measure_patches(frames: Frames, size: Size) -> Result:
    """Cutting and normalising into warm memory, beside a copy of as many bytes as come out."""
    out = torch.zeros(patch_shape(frames, GEOMETRY))
    like = torch.zeros_like(out)
    mean = std = (0.5, 0.5, 0.5)
    works = {
        "patches": timed(lambda: patchify(frames, GEOMETRY, mean, std, out=out)),
        "memcpy": timed(lambda: like.copy_(out)),
    }
    timings = interleaved(works, size.read_rounds, warm_up=1)
    ratio = timings["patches"].wall / timings["memcpy"].wall
    print(f"Patches: {timings['patches'].wall * 1e3:.0f} ms for {out.nbytes / 2**20:.0f} MiB, {ratio:.1f} times a copy")
    return {"patchify_ms": round(timings["patches"].wall * 1e3, 2), "patchify_vs_memcpy": round(ratio, 3)}


def measure_build(work: Path, size: Size) -> Result:
    """Filling a store from nothing with one and with two decoding processes; every clip at two sizes.

    The start of the processes is part of it, as it is of a user's; a build of some seconds would show little else.
    """
    budget = BUDGET.model_copy(update={"fps": 10.0, "min_pixels": 3136})
    budgets = [budget.model_copy(update={"max_pixels": pixels}) for pixels in (131_072, 65_536)]
    paths = [str(short_film(work, seed)) for seed in range(size.clips)]
    items = [(MediaRef("video", path), plan(probe(path), each, GEOMETRY)) for each in budgets for path in paths]

    def fill(workers: int) -> None:
        place = work / "store-build"
        config = CacheConfig(dir=str(place), workers=workers)
        report = build(items, FrameStore(place, config.codec), HealthLedger(place / "health.jsonl"), config)
        assert (report.built, report.failed) == (len(items), 0), report

    def emptied(workers: int) -> tuple[float, float]:
        shutil.rmtree(work / "store-build", ignore_errors=True)
        return timed(lambda: fill(workers))()

    timings = interleaved({"1": lambda: emptied(1), "2": lambda: emptied(2)}, size.rounds)
    shutil.rmtree(work / "store-build", ignore_errors=True)
    rows = [(name, f"{timing.wall:.2f}", f"{len(items) / timing.wall:.1f}") for name, timing in timings.items()]
    print(table(f"Building a store of {len(items)} entries", ("workers", "wall s", "entries/s"), rows))
    ceiling = machine_scaling(size.rounds)
    print(f"  two processes that share nothing: {ceiling:.2f} times as fast as one")
    return {
        "build_scaling_2_workers": _ratio(timings["1"].wall, timings["2"].wall),
        "machine_scaling_2_processes": round(ceiling, 4),
    }


def measure_planning(work: Path, size: Size) -> Result:
    """Plans of as many different films as long as the long one."""
    info = probe(str(_film(work, size)))
    infos = [replace(info, fingerprint=f"{number:064x}") for number in range(256)]

    def run() -> None:  # nothing is kept: what many plans cost the garbage collector is not what planning costs
        for number in range(size.plans):
            plan(infos[number % 256], BUDGET, GEOMETRY)

    rate = size.plans / interleaved({"plans": timed(run)}, 3, warm_up=1)["plans"].cpu
    frames = len(plan(info, BUDGET, GEOMETRY).frame_indices)
    print(f"Planning: {rate:,.0f} plans of {frames} frames per second of one core")
    return {"plans_per_second": round(rate)}


def measure_steps(work: Path, size: Size) -> Result:
    """What a GRPO step takes with frames from memory, from the store, and decoded for it."""
    from transformers.utils import logging

    logging.disable_progress_bar()  # between tables it is noise
    timings = compare_steps(_film(work, size), size.seconds, work, size.step_rounds, size.step)
    step, (width, height) = size.step, size.picture
    title = (
        f"GRPO step of a tiny model: {step.prompts} clips of up to 60 s of {width}x{height}, "
        f"{step.responses} x {step.tokens} tokens each"
    )
    ram = timings["ram"]
    rows = [
        (name, f"{timing.wall:.3f}", f"{by_round(timing, ram):.3f}", f"{timing.cpu / ram.cpu:.3f}")
        for name, timing in timings.items()
    ]
    print(table(title, ("frames", "wall s", "x ram", "x ram, cpu"), rows))
    return {
        "cached_step_vs_ram_step": round(by_round(timings["cached"], timings["ram"]), 4),
        "cached_step_vs_ram_step_cpu": _ratio(timings["cached"].cpu, timings["ram"].cpu),
        "decode_step_vs_cached_step": round(by_round(timings["decoded"], timings["cached"]), 4),
        "decode_ahead_step_vs_cached_step": round(by_round(timings["decoded ahead"], timings["cached"]), 4),
        "step_seconds": {name: round(timing.wall, 4) for name, timing in timings.items()},
    }


def _ratio(first: float, second: float) -> float:
    return round(first / second, 4)


def _rounded(rates: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    return {kind: {name: round(rate, 2) for name, rate in found.items()} for kind, found in rates.items()}


SECTIONS: dict[str, Callable[[Path, Size], Result]] = {
    "decoding": measure_decoding,
    "store": measure_store,
    "build": measure_build,
    "planning": measure_planning,
    "steps": measure_steps,
}

if __name__ == "__main__":
    main()
