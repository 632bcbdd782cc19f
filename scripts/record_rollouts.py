"""Reduce a run's rollouts to a small recording: ``python scripts/record_rollouts.py STAGE_DIR OUT.jsonl.gz``.

The recordings in ``tests/training/recordings`` were made with it. A line is a step: its groups, and of each response
what the canary looks at. Texts are cut, and equal ones stay equal.
"""

from __future__ import annotations

import argparse
import gzip
import json
from pathlib import Path
from typing import Any

#: Characters kept of a response.
_CUT = 48


def _response(trajectory: dict[str, Any], numbers: dict[str, int]) -> dict[str, Any]:
    text, score = trajectory["response"], trajectory["score"]
    tagged = "<answer>" in text and "</answer>" in text[text.rfind("<answer>") :]
    number = numbers.setdefault(text, len(numbers))
    return {
        "text": f"{text[:_CUT]}~{number}" + ("<answer></answer>" if tagged else ""),
        "tokens": trajectory["tokens"],
        "finish": trajectory["finish"],
        "accuracy": score["accuracy"],
        "format": score["format"],
        "parsed": score["parsed"][:_CUT],
        "found": score.get("found") or ("tag" if tagged and score["format"] > 0 else "nothing"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", type=Path, help="stages/01-grpo of a run")
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    lines = []
    for file in sorted(options.stage.glob("rollouts/step_*.jsonl")):
        numbers: dict[str, int] = {}
        groups = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        lines.append(
            [
                {
                    "sample": group["sample"],
                    "task": group["task"],
                    "answer": group["answer"],
                    "responses": [_response(one, numbers) for one in group["trajectories"]],
                }
                for group in groups
            ]
        )
    text = "".join(json.dumps(line, separators=(",", ":"), ensure_ascii=False) + "\n" for line in lines)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_bytes(gzip.compress(text.encode(), mtime=0))
    print(f"{len(lines)} steps, {options.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
