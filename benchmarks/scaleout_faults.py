"""What is done to runs in ``benchmarks.scaleout``, and how each run is known to have got over it.

Every run is ``evr1 train`` in processes of its own. A reward of the user's does the damage, in the middle of a step: to
the ranks, the worker of the engine, the process that scores or the controller. A run has got over it if all steps of
all stages are there, with the metrics and the weights of a run that nothing was done to.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from safetensors.torch import load_file

from benchmarks.chaos.commands import Template, write_template
from benchmarks.chaos.judge import Judge
from easyvideor1.config import load_config, write_config

#: Seconds that a start gets; a run that hangs is killed and has not got over it.
_DEADLINE = 240.0
#: Bytes that a file may have where the disk is "full": more than any record, less than a checkpoint.
_FULL_BYTES = 1 << 20

_STEPS = 6  # of both stages of the template

#: A reward that damages the run once, when it has scored a number of responses; scores are from the text alone.
_MODULE = '''
import os
import signal
import time
from pathlib import Path

from easyvideor1.types import Score

WHAT, AFTER = os.environ.get("DAMAGE", ""), int(os.environ.get("DAMAGE_AFTER", "0"))
seen = 0


def processes(words):
    """Those whose command line has these words, of this run: they are in its directory."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            if words in (directory / "cmdline").read_bytes() and (directory / "cwd").resolve() == Path.cwd():
                found.append(int(directory.name))
        except OSError:
            continue  # it has ended, or is somebody else's
    return found


def reward(sample, response):
    global seen
    seen += 1
    if WHAT and seen > AFTER and not Path("damaged").exists():
        Path("damaged").touch()
        if WHAT == "hang":
            time.sleep(3600)
        words = {"rank": b"ranks.member", "actor": b"_RankHost.follow", "worker": b"engines.worker"}
        victims = [os.getpid()] if WHAT in ("controller", "rewards") else processes(words[WHAT])[:1]
        assert victims, f"no {WHAT} was found"
        os.kill(victims[0], signal.SIGKILL)
    share = sum(letter in "aeiou" for letter in response) / max(len(response), 1)
    return Score(share, 0.0, share)
'''


@dataclass(frozen=True, slots=True)
class Start:
    """One start of ``evr1 train``: what it is given, and the exit status that it must have; ``None`` is any."""

    words: tuple[str, ...] = ()
    status: int | None = 0
    environment: dict[str, str] = field(default_factory=dict)
    file_bytes: int = 0
    config: str = "plain.yaml"
    #: Called with the place before the start, and beside it.
    before: Callable[[Path], None] | None = None
    meanwhile: Callable[[Path], None] | None = None


@dataclass(frozen=True, slots=True)
class Injection:
    """A failure: the starts in order, and words that the first one says."""

    name: str
    starts: tuple[Start, ...]
    said: str = ""
    #: The run is compared with a run of these words that nothing was done to; numbers may differ by so much.
    like: tuple[str, ...] = ()
    tolerance: float = 0.0
    #: Of a failure that costs responses: called with the run's directory, instead of the comparison.
    counted: Callable[[Path], str] | None = None


def damaging(what: str, after: int, *words: str, status: int | None = 0) -> Start:
    """A start in which the reward does damage."""
    return Start(words, status, {"DAMAGE": what, "DAMAGE_AFTER": str(after)})


class Place:
    """A world, a checkpoint, and the runs on them."""

    def __init__(self, home: Path, judge: str) -> None:
        write_template(home / "template", judge)
        self._template, self._home, self._count = Template(home / "template"), home, 0
        self._like: dict[tuple[str, ...], Path] = {}

    def run(self, starts: Sequence[Start]) -> tuple[Path, str, str]:
        """Start a run as often as asked; returns its directory, what the first start said, and what went wrong."""
        self._count += 1
        place = self._home / f"place-{self._count}"
        self._template.copy(place)
        custom = "rewards.custom={'*': 'damaging:reward'}"
        # A gradient that is nothing but rounding must not become a step of AdamW.
        words = [f"stages.{name}.optimizer.eps=1e-4" for name in ("sft", "grpo")]
        write_config(load_config(str(place / "plain.yaml"), [custom, *words]), place / "plain.yaml")
        (place / "damaging.py").write_text(_MODULE, encoding="utf-8")
        first = fault = ""
        for start in starts:
            status, said = _train(start, place)
            first = first or said
            if start.status is not None and status != start.status:
                fault = f"ended with {status} instead of {start.status}: {said.strip()[-400:]}"
                break
        return place / "out" / "run", first, fault

    def recovers(self, injection: Injection) -> str:
        """Why a run has not got over a failure; empty if it has."""
        run, said, fault = self.run(injection.starts)
        if fault:
            return fault
        if injection.said not in said:
            return f"the first start did not say {injection.said!r}: {said.strip()[-400:]}"
        if injection.counted is not None:
            return injection.counted(run)
        return difference(run, self.undisturbed(injection.like), injection.tolerance)

    def undisturbed(self, words: tuple[str, ...]) -> Path:
        """The directory of a run that nothing is done to."""
        if words not in self._like:
            run, _, fault = self.run([Start(words)])
            if fault:
                raise RuntimeError(f"the run that others are compared with failed: {fault}")
            self._like[words] = run
        return self._like[words]


def _train(start: Start, place: Path) -> tuple[int, str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **start.environment}
    limit = start.file_bytes

    def prepare() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    if start.before is not None:
        start.before(place)
    command = [sys.executable, "-m", "easyvideor1.cli", "train", start.config, *start.words]
    process = subprocess.Popen(
        command,
        cwd=place,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=prepare if limit else None,
    )
    beside = threading.Thread(target=start.meanwhile or (lambda place: None), args=(place,), daemon=True)
    beside.start()
    try:
        _, said = process.communicate(timeout=_DEADLINE)
    except subprocess.TimeoutExpired:
        process.kill()
        _, said = process.communicate()
        said += f"\nkilled after {_DEADLINE:g} s"
    beside.join(_DEADLINE)
    return process.returncode, said


def difference(run: Path, wanted: Path, tolerance: float = 0.0) -> str:
    """What of the metrics and of the last weights of every stage is another than in another run."""
    for stage in sorted((wanted / "stages").iterdir()):
        mine = run / "stages" / stage.name
        one, other = (_rows(each / "metrics.jsonl") for each in (mine, stage))
        if [row.keys() for row in one] != [row.keys() for row in other]:
            return f"stage {stage.name} has steps {[row['step'] for row in one]}"
        for row, like in zip(one, other, strict=True):
            for name, number in row.items():
                if not abs(number - like[name]) <= tolerance * max(1.0, abs(like[name])):  # nor is it NaN
                    return f"stage {stage.name}, step {row['step']}: {name} is {number} instead of {like[name]}"
        weights = [load_file(_last(each) / "model.safetensors") for each in (mine, stage)]
        for name, tensor in weights[1].items():
            if not float((weights[0][name] - tensor).abs().max()) <= tolerance:
                return f"stage {stage.name}: weights {name} differ"
    return ""


def _last(stage: Path) -> Path:
    return sorted((stage / "checkpoints").iterdir())[-1]


def _rows(path: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _cut_the_last_checkpoint(place: Path) -> None:
    """As after a crash of the machine that lost what was not on the disk yet."""
    stages = sorted((place / "out" / "run" / "stages").iterdir())
    victim = _last(stages[-1]) / "model.safetensors"
    os.truncate(victim, victim.stat().st_size // 2)


def _hanging(judge: Judge) -> Callable[[Path], None]:
    """A judge that does not answer any more once the first step is there, until the third is."""

    def hang(place: Path) -> None:
        if _await_steps(place, 1):
            judge.die("hangs")
            _await_steps(place, 3)
            judge.revive("hangs")

    return hang


def _await_steps(place: Path, count: int) -> bool:
    """Wait until a run has so many steps in all; false if it ends, or takes too long."""
    until = time.monotonic() + _DEADLINE
    while time.monotonic() < until:
        found = (place / "out" / "run" / "stages").glob("*/metrics.jsonl")
        if sum(len(_rows(path)) for path in found) >= count:
            return True
        time.sleep(0.1)
    return False


def _masked_and_counted(run: Path) -> str:
    """All steps are there, and the responses that were not graded are counted and trained on nothing."""
    rows = [row for path in sorted((run / "stages").glob("*/metrics.jsonl")) for row in _rows(path)]
    if len(rows) != _STEPS:
        return f"{len(rows)} of {_STEPS} steps"
    if not any(row.get("response/not_applicable", 0) for row in rows):
        return "no response is counted as not graded"
    return ""


def injections(judge: Judge) -> list[Injection]:
    """All failures that are injected."""
    two, worker = ("cluster.ranks=2",), ("rollout.workers=1",)
    once = (*two, "cluster.max_restarts=0")
    by_ray = (*two, "cluster.placement=ray")
    return [
        Injection("a rank is killed", (damaging("rank", 14, *two),), "the run resumes by itself", two),
        Injection("a rank that is an actor of Ray is killed", (damaging("actor", 14, *by_ray),), "by itself", two),
        Injection("the controller is killed", (damaging("controller", 14, *two, status=-9), Start(two)), like=two),
        Injection(
            "a rank is killed; the run goes on in one process",
            (damaging("rank", 14, *once, status=3), Start()),
            "error: rank 1 ended",
            two,
            tolerance=1e-4,
        ),
        # What has finished is not asked again, so the others are in a batch of another shape, which rounds otherwise.
        Injection("the worker of the engine is killed", (damaging("worker", 8, *worker),), "", worker, 1e-4),
        Injection("the disk is full at a checkpoint", (Start(two, 2, file_bytes=_FULL_BYTES), Start(two)), like=two),
        Injection(
            "the last checkpoint is cut short",
            (damaging("rank", 20, *once, status=3), Start(once, before=_cut_the_last_checkpoint)),
            like=two,
        ),
        Injection(
            "the judge hangs",
            (Start(config="judged.yaml", meanwhile=_hanging(judge)),),
            counted=_masked_and_counted,
        ),
        Injection(
            "a process of rewards is killed",
            (damaging("rewards", 8, "rewards.processes=1"),),
            "a process of rewards ended",
            counted=_masked_and_counted,
        ),
        Injection(
            "a reward never returns",
            (damaging("hang", 8, "rewards.processes=1", "rewards.deadline=3"),),
            "a process of rewards took longer than 3 s",
            counted=_masked_and_counted,
        ),
    ]
