"""lmms-eval's Qwen3-VL path on local questions: a task of our own, and what the command prints and logs."""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

_TASK = """\
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}}}
task: local_choice
test_split: test
output_type: generate_until
doc_to_visual: !function asking.visual
doc_to_text: !function asking.text
doc_to_target: answer
generation_kwargs: {{max_new_tokens: {tokens}, temperature: 0, do_sample: false}}
process_results: !function asking.score
metric_list: [{{metric: accuracy, aggregation: mean, higher_is_better: true}}]
metadata: [{{version: 0.0}}]
"""
_ASKING = """\
def visual(doc):
    return [doc["video"]]


def text(doc, lmms_eval_specific_kwargs=None):
    return doc["question"]


def score(doc, results):
    return {"accuracy": float(results[0].strip()[:1] == doc["answer"])}
"""
#: What it draws while it asks: ``Model Responding: 100%|...| 300/300 [00:28<00:00, 10.51it/s]``.
_BAR = re.compile(r"Model Responding: 100%[^\n]*?\d+/\d+ \[(?:(\d+):)?(\d+):(\d+)<[^\n]*?, +([\d.]+)(it/s|s/it)\]")


@dataclass(frozen=True, slots=True)
class LmmsRun:
    """``seconds`` is the time that it asked, without loading; ``whole`` that of the command. Texts are in order."""

    seconds: float
    whole: float
    texts: tuple[str, ...]


def run_lmms(
    python: str, checkpoint: Path, questions: Path, work: Path, limits: dict[str, float], tokens: int
) -> LmmsRun:
    """Ask all questions with ``--model qwen3_vl`` and batch 1, its only precision (bfloat16), on the CPU.

    Raises:
        RuntimeError: it printed no score; its exit status is 0 even then. The message has the end of its log.
    """
    import time

    tasks = work / "tasks"
    tasks.mkdir(parents=True, exist_ok=True)
    (tasks / "local_choice.yaml").write_text(_TASK.format(rows=questions, tokens=tokens), encoding="utf-8")
    (tasks / "asking.py").write_text(_ASKING, encoding="utf-8")
    arguments = {
        "pretrained": checkpoint,
        "device": "cpu",
        "device_map": "cpu",
        "fps": limits["fps"],
        "max_num_frames": limits["max_frames"],
        "min_pixels": limits["min_pixels"],
        "max_pixels": limits["max_pixels"],
    }
    command = [python, "-W", "ignore", "-m", "lmms_eval", "eval", "--model", "qwen3_vl", "--batch_size", "1"]
    command += ["--model_args", ",".join(f"{name}={value}" for name, value in arguments.items())]
    command += ["--tasks", "local_choice", "--include_path", str(tasks), "--log_samples"]
    command += ["--output_path", str(work / "out")]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(work / "hf")}
    begun = time.perf_counter()
    done = subprocess.run(
        command, cwd=work, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    whole = time.perf_counter() - begun
    log = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout).replace("\r", "\n")
    (work / "lmms.log").write_text(log, encoding="utf-8")
    bars = list(_BAR.finditer(log))
    logged = sorted((work / "out").rglob("*samples*.jsonl"))
    if "|accuracy|" not in log or not bars or not logged:
        raise RuntimeError(f"lmms-eval gave no score:\n{log[-1500:]}")
    rows = [json.loads(line) for line in logged[-1].read_text(encoding="utf-8").splitlines()]
    rows.sort(key=lambda row: int(row["doc_id"]))
    rate = float(bars[-1][4]) if bars[-1][5] == "it/s" else 1 / float(bars[-1][4])
    return LmmsRun(len(rows) / rate, whole, tuple(_text(row) for row in rows))


def _text(row: dict[str, object]) -> str:
    found = row.get("filtered_resps") or row.get("resps") or [""]
    while isinstance(found, list):
        found = found[0] if found else ""
    return str(found)
