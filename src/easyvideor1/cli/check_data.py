"""``evr1 check data``: what a file of rows, or all sources of a configuration, hold before anything is trained."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from easyvideor1.data import Loaded
    from easyvideor1.data.duplicates import Repeated

#: Examples of each finding that are printed.
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class _Reason:
    """Why rows are refused: the column, how many, and the first of them in full."""

    field: str
    rows: int
    example: str


def data(
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="File of rows, or a configuration whose sources are all checked.")
    ],
    config: Annotated[str, typer.Option("--config", help="For a file of rows: configuration with its columns.")] = "",
    media_root: Annotated[
        str, typer.Option("--media-root", help="For a file of rows: directory that its media paths start from.")
    ] = "",
    task: Annotated[str, typer.Option("--task", help="For a file of rows: task type of rows that name none.")] = "",
    media: Annotated[bool, typer.Option(help="Whether media files have to be there.")] = True,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Write the usable rows, each once: .jsonl, .json or .parquet."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the full result as one JSON object.")] = False,
) -> None:
    """Read every row as training would, and say what is in them.

    Rows by task type and kind of media, rows that cannot be used by reason, rows that are repeated, and rows that give
    the same question different answers. No media file is decoded. With --out the usable rows are written in the
    published format, each once; of contradicting ones none is left.

    The exit status is 1 if a row cannot be used, repeats or contradicts another one.
    """
    from easyvideor1.cli.progress import progress
    from easyvideor1.cli.row_sources import sources_of
    from easyvideor1.data import embedded_media, scan_source
    from easyvideor1.data.duplicates import find_repeated
    from easyvideor1.data.writing import write_rows

    settings, sources = sources_of(data, config, media_root=media_root or None, task=task)
    scans: list[Loaded] = []
    with progress("checking rows", unit="source") as on_progress:
        for number, source in enumerate(sources, start=1):
            scans.append(
                scan_source(
                    source,
                    settings.data,
                    check_media=media,
                    coordinates=settings.rewards.coordinates,
                    embedded=embedded_media(settings.cache),
                )
            )
            on_progress(number, len(sources))
    found = find_repeated(sample for scan in scans for sample in scan.samples)
    if as_json:
        typer.echo(json.dumps(_as_json(data, scans, found), ensure_ascii=False))
    else:
        for scan in scans:
            _show(scan)
        _show_repeated(found)
    if out is not None:
        doubtful = {sample.where for pair in found.conflicts for sample in pair}
        count = write_rows(out, (sample for sample in found.unique if sample.where not in doubtful))
        typer.echo(f"wrote {count} rows to {out}", err=as_json)
    if found.copies or found.conflicts or any(scan.bad for scan in scans):
        raise typer.Exit(1)


def _reasons(scan: Loaded) -> list[_Reason]:
    """Refusals by column and remedy: rows with the same remedy have the same kind of fault."""
    groups: dict[tuple[str, str], list[str]] = {}
    for row in scan.bad:
        groups.setdefault((row.field, row.remedy), []).append(str(row))
    reasons = [_Reason(field or "row", len(rows), rows[0]) for (field, _), rows in groups.items()]
    return sorted(reasons, key=lambda reason: -reason.rows)


def _media(scan: Loaded) -> Mapping[str, int]:
    return dict(Counter(sample.modality for sample in scan.samples).most_common())


def _as_json(name: str, scans: Sequence[Loaded], found: Repeated) -> dict[str, Any]:
    return {
        "data": name,
        "sources": [
            {
                **{key: value for key, value in scan.report.to_dict().items() if key != "bad"},
                "media": _media(scan),
                "refusals": [
                    {"field": reason.field, "rows": reason.rows, "example": reason.example} for reason in _reasons(scan)
                ],
            }
            for scan in scans
        ],
        "unique": len(found.unique),
        "repeated": [[earlier.where, other.where] for earlier, other in found.copies],
        "contradicting": [[earlier.where, other.where] for earlier, other in found.conflicts],
    }


def _show(scan: Loaded) -> None:
    report = scan.report
    typer.echo(f"{report.path}: {report.rows} rows, {report.used} usable")
    for title, counts in (("task types", report.tasks), ("media", _media(scan)), ("repaired", report.repaired)):
        if counts:
            typer.echo(f"  {title}: {', '.join(f'{name} {count}' for name, count in counts.items())}")
    if report.filtered:
        typer.echo(f"  left out by task type: {report.filtered}")
    for reason in _reasons(scan):
        typer.echo(f"  {reason.rows} refused for their {reason.field}, such as {reason.example}")


def _show_repeated(found: Repeated) -> None:
    for what, pairs in (
        ("repeat an earlier row", found.copies),
        ("give the question of an earlier row another answer", found.conflicts),
    ):
        if not pairs:
            continue
        typer.echo(f"{len(pairs)} rows {what}:")
        for earlier, other in pairs[:_SHOWN]:
            typer.echo(f"  {other.where}: as {earlier.where}")
        if len(pairs) > _SHOWN:
            typer.echo(f"  ... and {len(pairs) - _SHOWN} more; --json lists all of them")
