"""``evr1 eval diff``: what differs between two results, which questions moved, and because of what."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from easyvideor1.cli.evaluation.differences import print_differences, table

if TYPE_CHECKING:
    from easyvideor1.evaluation.certificate import Result
    from easyvideor1.evaluation.comparison import Pairs
    from easyvideor1.evaluation.explanation import Change, Moved

_WIDEST = 48


def command(
    first: Annotated[Path, typer.Argument(metavar="A", help="Directory of a result (OUT/BENCHMARK/MODEL-DIGEST).")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Directory of another result.")],
    breakdown: Annotated[bool, typer.Option("--breakdown", help="Compare also by task and facet.")] = False,
    changed: Annotated[
        bool,
        typer.Option("--changed", help="Pair also questions that differ in more than their id, as a probe's do."),
    ] = False,
    show: Annotated[int, typer.Option(min=0, help="Questions that moved to list; --json lists all.")] = 20,
    own_code: Annotated[
        bool, typer.Option("--own-code", help="Import code (module:attr) that results name; only if you trust it.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object with all that is known.")] = False,
) -> None:
    """Explain two results: what their certificates say differs, which questions moved and because of what, and the
    paired differences of their numbers (B minus A) with intervals."""
    from easyvideor1.benchmarks.metrics import greedy_answers
    from easyvideor1.cli.progress import progress
    from easyvideor1.evaluation.comparison import differences_of, flips, make_pairs
    from easyvideor1.evaluation.explanation import certificate_changes, counted, explain
    from easyvideor1.evaluation.numbers import benchmark_note, benchmark_of
    from easyvideor1.types import DataError

    before, after = _result(first), _result(second)
    benchmark = benchmark_of(before.certificate, own_code=own_code)
    answers = [greedy_answers(result.evaluation.records) for result in (before, after)]
    pairs = make_pairs(*answers, changed=changed)
    if not len(pairs):
        hint = "; pair them by id with --changed" if pairs.changed else "; give results of the same benchmark"
        raise DataError(f"{before.directory} and {after.directory} have no question in common{hint}")
    with progress("comparing", unit="number") as advance:
        compared = differences_of(
            benchmark,
            pairs,
            confidence=after.evaluation.confidence,
            seed=after.evaluation.seed,
            breakdown=breakdown,
            on_progress=advance,
        )
    changes = certificate_changes(before.certificate, after.certificate)
    moved = explain(flips(benchmark.metrics[0], pairs), changes)
    if as_json:
        found = {
            "before": str(before.directory),
            "after": str(after.directory),
            "certificates": [
                {"key": c.key, "before": c.before, "after": c.after, "decides": c.decides} for c in changes
            ],
            "questions": _counts(pairs),
            "differences": [each.to_json() for each in compared],
            "causes": [{"causes": words, "gained": up, "lost": down} for words, up, down in counted(moved)],
            "moved": [_moved_json(each) for each in moved],
        }
        typer.echo(json.dumps(found, ensure_ascii=False, indent=2))
        return
    typer.echo(f"A: {before.directory} ({before.certificate.model})\nB: {after.directory} ({after.certificate.model})")
    if note := benchmark_note(benchmark, before.certificate):
        typer.echo(f"note: {note}")
    _print_changes(changes)
    counts = _counts(pairs)
    typer.echo("\nquestions: " + ", ".join(f"{count:,} {what}" for what, count in counts.items()))
    print_differences(compared, after.evaluation.confidence)
    _print_moved(moved, show)


def _result(place: Path) -> Result:
    """The result at a place, or the only one below it."""
    from easyvideor1.evaluation.certificate import RECORDS, Result, find_results
    from easyvideor1.types import ConfigError, DataError

    found = find_results([place])
    if len(found) != 1:
        names = ", ".join(str(each.relative_to(place)) for each in found[:6])
        several = f"has {len(found)} results ({names}); name one of them" if found else "has no result below it"
        raise ConfigError(f"{place}: {several}; a result is a directory with certificate.json, from `evr1 eval run`")
    if not (found[0] / f"{RECORDS}.json").exists():
        raise DataError(f"{found[0]}: its evaluation is not finished; run it again, which asks only what is missing")
    return Result.load(found[0])


def _counts(pairs: Pairs) -> dict[str, int]:
    return {
        "compared": len(pairs),
        "only in A": len(pairs.only_before),
        "only in B": len(pairs.only_after),
        "with other content": len(pairs.changed),
    }


def _print_changes(changes: Sequence[Change]) -> None:
    if not changes:
        typer.echo("\ncertificates: no difference")
        return
    typer.echo("\ncertificates differ in:")
    rows = [(each.decides, each.key, _short(each.before), _short(each.after)) for each in changes]
    table(("decides", "setting", "A", "B"), rows)


def _print_moved(moved: Sequence[Moved], show: int) -> None:
    from easyvideor1.evaluation.explanation import CAUSES, counted

    typer.echo(f"\n{len(moved):,} questions moved" + (", because of:" if moved else ""))
    if not moved:
        return
    rows = [
        (words, str(up), str(down), CAUSES.get(words, "cannot be told apart")) for words, up, down in counted(moved)
    ]
    table(("cause", "gained", "lost", ""), rows, right=(1, 2))
    if not show:
        return
    typer.echo("")
    # As many of both directions as there are, the largest changes first.
    losses = [each for each in moved if each.flip.change < 0]
    gains = [each for each in reversed(moved) if each.flip.change > 0]
    half = max(show // 2, show - len(gains))
    listed = losses[:half]
    listed += gains[: show - len(listed)]
    table(("question", "change", "A", "B", "reference", "cause"), [_moved_row(each) for each in listed], right=(1,))
    if len(moved) > len(listed):
        typer.echo(f"and {len(moved) - len(listed):,} more; --show or --json shows them")


def _moved_row(moved: Moved) -> tuple[str, ...]:
    found = _moved_json(moved)
    answers = [_short(found[side]["answer"] or found[side]["reason"] or "no answer") for side in ("before", "after")]
    return (found["question"], f"{found['change']:+.2f}", *answers, _short(found["reference"]), moved.words)


def _moved_json(moved: Moved) -> dict[str, Any]:
    sides = {}
    for name, each in (("before", moved.flip.before), ("after", moved.flip.after)):
        response = each.response
        sides[name] = {
            "answer": response.score.parsed if response else "",
            "accuracy": each.accuracy,
            "reason": (response.score.reason if response else each.record.error) or "",
        }
    record = moved.flip.after.record
    head = {"question": record.sample, "change": moved.flip.change, "reference": record.answer}
    return {**head, "causes": list(moved.causes), **sides}


def _short(value: Any) -> str:
    text = " ".join(("-" if value is None else str(value)).split())
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 3]}..."
