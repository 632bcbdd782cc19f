"""What goes wrong in a round. A fault ends with what lies outside mended, so that the command can be started again."""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.chaos.disks import Disk
from benchmarks.chaos.judge import Death
from benchmarks.chaos.rounds import Round, Violation
from benchmarks.chaos.starts import Start

PLAIN = ("train", "train", "train", "cache build", "eval", "filter", "trajectories")
_MOST_KILLS = 4
_BLOCK = 512


@dataclass(frozen=True, slots=True)
class Fault:
    """A kind of fault: what it does to a round, and the commands that it happens to (some more often than others).

    With ``on_disk`` everything is written to a disk of its own, which ``disturb`` gets.
    """

    name: str
    commands: tuple[str, ...]
    disturb: Callable[[Round], None] | None = None
    on_disk: Callable[[Round, Disk], None] | None = None


def kills(round_: Round) -> None:
    """SIGKILL at random moments of several starts."""
    for _ in range(round_.draw.randint(1, _MOST_KILLS)):
        start = round_.start()
        if not round_.at_work(start):
            round_.ended(start)
            return
        start.kill()


def lost_media(round_: Round) -> None:
    """The disk of the media goes away in the middle; a further start may come before it is back."""
    start = round_.start()
    round_.at_work(start)
    round_.template.lose_media(round_.place)
    if round_.draw.random() < 0.3:
        start.kill()
    else:
        round_.ended(start)
    if round_.draw.random() < 0.5 and not round_.command.done(round_.out):
        round_.ended(round_.start())
    round_.template.give_media(round_.place)


def dead_judge(round_: Round) -> None:
    """The judge, or the model behind an endpoint, hangs or is gone from some moment on."""
    deaths: tuple[Death, ...] = ("hangs", "is gone")
    how = round_.draw.choice(deaths)
    start = round_.start()
    round_.at_work(start)
    round_.judge.die(how)
    try:
        round_.ended(start)
    finally:
        round_.judge.revive(how)


def second_process(round_: Round) -> None:
    """The same command once more while it is under way; sometimes the first one is killed then."""
    first = round_.start()
    round_.at_work(first)
    second = round_.start()
    if round_.draw.random() < 0.3:
        round_.still_at_work(first)
        first.kill()
        round_.ended(second)
        return
    if round_.ended(second).status and round_.ended(first).status:
        raise Violation(f"both were refused: {round_.stopped}")


def full_disk(round_: Round, disk: Disk) -> None:
    """The disk is full from some moment on; up to 200 kB are left."""
    start = round_.start()
    round_.at_work(start)
    disk.fill(left=round_.draw.choice((0, round_.draw.randint(0, 200_000))))
    round_.ended(start)
    if round_.draw.random() < 0.3 and not round_.command.done(round_.out):
        round_.ended(round_.start())
    disk.clear()


def read_only(round_: Round, disk: Disk) -> None:
    """Killed, or not even begun; then nothing can be written where everything goes."""
    if round_.draw.random() < 0.8:
        start = round_.start()
        round_.at_work(start)
        start.kill()
    if round_.command.done(round_.out):
        return
    round_.hit = True
    disk.read_only(True)
    try:
        round_.ended(round_.start())
    finally:
        disk.read_only(False)


def damage(round_: Round, pattern: str) -> None:
    """Killed; then a file that the command goes on from is cut short or has bytes changed.

    Where a sentence names the file and says to remove it, that is done; else the file is put back from a copy.
    """
    from easyvideor1.video import HealthLedger

    HealthLedger(round_.out / "frames/health.jsonl").record("gone.mp4", "missing", "no such file", "left out")
    _kill_once_there(round_, round_.start(), pattern)
    files = _matching(round_.out, pattern)
    round_.hit = bool(files) and not round_.command.done(round_.out)
    if not round_.hit:
        return
    victim = round_.draw.choice(files)
    copy = victim.read_bytes()
    victim.write_bytes(damaged(copy, round_.draw))
    (round_.place / "damaged").write_text(f"{victim}\n")
    end = round_.ended(round_.start())
    if end.status == 0 or not end.sentence:
        return
    _mend(round_, end.sentence, victim, copy)


def _mend(round_: Round, sentence: str, victim: Path, copy: bytes) -> None:
    """Do what the sentence says, or put the file back."""
    named = [round_.place / word.rstrip(".,;") for word in re.findall(r"remove (\S+)", sentence)]
    if re.search(r"remove (it|the file)\b", sentence) and str(victim.relative_to(round_.place)) in sentence:
        named.append(victim)
    remedies = [path for path in named if path.exists()]
    if remedies and round_.draw.random() < 0.5:
        for path in remedies:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        return
    victim.parent.mkdir(parents=True, exist_ok=True)
    victim.write_bytes(copy)


def _kill_once_there(round_: Round, start: Start, pattern: str) -> None:
    """Let a start go on until there is a file to damage, and some time more; then kill it."""
    while not _matching(round_.out, pattern):
        if start.wait(0.01):
            break
    if round_.still_at_work(start):
        start.kill()
    else:
        round_.ended(start)


def _matching(out: Path, pattern: str) -> list[Path]:
    with suppress(FileNotFoundError):  # of a directory that is renamed while it is looked through
        return sorted(path for path in out.glob(pattern) if path.is_file() and not _hidden(path.relative_to(out)))
    return []


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def damaged(content: bytes, draw: random.Random) -> bytes:
    """Other content: nothing, cut short, with some bits turned over, or with a block of zeros."""
    size = len(content)
    if size == 0:
        return content
    kind = draw.choice(("cut", "turned", "turned", "zeros", "emptied"))
    if kind in ("cut", "emptied"):
        return content[: draw.randrange(size) if kind == "cut" else 0]
    changed = bytearray(content)
    if kind == "zeros":
        at = draw.randrange(size)
        changed[at : at + _BLOCK] = bytes(len(changed[at : at + _BLOCK]))
    while kind == "turned" or bytes(changed) == content:
        changed[draw.randrange(size)] ^= 1 << draw.randrange(8)
        if bytes(changed) != content and draw.random() < 0.5:
            break
    return bytes(changed)


_RUNS = ("train", "train judged")
_CURATION = ("filter", "trajectories", "filter judged")

FAULTS: tuple[Fault, ...] = (
    Fault("killed", (*PLAIN, "train judged", "train without store", "trajectories endpoint"), kills),
    Fault("full disk", PLAIN, on_disk=full_disk),
    Fault("read-only", PLAIN, on_disk=read_only),
    Fault("lost media", (*PLAIN, "train without store", "train without store"), lost_media),
    Fault(
        "dead judge",
        ("train judged", "train judged", "eval judged", "filter judged", "trajectories endpoint"),
        dead_judge,
    ),
    Fault("second process", PLAIN, second_process),
    *(
        Fault(f"damaged {name}", commands, partial(damage, pattern=pattern))
        for name, pattern, commands in (
            ("checkpoint", "run/stages/*/checkpoints/*/*", ("train",)),
            ("metrics", "run/stages/*/*.jsonl", _RUNS),
            ("rollouts", "run/stages/*/rollouts/*", _RUNS),
            ("evaluations", "run/evaluations/*", _RUNS),
            ("run files", "run/*[!t].[jy]*", _RUNS),
            ("response ledger", "rows.jsonl.partial.jsonl", _CURATION),
            ("frames", "frames/??/*.safetensors", PLAIN),
            ("memo", "frames/probes.memo", PLAIN),
            ("health ledger", "frames/health.jsonl", PLAIN),
            ("verdicts", "judge/*/*.json", ("train judged", "eval judged", "filter judged")),
        )
    ),
)
