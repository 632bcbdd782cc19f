"""Rows of Video-Thinker's recipe: questions about a clip with traces that say when and what was seen, good and bad."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from easyvideor1.config.data import DataConfig, SourceConfig
from easyvideor1.curation.filters import Verdict, kept_sample
from easyvideor1.data import load_source, write_rows
from easyvideor1.files import write_text
from easyvideor1.rewards.tag_contents import tag_texts
from easyvideor1.toyworld.scene import COLOURS, DIRECTIONS
from easyvideor1.types import Sample

#: Share of traces whose caption says something else than the clip shows, as a writer that knows only the answer does.
CARELESS = 0.4
#: Traces of a row, written one after another until one is derivable.
TRIES = 3


def write_thinker_rows(root: Path) -> None:
    """Write ``world/thinker-{train,test}.jsonl`` beside the world they are made of, and ``world/thinker-kept.jsonl``.

    The last one is what the hindsight filter keeps of the training rows; ``evr1 filter`` with ``derivable_by_words``
    keeps the same.
    """
    world = root / "world"
    lines = (world / "scenes.jsonl").read_text(encoding="utf-8").splitlines()
    scenes = {scene["clip"]: scene for scene in map(json.loads, lines)}
    for split in ("train", "test"):
        rows = map(json.loads, (world / f"{split}.jsonl").read_text(encoding="utf-8").splitlines())
        made = [thinker_row(row, scenes[row["clip"]], traced=split == "train") for row in rows]
        text = "".join(json.dumps(row) + "\n" for row in made)
        write_text(world / f"thinker-{split}.jsonl", text)
    samples = load_source(SourceConfig(path=str(world / "thinker-train.jsonl")), DataConfig()).samples
    verdicts = [(sample, derivable_by_words(sample)) for sample in samples]
    kept = [kept_sample(sample, verdict) for sample, verdict in verdicts if verdict.keep]
    write_rows(world / "thinker-kept.jsonl", kept)


def thinker_row(row: dict[str, Any], scene: dict[str, Any], *, traced: bool) -> dict[str, Any]:
    """A question about the shape of a clip, answered with one word, with up to three traces.

    The shape is visible for a part of the clip: ``evidence`` says when, ``duration`` how long the clip is, in seconds.
    """
    rng = random.Random(f"video_thinker/{row['problem_id']}")
    body = scene["bodies"][0]
    by_colour = rng.random() < 0.5
    right = body["colour"] if by_colour else body["motion"]
    wrong = [word for word in _classes(right) if word != right]
    name = f"{body['colour']} {body['shape']}"
    question = f"What colour is the {body['shape']}?" if by_colour else f"Which way does the {name} move?"
    start, end = body["appears"], min(body["disappears"], scene["seconds"])

    def trace() -> str:
        seen = {"colour": body["colour"], "motion": body["motion"]}
        if rng.random() < CARELESS:
            seen["colour" if by_colour else "motion"] = rng.choice(wrong)
        caption = f"the {seen['colour']} {body['shape']} goes {seen['motion']}"
        thought = f"I see a {body['shape']} and it is {right}." if by_colour else f"The {name} goes {right}."
        times = f"<time>{start:g} - {end:g}</time>"
        return f"{times}<caption>{caption}</caption><think>{thought}</think><answer>{right}</answer>"

    traces = [trace() for _ in range(TRIES)] if traced else []
    return {
        **row,
        "problem": f"<video>\n{question}",
        "answer": right,
        "problem_type": "video qa",
        "has_offline_trajectory": bool(traces),
        "offline_output": traces,
        "evidence": [start, end],
        "duration": scene["seconds"],
    }


def _classes(word: str) -> Sequence[str]:
    """The colours, or the directions: whichever a word is one of."""
    return tuple(COLOURS) if word in COLOURS else DIRECTIONS


def derivable_by_words(sample: Sample) -> Verdict:
    """The hindsight filter with words for a scorer: the first trace whose captions say the answer and no other one.

    ``evr1 filter ... --by derivable`` asks a language model the same; this one is for toy captions.
    """
    for trace in sample.offline[:TRIES]:
        said = " ".join(found.text for found in tag_texts(trace.text, ["caption"])).split()
        if [word for word in _classes(sample.answer) if word in said] == [sample.answer]:
            return Verdict(True, traces=(trace,))
    return Verdict(False, "that no trace gives the answer to")
