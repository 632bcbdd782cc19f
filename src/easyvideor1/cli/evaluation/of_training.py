"""The evaluations of a training run: ``RUN/evaluations/NAME.json``, and ``RUN/evaluations/BENCHMARK/NAME.json``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from easyvideor1.cli.evaluation.questions import (
    Judging,
    benchmark_settings,
    evaluation_names,
    read_questions,
    with_samples,
)

if TYPE_CHECKING:
    from easyvideor1.benchmarks import ScoreFunction
    from easyvideor1.cli.progress import TerminalWatch
    from easyvideor1.components import Components
    from easyvideor1.engines.engine import Engine
    from easyvideor1.evaluation import Benchmark, Evaluation
    from easyvideor1.types import Sample

#: The metrics of a split of the data, and the accuracies that they are.
_OF_SPLIT = {"evaluation/greedy": "greedy", "evaluation/sampled": "sampled"}


@dataclass(frozen=True, slots=True)
class TrainingEvaluator:
    """Makes the held-out questions of a run (``training.held_out.Evaluator``)."""

    watch: TerminalWatch
    overrides: Sequence[str] = ()
    """Of the command line, which go before a benchmark's own settings (``benchmark_settings``)."""

    def split(self, samples: Sequence[Sample], components: Components) -> MeasuredQuestions:
        """A split of the run's own data."""
        return MeasuredQuestions(samples, components, components.scorer, self.watch)

    def benchmarks(self, components: Components) -> list[MeasuredQuestions]:
        """The benchmarks of ``evaluation.benchmarks``, each with its own budgets and prompts, and its frames cached."""
        from easyvideor1.evaluation import open_benchmark

        settings = with_samples(components.config, None)
        if not settings.evaluation.benchmarks:
            return []
        judging = Judging(settings.rewards)
        judging.check(settings.evaluation.benchmarks)
        workspace = Path(settings.cache.dir) / "benchmarks"
        found = [open_benchmark(target, workspace) for target in settings.evaluation.benchmarks]
        configured = [benchmark_settings(each, settings, self.overrides) for each in found]
        names = evaluation_names(found)
        for benchmark in found:
            judging.scorer(benchmark)
        opened = [
            self._opened(label, benchmark, components.variant(own, benchmark.shown), judging)
            for label, benchmark, own in zip(names, found, configured, strict=True)
        ]
        components.frames.close()  # memory for the model: processes that decode are started again when they are needed
        return opened

    def _opened(self, label: str, benchmark: Benchmark, own: Components, judging: Judging) -> MeasuredQuestions:
        from easyvideor1.data import Loaded

        questions = read_questions(label, benchmark, own, self.watch, judging)
        with self.watch.phase(f"building the frame cache of {label}", "file") as advance:
            asked = Loaded(benchmark.rows, list(questions.samples), rows=len(questions.samples), bad=[])
            built = own.fill_cache([asked], advance)
        failed = f", {built.failed} files cannot be read" if built.failed else ""
        refused = f", {questions.refused} refused" if questions.refused else ""
        self.watch.say(f"benchmark {label}: {len(questions.samples)} questions{refused}{failed}")
        return MeasuredQuestions(questions.samples, own, questions.scorer, self.watch, label, benchmark)


@dataclass(frozen=True, slots=True)
class MeasuredQuestions:
    """Questions that a run is measured on (``training.held_out.HeldOut``); ``benchmark`` is ``None`` for a split."""

    samples: Sequence[Sample]
    components: Components
    scorer: ScoreFunction
    watch: TerminalWatch
    label: str = ""
    benchmark: Benchmark | None = field(default=None, repr=False)

    @property
    def metrics(self) -> Sequence[str]:
        """``evaluation/greedy`` and ``evaluation/sampled`` of a split, ``benchmark/LABEL/METRIC`` of a benchmark."""
        if self.benchmark is not None:
            return [f"benchmark/{self.label}/{metric.name}" for metric in self.benchmark.metrics]
        return list(_OF_SPLIT)[: 2 if self.components.config.evaluation.samples else 1]

    @property
    def digest(self) -> str:
        """Of the benchmark's version, of the questions, their references and the paths of their media, and of frames,
        pixels and prompts where the command line has changed them."""
        from easyvideor1.config import located

        if self.benchmark is None:
            return ""
        asked = [
            (each.id, each.question, each.options, each.answer, [(ref.path, ref.start, ref.end) for ref in each.media])
            for each in self.samples
        ]
        own = self.components.config
        usual = located(self.benchmark.configure(own))
        pairs = ((usual.data.video, own.data.video), (usual.data.image, own.data.image), (usual.prompts, own.prompts))
        changed = [wanted.model_dump_json() for plain, wanted in pairs if plain != wanted]
        return hashlib.sha256(json.dumps([self.benchmark.version, asked, *changed]).encode()).hexdigest()

    def evaluate(self, name: str, engine: Engine, run_dir: Path) -> dict[str, float]:
        """Evaluate and write ``evaluations/LABEL/NAME.json`` and ``NAME.jsonl``; returns the metrics.

        Raises:
            StoppedError: too many questions failed.
        """
        from easyvideor1.evaluation import evaluate, form_words
        from easyvideor1.evaluation.asking import Asking
        from easyvideor1.evaluation.numbers import numbers_of
        from easyvideor1.evaluation.scoring import scoring_threads

        own, shown = self.components, f"{self.label} {name}".strip()
        with self.watch.phase(f"evaluating {shown}", "question") as advance:
            result = evaluate(
                name,
                self.samples,
                Asking.of(own, engine),
                self.scorer,
                shown=shown,
                scoring_threads=scoring_threads(own.config.rewards),
                on_progress=advance,
            )
        numbers = [] if self.benchmark is None else numbers_of(self.benchmark, result, breakdown=False)
        result.write(run_dir / "evaluations" / self.label, [number.to_json() for number in numbers])
        if self.benchmark is None:
            metrics = _accuracies(result)
            words = [f"{key.removeprefix('evaluation/')} accuracy {value:.3f}" for key, value in metrics.items()]
        else:
            metrics = {f"benchmark/{self.label}/{number.name}": number.interval.mean for number in numbers}
            words = [f"{number.name} {number.scaled.mean:.4g}" for number in numbers]
        failed = f", {result.failed} failed" if result.failed else ""
        said = ", ".join(words) or "no response could be scored"
        self.watch.say(f"{shown}: {said} on {result.count} questions{failed}")
        if form := result.overall.form_with_format():
            self.watch.say(f"{shown}: {form_words(form)}")
        return metrics


def _accuracies(result: Evaluation) -> dict[str, float]:
    """Mean accuracies of a split, where any response could be scored."""
    found = {metric: getattr(result, kind) for metric, kind in _OF_SPLIT.items()}
    return {metric: interval.mean for metric, interval in found.items() if interval is not None}
