"""Evaluate into a directory: plan, frames, engine, answers, scores, all under way at the same time.

The engine works on one window while frames of the next are decoded, answers are kept and scored behind it, and every
queue between two stages is bounded. What was answered before is not asked again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from easyvideor1.benchmarks import ScoreFunction
from easyvideor1.config.schema import EvaluationConfig
from easyvideor1.evaluation.answers import Answer, AnswerStore, question_key
from easyvideor1.evaluation.asking import Asking, ask_twice
from easyvideor1.evaluation.certificate import PROBE, RECORDS, Certificate
from easyvideor1.evaluation.evaluate import evaluation_of
from easyvideor1.evaluation.result import Evaluation
from easyvideor1.evaluation.scoring import Scoring
from easyvideor1.evaluation.timings import TIMINGS, Timings
from easyvideor1.files import write_json
from easyvideor1.records.trajectories import prompt_digest
from easyvideor1.rollout.strategies import Strategy
from easyvideor1.types import DataError, EasyVideoError, Sample, StoppedError

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Planned:
    """The digest of a question's prompt, or why there is none."""

    digest: str = ""
    fault: str = ""


def plan_prompts(samples: Sequence[Sample], strategy: Strategy, on_progress: Progress | None = None) -> list[Planned]:
    """Make the prompt of every question, without decoding, and drop it again."""
    planned = []
    for done, sample in enumerate(samples, 1):
        try:
            planned.append(Planned(prompt_digest(strategy.start(sample))))
        except EasyVideoError as error:
            planned.append(Planned(fault=f"{type(error).__name__}: {error}"))
        if on_progress is not None:
            on_progress(done, len(samples))
    return planned


@dataclass(frozen=True, slots=True)
class Questions:
    """The questions of an evaluation and how their responses are scored.

    ``scoring_threads`` responses are scored at the same time; see ``Scoring``.
    """

    samples: Sequence[Sample]
    planned: Sequence[Planned]
    scorer: ScoreFunction
    config: EvaluationConfig
    seed: int
    scoring_threads: int = 1


def evaluate_into(
    directory: Path,
    certificate: Certificate,
    questions: Questions,
    asking: Callable[[Timings], Asking],
    *,
    retry_failed: bool = False,
    on_progress: Progress | None = None,
    say: Callable[[str], None] = lambda words: None,
) -> Evaluation:
    """Answer and score all questions; writes certificate, answers, records, aggregates and timings into a directory.

    A question that fails is put once more at the end, and is a failure if it fails again. An interrupted evaluation
    finishes the rest when it is started again.

    Args:
        directory: of the result.
        certificate: of the result.
        questions: what is asked.
        asking: opens the engine; not called if everything is answered.
        retry_failed: whether questions that failed for good at an earlier start are asked again.
        on_progress: called with (questions answered, questions in all).
        say: is told what a user should know.

    Raises:
        ConfigError: another process evaluates into the directory.
        DataError: two questions have the same id and ask the same.
        StoppedError: more than ``max_failed`` of the questions failed or could not be scored.
        OSError: the disk refused; what is kept is intact.
    """
    _check_planned(certificate.benchmark, questions)
    _check_distinct(questions.samples)
    with AnswerStore.open(directory) as store:
        for line in store.damaged:
            say(f"{line}; what it held is asked again")
        _certify(directory, certificate)
        timings = Timings()
        asked = _Asked(store, questions, retry_failed, on_progress)
        with Scoring(
            questions.scorer, threads=questions.scoring_threads, keep=store.append, spans=timings.spans
        ) as scoring:
            for place, answer in asked.known.items():
                scoring.add_known(place, answer)
            if asked.wanted or asked.failed:
                asked.put(asking(timings), scoring, timings)
            records = scoring.finish()
        evaluation = evaluation_of(
            RECORDS, records, config=questions.config, seed=questions.seed, shown=certificate.benchmark
        )
        evaluation.write(directory)
        if asked.wanted or asked.failed:
            write_json(directory / TIMINGS, timings.report())
    return evaluation


class _Asked:
    """What is known of the questions, and what has to be asked.

    ``known`` are final answers by place, ``failed`` the places of questions that failed once, ``wanted`` those without
    an answer.
    """

    def __init__(
        self, store: AnswerStore, questions: Questions, retry_failed: bool, on_progress: Progress | None
    ) -> None:
        self._questions = questions
        self._on_progress = on_progress
        self.known: dict[int, Answer] = {}
        self.failed: set[int] = set()
        self.wanted: set[int] = set()
        found = store.known(questions.samples)
        for place, (answer, planned) in enumerate(zip(found, questions.planned, strict=True)):
            if answer is None or answer.prompt != planned.digest:
                self.wanted.add(place)
            elif not answer.is_final or (answer.error and retry_failed):
                self.failed.add(place)
            else:
                self.known[place] = answer

    def put(self, asking: Asking, scoring: Scoring, timings: Timings) -> None:
        """Put the questions that are wanted, then those that failed once more."""
        samples, done = self._questions.samples, len(self.known)
        seen: set[int] = set()
        self._tell(done)
        timings.begin(asking.engine)
        with closing(ask_twice(samples, asking, wanted=self.wanted, failed=self.failed)) as answers:
            for place, answer in answers:
                if answer.error:  # a file that is replaced makes another prompt, which is asked again
                    answer = replace(answer, prompt=self._questions.planned[place].digest)
                scoring.add(place, answer)
                timings.answered(asking.engine, again=place in seen)
                seen.add(place)
                if answer.is_final:
                    done += 1
                    self._tell(done)
        timings.end(asking.engine)

    def _tell(self, done: int) -> None:
        if self._on_progress is not None:
            self._on_progress(done, len(self._questions.samples))


def _certify(directory: Path, certificate: Certificate) -> None:
    """Write the certificate. Numbers of an earlier start that asked or scored in another way are not what it certifies,
    so they go; the answers stay."""
    try:
        same = Certificate.load(directory) == certificate
    except DataError:
        same = False
    if not same:
        for name in (f"{RECORDS}.json", PROBE):
            (directory / name).unlink(missing_ok=True)
    certificate.write(directory)


def _check_distinct(samples: Sequence[Sample]) -> None:
    """Refuse questions that the file of answers could not tell apart."""
    first: dict[tuple[str, str], Sample] = {}
    for sample in samples:
        other = first.setdefault(question_key(sample), sample)
        if other is not sample:
            raise DataError(
                f"{other.where} and {sample.where} have the same id {sample.id!r} and ask the same, so their answers "
                "could not be told apart - give each row its own id, or leave out problem_id"
            )


def _check_planned(name: str, questions: Questions) -> None:
    """Stop before a model is loaded where too many questions have no prompt."""
    faults = [planned.fault for planned in questions.planned if planned.fault]
    bound = questions.config.max_failed
    if len(faults) > bound * len(questions.planned):
        raise StoppedError(
            f"evaluation {name}: {len(faults)} of {len(questions.planned)} questions cannot be asked, above "
            f"evaluation.max_failed ({bound:g}), so nothing was asked: the first has {faults[0]}. Fix the cause and "
            "run the same command again, or raise the limit"
        )
