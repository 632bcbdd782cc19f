"""Several responses to every sample of a data set, scored: what filters rows and collects trajectories.

What is known is appended to a file beside the output, one line per sample, so that a survey that was killed goes on
where it was. Everything random follows from the seed and the sample.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from easyvideor1.config import RunConfig
from easyvideor1.config.judge import JudgeConfig
from easyvideor1.data import prompt_text
from easyvideor1.data.rows import PLACEHOLDER
from easyvideor1.files import json_bytes, write_atomic
from easyvideor1.models.family import Family
from easyvideor1.rewards.judge_client import ChatClient, RefusedError, TransientError
from easyvideor1.rollout.engine import Engine, Request
from easyvideor1.seeds import derive_seed
from easyvideor1.training.rollouts import offline_ids
from easyvideor1.types import ConfigError, DataError, EasyVideoError, MediaError, OfflineTrajectory, Sample
from easyvideor1.workbench import Workbench


@dataclass(frozen=True, slots=True)
class Response:
    """A scored response; ``complete`` if it ended by itself. ``logprobs`` are of the tokens that its text has."""

    text: str
    complete: bool
    accuracy: float
    total: float
    applicable: bool
    logprobs: tuple[float, ...] | None = None


#: ``(text, complete, logprobs)`` of k responses to each of some samples.
Answers = list[list[tuple[str, bool, tuple[float, ...] | None]]]
Ask = Callable[[Sequence[Sample]], Answers]


def engine_ask(bench: Workbench, engine: Engine, k: int) -> Ask:
    """Responses of an engine, with log-probs where the text alone gives the same tokens again."""

    def ask(samples: Sequence[Sample]) -> Answers:
        requests = [
            Request(
                sample.id,
                bench.render(sample),
                k,
                bench.sampling(),
                derive_seed(bench.config.seed, "survey", sample.id),
            )
            for sample in samples
        ]
        found: Answers = []
        for group in engine.generate(requests):
            turns = [trajectory.turns[-1] for trajectory in group]
            found.append([(t.text, t.finish == "stop", _known(bench.family, t.text, t)) for t in turns])
        return found

    return ask


def _known(family: Family, text: str, turn: Any) -> tuple[float, ...] | None:
    if turn.logprobs is None or turn.finish != "stop":
        return None
    try:
        same = offline_ids(family, OfflineTrajectory(text), None) == turn.response_ids.tolist()
    except DataError:
        return None  # empty, or with special tokens: whoever reads the row will say so
    return tuple(round(float(value), 6) for value in turn.logprobs) if same else None


def endpoint_ask(bench: Workbench, endpoint: JudgeConfig, k: int) -> Ask:
    """Responses of an OpenAI-compatible endpoint; frames go there as JPEG pictures, each in its place.

    Raises:
        ConfigError: address, key or model are wrong (when it is called).
        EasyVideoError: no reply after ``endpoint.retries`` further attempts.
    """
    client = ChatClient(endpoint)

    def one(message: Mapping[str, Any]) -> tuple[str, bool, tuple[float, ...] | None]:
        for attempt in range(endpoint.retries + 1):
            try:
                reply = client.complete([message])
            except TransientError as error:
                if attempt == endpoint.retries:
                    raise EasyVideoError(
                        f"{endpoint.url}: {error}, after {attempt + 1} attempts; what was collected is kept, so start "
                        "again when the endpoint answers"
                    ) from error
                time.sleep(min(error.wait or 0.5 * 2**attempt, endpoint.max_wait))
            except RefusedError as error:
                return f"[refused: {error}]", False, None
            else:
                return reply.text, not reply.cut_off, None
        raise AssertionError("unreachable")

    def ask(samples: Sequence[Sample]) -> Answers:
        messages = [message for sample in samples for message in [chat_message(bench, sample)] * k]
        with ThreadPoolExecutor(endpoint.concurrency) as pool:
            replies = list(pool.map(one, messages))
        return [replies[start : start + k] for start in range(0, len(replies), k)]

    return ask


def chat_message(bench: Workbench, sample: Sample) -> dict[str, Any]:
    """A user message in the OpenAI format: the prompt's text with the frames that the model of the run would see."""
    from PIL import Image

    text = prompt_text(sample, bench.config.prompts, bench.config.rewards)
    parts: list[dict[str, Any]] = []
    at = 0
    for match, ref in zip(PLACEHOLDER.finditer(text), sample.media, strict=True):
        parts += _words(text[at : match.start()])
        plan = bench.plan(ref)
        for pixels, seconds in zip(bench.load(ref, plan).pixels, plan.timestamps, strict=False):
            if ref.kind == "video":
                parts += _words(f"<{seconds:.1f} seconds>")
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
            url = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
            parts.append({"type": "image_url", "image_url": {"url": url}})
        at = match.end()
    return {"role": "user", "content": [*parts, *_words(text[at:])]}


def _words(text: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": text}] if text.strip() else []


def survey(
    samples: Sequence[Sample],
    ask: Ask,
    bench: Workbench,
    ledger: Path,
    identity: Mapping[str, Any],
    on_progress: Callable[[int, int], None],
    *,
    at_once: int = 16,
) -> Iterator[tuple[Sample, list[Response]]]:
    """Every sample with its scored responses, in order.

    Args:
        samples: whose identifiers differ.
        ask: for their responses.
        bench: scores.
        ledger: file of what is known already; it grows with every ``at_once`` samples.
        identity: of the survey; a ledger of another one is refused.
        on_progress: is told of samples done and their number.
        at_once: samples that are asked together.

    Raises:
        ConfigError: the ledger is of another survey.
        DataError: two samples have the same identifier.
    """
    if len({sample.id for sample in samples}) < len(samples):
        raise DataError(
            "two rows have the same problem_id, so that their responses cannot be told apart; give each its own"
        )
    known = _read_ledger(ledger, identity)
    todo = [sample for sample in samples if sample.id not in known]
    on_progress(len(samples) - len(todo), len(samples))
    for start in range(0, len(todo), at_once):
        batch = todo[start : start + at_once]
        lines = []
        for sample, answers in zip(batch, ask(batch), strict=True):
            scores = bench.scorer.score_group(sample, [text for text, _, _ in answers])
            known[sample.id] = [
                Response(text, complete, score.accuracy, score.total, score.applicable, logprobs)
                for (text, complete, logprobs), score in zip(answers, scores, strict=True)
            ]
            lines.append(json_bytes({"id": sample.id, "responses": [_row(each) for each in known[sample.id]]}))
        with ledger.open("ab") as file:
            file.write(b"".join(lines))
            file.flush()
            os.fsync(file.fileno())
        on_progress(len(samples) - len(todo) + start + len(batch), len(samples))
    for sample in samples:
        yield sample, known[sample.id]


def survey_identity(config: RunConfig, **more: object) -> dict[str, Any]:
    """What decides the responses: a digest of the configuration, and the rest of the call."""
    return {"config": hashlib.sha256(config.model_dump_json().encode()).hexdigest(), **more}


def _row(response: Response) -> dict[str, Any]:
    return {name: getattr(response, name) for name in Response.__dataclass_fields__}


def _read_ledger(ledger: Path, identity: Mapping[str, Any]) -> dict[str, list[Response]]:
    """What is known; the last line may be cut short by a kill and is forgotten."""
    ledger.parent.mkdir(parents=True, exist_ok=True)
    lines = ledger.read_bytes().splitlines(keepends=True) if ledger.exists() else []
    lines = lines[:-1] if lines and not lines[-1].endswith(b"\n") else lines
    if not lines:
        write_atomic(ledger, json_bytes(dict(identity)))
        return {}
    if json.loads(lines[0]) != json.loads(json_bytes(dict(identity))):
        raise ConfigError(
            f"{ledger} holds responses of another configuration, checkpoint or number of responses; remove it to start "
            "over, or choose another --out"
        )
    write_atomic(ledger, b"".join(lines))
    known = {}
    for line in lines[1:]:
        row = json.loads(line)
        known[row["id"]] = [
            Response(**{**each, "logprobs": None if each["logprobs"] is None else tuple(each["logprobs"])})
            for each in row["responses"]
        ]
    return known


def readable(samples: Sequence[Sample], bench: Workbench) -> list[Sample]:
    """Samples whose media can be read; the others are in the health ledger."""
    kept = []
    for sample in samples:
        try:
            for ref in sample.media:
                bench.load(ref, bench.plan(ref))
        except MediaError as error:
            bench.ledger.record(error.path, error.reason, str(error), "left out of a survey")
        else:
            kept.append(sample)
    return kept
