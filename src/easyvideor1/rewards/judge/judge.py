"""A language model as the judge of free text: graded, right or wrong, or compared with the reference in both orders.

Where the judge gives no verdict, the response is not applicable, with a short reason, and never 0 (``asking``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from easyvideor1.config.schema import JudgeConfig
from easyvideor1.rewards.judge.asking import Asker, NoVerdict, Usage
from easyvideor1.rewards.judge.prompts import Ask, ask, check_templates, read_verdict
from easyvideor1.rewards.types import Verdict, cannot_judge


@dataclass(frozen=True, slots=True)
class JudgeItem:
    """One answer to judge; ``answer`` is without its tags and thinking."""

    question: str
    reference: str
    answer: str
    options: tuple[str, ...] = ()


class Judge:
    """Asks the configured model. Thread-safe; ``concurrency`` is the limit of all threads together.

    Raises:
        ConfigError: the key is not in the environment, or a template is wrong.
    """

    def __init__(self, config: JudgeConfig) -> None:
        check_templates(config.mode, config.templates)
        self.config = config
        self._asker = Asker(config)

    @property
    def usage(self) -> Usage:
        """What this run has spent so far."""
        return self._asker.usage

    @property
    def has_answered(self) -> bool:
        """Whether the judge has answered before: a request that it refuses then stops nothing (``Asker``)."""
        return self._asker.has_answered

    @has_answered.setter
    def has_answered(self, known: bool) -> None:
        self._asker.has_answered = known

    def judge_many(self, items: Sequence[JudgeItem]) -> list[Verdict]:
        """Judge answers at the same time; equal requests are sent once.

        Returns:
            One verdict per item. ``accuracy`` is the grade of the answer in [0, 1]; ``parts`` hold ``judge`` and, for
            ``pairwise``, ``judge_agreed``: whether both orders gave the same verdict.

        Raises:
            RewardError: the endpoint reports a wrong address, key or model, or refuses the first request.
        """
        asks = [self._asks(item) for item in items]
        mode = self.config.mode
        worths = iter(
            self._asker.ask_many(
                [request for group in asks for request in group],
                lambda request, reply: read_verdict(mode, reply, request.id),
            )
        )
        return [_verdict(list(islice(worths, len(group)))) for group in asks]

    def check(self) -> None:
        """Raises ``ConfigError`` if the judge does not answer; see ``Asker.check``."""
        self._asker.check()

    def close(self) -> None:
        """End the threads and close the connections; the next request starts others."""
        self._asker.close()

    def _asks(self, item: JudgeItem) -> tuple[Ask, ...]:
        """The requests for one item; for ``pairwise`` a second one with the answers in the other order."""
        mode, limit, templates = self.config.mode, self.config.max_characters, self.config.templates

        def one(**texts: str) -> Ask:
            texts["question"] = item.question
            return ask(mode, texts, item.options, limit=limit, templates=templates)

        if mode == "pairwise":
            here, there = item.answer, item.reference
            return one(first=here, second=there), one(first=there, second=here)
        return (one(reference=item.reference, answer=item.answer),)


def _verdict(worths: Sequence[float | NoVerdict]) -> Verdict:
    """The verdict of one item's requests."""
    for worth in worths:
        if isinstance(worth, NoVerdict):
            return cannot_judge(worth.reason)
    numbers = [worth for worth in worths if not isinstance(worth, NoVerdict)]
    if len(numbers) == 1:
        return Verdict(numbers[0], {"judge": numbers[0]})
    here, there = numbers[0], 1.0 - numbers[1]
    agreed = here == there
    accuracy = here if agreed else 0.5
    return Verdict(accuracy, {"judge": accuracy, "judge_agreed": float(agreed)})
