"""What of a run is damaged when it is resumed: reported, kept in ``run.json``, and never dropped in silence."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from easyvideor1.config import RunConfig, StageConfig
from easyvideor1.records.damage import DAMAGED, Damage, stage_damage, steps_words
from easyvideor1.training.run_directory.checkpoint import Latest, unsaved_words
from easyvideor1.training.run_directory.layout import due, evaluations_directory, stage_directory, validation_name
from easyvideor1.training.run_directory.run_log import Rewound
from easyvideor1.training.run_directory.status import RunStatus

#: ``fault(directory, name) -> str``: what is wrong with the files of an evaluation, empty if nothing is; given by
#: whoever puts the run together.
EvaluationFault = Callable[[Path, str], str]
#: Damages of one kind that are told one by one.
_TOLD = 8


@dataclass(frozen=True, slots=True)
class Teller:
    """Reports what a start finds damaged or repeats, and keeps it in ``run.json`` for the report page."""

    say: Callable[[str], None]
    status: RunStatus

    def tell(self, text: str) -> None:
        """Report a line, and keep it."""
        self.say(text)
        self.status.keep_incident(text)

    def tell_all(self, damage: Sequence[Damage]) -> None:
        """Report damage, the first items one by one."""
        for text in shown(damage):
            self.tell(text)


def shown(damage: Sequence[Damage]) -> list[str]:
    """One line per damaged item, for the first ones if there are many."""
    lines = [f"{DAMAGED}{one}" for one in damage[:_TOLD]]
    if more := len(damage) - len(lines):
        lines.append(f"{DAMAGED}{more} more; `evr1 doctor RUN` lists all of them")
    return lines


def done_damage(
    run_dir: Path,
    config: RunConfig,
    options: StageConfig,
    done: int,
    fault: EvaluationFault,
    reported: Collection[str] = (),
    benchmarks: Collection[str] = (),
) -> list[Damage]:
    """What is damaged in the first ``done`` steps of a stage, which will not be repeated.

    ``reported`` are places that were reported already, ``benchmarks`` the labels of those of the run.
    """
    stage = stage_directory(run_dir, config, options)
    if done == 0:
        return []
    if not stage.is_dir():
        return [Damage(f"stages/{stage.name}", "missing", "the record of its training is lost")]
    found = stage_damage(stage, done, reported)
    names = [validation_name(options, step) for step in range(1, done + 1) if due(config.evaluation.every, step)]
    means = "its answers are lost, but metrics.jsonl still has its accuracies"
    labels = [*([""] if config.data.validation else []), *benchmarks]
    hurt = [one for label in labels for one in evaluation_damage(run_dir, names, means, fault, label)]
    return [*found, *hurt]


def evaluation_damage(
    run_dir: Path, names: Sequence[str], means: str, fault: EvaluationFault, label: str = ""
) -> list[Damage]:
    """The damaged ones among some evaluations of a split, or of the benchmark with this label."""
    directory = evaluations_directory(run_dir, label)
    where = directory.relative_to(run_dir).as_posix()
    faults = {name: fault(directory, name) for name in names}
    return [Damage(f"{where}/{name}", what, means) for name, what in faults.items() if what]


def resumes(options: StageConfig, latest: Latest, rewound: Rewound) -> str:
    """Where a stage resumes, and which steps it repeats."""
    words = unsaved_words(options)
    if latest.path is not None:
        words = f"stage {options.name}: resuming after step {latest.step} from {latest.path}"
    elif latest.passed_over:
        words = f"stage {options.name}: it has no complete checkpoint, so it restarts from its first step"
    return f"{words}; repeating {steps_words(rewound.redone)}" if rewound.redone else words
