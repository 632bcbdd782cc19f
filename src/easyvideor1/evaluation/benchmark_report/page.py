"""The report over results: ``report.html``, one self-contained page, and the same numbers for other programs.

The page contains its style, charts and pictures. It loads nothing from outside (enforced by a content security policy)
and runs no script.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from easyvideor1.evaluation.benchmark_report.collect import BARS, make_report
from easyvideor1.evaluation.benchmark_report.exports import write_exports
from easyvideor1.evaluation.benchmark_report.questions import PICTURES
from easyvideor1.evaluation.gallery import FrameLookup
from easyvideor1.evaluation.templating import render
from easyvideor1.files import write_atomic

PAGE = "report.html"


def write_benchmark_report(
    places: Sequence[Path],
    out: Path,
    frames: FrameLookup,
    *,
    per_kind: int = 4,
    own_code: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Write ``report.html``, ``.md``, ``.csv``, ``.json`` and ``.tex`` into ``out``.

    Args:
        places: directories at or below which results are.
        out: a directory; it is made.
        frames: finds decoded frames by digest, like the ``get`` of a frame store.
        per_kind: questions of each kind and benchmark that the page shows.
        own_code: import code that results name as ``module:attr``; only for results that are trusted.
        on_progress: called with (results read, results in all).

    Raises:
        DataError: there is no result that can be read.
    """
    report = make_report(places, frames, per_kind=per_kind, own_code=own_code, on_progress=on_progress)
    html = render("benchmark_report.html.j2", report=report, limit=PICTURES, shown=BARS)
    # JSON of a user may contain half a surrogate pair, which UTF-8 cannot encode.
    write_atomic(out / PAGE, html.encode("utf-8", errors="replace"))
    return [out / PAGE, *write_exports(report, out)]
