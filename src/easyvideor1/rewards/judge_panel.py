"""Who may overrule the formula of a task type: a language model for free text, a browser for SVG and HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from easyvideor1.config.schema import RewardConfig
from easyvideor1.rewards.answer import Verdict
from easyvideor1.rewards.characters import nfkc
from easyvideor1.rewards.check import read_reference
from easyvideor1.rewards.judge import Judge, JudgeItem
from easyvideor1.rewards.parse import parse
from easyvideor1.rewards.preference import is_label
from easyvideor1.rewards.regions import last_tag
from easyvideor1.rewards.render import RENDERED, Renderer
from easyvideor1.rewards.score import format_of, shown
from easyvideor1.rewards.terms import Terms
from easyvideor1.types import ConfigError, Sample, Score


class Panel:
    """Reviews what the built-in rules scored; most types are left as they are, at the cost of a look into a set.

    Raises:
        ConfigError: the judge or the renderer is configured and cannot be used.
    """

    def __init__(self, config: RewardConfig) -> None:
        if config.judge.url and config.profile != "strict":
            raise ConfigError(f"rewards.judge: the profile {config.profile!r} has no judge; take the profile 'strict'")
        self.judge = Judge(config.judge) if config.judge.url else None
        self._judged = frozenset(config.judge.tasks) if self.judge else frozenset()
        self._renderer = Renderer(config) if config.profile == "strict" else None

    def review(
        self, task: str, sample: Sample, responses: Sequence[str], scores: Sequence[Score], terms: Terms
    ) -> list[Score]:
        """The scores, with the accuracy of whoever judges this type in place of the rule's.

        Args:
            task: Canonical task type.
            sample: The sample.
            responses: Responses to it.
            scores: What the built-in rule says of each.
            terms: Weights and grammar.

        Raises:
            RewardError: the judge's configuration can never work.
        """
        if self.judge is not None and task in self._judged:
            return self._judged_scores(self.judge, task, sample, responses, scores, terms)
        if self._renderer is not None and task in RENDERED:
            return [
                _seen(self._renderer, task, sample, response, score, terms)
                for response, score in zip(responses, scores, strict=True)
            ]
        return list(scores)

    def close(self) -> None:
        """End what was started; it is started again when needed."""
        if self.judge is not None:
            self.judge.close()

    def _judged_scores(
        self, judge: Judge, task: str, sample: Sample, responses: Sequence[str], scores: Sequence[Score], terms: Terms
    ) -> list[Score]:
        tagged = last_tag(sample.answer)
        reference = (sample.answer if tagged is None else tagged).strip()
        if not reference or (task == "preference" and is_label(reference)):
            return list(scores)
        read_as = "open_ended" if task == "preference" else task
        reviewed, asked, items = list(scores), [], []
        for at, (response, score) in enumerate(zip(responses, scores, strict=True)):
            answer = parse(read_as, response, sample.options, terms.grammar)
            if read_as != task:  # the rule looked for a label
                score = replace(score, format=format_of(answer, response, terms.grammar), parsed=shown(answer))
                reviewed[at] = score
            if answer.value is None:
                reviewed[at] = _with_verdict(score, Verdict(0.0), terms)
            elif _plain(answer.text) == _plain(reference):
                reviewed[at] = _with_verdict(score, Verdict(1.0), terms)
            else:
                asked.append(at)
                items.append(JudgeItem(sample.question, reference, answer.text, sample.options))
        for at, verdict in zip(asked, judge.judge_many(items) if items else [], strict=True):
            reviewed[at] = _with_verdict(reviewed[at], verdict, terms)
        return reviewed


def _seen(renderer: Renderer, task: str, sample: Sample, response: str, score: Score, terms: Terms) -> Score:
    """The score of a document after a look at it; one that could not be read or judged is left as it is."""
    predicted = parse(task, response, sample.options, terms.grammar).value
    if not score.applicable or predicted is None:
        return score
    reference = read_reference(task, sample.answer, sample.options)
    return _with_verdict(score, renderer.review(task, score.accuracy, predicted, reference), terms)


def _plain(text: str) -> str:
    return " ".join(nfkc(text).casefold().split()).rstrip(". ")


def _with_verdict(score: Score, verdict: Verdict, terms: Terms) -> Score:
    """A score with another accuracy; the parts of the rule stay beside those of the verdict."""
    parts = {**score.parts, **verdict.parts}
    if not verdict.applicable:
        return replace(score, accuracy=0.0, total=0.0, parts=parts, applicable=False, reason=verdict.reason)
    accuracy = min(1.0, max(0.0, verdict.accuracy))
    total = min(1.0, terms.accuracy_weight * accuracy + terms.format_weight * score.format)
    return replace(score, accuracy=accuracy, total=total, parts=parts, applicable=True, reason=verdict.reason)
