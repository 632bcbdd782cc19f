"""The answers of a model to the questions of a benchmark, kept so that nothing is asked twice.

``answers.jsonl`` is only ever appended to: one line per question and try, sealed by a checksum of its own. It holds all
that scoring needs, so that answers are scored again without a model.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from easyvideor1.evaluation.certificate import ANSWERS
from easyvideor1.files import is_sealed, json_bytes, seal
from easyvideor1.locks import file_lock, locks_unsupported
from easyvideor1.records.trajectories import (
    SampleRecord,
    media_from_json,
    prompt_digest,
    prompt_fields,
    sample_record,
)
from easyvideor1.rollout.driver import Outcome
from easyvideor1.types import (
    BudgetChange,
    ConfigError,
    MediaRef,
    Prompt,
    Sample,
    Trajectory,
    Turn,
)
from easyvideor1.video.plan import effects_from_json

#: How often a question is put before its failure counts.
TRIES = 2


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What a model said to a question, or why it said nothing (``error``), not scored.

    ``asked`` has the fields of ``SampleRecord`` about the prompt, and ``prompt`` is the digest of its tokens and
    frames; both are empty where no prompt could be made. ``tries`` counts how often the question was put.
    """

    sample: Sample
    asked: Mapping[str, Any] = field(default_factory=dict)
    prompt: str = ""
    greedy: Trajectory | None = None
    sampled: tuple[Trajectory, ...] = ()
    error: str = ""
    tries: int = 1

    @classmethod
    def of(cls, outcome: Outcome, tries: int = 1) -> Answer:
        """The answer of a question whose first draw is the greedy one; one failed draw fails the question."""
        asked = {} if outcome.prompt is None else prompt_fields(outcome.prompt)
        digest = "" if outcome.prompt is None else prompt_digest(outcome.prompt)
        if (fault := outcome.fault) is not None:
            return cls(outcome.sample, asked, digest, error=f"{type(fault).__name__}: {fault}", tries=tries)
        greedy, *sampled = outcome.trajectories
        return cls(outcome.sample, asked, digest, greedy, tuple(sampled), tries=tries)

    @property
    def is_final(self) -> bool:
        """Whether the question was answered, or has failed as often as it is put."""
        return not self.error or self.tries >= TRIES

    @property
    def trajectories(self) -> tuple[Trajectory, ...]:
        """All responses, the greedy one first; none of a question that failed."""
        return () if self.greedy is None else (self.greedy, *self.sampled)

    def record(self, **scored: Any) -> SampleRecord:
        """The record of the question; ``scored`` are its scored responses, as fields of ``SampleRecord``."""
        return sample_record(self.sample, **self.asked, **scored, error=self.error or None)


def row_digest(sample: Sample) -> str:
    """SHA-256 of what a question asks, as 16 hexadecimal digits: its text, options, media and clips, less their paths.

    What the media show is in the digest of the prompt; the reference answer decides no response.
    """
    media = [_identity(ref) for ref in sample.media]
    text = json.dumps([sample.id, sample.question, sample.task, sample.options, media])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _identity(ref: MediaRef) -> list[Any]:
    """What a medium is but for where its files lie; the digest of the prompt has what effects make of it."""
    identity = [ref.kind, ref.start, ref.end, None if ref.budget is None else asdict(ref.budget)]
    return [*identity, ref.still] if ref.still else identity


class AnswerStore:
    """The file, and what is known of each question: the last answer, by row id and row digest.

    ``damaged`` says of every line that could not be read where it is and why; what it held is asked again.
    """

    def __init__(self, path: Path, file: int, known: dict[tuple[str, str], Answer], damaged: tuple[str, ...]) -> None:
        self.path = path
        self.damaged = damaged
        self._file = file
        self._known = known

    @classmethod
    @contextmanager
    def open(cls, directory: Path) -> Iterator[AnswerStore]:
        """The store of a result's directory, which is made if it is not there; for this process alone.

        A last line that a kill cut short is removed.

        Raises:
            ConfigError: another process has it open.
            OSError: the directory or the file cannot be written.
        """
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / ANSWERS
        with ExitStack() as stack:
            try:
                ours = stack.enter_context(file_lock(directory / ".answers.lock"))
            except OSError as error:
                if not locks_unsupported(error):
                    raise
                ours = True
            if not ours:
                raise ConfigError(
                    f"another process is evaluating into {directory}; wait for it, or choose another --out"
                )
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            stack.callback(os.close, file)
            answers, damaged, whole = _read(path)
            if whole < os.fstat(file).st_size:
                os.ftruncate(file, whole)
            yield cls(path, file, {question_key(answer.sample): answer for answer in answers}, damaged)

    def answers(self) -> list[Answer]:
        """The last answer to each question."""
        return list(self._known.values())

    def known(self, samples: Sequence[Sample]) -> list[Answer | None]:
        """What is known of each question, with the sample as it is today.

        Where reference or columns have changed since, the answer is kept again with the new ones, so that the file
        alone is enough to score it.

        Raises:
            OSError: the disk refused.
        """
        found = [self._known.get(question_key(sample)) for sample in samples]
        pairs = [(answer, sample) for answer, sample in zip(found, samples, strict=True) if answer is not None]
        changed = [replace(a, sample=s) for a, s in pairs if _sample_row(a.sample) != _plain(_sample_row(s))]
        if changed:
            self.append(changed)
        return [None if a is None else replace(a, sample=s) for a, s in zip(found, samples, strict=True)]

    def append(self, answers: Sequence[Answer]) -> list[Answer]:
        """Keep answers; they are on the disk when this returns.

        Returns:
            The answers as they are read back: without log-probs and prompt tokens, which no score depends on.

        Raises:
            OSError: the disk refused; what was there before is intact.
        """
        rows = [_row(answer) for answer in answers]
        content = b"".join(json_bytes(seal(row)) for row in rows)
        before = os.fstat(self._file).st_size
        try:
            view = memoryview(content)
            while view:
                view = view[os.write(self._file, view) :]
            os.fsync(self._file)
        except OSError as error:
            os.ftruncate(self._file, before)
            error.filename = str(self.path)
            raise
        kept = [_answer(_plain(row)) for row in rows]
        self._known.update((question_key(answer.sample), answer) for answer in kept)
        return [replace(each, sample=answer.sample) for each, answer in zip(kept, answers, strict=True)]


def question_key(sample: Sample) -> tuple[str, str]:
    """What the file tells questions apart by: the id and ``row_digest``."""
    return sample.id, row_digest(sample)


def _read(path: Path) -> tuple[list[Answer], tuple[str, ...], int]:
    """All answers of a file, its damaged lines, and how many of its bytes are whole lines."""
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    answers, damaged = [], []
    for number, line in enumerate(content[:whole].split(b"\n")[:-1], 1):
        try:
            row = json.loads(line)
            if not is_sealed(row):
                raise ValueError("its checksum is wrong")
            answers.append(_answer(row))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            damaged.append(f"{path}:{number}: this line is damaged ({type(error).__name__}: {error})")
    return answers, tuple(damaged), whole


def _row(answer: Answer) -> dict[str, Any]:
    asked = dict(answer.asked)
    if asked:
        asked["media"] = [media.as_json() for media in asked["media"]]
    text = asked.get("prompt", "")
    return {
        "id": answer.sample.id,
        "row": row_digest(answer.sample),
        "prompt": answer.prompt,
        "tries": answer.tries,
        "error": answer.error,
        "greedy": None if answer.greedy is None else _turns(answer.greedy, text),
        "samples": [_turns(each, text) for each in answer.sampled],
        "asked": asked,
        "sample": _sample_row(answer.sample),
    }


def _answer(row: Mapping[str, Any]) -> Answer:
    asked = dict(row["asked"])
    if asked:
        asked["media"] = tuple(map(media_from_json, asked["media"]))
    sample, text = _sample(row["sample"]), asked.get("prompt", "")
    greedy = None if row["greedy"] is None else _trajectory(row["greedy"], sample, text)
    sampled = tuple(_trajectory(turns, sample, text) for turns in row["samples"])
    if greedy is None and not row["error"]:
        raise ValueError("it has neither a response nor the reason why there is none")
    return Answer(sample, asked, row["prompt"], greedy, sampled, row["error"], row["tries"])


def _turns(trajectory: Trajectory, first: str) -> list[dict[str, Any]]:
    """The turns of a response; their prompts only where they are not the question's."""
    return [
        {
            "text": turn.text,
            "finish": turn.finish,
            "ids": turn.response_ids.tolist(),
            **({"opens_thinking": True} if turn.prompt.opens_thinking else {}),
            **({} if turn.prompt.text == first else {"prompt": turn.prompt.text}),
        }
        for turn in trajectory.turns
    ]


def _trajectory(rows: Sequence[Mapping[str, Any]], sample: Sample, first: str) -> Trajectory:
    turns = []
    for row in rows:
        ids = np.array(row["ids"], dtype=np.int64)
        prompt = Prompt(
            np.zeros(0, dtype=np.int64),
            media=sample.media,
            text=row.get("prompt", first),
            opens_thinking=row.get("opens_thinking", False),
        )
        turns.append(Turn(prompt, ids, np.ones(len(ids), dtype=bool), None, row["finish"], row["text"]))
    if not turns:
        raise ValueError("a response has no turn")
    return Trajectory(tuple(turns))


def _sample_row(sample: Sample) -> dict[str, Any]:
    return {
        "id": sample.id,
        "question": sample.question,
        "task": sample.task,
        "answer": sample.answer,
        "options": list(sample.options),
        "media": [_ref_row(ref) for ref in sample.media],
        "source": sample.source,
        "where": sample.where,
        "extra": {name: value for name, value in sample.extra.items() if _is_plain(value)},
    }


def _ref_row(ref: MediaRef) -> dict[str, Any]:
    return {name: value for name, value in asdict(ref).items() if value or name not in ("effects", "still")}


def _ref(row: Mapping[str, Any]) -> MediaRef:
    budget = None if row["budget"] is None else BudgetChange(**row["budget"])
    return MediaRef(**{**row, "budget": budget, "effects": effects_from_json(row.get("effects", ()))})


def _sample(row: Mapping[str, Any]) -> Sample:
    media = map(_ref, row["media"])
    return Sample(**{**row, "media": tuple(media), "options": tuple(row["options"])})


def _plain(row: Mapping[str, Any]) -> Any:
    """A row as it is read back from its line."""
    return json.loads(json.dumps(row))


def _is_plain(value: Any) -> bool:
    """Whether a column is JSON; pictures as bytes are not, and no score reads them."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True
