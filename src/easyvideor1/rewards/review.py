"""Reviews that replace the accuracy of a rule: a language model for free text, a browser for SVG and HTML."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from easyvideor1.config.schema import RewardConfig
from easyvideor1.rewards.concurrency import default_workers
from easyvideor1.rewards.judge.judge import Judge, JudgeItem
from easyvideor1.rewards.readers.plain_text import nfkc
from easyvideor1.rewards.references import accepted_answers, plain_reference, read_reference
from easyvideor1.rewards.rendering.compare import RENDERED, Renderer
from easyvideor1.rewards.score import ScoringSettings, counted_answer, format_of, scored, shown
from easyvideor1.rewards.tasks.preference import is_label
from easyvideor1.rewards.types import Verdict
from easyvideor1.types import Completion, ConfigError, Sample, Score

#: Browsers at a time; each takes some 200 MB.
_MOST_BROWSERS = 4


class Reviewer:
    """Reviews what the built-in rules scored; the scores of most types stay as they are.

    Raises:
        ConfigError: the judge or the renderer is configured and cannot be used.
    """

    def __init__(self, config: RewardConfig) -> None:
        if config.judge.url and config.profile != "strict":
            raise ConfigError(f"rewards.judge: the profile {config.profile!r} has no judge; take the profile 'strict'")
        self.judge = Judge(config.judge) if config.judge.url else None
        self._judged = frozenset(config.judge.tasks) if self.judge else frozenset()
        self._renderer = Renderer(config) if config.profile == "strict" else None
        self._browsers = min(config.workers or default_workers(), _MOST_BROWSERS)

    def review(
        self,
        task: str,
        sample: Sample,
        responses: Sequence[Completion],
        scores: Sequence[Score],
        settings: ScoringSettings,
        require_tag: Sequence[bool],
    ) -> list[Score]:
        """The scores, with the accuracy of the judge or the renderer of this type in place of the rule's.

        Args:
            task: Canonical task type.
            sample: The sample.
            responses: Responses to it.
            scores: Those of the built-in rule.
            settings: Weights and grammar.
            require_tag: Whether only an answer in a closed tag counts, for each response.

        Raises:
            RewardError: the configuration of the judge cannot work.
        """
        if self.judge is not None and task in self._judged:
            return self._judged_scores(self.judge, task, sample, responses, scores, settings, require_tag)
        if self._renderer is not None and task in RENDERED:
            renderer = self._renderer

            def seen(one: tuple[Completion, Score, bool]) -> Score:
                response, score, tag = one
                return _seen(renderer, task, sample, response, score, settings, tag)

            first, *others = zip(responses, scores, require_tag, strict=True)
            shown = seen(first)  # alone: it renders the reference, which the others reuse
            with ThreadPoolExecutor(self._browsers, thread_name_prefix="render") as pool:
                return [shown, *pool.map(seen, others)]
        return list(scores)

    def check_judge(self, tasks: Collection[str]) -> None:
        """Raises ``ConfigError`` if the judge judges any of these task types and does not answer."""
        if self.judge is not None and not self._judged.isdisjoint(tasks):
            self.judge.check()

    def close(self) -> None:
        """End threads and connections; they start again when needed."""
        if self.judge is not None:
            self.judge.close()

    def _judged_scores(
        self,
        judge: Judge,
        task: str,
        sample: Sample,
        responses: Sequence[Completion],
        scores: Sequence[Score],
        settings: ScoringSettings,
        require_tag: Sequence[bool],
    ) -> list[Score]:
        reference = plain_reference(sample.answer)
        if not reference or (task == "preference" and is_label(reference)):
            return list(scores)
        read_as = "open_ended" if task == "preference" else task
        accepted = accepted_answers(read_as, reference)
        reviewed, asked, items = list(scores), [], []
        for at, (response, score, tag) in enumerate(zip(responses, scores, require_tag, strict=True)):
            answer = counted_answer(read_as, response, sample.options, settings, require_tag=tag)
            if read_as != task:  # the rule looked for a label
                form = format_of(answer, response.text, settings, sample.extra)
                score = replace(score, format=form, parsed=shown(answer), found=answer.found)
                reviewed[at] = score
            if answer.value is None:
                reviewed[at] = scored(score, Verdict(0.0, reason=answer.reason), settings)
            elif plain_words(answer.text) in map(plain_words, accepted):
                reviewed[at] = scored(score, Verdict(1.0), settings)
            else:
                if read_as == task and score.applicable:  # kept, so that both can be compared
                    reviewed[at] = replace(score, parts={**score.parts, "rule_accuracy": score.accuracy})
                asked.append(at)
                items.append(JudgeItem(sample.question, "\nor: ".join(accepted), answer.text, sample.options))
        verdicts = judge.judge_many(items) if items else []
        down = not all(verdict.applicable for verdict in verdicts)
        if down and judge.config.fallback == "rule" and read_as == task:
            for at in asked:
                reviewed[at] = replace(reviewed[at], parts={**reviewed[at].parts, "judge_fallback": 1.0})
            return reviewed
        for at, verdict in zip(asked, verdicts, strict=True):
            reviewed[at] = scored(reviewed[at], verdict, settings)
        return reviewed


def _seen(
    renderer: Renderer,
    task: str,
    sample: Sample,
    response: Completion,
    score: Score,
    settings: ScoringSettings,
    require_tag: bool,
) -> Score:
    """The score of a document with its rendering; the score of an unread or masked answer stays as it is."""
    predicted = counted_answer(task, response, sample.options, settings, require_tag=require_tag).value
    if not score.applicable or predicted is None:
        return score
    reference = read_reference(task, sample.answer, sample.options)
    return scored(score, renderer.review(task, score.accuracy, predicted, reference), settings)


def plain_words(text: str) -> str:
    """A text as it is compared with a reference word by word: letter case, blanks and a final point do not count."""
    return " ".join(nfkc(text).casefold().split()).rstrip(". ")
