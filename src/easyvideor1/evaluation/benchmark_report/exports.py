"""The numbers of the report for other programs: Markdown, CSV, JSON and LaTeX."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from easyvideor1.evaluation.benchmark_report.collect import Report, Section
from easyvideor1.evaluation.benchmark_report.tables import Row, Versus
from easyvideor1.evaluation.numbers import Number
from easyvideor1.files import write_json, write_text

COLUMNS = ("model", "benchmark", "metric", "value", "low", "high", "n", "probe", "facet", "category", "digest")
_NONE = "\N{EN DASH}"
_TEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    **{each: f"\\{each}" for each in "&%$#_{}"},
}
#: What spreadsheets take for the start of a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
#: What would break a line of a table, or turn the text around it.
_BREAKS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")


def write_exports(report: Report, out: Path) -> list[Path]:
    """Write ``report.md``, ``report.csv``, ``report.json`` and ``report.tex``; returns their paths."""
    paths = [out / f"report.{kind}" for kind in ("md", "csv", "json", "tex")]
    write_text(paths[0], markdown(report))
    write_text(paths[1], long_table(report))
    write_json(paths[2], as_json(report))
    write_text(paths[3], latex(report))
    return paths


def long_table(report: Report) -> str:
    """CSV, one number a line.

    ``value``, ``low`` and ``high`` are on the scale on which the metric is shown (mostly percent). Lines with a
    ``facet`` are of the questions of one ``category``. ``failed`` counts questions; ``no_answer``, ``without_form`` and
    ``cut_off`` are percent of the greedy responses, without an interval. A text that a spreadsheet would take for a
    formula has an apostrophe before it.
    """
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    for section, row in _rows(report):
        label, benchmark = _inert(row.label), _inert(section.name)
        ends = (_inert(row.probe), "", "", row.certificate.digest)
        for number in (*row.numbers, *row.categories):
            shown = number.scaled
            limits = map(_digits, (shown.mean, shown.low, shown.high))
            where = (*map(_inert, (row.probe, number.facet, number.value)), row.certificate.digest)
            writer.writerow((label, benchmark, _inert(number.name), *limits, number.count, *where))
        for name, drawn in row.sampled.items():
            limits = map(_digits, (100 * drawn.mean, 100 * drawn.low, 100 * drawn.high))
            writer.writerow((label, benchmark, name, *limits, row.count, *ends))
        writer.writerow((label, benchmark, "failed", row.failed, "", "", row.count, *ends))
        for name, share in row.form.items():
            writer.writerow((label, benchmark, name, _digits(100 * share), "", "", row.count, *ends))
    return file.getvalue()


def _inert(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text


def _digits(value: float) -> str:
    return f"{value:.6g}"


def _rows(report: Report) -> Iterator[tuple[Section, Row]]:
    for section in report.sections:
        for row in (*section.rows, *(row for row, _ in section.probes), *section.alone):
            yield section, row


def as_json(report: Report) -> dict[str, Any]:
    """Everything but the questions."""
    return {
        "confidence": report.confidence,
        "models": list(report.models),
        "benchmarks": [
            {
                "name": section.name,
                "title": section.title,
                "notes": list(section.notes),
                "best": section.best or None,
                "results": [_row(row) for row in section.rows],
                "differences": [_difference(each) for each in section.differences],
                "probes": [
                    {**_row(row), "difference": {**_difference(each), "failed": each.failed} if each else None}
                    for row, each in (*section.probes, *((row, None) for row in section.alone))
                ],
            }
            for section in report.sections
        ],
        "left_out": [{"directory": where, "reason": why} for where, why in report.left_out],
    }


def _row(row: Row) -> dict[str, Any]:
    agreement = row.agreement
    return {
        "model": row.label,
        "probe": row.probe or None,
        "directory": row.directory,
        "questions": row.count,
        "failed": row.failed,
        "failures": [{"reason": f.reason, "count": f.count, "examples": list(f.examples)} for f in row.failures],
        "numbers": [number.to_json() for number in (*row.numbers, *row.categories)],
        "form": dict(row.form),
        "sampled": {name: interval.to_json() for name, interval in row.sampled.items()},
        "judge_and_exact_match": {"count": agreement.count, "same": agreement.share} if agreement.count else None,
        "certificate": row.certificate.to_json(),
    }


def _difference(each: Versus) -> dict[str, Any]:
    return {"model": each.label, "minus": each.than, **each.difference.to_json()}


def markdown(report: Report) -> str:
    """The tables as GitHub shows them."""
    lines = ["# Evaluation report", "", f"Intervals are at {100 * report.confidence:g}% confidence.", ""]
    table = [
        (_plain(model), *(f"**{_value(number)}**" if best else _value(number) for number, best in cells))
        for model, cells in zip(report.models, _overview(report), strict=True)
    ]
    lines += _pipes(("model", *(f"{section.title} ({section.metric})" for section in report.sections)), table)
    lines += ["", "Bold: better than the next by more than chance, in the paired comparison.", ""]
    for section in report.sections:
        lines += [f"## {_plain(section.title)}", "", *(f"- {_plain(note)}" for note in section.notes), ""]
        metrics = list(dict.fromkeys(n.name for row in section.listed for n in row.numbers))
        head = ("model", *metrics, "questions", "failed", "no answer", "without form", "cut off")
        lines += [*_pipes(head, [_line(row, metrics) for row in section.listed]), ""]
        if section.probes:
            body = [(_plain(r.label), _plain(r.probe), _value(r.first), _change(d)) for r, d in section.probes]
            lines += [*_pipes(("model", "probe", section.metric, "minus the score"), body), ""]
        reasons = [(_plain(r.name), str(f.count), _plain(f.reason)) for r in section.listed for f in r.failures]
        if reasons:
            lines += [*_pipes(("model", "failed", "reason"), reasons), ""]
    lines += [f"Left out: {_plain(where)}: {_plain(why)}" for where, why in report.left_out]
    return "\n".join(lines).rstrip() + "\n"


def _line(row: Row, metrics: Sequence[str]) -> tuple[str, ...]:
    numbers = {number.name: number for number in row.numbers}
    shares = (row.form.get(name) for name in ("no_answer", "without_form", "cut_off"))
    shown = (_NONE if share is None else f"{100 * share:.1f}" for share in shares)
    return (_plain(row.name), *(_value(numbers.get(m)) for m in metrics), str(row.count), str(row.failed), *shown)


def _pipes(head: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    rule = ["---", *("---:" for _ in head[1:])]
    return [f"| {' | '.join(cells)} |" for cells in ([_plain(name) for name in head], rule, *body)]


def _overview(report: Report) -> list[list[tuple[Number | None, bool]]]:
    """For each model the first number of each benchmark, and whether it is marked as the best."""
    return [
        [(row.first if (row := section.row(model)) else None, section.best == model) for section in report.sections]
        for model in report.models
    ]


def _value(number: Number | None) -> str:
    if number is None:
        return _NONE
    shown = number.scaled
    return f"{shown.mean:.1f} [{shown.low:.1f}, {shown.high:.1f}]"


def _change(each: Versus | None) -> str:
    if each is None:
        return _NONE
    shown = each.difference.scaled
    failed = f" ({each.failed} failed left out)" if each.failed else ""
    return f"{shown.mean:+.1f} [{shown.low:+.1f}, {shown.high:+.1f}]{failed}"


def _plain(text: str) -> str:
    """A text that Markdown shows as it is, within a cell."""
    return re.sub(r"([\\`*_\[\]<>|#~&$])", r"\\\1", _BREAKS.sub(" ", text))


def latex(report: Report) -> str:
    """A table for ``\\usepackage{booktabs}``: the longer of models and benchmarks goes down."""
    columns = [["Model", *(_tex(f"{section.title} ({section.metric})") for section in report.sections)]]
    for model, cells in zip(report.models, _overview(report), strict=True):
        columns.append([_tex(model), *(_cell(number, best) for number, best in cells)])
    rows = columns
    if len(report.sections) > len(report.models):
        rows = [list(row) for row in zip(*columns, strict=True)]
        rows[0][0] = "Benchmark"
    lines = [
        f"% Intervals at {100 * report.confidence:g}% confidence; bold: better than the next by more than chance.",
        f"\\begin{{tabular}}{{l{'c' * (len(rows[0]) - 1)}}}",
        "\\toprule",
        " & ".join(rows[0]) + " \\\\",
        "\\midrule",
        *(" & ".join(row) + " \\\\" for row in rows[1:]),
        "\\bottomrule",
        "\\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _cell(number: Number | None, best: bool) -> str:
    if number is None:
        return "--"
    shown = number.scaled
    value = f"\\textbf{{{shown.mean:.1f}}}" if best else f"{shown.mean:.1f}"
    return f"{value} {{\\scriptsize [{shown.low:.1f}, {shown.high:.1f}]}}"


def _tex(text: str) -> str:
    """A text with every character that means something to TeX written out."""
    return "".join(_TEX.get(character, character) for character in _BREAKS.sub(" ", text))
