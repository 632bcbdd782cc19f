"""The golden run: `run.yaml` trained by `evr1 train` on a small world, and everything it leaves behind."""

from __future__ import annotations

import hashlib
import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from .compare import read_lines
from .entries import WorldSpec, write_tiny_checkpoint, write_world
from .made_with import environment

HERE = Path(__file__).parent
#: Direction, colour, number and arithmetic, on clips, on pictures and without either.
KINDS = ("mc_direction", "mc_colour", "yes_colour", "count", "math_fraction", "math_text")
#: Names in the rows of rollouts and evaluations that depend on the bytes of media files, or on their place.
_OF_FILES = ("path", "digest")


def make(work: Path) -> dict[str, Any]:
    """Train, and read the run directory. `work` is an empty directory."""
    _prepare(work)
    command = [sys.executable, "-m", "easyvideor1.cli", "train", "run.yaml"]
    done = subprocess.run(command, cwd=work, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} left exit status {done.returncode}:\n{done.stderr}")
    run = work / "runs" / "golden"
    stages = {
        stage.name: {"steps": _steps(stage), "weights": _weights(max((stage / "checkpoints").iterdir()))}
        for stage in sorted((run / "stages").iterdir())
    }
    evaluations = {file.stem: _placeless(read_lines(file)) for file in sorted((run / "evaluations").glob("*.jsonl"))}
    return {"stages": stages, "evaluations": evaluations}


def _steps(stage: Path) -> dict[str, Any]:
    """What each step left behind: its metrics and its rollouts."""
    return {
        str(metrics["step"]): {
            "metrics": metrics,
            "rollouts": _placeless(read_lines(stage / "rollouts" / f"step_{metrics['step']:06d}.jsonl")),
        }
        for metrics in read_lines(stage / "metrics.jsonl")
    }


def _prepare(work: Path) -> None:
    # Lossless media: their pixels do not depend on the version of an encoder.
    spec = WorldSpec(
        seed=5, train=24, validation=0, test=6, kinds=KINDS, container=".mkv", codec="ffv1", image_share=0.5
    )
    write_world(spec, work / "world")
    rows = read_lines(work / "world" / "train.jsonl")
    for row in rows:
        row["offline_output"] = re.sub(r"<think>.*?</think>\s*", "", row["offline_output"], flags=re.DOTALL)
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (work / "world" / "short.jsonl").write_text(lines, encoding="utf-8")
    # No merges: tokens are bytes, whatever the version of the library that trains tokenizers.
    write_tiny_checkpoint(work / "tiny", [], seed=1, width=64, layers=2, vision_layers=2, vocabulary=263)
    for name in ("run.yaml", "letters.py"):
        shutil.copyfile(HERE / name, work / name)


def _placeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _placeless(item) for key, item in value.items() if key not in _OF_FILES}
    return [_placeless(item) for item in value] if isinstance(value, list) else value


def _weights(checkpoint: Path) -> dict[str, Any]:
    """Of every tensor its digest and, for where digests differ, its norm; and one digest of all."""
    from safetensors.torch import load_file

    found: dict[str, Any] = {}
    whole = hashlib.sha256()
    for file in sorted(checkpoint.glob("model*.safetensors")):
        for name, tensor in sorted(load_file(file).items()):
            digest = hashlib.sha256(tensor.contiguous().numpy().tobytes())
            whole.update(f"{name} {digest.hexdigest()}\n".encode())
            norm = math.sqrt(math.fsum(tensor.double().square().flatten().tolist()))
            found[name] = {"sha256": digest.hexdigest()[:16], "norm": norm}
    return {"sha256": whole.hexdigest(), "tensors": found}
