"""Rows and responses to measure rewards on.

Rows: a seeded toyworld of 1,080 rows with all task types (only the rows are planned; no media are made), and the rows
of public benchmarks in the directory ``../shared/reference/benchmark_rows``, if it exists. Responses: for every row
its reference in the ways that models write (tag, thinking, boxed, a sentence, bold, fenced, with words around), wrong
ones (the reference of another row, both, none) and ones that are partly right (half of the words, of the boxes or of
the span; numbers that are nearly right or carry a unit).
"""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from easyvideor1.config.schema import DataConfig, SourceConfig
from easyvideor1.data import scan_source
from easyvideor1.rewards.references import plain_reference
from easyvideor1.toyworld.plan import plan_world
from easyvideor1.toyworld.spec import WorldSpec
from easyvideor1.types import Sample

REAL_ROWS = Path(__file__).parents[2] / "shared" / "reference" / "benchmark_rows"
TOYWORLD_ROWS = 1080
_SCALARS = ("multiple_choice", "numerical", "regression", "boolean", "preference", "math")


def toyworld_samples(rows: int = TOYWORLD_ROWS, seed: int = 0) -> list[Sample]:
    """Rows of a toyworld as training would read them; their media are never made."""
    (split, *_) = plan_world(WorldSpec(seed=seed, train=rows, validation=0, test=0))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in split.rows), encoding="utf-8")
        return scan_source(SourceConfig(path=str(path)), DataConfig(), check_media=False).samples


def real_samples() -> list[Sample]:
    """The usable rows of public benchmarks; none without the directory."""
    found: list[Sample] = []
    for path in sorted(REAL_ROWS.glob("*.json")):
        scan = scan_source(SourceConfig(path=str(path)), DataConfig(), check_media=False)
        found += [replace(sample, id=f"{path.stem}:{sample.id}") for sample in scan.samples]
    return found


def by_task(samples: Sequence[Sample]) -> dict[str, list[Sample]]:
    """The samples of each task type, in order of the types' names."""
    grouped: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        grouped[sample.task].append(sample)
    return dict(sorted(grouped.items()))


def responses(sample: Sample, other: Sample) -> Iterator[tuple[str, str]]:
    """``(way of writing, response)``; ``other`` is a row of the same type whose reference is a wrong answer."""
    right, wrong = plain_reference(sample.answer), plain_reference(other.answer)
    yield "in a tag", f"<answer>{right}</answer>"
    yield "after thinking", f"<think>I look at it: {wrong}?</think>\n<answer>{right}</answer>"
    yield "lines in the tag", f"<answer>\n{right}\n</answer>"
    yield "words after the tag", f"<answer>{right}</answer>\nThat is what I see."
    yield "words in the tag", f"<answer>I think it is {right}</answer>"
    yield "fenced in the tag", f"<answer>```\n{right}\n```</answer>"
    yield "no tag", right
    yield "another answer", f"<answer>{wrong}</answer>"
    yield "two tags, right last", f"<answer>{wrong}</answer> No: <answer>{right}</answer>"
    yield "two tags, wrong last", f"<answer>{right}</answer> No: <answer>{wrong}</answer>"
    yield "two answers in the tag", f"<answer>{right} or {wrong}</answer>"
    yield "empty tag", "<answer></answer>"
    yield "nothing", "I cannot tell."
    if sample.task in _SCALARS:
        yield "bold in the tag", f"<answer>**{right}**</answer>"
        yield "boxed", f"Therefore \\boxed{{{right}}}"
        yield "the answer is", f"I look at it. The answer is {right}"
        yield "the answer is, twice", f"The answer is {wrong}. But no, the answer is {right}"
    yield from _partial(sample, right)


def _partial(sample: Sample, right: str) -> Iterator[tuple[str, str]]:
    if sample.task == "multiple_choice" and sample.options:
        letter = right[:1]
        words = [option[3:] for option in sample.options if option.startswith(letter)]
        yield "words of the option", f"<answer>{words[0] if words else right}</answer>"
        yield "letter and words", f"<answer>{letter}. {words[0] if words else right}</answer>"
        yield "all letters", f"<answer>{', '.join(option[0] for option in sample.options)}</answer>"
    elif sample.task in ("numerical", "regression"):
        value = float(right.rstrip("%"))
        yield "with a unit", f"<answer>{right} cm</answer>"
        yield "nearly", f"<answer>{value * 1.04:.6g}</answer>"
        yield "not nearly", f"<answer>{value * 1.3:.6g}</answer>"
    elif sample.task in ("open_ended", "video_qa", "description", "ocr"):
        words = right.split()
        yield "half of the words", f"<answer>{' '.join(words[: (len(words) + 1) // 2])}</answer>"
        yield "other case", f"<answer>{right.upper()}</answer>"
        yield "the words twice", f"<answer>{right} {right}</answer>"
    elif sample.task == "boolean":
        yield "a sentence", f"<answer>{right}, that is what is seen</answer>"
        yield "a negation", f"<answer>It is not {right}</answer>"
    elif right.startswith("{"):
        yield from _partial_json(json.loads(right))


def _partial_json(data: dict[str, Any]) -> Iterator[tuple[str, str]]:
    def tagged(value: Any) -> str:
        return f"<answer>{json.dumps(value)}</answer>"

    time, boxes = data.get("time"), data.get("boxes")
    if isinstance(time, list):
        start, end = time
        yield "half of the span", tagged({**data, "time": [start, (start + end) / 2]})
        yield "span reversed", tagged({**data, "time": [end, start]})
        yield "from 0 on", tagged({**data, "time": [0, end]})
        if boxes is None:
            yield "span in words", f"<answer>from {start} to {end} seconds</answer>"
    if isinstance(boxes, dict):
        first = next(iter(boxes))
        yield "one second only", tagged({**data, "boxes": {first: boxes[first]}})
        yield "seconds with a point", tagged({**data, "boxes": {f"{float(key)}": box for key, box in boxes.items()}})
        yield "one box for all seconds", tagged({**data, "boxes": dict.fromkeys(boxes, boxes[first])})
    if isinstance(boxes, list):
        x1, y1, x2, y2 = boxes
        yield "half of the box", tagged({**data, "boxes": [x1, y1, (x1 + x2) / 2, y2]})
        yield "other scale", tagged({**data, "boxes": [side / 1000 for side in boxes]})
        yield "bare list", tagged(boxes)
