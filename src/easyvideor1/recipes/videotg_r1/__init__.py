"""VideoTG-R1: which labels are only partial, found by asking whether the query is seen outside of its label."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from easyvideor1.config import RunConfig
from easyvideor1.curation.filters import FilterOptions, Passing, Verdict, View
from easyvideor1.data.media_transforms import reference_spans, with_effect
from easyvideor1.files import write_text
from easyvideor1.toyworld.scene import Body
from easyvideor1.types import DataError, Sample
from easyvideor1.video.effects import make_effect

#: Column with a question whose answer is Yes where the query is seen, and No where it is not.
PRESENCE = "presence"
#: Of the toy rows, one in so many has a label that covers the first quarter of what is true.
PARTIAL_EVERY = 4


@dataclass(frozen=True, slots=True)
class BoundaryReflection:
    """Drops rows whose query a model sees outside of the labelled span: their label is only partial.

    The model is asked the row's question ``presence`` about the video with the labelled frames hidden. A row is kept if
    more than ``--answered`` of the responses that say Yes or No say No, and left out as not judged if most say neither.
    """

    options: FilterOptions
    config: RunConfig

    def views(self, sample: Sample) -> Sequence[View]:
        """The one question about a row.

        Raises:
            DataError: the row has no such question.
        """
        question = sample.extra.get(PRESENCE)
        if not isinstance(question, str) or not question.strip():
            raise DataError(
                f"{sample.where or sample.id}: the column {PRESENCE!r} is {question!r} - give it a question whose "
                "answer is Yes where the query is seen and No where it is not"
            )
        hidden = with_effect(sample, make_effect("mask_frames", inside=reference_spans(sample), fill="mean"))
        asked = replace(hidden, question=f"<video>\n{question}", task="boolean", answer="No", offline=())
        return [View("outside", asked)]

    def verdict(self, sample: Sample, found: Mapping[str, Passing]) -> Verdict:
        """Keep the row if the query is not seen."""
        asked = found["outside"]
        rate = asked.readable_rate
        if rate is None:
            return Verdict(None)
        if rate > self.options.answered:
            return Verdict(True, columns={"outside_rate": rate, "outside_responses": asked.readable})
        return Verdict(False, "whose query is seen outside of its label")


def write_toy(root: Path) -> None:
    """Write ``world/videotg-train.jsonl``: rows of ``world`` with the question, every fourth with part of a label."""
    world = root / "world"
    scenes = {line["clip"]: line for line in map(json.loads, (world / "scenes.jsonl").read_text("utf-8").splitlines())}
    rows = []
    for number, text in enumerate((world / "train.jsonl").read_text("utf-8").splitlines()):
        row = json.loads(text)
        subject = Body(**scenes[row["clip"]]["bodies"][0])
        start, end = json.loads(row["answer"])["time"]
        partial = number % PARTIAL_EVERY == 0
        label = [start, start + (end - start) / 4] if partial else [start, end]
        rows.append(
            {
                **row,
                "answer": json.dumps({"time": label}),
                "true_span": [start, end],
                "partial": partial,
                PRESENCE: f"Is there a {subject.colour} shape?",
            }
        )
    write_text(world / "videotg-train.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
