"""One round: a place, a command, a fault in the middle of it, and the start that has to make up for it."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.chaos.commands import Command, Outcome, Template, went_on_with_less
from benchmarks.chaos.judge import Judge
from benchmarks.chaos.starts import End, Start


class Violation(Exception):  # noqa: N818 (it is what a round finds, not a fault of this program)
    """The promise was broken; the message says how."""


@dataclass(frozen=True, slots=True)
class Reference:
    """What an undisturbed start makes, and the seconds that it takes."""

    outcome: Outcome
    seconds: float


@dataclass
class Round:
    """The state of one round. ``draw`` decides everything that is left to chance.

    ``hit`` is True once the fault has met a command at work; ``stopped`` are the sentences of starts that it stopped.
    """

    place: Path
    command: Command
    reference: Reference
    template: Template
    judge: Judge
    draw: random.Random
    stopped: list[str] = field(default_factory=list)
    told: str = ""
    hit: bool = False
    _starts: list[Start] = field(default_factory=list)

    @property
    def out(self) -> Path:
        return self.place / "out"

    def start(self) -> Start:
        """Start the command."""
        log = self.place / f"start-{len(self._starts) + 1}.log"
        self._starts.append(Start(self.command.words, self.place, log))
        return self._starts[-1]

    def close(self) -> None:
        """End what is still at work, as after a violation or Ctrl-C."""
        for start in self._starts:
            start.kill()

    def at_work(self, start: Start) -> bool:
        """Let a start go on until some moment, any of an undisturbed one being as likely; whether it works then."""
        return self._at_work(start, self.draw.uniform(0.0, self.reference.seconds))

    def still_at_work(self, start: Start) -> bool:
        """The same of a start that has come some way: some moment of what should be left."""
        left = self.reference.seconds - (time.monotonic() - start.begun)
        return self._at_work(start, self.draw.uniform(0.0, max(left, 0.05)))

    def _at_work(self, start: Start, seconds: float) -> bool:
        works = not start.wait(seconds)
        self.hit = self.hit or works
        return works

    def ended(self, start: Start) -> End:
        """Wait for the end of a start that nobody killed, which must be a success or a sentence.

        Raises:
            Violation: it is neither, or it hangs.
        """
        end = start.end()
        if end is None:
            raise Violation(f"{start.log.name}: {self.command.name} hangs")
        listed = self.command.name == "cache build" and end.status == 1  # files that failed, one a line
        if "Traceback" in end.said or not (end.status == 0 or end.stopped_well or listed):
            raise Violation(f"{start.log.name}: status {end.status}, and it said:\n{end.said[-3000:]}")
        if end.status:
            self.stopped.append(end.sentence or "listed what failed")
        return end

    def finish(self) -> None:
        """Start the command once more, with everything mended, unless it is through; then compare.

        Raises:
            Violation: it does not come through, or makes something else than an undisturbed start.
        """
        if not self.command.done(self.out) and self.ended(self.start()).status:
            raise Violation(f"with everything mended it still stops: {self.stopped[-1]}")
        found = self.command.outcome(self.out)
        wanted = dict(self.reference.outcome)
        for name in sorted(wanted.keys() | found.keys()):
            if wanted.get(name) != found.get(name) and self.command.known_bad(self.out, name):
                wanted.pop(name, None)
                found.pop(name, None)
        if found == wanted:
            return
        self.told = went_on_with_less(found)
        if not self.told:
            raise Violation(f"the outcome differs: {differences(wanted, found)}")


def differences(wanted: Outcome, found: Outcome) -> str:
    """Which files differ, in words; the first dozen."""
    words = [f"{name} is missing" for name in wanted if name not in found]
    words += [f"{name} is new" for name in found if name not in wanted]
    words += [f"{name} is another" for name in wanted if name in found and wanted[name] != found[name]]
    return "; ".join(words[:12]) + (f"; and {len(words) - 12} more" if len(words) > 12 else "")
