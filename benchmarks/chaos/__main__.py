"""``python -m benchmarks.chaos [--rounds N] [--seed N] [--first N] [--fault NAME ...] [--work DIRECTORY]``.

Round ``i`` of a seed is decided by the seed and ``i`` alone, as far as moments can be: ``--first i --rounds 1`` repeats
it. Prints a line per round and a table, after Ctrl-C too; a round that breaks the promise keeps its directory, and the
exit status is 1.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks.chaos.commands import Command, Template, commands, write_template
from benchmarks.chaos.disks import Disk, can_mount, enter_own_namespace
from benchmarks.chaos.faults import FAULTS, Fault
from benchmarks.chaos.judge import Judge
from benchmarks.chaos.rounds import Reference, Round, Violation
from benchmarks.chaos.starts import Start, forked, import_everything

#: Outcomes of rounds, in the order of the table.
SAME = "same result"
STOPPED = "stopped with a reason, then same"
LESS = "went on with less, and said so"
OVER = "over before the fault"
BROKEN = "broken"
_OUTCOMES = (SAME, STOPPED, LESS, OVER, BROKEN)
#: As evr1 itself sets it, and one thread; it must be there before torch is.
_ENVIRONMENT = {"MKL_DYNAMIC": "FALSE", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def main(words: Sequence[str]) -> int:
    """Do the rounds; returns the exit status."""
    options = _options(words)
    enter_own_namespace("benchmarks.chaos", words, _ENVIRONMENT)
    faults = [fault for fault in FAULTS if not options.fault or fault.name in options.fault]
    if not can_mount():
        left_out = [fault.name for fault in faults if fault.on_disk is not None]
        print(f"no right to mount disks (root, or a user namespace): without {', '.join(left_out)}", flush=True)
        faults = [fault for fault in faults if fault.on_disk is None]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that runs us in the background has it ignored
    import_everything()
    work = Path(options.work or tempfile.mkdtemp(prefix="chaos-")).resolve()
    work.mkdir(parents=True, exist_ok=True)
    judge = Judge(work / "judge.log")
    try:
        counts = _rounds(options, faults, work, judge)
    finally:
        judge.close()
    print(_table(faults, counts))
    broken = sum(number for (_, outcome), number in counts.items() if outcome == BROKEN)
    if broken == 0 and not options.work:
        shutil.rmtree(work)
    print(f"{counts.total()} rounds of seed {options.seed}, {broken} broken")
    return int(broken > 0)


def _options(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos", description="Break tiny runs at random.")
    parser.add_argument("--rounds", type=int, default=80)
    parser.add_argument("--seed", type=int, default=int(time.time()), help="the clock's if left out; always told")
    parser.add_argument("--first", type=int, default=0, help="number of the first round")
    parser.add_argument("--fault", action="append", choices=[fault.name for fault in FAULTS], help="only these")
    parser.add_argument("--work", help="directory for everything; one that is removed at the end if left out")
    return parser.parse_args(words)


def _rounds(options: argparse.Namespace, faults: list[Fault], work: Path, judge: Judge) -> Counter[tuple[str, str]]:
    known = commands(judge.url)
    template = _template(work, judge)
    references: dict[str, Reference] = {}
    counts: Counter[tuple[str, str]] = Counter()
    again = f"python -m benchmarks.chaos --seed {options.seed} --rounds 1"
    again += "".join(f" --fault '{fault}'" for fault in options.fault or ())
    print(f"seed {options.seed}, {options.rounds} rounds in {work}", flush=True)
    for number in range(options.first, options.first + options.rounds):
        fault = faults[number % len(faults)]
        draw = random.Random(f"{options.seed}/{number}/{fault.name}")
        command = known[draw.choice(fault.commands)]
        if command.name not in references:
            references[command.name] = _reference(command, template, work)
        round_ = Round(_place(work, template), command, references[command.name], template, judge, draw)
        begun = time.monotonic()
        try:
            outcome, words = _done(round_, fault)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
            break
        counts[fault.name, outcome] += 1
        seconds = time.monotonic() - begun
        print(f"{number:4d} {fault.name}, {command.name}: {outcome} ({seconds:.1f} s){words}", flush=True)
        if outcome == BROKEN:
            kept = round_.place.replace(work / f"round-{number}")
            print(f"     kept in {kept}; again: {again} --first {number}", flush=True)
    return counts


def _done(round_: Round, fault: Fault) -> tuple[str, str]:
    """One round: its outcome, and what there is to say of it."""
    disk = Disk(round_.out) if fault.on_disk is not None else None
    broken = False
    try:
        if fault.disturb is not None:
            fault.disturb(round_)
        if fault.on_disk is not None and disk is not None:
            fault.on_disk(round_, disk)
        round_.finish()
    except Violation as violation:
        broken = True
        return BROKEN, f"\n     {violation}"
    else:
        if round_.told:
            return LESS, f": {round_.told}"
        if not round_.hit:
            return OVER, ""
        reasons = "".join(f"\n     {' '.join(reason.split())[:200]}" for reason in round_.stopped)
        return (STOPPED if round_.stopped else SAME), reasons
    finally:
        round_.close()
        if disk is not None:
            disk.close(keep_in=round_.place / "out-of-disk" if broken else None)


def _template(work: Path, judge: Judge) -> Template:
    home = work / "template"
    log = work / "template.log"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()

    def write() -> int:
        write_template(home, judge.url)
        return 0

    # In a process of its own: what decodes and computes starts threads, which forks of this process must not find.
    if os.waitstatus_to_exitcode(os.waitpid(forked(write, log), 0)[1]):
        raise RuntimeError(f"the toy world was not written: {log.read_text()}")
    return Template(home)


def _reference(command: Command, template: Template, work: Path) -> Reference:
    place = _place(work, template)
    start = Start(command.words, place, place / "start-1.log")
    end = start.end()
    if end is None or end.status:
        raise RuntimeError(f"{command.name} does not work at all: {end and end.said}")
    seconds = time.monotonic() - start.begun
    return Reference(command.outcome(place / "out"), seconds)


def _place(work: Path, template: Template) -> Path:
    """A new place, always at one path: what is written down holds the paths of media."""
    place = work / "place"
    shutil.rmtree(place, ignore_errors=True)
    template.copy(place)
    return place


def _table(faults: Sequence[Fault], counts: Counter[tuple[str, str]]) -> str:
    """Rounds by kind of fault and outcome, as Markdown."""
    rows = [["fault", "rounds", *_OUTCOMES]]
    for fault in faults:
        found = [counts[fault.name, outcome] for outcome in _OUTCOMES]
        rows.append([fault.name, str(sum(found)), *map(str, found)])
    sums = [sum(counts[fault.name, outcome] for fault in faults) for outcome in _OUTCOMES]
    rows.append(["all", str(sum(sums)), *map(str, sums)])
    rows.insert(1, ["---", *["---:"] * (len(rows[0]) - 1)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
