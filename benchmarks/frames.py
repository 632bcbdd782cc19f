"""Frames, measured: decoding beside qwen-vl-utils, the store beside ``torch.save``, and what both mean for a step.

``python -m benchmarks.frames [--work DIR]``. Generated films and stores go under ``--work`` (a temporary directory if
not given) and are used again from there. Tables come first; the last line is JSON. Ratios by processor time are per
core: every decoder has one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray

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
from benchmarks.measure import interleaved, table, timed, versions
from easyvideor1.config import CacheConfig, VideoBudget
from easyvideor1.models.inputs import patch_shape, patchify
from easyvideor1.types import Frames, Geometry, MediaPlan, MediaRef
from easyvideor1.video import FrameStore, HealthLedger, build, decode, plan, probe
from easyvideor1.video.codecs import Codec

GEOMETRY = Geometry()
BUDGET = VideoBudget(rule="qwen", fps=FPS, max_frames=MAX_FRAMES, min_pixels=MIN_PIXELS, max_pixels=MAX_PIXELS)
REFERENCE = Path(__file__).resolve().parents[2] / "shared" / "reference" / "videos"

#: Packages whose versions a result depends on.
PACKAGES = ("av", "torch", "numpy", "pillow", "zstandard", "qwen-vl-utils", "torchcodec", "decord", "torchvision")

Result = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    seconds: int = 600
    clips: int = 50
    rounds: int = 3
    read_rounds: int = 9
    plans: int = 20_000
    step_rounds: int = 5


QUICK = Size(seconds=10, clips=2, rounds=1, read_rounds=2, plans=500, step_rounds=1)


def main(arguments: list[str] | None = None) -> Result:
    """Run everything and print it; returns what the last line holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="directory for films and stores; kept")
    parser.add_argument("--quick", action="store_true", help="a few seconds of everything, to see that it works")
    parser.add_argument("--only", choices=sorted(SECTIONS), nargs="+", help="these sections only")
    options = parser.parse_args(arguments)
    size = QUICK if options.quick else Size()
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


def measure_decoding(work: Path, size: Size) -> Result:
    """Every decoder on a long film, on short clips and on real files."""
    inputs = {"long": [long_film(work, size.seconds)], "short": [short_film(work, seed) for seed in range(size.clips)]}
    inputs["real"] = _real_files(work)
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


def _real_files(work: Path) -> list[Path]:
    """Copies (their times are changed) of real H.264 files that every decoder can read."""
    copies = []
    for name in ("video_r1_example.mp4", "nasa_13013.mp4"):
        if (REFERENCE / name).exists():
            copies.append(work / name)
            shutil.copyfile(REFERENCE / name, copies[-1])
    return copies


def measure_store(work: Path, size: Size) -> Result:
    """Bytes, time to write and read, and what is lost, for every codec and for float32 tensors of the same frames."""
    film = str(long_film(work, size.seconds))
    frames = decode(film, plan(probe(film), BUDGET, GEOMETRY))
    peer = work / "frames.pt"
    written = {"float32 .pt": (*_save_float32(frames, peer), float("inf"))}
    buffer, source = np.zeros_like(frames.pixels), frames.pixels.copy()
    works: dict[str, Callable[[], object]] = {
        "memcpy": lambda: np.copyto(buffer, source),
        "float32 .pt": lambda: torch.load(peer, weights_only=True)["frames"],
    }
    for codec in get_args(Codec):
        store = FrameStore(work / f"store-{codec}", codec, threads=CacheConfig().read_threads)
        seconds, _ = timed(partial(store.put, frames))()
        (entry,) = (file for file in store.files() if file.digest == frames.plan.digest)
        works[codec] = read = partial(_read_into, buffer, store, frames.plan)
        read()
        written[codec] = (entry.path.stat().st_size, seconds, psnr(source, buffer))
    timings = interleaved({name: timed(read) for name, read in works.items()}, size.read_rounds, warm_up=1)
    whole, rows = written["float32 .pt"][0], []
    for name, (count, seconds, quality) in written.items():
        shown = "lossless" if quality == float("inf") else f"{quality:.1f}"
        wall = timings[name].wall
        cells = (f"{count / 2**20:.1f}", f"{count / whole:.4f}", f"{seconds * 1e3:.0f}", f"{wall * 1e3:.1f}")
        rows.append((name, *cells, f"{wall / timings['memcpy'].wall:.1f}", shown))
    header = ("codec", "MiB", "of float32", "write ms", "read ms", "x memcpy", "PSNR dB")
    title = f"Store: {len(frames.pixels)} frames of {frames.plan.width}x{frames.plan.height}, read into memory, warm"
    print(table(title, header, rows))
    default = CacheConfig().codec
    return {
        "default_codec": default,
        "bytes_vs_float32": _ratio(written[default][0], whole),
        "near_lossless_bytes_vs_float32": _ratio(written["jpeg"][0], whole),
        "near_lossless_psnr_db": round(written["jpeg"][2], 2),
        "read_vs_float32_pt": _ratio(timings["float32 .pt"].wall, timings[default].wall),
        "read_vs_memcpy": _ratio(timings[default].wall, timings["memcpy"].wall),
        "read_ms": {name: round(timing.wall * 1e3, 2) for name, timing in timings.items()},
        **_measure_patches(frames, size),
    }


def _read_into(buffer: NDArray[np.uint8], store: FrameStore, wanted: MediaPlan) -> None:
    """All pixels of an entry, every byte of them, into memory that is there already."""
    frames = store.get(wanted)
    assert frames is not None
    np.copyto(buffer, frames.pixels)


def _save_float32(frames: Frames, path: Path) -> tuple[int, float]:
    """Bytes and seconds of the layout that the published system keeps: float32 ``(F, 3, H, W)`` by ``torch.save``."""
    tensor = torch.from_numpy(frames.pixels).permute(0, 3, 1, 2).to(torch.float32).contiguous()
    seconds, _ = timed(lambda: torch.save({"frames": tensor}, path))()
    return path.stat().st_size, seconds


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
    """Filling a store from nothing with one and with two decoding processes."""
    budget = BUDGET.model_copy(update={"fps": 10.0, "min_pixels": 3136, "max_pixels": 131_072})
    paths = [str(short_film(work, seed)) for seed in range(size.clips)]
    items = [(MediaRef("video", path), plan(probe(path), budget, GEOMETRY)) for path in paths]

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
    print(table(f"Building a store of {len(items)} clips", ("workers", "wall s", "clips/s"), rows))
    return {"build_scaling_2_workers": _ratio(timings["1"].wall, timings["2"].wall)}


def measure_planning(work: Path, size: Size) -> Result:
    """Plans of as many different films as long as the long one."""
    info = probe(str(long_film(work, size.seconds)))
    infos = [replace(info, fingerprint=f"{number:064x}") for number in range(256)]

    def run() -> list[MediaPlan]:
        return [plan(infos[number % 256], BUDGET, GEOMETRY) for number in range(size.plans)]

    rate = size.plans / interleaved({"plans": timed(run)}, 3, warm_up=1)["plans"].cpu
    frames = len(plan(info, BUDGET, GEOMETRY).frame_indices)
    print(f"Planning: {rate:,.0f} plans of {frames} frames per second of one core")
    return {"plans_per_second": round(rate)}


def measure_steps(work: Path, size: Size) -> Result:
    """What a GRPO step takes with frames from memory, from the store, and decoded for it."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    from benchmarks.steps import NEW_TOKENS, PROMPTS, RESPONSES, compare_steps

    timings = compare_steps(long_film(work, size.seconds), size.seconds, work, size.step_rounds)
    title = f"GRPO step of a tiny model: {PROMPTS} clips of up to 60 s of 720p, {RESPONSES} x {NEW_TOKENS} tokens each"
    ram = timings["ram"].wall
    rows = [(name, f"{timing.wall:.3f}", f"{timing.wall / ram:.3f}") for name, timing in timings.items()]
    print(table(title, ("frames", "wall s", "x ram"), rows))
    return {
        "cached_step_vs_ram_step": _ratio(timings["cached"].wall, ram),
        "decode_step_vs_cached_step": _ratio(timings["decoded"].wall, timings["cached"].wall),
        "decode_ahead_step_vs_cached_step": _ratio(timings["decoded ahead"].wall, timings["cached"].wall),
        "step_seconds": {name: round(timing.wall, 4) for name, timing in timings.items()},
    }


def psnr(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """Peak signal to noise ratio of uint8 pixels in dB, over all frames together; infinite when they are equal."""
    pairs = zip(first, second, strict=True)
    errors = [float(((one.astype(np.float32) - other.astype(np.float32)) ** 2).mean()) for one, other in pairs]
    mean = sum(errors) / len(errors)
    return float("inf") if mean == 0 else 10 * float(np.log10(255**2 / mean))


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
