"""Responses of a model behind an OpenAI-compatible endpoint."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import closing

from easyvideor1.components import Components
from easyvideor1.config import JudgeConfig
from easyvideor1.curation.survey import Answer, Answers, Ask
from easyvideor1.engines.endpoint import EndpointEngine, ReplyError
from easyvideor1.engines.engine import Request, Result
from easyvideor1.types import MediaError, Sample


def endpoint_ask(components: Components, endpoint: JudgeConfig, k: int) -> Ask:
    """Responses of an endpoint, each a request of its own: one that is refused or fails is an answer with a fault.

    Raises:
        ConfigError: the key is not in the environment; or, when it is called, address, key or model are wrong.
        EasyVideoError: (when it is called) the endpoint is down.
    """
    engine = EndpointEngine(components.family, components.load, endpoint, system=components.config.prompts.system)

    def ask(samples: Sequence[Sample], known: Collection[str]) -> Answers:
        todo = iter([sample for sample in samples if sample.id not in known])
        waiting: dict[int, tuple[Sample, int]] = {}
        found: dict[str, list[Result | None]] = {}
        with closing(engine):
            while True:
                while len(waiting) < 2 * endpoint.concurrency + k and (sample := next(todo, None)) is not None:
                    try:
                        request = Request(sample.id, components.render(sample), 1, components.sampling(), 0)
                    except MediaError as error:
                        yield sample, error
                        continue
                    found[sample.id] = [None] * k
                    waiting.update(zip(engine.submit([request] * k), ((sample, i) for i in range(k)), strict=True))
                result = next(engine.results(), None)
                if result is None:
                    return
                sample, index = waiting.pop(result.ticket)
                found[sample.id][index] = result
                known_results = [each for each in found[sample.id] if each is not None]
                if len(known_results) == k:
                    yield sample, _answers(known_results)
                    del found[sample.id]

    return ask


def _answers(results: Sequence[Result]) -> list[Answer] | MediaError:
    answers = []
    for result in results:
        if isinstance(result.fault, MediaError):
            return result.fault
        if isinstance(result.fault, ReplyError):
            detail = str(result.fault)
            answers.append(Answer("", False, fault="refused" if result.fault.refused else "failed", detail=detail))
        elif result.fault is not None:
            raise result.fault
        else:
            (trajectory,) = result.trajectories
            answers.append(Answer(trajectory.text, trajectory.finish == "stop"))
    return answers
