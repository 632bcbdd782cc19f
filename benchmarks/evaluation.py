"""Benchmark of evaluation: our pipeline beside a plain loop, lmms-eval and a synchronous vLLM batch.

``python -m benchmarks.evaluation [--work DIR] [--peers PYTHON] [--quick]``, on a CPU. 300 choice questions about 40
generated clips of 3 seconds to 5 minutes, a tiny random Qwen3-VL, 2 frames a second and at most 16 of at most 16,384
pixels, 16 greedy tokens. Each path gets the same videos, questions and checkpoint; seconds are those from the questions
to the scored answers, without loading the model. ``--peers`` is the Python of an environment with transformers,
qwen-vl-utils, torchcodec, vLLM and lmms-eval (``scripts/evaluation_peers.sh``); without it only ours is timed. Ours
has the local engine. ``cold`` begins with an empty frame cache, ``warm`` with the frames of an earlier evaluation. The
last line is JSON:

- ``vs_vanilla_warm``, ``vs_vanilla_cold``, ``vs_lmms_eval_warm``, ``vs_sync_vllm_warm``: seconds of the other path over
  ours.
- ``engine_idle_share``: share of a warm evaluation in which the engine did nothing.
- ``same_predictions``: share of the questions that the plain loop, the vLLM batch and ours answered with equal text.
  qwen-vl-utils resizes with torch and we with Pillow, which rounds otherwise. ``same_predictions_same_frames`` also
  counts questions that both others answered otherwise, if the plain loop gives our answer when it gets our frames.
  ``same_predictions_lmms`` is the share of lmms-eval, which computes in bfloat16 only.
- ``benchmarks``: the public benchmarks whose releases (``tests/benchmarks/releases``) are read and scored as worked out
  by hand.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.evaluation_lmms import run_lmms
from benchmarks.evaluation_paths import LIMITS, NEW_TOKENS
from benchmarks.films import long_film, short_film
from benchmarks.measure import machine_scaling, versions
from easyvideor1.components import Components
from easyvideor1.config import RunConfig
from easyvideor1.evaluation.asking import Asking
from easyvideor1.evaluation.certify import certify
from easyvideor1.evaluation.pipeline import Questions, evaluate_into, plan_prompts
from easyvideor1.evaluation.result import Evaluation
from easyvideor1.evaluation.timings import TIMINGS, Timings
from easyvideor1.families.tiny import write_tiny_checkpoint
from easyvideor1.files import read_json

PACKAGES = ("torch", "transformers", "vllm", "numpy", "av")
_SECONDS = (3, 5, 8, 12, 20, 30, 45, 60)
_STEMS = (
    "What color is the square?",
    "Where does the camera go?",
    "How many squares are there?",
    "Which one is larger?",
    "What comes after the first scene?",
    "When does the scene change?",
    "Which square moves left?",
    "What is at the top?",
)


@dataclass(frozen=True, slots=True)
class Material:
    """What every path gets: a checkpoint and a file of questions, each with a video by its absolute path."""

    checkpoint: Path
    questions: Path
    rows: tuple[Mapping[str, str], ...]


@dataclass(frozen=True, slots=True)
class Run:
    """Seconds of a path and its answers in the order of the questions; ``idle`` is the engine's share, if known."""

    seconds: float
    texts: tuple[str, ...]
    idle: float | None = None


def make_material(work: Path, clips: int, questions: int) -> Material:
    """The clips, the questions and the checkpoint; clips of an earlier run are used again."""
    rng = random.Random(0)
    film = partial(_film, work / "clips")
    with ProcessPoolExecutor(os.cpu_count()) as pool:  # the first long one makes the minute that all of them repeat
        list(pool.map(film, [each for each in range(clips) if each < len(_SECONDS) or _seconds(each) < max(_SECONDS)]))
    films = [film(each) for each in range(clips)]
    rows = []
    for number in range(questions):
        options = rng.sample(("red", "green", "blue", "left", "right", "two", "three", "none"), 4)
        listed = "\n".join(f"{letter}. {option}" for letter, option in zip("ABCD", options, strict=True))
        question = f"{_STEMS[number // clips % len(_STEMS)]}\n{listed}\nAnswer with the letter."
        rows.append({"video": str(films[number % clips]), "question": question, "answer": rng.choice("ABCD")})
    path = work / "questions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    checkpoint = write_tiny_checkpoint(work / "tiny", [row["question"] for row in rows[:50]])
    return Material(checkpoint, path, tuple(rows))


def _seconds(number: int) -> int:
    return _SECONDS[number % len(_SECONDS)]


def _film(directory: Path, number: int) -> Path:
    seconds = _seconds(number)
    if seconds < max(_SECONDS):
        return short_film(directory, number, seconds)
    return long_film(directory, seconds * (1 + number // len(_SECONDS)), (640, 360))


def ours(material: Material, work: Path, engine: str, *, cold: bool) -> Run:
    """Our pipeline, from reading rows to the scored result."""
    if cold:
        shutil.rmtree(work / "cache", ignore_errors=True)
    config = _config(material, work, engine)
    out = Path(tempfile.mkdtemp(dir=work, prefix="out-"))
    with Components.open(config) as components:
        _ = components.family
        with closing(components.open_engine()) as opened:
            begun = time.perf_counter()
            loaded = components.load_sources(config.data.test, keep_unreadable=True)
            samples = [sample for source in loaded for sample in source.samples]
            planned = plan_prompts(samples, components.strategy)
            certificate = certify(components, None, name="test", target="", prompts=[one.digest for one in planned])
            questions = Questions(samples, planned, components.scorer, config.evaluation, config.seed)

            def asking(timings: Timings) -> Asking:
                return Asking.of(components, opened, timings.spans)

            directory = certificate.directory(out)
            result = evaluate_into(directory, certificate, questions, asking)
            seconds = time.perf_counter() - begun
    timings = read_json(directory / TIMINGS)
    shutil.rmtree(out)
    return Run(seconds, _texts(result, len(material.rows)), timings["engine"]["idle_share"])


def _config(material: Material, work: Path, engine: str) -> RunConfig:
    templates = work / "templates"
    templates.mkdir(exist_ok=True)
    (templates / "multiple_choice.j2").write_text("{{ question }}", encoding="utf-8")  # the prompt of the other paths
    rows = work / "rows.jsonl"
    rows.write_text("".join(json.dumps(_row(row)) + "\n" for row in material.rows), encoding="utf-8")
    return RunConfig.model_validate(
        {
            "model": {"path": str(material.checkpoint), "dtype": "float32", "conventions": "transformers"},
            "data": {"test": [{"path": str(rows)}], "video": LIMITS},
            "cache": {"dir": str(work / "cache"), "workers": os.cpu_count() or 1},
            "prompts": {"templates": str(templates), "thinking": False},
            "rollout": {"engine": engine, "max_new_tokens": NEW_TOKENS},
            "evaluation": {"samples": 0},
        }
    )


def _row(row: Mapping[str, str]) -> dict[str, Any]:
    """A question as a row; its options stand in its text."""
    return {
        "problem": f"<video>{row['question']}",
        "answer": row["answer"],
        "problem_type": "multiple_choice",
        "data_type": "video",
        "videos": [row["video"]],
    }


def _texts(result: Evaluation, questions: int) -> tuple[str, ...]:
    texts = tuple(record.greedy.response for record in result.records if record.greedy is not None)
    if len(texts) != questions:
        raise RuntimeError(f"{questions - len(texts)} questions failed: {result.failures[:3]}")
    return texts


def peer(python: str, path: str, material: Material, work: Path) -> Run:
    """A path of ``evaluation_paths`` in the peers' environment.

    Raises:
        RuntimeError: it failed; the message has the end of what it printed.
    """
    script = Path(__file__).with_name("evaluation_paths.py")
    answers = work / f"{path}.json"
    command = [
        python,
        "-W",
        "ignore",
        str(script),
        path,
        str(material.checkpoint),
        str(material.questions),
        str(answers),
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{path} failed:\n{done.stdout[-1500:]}")
    found = json.loads(answers.read_text(encoding="utf-8"))
    return Run(found["seconds"], tuple(found["texts"]))


def about_our_frames(python: str, material: Material, work: Path, numbers: Sequence[int]) -> dict[int, str]:
    """Answers of the plain loop to some questions, by their numbers, when it is given the frames that we have."""
    if not numbers:
        return {}
    rows = []
    config = _config(material, work, "local")
    with Components.open(config) as components:
        samples = [sample for source in components.load_sources(config.data.test) for sample in source.samples]
        for number in numbers:
            prompt = components.strategy.start(samples[number])
            frames = work / f"frames-{number}.npy"
            np.save(frames, components.frames.load(prompt.media[0], prompt.plans[0]).pixels)
            rows.append({**material.rows[number], "frames": str(frames)})
    questions = work / "questions-frames.jsonl"
    questions.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    found = peer(python, "vanilla", replace(material, questions=questions, rows=tuple(rows)), work)
    return dict(zip(numbers, found.texts, strict=True))


def passing_benchmarks() -> int:
    """The public benchmarks all of whose fixtures pass."""
    command = [sys.executable, "-m", "pytest", "-q", "-rA", "--no-header", "tests/benchmarks/test_definitions.py"]
    command += ["-k", "test_a_release_is_read_and_scored", "-p", "no:cacheprovider"]
    root = Path(__file__).parent.parent
    done = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    passed: set[str] = set()
    failed: set[str] = set()
    for line in done.stdout.splitlines():
        verdict, _, name = line.partition(" ")
        if verdict in ("PASSED", "FAILED", "ERROR") and "[" in name:
            benchmark = name.partition("[")[2].partition("-")[0].rstrip("]")
            (passed if verdict == "PASSED" else failed).add(benchmark)
    return len(passed - failed)


def same_share(first: Sequence[str], *others: Sequence[str]) -> float:
    """The share of questions that all paths answered with equal text."""
    return sum(len(set(texts)) == 1 for texts in zip(first, *others, strict=True)) / len(first)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Run everything and print it; returns what the last line holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="directory for clips and frames; kept")
    parser.add_argument("--peers", default="", help="Python of the environment of the other paths")
    parser.add_argument("--quick", action="store_true", help="a little of everything, to see that it works")
    options = parser.parse_args(arguments)
    begun = time.perf_counter()
    scaling = machine_scaling(1 if options.quick else 3)
    torch.set_num_threads(os.cpu_count() or 1)
    with ExitStack() as stack:
        work = options.work or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="evaluation-")))
        work = work.resolve()
        work.mkdir(parents=True, exist_ok=True)
        material = make_material(work, *((4, 16) if options.quick else (40, 300)))
        runs: dict[str, Run] = {}
        runs["ours, cold"] = ours(material, work, "local", cold=True)
        if options.peers:
            runs["vanilla"] = peer(options.peers, "vanilla", material, work)
        warm = [ours(material, work, "local", cold=False)]
        if options.peers:
            runs["sync vLLM"] = peer(options.peers, "sync_vllm", material, work)
            lmms = run_lmms(options.peers, material.checkpoint, material.questions, work / "lmms", LIMITS, NEW_TOKENS)
            runs["lmms-eval"] = Run(lmms.seconds, lmms.texts)
            runs["lmms-eval, whole command"] = Run(lmms.whole, lmms.texts)
        warm += [ours(material, work, "local", cold=False) for _ in range(2)]
        runs["ours, warm"] = sorted(warm, key=lambda run: run.seconds)[1]
        found = {"benchmark": "evaluation", "machine_scaling": round(scaling, 2), **_figures(runs)}
        if options.peers:
            texts = list(zip(*(runs[name].texts for name in ("ours, warm", "vanilla", "sync vLLM")), strict=True))
            apart = [n for n, (mine, *others) in enumerate(texts) if len(set(others)) == 1 and mine != others[0]]
            again = about_our_frames(options.peers, material, work, apart)
            equal = sum(len(set(each)) == 1 or again.get(n) == each[0] for n, each in enumerate(texts))
            found["same_predictions_same_frames"] = round(equal / len(texts), 4)
    _print(runs, len(material.rows))
    found["benchmarks"] = passing_benchmarks()
    found["versions"] = {"python": platform.python_version(), **versions(PACKAGES)}
    found["cores"] = os.cpu_count()
    found["wall_seconds"] = round(time.perf_counter() - begun, 1)
    print(json.dumps(found))
    return found


def _figures(runs: Mapping[str, Run]) -> dict[str, Any]:
    cold, warm = runs["ours, cold"], runs["ours, warm"]

    def ratio(name: str, mine: Run) -> float | None:
        return round(runs[name].seconds / mine.seconds, 2) if name in runs else None

    equal = [runs[name].texts for name in ("vanilla", "sync vLLM") if name in runs]
    return {
        "vs_vanilla_warm": ratio("vanilla", warm),
        "vs_vanilla_cold": ratio("vanilla", cold),
        "vs_lmms_eval_warm": ratio("lmms-eval", warm),
        "vs_sync_vllm_warm": ratio("sync vLLM", warm),
        "engine_idle_share": None if warm.idle is None else round(warm.idle, 3),
        "same_predictions": round(same_share(warm.texts, cold.texts, *equal), 4),
        "same_predictions_lmms": round(same_share(warm.texts, runs["lmms-eval"].texts), 4)
        if "lmms-eval" in runs
        else None,
    }


def _print(runs: Mapping[str, Run], questions: int) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("path", "seconds", "questions/s", "engine idle", title=f"{questions} questions", title_justify="left")
    for name, run in sorted(runs.items(), key=lambda pair: -pair[1].seconds):
        idle = "-" if run.idle is None else f"{run.idle:.1%}"
        table.add_row(name, f"{run.seconds:.2f}", f"{questions / run.seconds:.1f}", idle)
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
