"""``evr1 doctor RUN``: check a run directory for damage."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from easyvideor1.cli.doctor_stages import check_evaluations, check_stages
from easyvideor1.cli.findings import COPY, CheckedRun, Finding, State

if TYPE_CHECKING:
    from easyvideor1.config import RunConfig

#: A run directory has at least one of these from its start.
_MARKS = ("config.yaml", "run.json", "stages")
_AGAIN = "run the command of this run again, which rewrites it"


def is_run(path: str) -> bool:
    """Whether a path is a run directory; until its rows are read, a run that works has nothing but its lock."""
    from easyvideor1.locks import is_locked

    return any((Path(path) / mark).exists() for mark in _MARKS) or is_locked(Path(path) / ".lock")


def check_run(directory: Path) -> Iterator[Finding]:
    """Check a run directory file by file; nothing is changed."""
    from easyvideor1.locks import is_locked
    from easyvideor1.training.stage_steps import with_known_steps

    busy = is_locked(directory / ".lock")
    if busy:
        words = "a process is using this run; files that it is writing may look incomplete"
        yield Finding("lock", "note", words, "check again when it has ended")
    else:
        yield Finding("lock", "ok", "free: no process is using this run")
    config, found = _config(directory)
    yield found
    facts, found = _facts(directory)
    yield found
    if config is not None:
        config = with_known_steps(config, facts)
    run = CheckedRun(directory, config, facts, busy)
    yield from _same(run)
    yield from _small_file(run, "data_report.json", "the used and refused rows are unknown")
    yield from check_stages(run)
    yield from check_evaluations(run)
    yield from _summary(run)
    yield from _pages(run)
    yield from _leftovers(run)


def _config(directory: Path) -> tuple[RunConfig | None, Finding]:
    from easyvideor1.config import load_config
    from easyvideor1.types import ConfigError

    file = directory / "config.yaml"
    means = "the run cannot resume"
    remedy = f"{COPY}; or remove it and run the command that started the run, which rewrites it"
    if not file.is_file():
        return None, Finding(file.name, "broken", f"missing: {means}", remedy)
    try:
        config = load_config(file)
    except ConfigError as error:
        first, *more = str(error).splitlines()
        rest = f" (and {len(more)} more)" if more else ""
        return None, Finding(file.name, "broken", f"{first}{rest}: {means}", remedy)
    return config, Finding(file.name, "ok", f"{len(config.stages)} stages, seed {config.seed}")


def _facts(directory: Path) -> tuple[dict[str, Any] | None, Finding]:
    from easyvideor1.records.damage import damage_texts
    from easyvideor1.training.run_directory.status import read_status
    from easyvideor1.types import DataError

    means = "the rows, versions and command of this run are unknown"
    remedy = f"{COPY}; or remove it and resume the run, which then accepts the rows as they are now"
    try:
        facts = read_status(directory)
    except DataError as error:
        fault = str(error).removeprefix(f"{directory / 'run.json'}: ").partition(";")[0]
        return None, Finding("run.json", "broken", f"{fault}: {means}", remedy)
    if facts is None:
        return None, Finding("run.json", "broken", f"missing: {means}", remedy)
    stage = facts["stage"] or "no step trained yet"
    starts = f"{facts['starts']} start{'' if facts['starts'] == 1 else 's'}"
    if damage := damage_texts(facts):
        words = (
            f"{stage}; {starts}, which found or repaired {len(damage)} damaged item{'' if len(damage) == 1 else 's'}"
        )
        return facts, Finding("run.json", "note", words, "the report lists them")
    return facts, Finding("run.json", "ok", f"{stage}, {starts}")


def _same(run: CheckedRun) -> Iterator[Finding]:
    """Whether the configuration matches the record of the run, and its rows are unchanged."""
    from easyvideor1.data.row_files import source_digests, source_name
    from easyvideor1.training.run_directory.layout import stage_directory
    from easyvideor1.types import DataError

    if run.config is None:
        return
    config, facts = run.config, run.facts or {}
    sources = {
        source_name(source): source for part in ("train", "validation", "test") for source in getattr(config.data, part)
    }
    differ = []
    if "seed" in facts and facts["seed"] != config.seed:
        differ.append(f"the seed is {config.seed}, but {facts['seed']} in run.json")
    if facts and set(sources) != set(facts["data"]):
        differ.append("the sources are not those of run.json")
    known = {stage_directory(run.directory, config, stage).name for stage in config.stages}
    if strange := sorted(path.name for path in (run.directory / "stages").glob("*") if path.name not in known):
        differ.append(f"stage {', '.join(strange)} is not in it")
    if differ:
        words = f"{'; '.join(differ)}: config.yaml does not belong to this run"
        yield Finding("config.yaml and the record", "broken", words, "restore the original config.yaml")
    else:
        yield Finding("config.yaml and the record", "ok", "seed, sources and stages match")
    for path, digest in facts.get("data", {}).items():
        try:
            here = source_digests(config, [sources[path]])[path] if path in sources else digest
        except (DataError, OSError):
            yield Finding(f"rows {path}", "note", "not found", "restore the file before you resume the run")
            continue
        if here != digest:
            words = "changed since the run started, so the run cannot resume"
            yield Finding(f"rows {path}", "note", words, "restore the file before you resume the run")


def _small_file(run: CheckedRun, name: str, means: str) -> Iterator[Finding]:
    from easyvideor1.files import read_json
    from easyvideor1.types import DataError

    file = run.directory / name
    if not file.exists():
        state: State = "broken" if run.finished else "note"
        yield Finding(name, state, f"missing: {means}", _AGAIN)
        return
    try:
        read_json(file)
    except DataError as error:
        fault = str(error).removeprefix(f"{file}: ").partition("; ")[0]
        yield Finding(name, "broken", f"{fault}: {means}", f"remove it and {_AGAIN}")
    else:
        yield Finding(name, "ok", "readable")


def _summary(run: CheckedRun) -> Iterator[Finding]:
    """``summary.json`` and the evaluations that it compares."""
    from easyvideor1.evaluation import Evaluation
    from easyvideor1.files import read_json
    from easyvideor1.types import DataError

    file, remedy = run.directory / "summary.json", "run the command of this run again, which computes it again"
    if not file.exists():
        state: State = "broken" if run.finished and not run.busy else "note"
        yield Finding(file.name, state, "missing: the run has no summary", remedy)
        return
    try:
        summary = read_json(file)
        names = dict(summary["evaluations"])
        told = {moment: summary[f"accuracy_{moment}"] for moment in ("before", "after")}
    except (DataError, KeyError, TypeError, ValueError) as error:
        fault = str(error).removeprefix(f"{file}: ").partition("; ")[0]
        yield Finding(file.name, "broken", f"{fault}: it is not the summary of a run", remedy)
        return
    wrong = []
    for moment, name in names.items():
        try:
            greedy = Evaluation.load(run.directory / "evaluations", str(name)).greedy
        except DataError:
            continue  # reported with the evaluations
        mean = None if greedy is None else greedy.mean
        if not _close(mean, told.get(moment)):
            wrong.append(f"accuracy_{moment} is {told.get(moment)}, but {mean} in evaluation {name}")
    if wrong:
        yield Finding(file.name, "broken", f"{'; '.join(wrong)}: its numbers do not belong to this run", remedy)
    else:
        yield _dated(run, file, "its accuracies match the evaluations", remedy)


def _close(one: Any, other: Any) -> bool:
    if one is None or other is None:
        return one is other
    return isinstance(other, int | float) and abs(one - other) < 1e-9


def _pages(run: CheckedRun) -> Iterator[Finding]:
    remedy = f"evr1 report {run.directory}"
    for name, begin in (("curves.png", b"\x89PNG\r\n\x1a\n"), ("report.html", b"<!doctype html>")):
        file = run.directory / name
        if not file.exists():
            state: State = "broken" if run.finished and not run.busy else "note"
            yield Finding(name, state, "missing; nothing else depends on it", remedy)
            continue
        content = file.read_bytes()
        end = b"IEND\xaeB`\x82" if name == "curves.png" else b"</html>"
        if content.lstrip().startswith(begin) and content.rstrip().endswith(end):
            yield _dated(run, file, "complete", remedy)
        else:
            yield Finding(name, "broken", "truncated or overwritten; nothing else depends on it", remedy)


def _dated(run: CheckedRun, file: Path, detail: str, remedy: str) -> Finding:
    """An intact file; a note if the files it is made from are newer."""
    made_from = [*run.directory.glob("evaluations/*.json"), *run.directory.glob("stages/*/metrics.jsonl")]
    written = file.stat().st_mtime
    newer = [path for path in made_from if path.stat().st_mtime > written]
    if not newer:
        return Finding(file.name, "ok", detail)
    shown = newer[0].relative_to(run.directory)
    return Finding(file.name, "note", f"{detail}, but older than {shown} (or copied before it)", remedy)


def _leftovers(run: CheckedRun) -> Iterator[Finding]:
    from easyvideor1.files import temporary_files
    from easyvideor1.records.damage import ASIDE

    if not run.busy and (left := temporary_files(run.directory)):
        words = f"{len(left)} left by killed processes, such as {left[0].relative_to(run.directory)}; they are not used"
        yield Finding("temporary files", "note", words, "the next start of the run removes them")
    if aside := sorted(run.directory.glob(f"stages/*/*{ASIDE}")):
        shown = ", ".join(str(path.relative_to(run.directory)) for path in aside)
        words = f"{shown}: unreadable lines, which a start of the run moved there"
        yield Finding("lines set aside", "note", words, "inspect them, then remove the file")
