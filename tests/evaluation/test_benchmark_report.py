from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from easyvideor1.evaluation.benchmark_report import make_report, write_benchmark_report
from easyvideor1.evaluation.benchmark_report.drawing import Marks, answer_marks, box_overlay, reference_marks, time_bar
from easyvideor1.evaluation.benchmark_report.exports import latex, long_table
from easyvideor1.evaluation.benchmark_report.labels import labels
from easyvideor1.evaluation.benchmark_report.questions import PICTURES, Asked, Pictures, browse
from easyvideor1.evaluation.certificate import Certificate
from easyvideor1.evaluation.result import summarise
from easyvideor1.records.trajectories import MediaRecord, SampleRecord, TrajectoryRecord
from easyvideor1.rewards import score
from easyvideor1.rewards.tags import ANSWER
from easyvideor1.types import DataError, Score

from .pages import Page
from .runs import HOSTILE, frames_of

RIGHT, WRONG = "<answer>A</answer>", "<answer>B</answer>"
#: Right-to-left text with an override that would turn the rest of a line.
TURNED = "\u202e\u0627\u0644\u062c\u0648\u0627\u0628"


def response(text: str, accuracy: float, *, applicable: bool = True, finish: str = "stop") -> TrajectoryRecord:
    why = "" if applicable else "the judge did not answer"
    scored = Score(accuracy, 1.0, accuracy, {}, "A" if accuracy else "B", applicable, why, "tag")
    return TrajectoryRecord(text, max(1, len(text) // 4), finish, scored)  # type: ignore[arg-type]


def question(number: int, greedy: TrajectoryRecord | None, **values: Any) -> SampleRecord:
    digest = f"clip_{number}"
    media = MediaRecord("video", f"{digest}.mp4", digest, tuple(range(8)), tuple(i / 4 for i in range(8)), 64, 64)
    fields: dict[str, Any] = {
        "sample": f"q{number}",
        "task": "multiple_choice",
        "question": f"<video>\nQuestion {number}?",
        "answer": "A",
        "options": ("A. red", "B. blue"),
        "media": (media,),
        "facets": {"duration": ("short", "medium", "long")[number % 3]},
    }
    return SampleRecord(greedy=greedy, **{**fields, **values})


def write_result(
    out: Path, name: str, model: str, records: Sequence[SampleRecord], asking: Mapping[str, Any] | None = None
) -> Path:
    certificate = Certificate(name, "1", model, {"model": f"weights of {model}", **(asking or {})}, {"rewards": {}})
    directory = certificate.directory(out)
    certificate.write(directory)
    summarise("result", records, seed=0, confidence=0.95).write(directory)
    return directory


def answers(right: set[int], count: int) -> list[SampleRecord]:
    """Records of ``count`` questions, those of ``right`` answered rightly."""
    return [question(i, response(RIGHT if i in right else WRONG, float(i in right))) for i in range(count)]


def results(out: Path) -> Path:
    """Two models on Video-MME (one much better), a probe, hostile texts on an unknown benchmark, a damaged result."""
    write_result(out, "video_mme", "strong", answers(set(range(57)), 60))
    write_result(out, "video_mme", "weak", answers(set(range(0, 60, 2)), 60))
    blind = {"shown": {"probe": "blind"}}
    write_result(out, "video_mme-blind", "strong", answers(set(range(0, 60, 3)), 60), blind)
    odd = [
        question(0, response(f"{HOSTILE}{RIGHT}", 1.0), question=HOSTILE, answer=HOSTILE, options=(HOSTILE, TURNED)),
        question(1, response(f"<answer>{TURNED}", 0.0), sample=f"q{TURNED}", facets={HOSTILE: HOSTILE}),
        question(2, response("word " * 4000, 0.0, finish="length")),
        question(3, None, media=(), error="MediaError: /films/x.mp4: truncated after frame 17"),
        question(4, None, media=(), error="MediaError: /films/y.mp4: truncated after frame 3"),
        question(5, response("<answer>\x00\x07\ud800</answer>", 0.0, applicable=False)),
    ]
    write_result(out, "theirs", f"m {HOSTILE} & 100%", odd)
    damaged = out / "video_mme" / "damaged-0"
    damaged.mkdir()
    (damaged / "certificate.json").write_text("{}")
    return out


@pytest.fixture(scope="module")
def report_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("report")
    write_benchmark_report([results(base / "out")], base / "report", lambda digest: frames_of(digest))
    return base / "report"


@pytest.fixture(scope="module")
def page(report_dir: Path) -> Page:
    return Page((report_dir / "report.html").read_text(encoding="utf-8"))


def test_nothing_is_fetched_and_nothing_runs(page: Page) -> None:
    assert page.count("script") == page.count("link") == page.count("iframe") == 0
    for tag, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes), tag
        assert (attributes.get("src") or "data:").startswith("data:")
        assert (attributes.get("href") or "#").startswith("#")
    policy = next(a["content"] for tag, a in page.tags if tag == "meta" and a.get("http-equiv"))
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def test_hostile_text_is_shown_as_it_is(page: Page, report_dir: Path) -> None:
    # The model's name, a facet and its value, a question, its options, its reference and an answer hold it.
    assert page.text.count(HOSTILE) >= 6
    text = (report_dir / "report.html").read_text(encoding="utf-8")
    assert "<script" not in text and "\x00" not in text
    # What turns text stays within its own element.
    assert "unicode-bidi: isolate" in text
    turned = [a for tag, a in page.tags if tag == "pre"]
    assert turned and all(a.get("dir") == "auto" for a in turned)


def test_page_says_what_came_out(page: Page) -> None:
    text = " ".join(page.text.split())
    assert "2 models on 2 benchmarks" not in text and "3 models on 2 benchmarks" in text
    for shown in ("95.0", "50.0", "33.3"):  # 57 and 30 of 60; 20 of 60 for the blind probe
        assert shown in text
    assert "60 of the 2,700 questions of the release: not comparable" in text
    assert "theirs is not known here; its number is accuracy" in text
    assert "+45.0" in text and "-61.7" in text  # strong minus weak, blind minus strong
    assert "damaged-0" in text and "its checksum differs" in text
    assert "17,5" in text and "characters left out" in text  # of 20,000 characters


def test_best_is_marked_only_where_the_next_is_worse_by_more_than_chance(tmp_path: Path) -> None:
    def best(first: set[int], second: set[int]) -> str:
        out = tmp_path / f"{len(first)}-{len(second)}"
        write_result(out, "video_mme", "a", answers(first, 60))
        write_result(out, "video_mme", "b", answers(second, 60))
        (section,) = make_report([out], lambda digest: None).sections
        assert [row.label for row in section.rows] == ["a", "b"]
        return section.best

    # Exact McNemar: 10 of 10 flips for a gives p = 2 / 2**10; 6 against 5 gives p = 1.
    assert best(set(range(30)), set(range(20))) == "a"
    assert best(set(range(6)), set(range(6, 11))) == ""


def test_best_is_not_marked_where_the_next_has_other_questions(tmp_path: Path) -> None:
    write_result(tmp_path, "video_mme", "a", answers(set(range(30)), 60))
    write_result(tmp_path, "video_mme", "c", answers(set(range(5)), 60))
    assert make_report([tmp_path], lambda digest: None).sections[0].best == "a"
    others = [replace(each, sample=f"other-{each.sample}") for each in answers(set(range(20)), 60)]
    write_result(tmp_path, "video_mme", "b", others)
    (section,) = make_report([tmp_path], lambda digest: None).sections
    assert [row.label for row in section.rows] == ["a", "b", "c"]
    assert [each.than for each in section.differences] == ["c"] and section.best == ""


def test_probes_without_their_score_are_rows_of_their_own(tmp_path: Path) -> None:
    for probe, right in (("blind", 2), ("one_frame", 3)):
        asking = {"shown": {"probe": probe}}
        write_result(tmp_path / "out", f"video_mme-{probe}", "m", answers(set(range(right)), 6), asking)
    write_benchmark_report([tmp_path / "out"], tmp_path / "report", lambda digest: None)
    text = " ".join(Page((tmp_path / "report/report.html").read_text(encoding="utf-8")).text.split())
    assert "1 model on 1 benchmark" in text and "33.3" in text and "50.0" in text
    assert "m (blind), m (one_frame): the score of the questions as they are is missing" in text
    shown = (tmp_path / "report/report.md").read_text()
    assert "| m (blind) | 33.3 [" in shown and "| m (one\\_frame) | 50.0 [" in shown
    assert "m (blind)" in (tmp_path / "report/report.tex").read_text()
    (section,) = json.loads((tmp_path / "report/report.json").read_text())["benchmarks"]
    assert section["results"] == section["differences"] == [] and section["best"] is None
    assert [(each["probe"], each["difference"]) for each in section["probes"]] == [("blind", None), ("one_frame", None)]
    # Another model's score is no reason to leave them out, and they are not compared with it.
    write_result(tmp_path / "out", "video_mme", "other", answers({0}, 6))
    (found,) = make_report([tmp_path / "out"], lambda digest: None).sections
    assert [row.name for row in found.listed] == ["other", "m (blind)", "m (one_frame)"]
    assert found.differences == () and found.best == "" and found.probes == ()


def test_failures_count_by_reason(tmp_path: Path) -> None:
    (theirs,) = [s for s in make_report([results(tmp_path)], lambda digest: None).sections if s.name == "theirs"]
    (row,) = theirs.rows
    assert (row.count, row.failed) == (6, 3)
    found = {failure.reason: failure.count for failure in row.failures}
    assert found == {"MediaError: … truncated after frame …": 2, "not scored: the judge did not answer": 1}
    assert row.first is not None and row.first.interval.mean == pytest.approx(1 / 6)  # failed questions count
    assert row.form["cut_off"] == pytest.approx(1 / 4)


def test_exports_say_the_same(report_dir: Path) -> None:
    rows = list(csv.DictReader((report_dir / "report.csv").open(encoding="utf-8")))
    found = {(r["model"], r["metric"], r["facet"], r["category"], r["probe"]): r for r in rows}
    overall = found["strong", "overall", "", "", ""]
    assert (overall["benchmark"], overall["value"], overall["n"]) == ("video_mme", "95", "60")
    assert float(overall["low"]) < 95 < float(overall["high"])
    assert float(found["strong", "overall", "", "", "blind"]["value"]) == pytest.approx(100 / 3, abs=1e-3)
    assert found["weak", "overall", "duration", "short", ""]["n"] == "20"
    whole = json.loads((report_dir / "report.json").read_text())
    (mme,) = [each for each in whole["benchmarks"] if each["name"] == "video_mme"]
    assert mme["best"] == "strong"
    assert mme["results"][0]["numbers"][0]["scaled"]["mean"] == pytest.approx(95)
    tex = (report_dir / "report.tex").read_text()
    assert "\\textbf{95.0}" in tex and "\\toprule" in tex and "\\bottomrule" in tex
    assert "\\& 100\\%" in tex and "<script" not in tex
    body = [line for line in tex.splitlines() if line.endswith("\\\\")]
    assert len({line.replace("\\&", "").count("&") for line in body}) == 1
    markdown = (report_dir / "report.md").read_text()
    assert "**95.0 [" in markdown and "<script" not in markdown.replace("\\<script", "")


def test_model_with_several_results_on_a_benchmark_is_told_apart() -> None:
    def certificate(name: str, frames: int, probe: str = "") -> Certificate:
        return Certificate(name, "1", "m", {"frames": {"max_frames": frames}, "shown": {"probe": probe}}, {})

    made = [certificate("a", 16), certificate("a", 64), certificate("b", 64), certificate("c", 32)]
    made += [certificate("a-blind", 64, "blind"), certificate("a", 16)]
    names = labels(made, ["a", "a", "b", "c", "a", "a"])
    digest = made[0].digest[:8]
    assert names[1:5] == ["m (max_frames 64)", "m (max_frames 64)", "m", "m (max_frames 64)"]
    assert names[0] == names[5] == f"m (max_frames 16) [{digest}]"


def grounded(task: str, answer: object, said: object, **values: Any) -> SampleRecord:
    text = f"<answer>{json.dumps(said)}</answer>"
    scored = score(task, text, json.dumps(answer), **values.get("measures", {}))
    assert scored.parsed
    return question(0, TrajectoryRecord(text, 9, "stop", scored), task=task, answer=json.dumps(answer), **values)


def test_boxes_are_drawn_where_they_are() -> None:
    box = {"boxes": [100, 250, 300, 500]}
    record = grounded("spatial_grounding", box, {"boxes": [0, 0, 500, 1000]}, measures={"coordinates": "thousand"})
    assert reference_marks(record, None).boxes == ((0.1, 0.25, 0.3, 0.5),)
    found = answer_marks(record, record.greedy, None, ANSWER)
    assert found.at(1.0) == ((0, 0, 0.5, 1),)
    drawn = str(box_overlay([("s0", found.boxes)]))
    assert '<rect class="s0" x="0.00" y="0.00" width="50.00" height="100.00"/>' in drawn
    pixels = grounded("spatial_grounding", box, box, measures={"coordinates": "pixel", "image_size": [1000, 500]})
    assert reference_marks(pixels, None).boxes == ((0.1, 0.5, 0.3, 1.0),)
    unknown = grounded("spatial_grounding", box, box)
    assert reference_marks(unknown, None) == Marks(
        note="The scale of the boxes is not recorded, so they are not drawn."
    )
    assert reference_marks(unknown, "thousand").boxes == ((0.1, 0.25, 0.3, 0.5),)


def test_boxes_by_second_are_drawn_on_the_frames_of_their_second() -> None:
    track = {"boxes": {"0": [0, 0, 100, 100], "1": [100, 0, 200, 100]}}
    record = grounded("tracking", track, track, measures={"coordinates": "thousand"})
    marks = reference_marks(record, None)
    assert marks.at(0.25) == ((0, 0, 0.1, 0.1),)
    assert marks.at(1.4) == ((0.1, 0, 0.2, 0.1),)
    assert marks.at(1.75) == marks.at(None) == ()


def test_answer_that_was_not_scored_so_is_not_drawn() -> None:
    record = grounded("temporal_grounding", {"time": [0.5, 1]}, {"time": [0, 1]})
    assert record.greedy is not None
    assert answer_marks(record, record.greedy, None, ANSWER).spans == ((0, 1),)
    other = response(record.greedy.response, 1.0)  # parsed as "A", as by a reward of the user's own
    assert answer_marks(record, other, None, ANSWER) == Marks()


def test_time_bar_ends_with_the_video_whatever_an_answer_says() -> None:
    record = grounded("temporal_grounding", {"time": [0.5, 1]}, {"time": [1, 99999999]}, measures={"duration": 2})
    assert record.greedy is not None
    answer = answer_marks(record, record.greedy, None, ANSWER)
    bar = time_bar(record, [("reference", "truth", reference_marks(record, None)), ("m", "s0", answer)])
    assert bar is not None
    assert 'class="truth" x="25.00" y="8" width="25.00"' in bar.lanes[0].svg
    assert 'class="s0" x="50.00" y="8" width="50.00"' in bar.lanes[1].svg
    assert bar.ticks[0] == (0.0, "0 s") and bar.ticks[-1] == (100.0, "2 s")
    assert time_bar(question(0, None), [("reference", "truth", Marks())]) is None


def test_browser_is_bounded_and_its_categories_take_turns() -> None:
    one = [Asked("m", "s0", Certificate("b", "1", "m", {}, {}), answers(set(range(0, 3000, 2)), 3000))]
    pictures = Pictures(lambda digest: frames_of(digest), room=3_000)
    shelves = {shelf.kind: shelf for shelf in browse(one, "duration", pictures, 6)}
    assert set(shelves) == {"wrong", "right", "longest"}
    assert shelves["right"].count == 1500 and len(shelves["right"].cards) == 6
    assert sorted(card.category for card in shelves["right"].cards) == [
        "long",
        "long",
        "medium",
        "medium",
        "short",
        "short",
    ]
    strip = shelves["longest"].cards[-1].films[0].strip
    assert pictures.full and not strip.thumbnails and "reached their limit" in strip.missing
    assert 0 < pictures.taken < PICTURES


def test_flips_between_models_and_questions_that_one_lacks() -> None:
    certificate = Certificate("b", "1", "m", {}, {})
    both = [
        Asked("a", "s0", certificate, answers({0, 1}, 3)),
        Asked("b", "s1", certificate, answers({0}, 2)),
    ]
    shelves = {shelf.kind: shelf for shelf in browse(both, "", Pictures(lambda digest: None), 9)}
    assert [card.id for card in shelves["flipped"].cards] == ["q1"]
    (lacking,) = shelves["wrong"].cards
    assert lacking.id == "q2" and "does not have the question" in lacking.replies[1].failure
    assert lacking.films[0].strip.missing == "The frame cache does not have these frames."


def test_results_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no result"):
        make_report([tmp_path], lambda digest: None)
    (tmp_path / "certificate.json").write_text("{}")
    with pytest.raises(DataError, match="none of 1 results can be read"):
        make_report([tmp_path], lambda digest: None)


def test_longer_side_of_the_latex_table_goes_down(tmp_path: Path) -> None:
    for name in ("video_mme", "mvbench", "lvbench"):
        write_result(tmp_path, name, "m", answers({0}, 4))
    report = make_report([tmp_path], lambda digest: None)
    assert latex(report).count("\\\\\n") == 4  # the head and three benchmarks
    assert long_table(report).startswith("model,benchmark,metric,value,low,high,n,")


def test_names_are_no_formulas_for_a_spreadsheet(tmp_path: Path) -> None:
    records = [question(i, response(RIGHT, 1.0), facets={"@kind": "-1+1"}) for i in range(2)]
    write_result(tmp_path, "theirs", '=HYPERLINK("http://example.org")', records)
    rows = list(csv.DictReader(long_table(make_report([tmp_path], lambda digest: None)).splitlines()))
    assert {row["model"] for row in rows} == {'\'=HYPERLINK("http://example.org")'}
    assert not any(str(cell).startswith(("=", "+", "-", "@")) for row in rows for cell in row.values())


def test_bars_of_grades_end_beyond_one(tmp_path: Path) -> None:
    def graded(points: float, relevance: float) -> TrajectoryRecord:
        scored = Score(0.5, 1.0, 0.5, {"points": points, "relevance": relevance}, "A")
        return TrajectoryRecord(RIGHT, 4, "stop", scored)

    for model, grades in (("good", (3.5, 4.0)), ("poor", (1.0, 1.0))):
        records = [question(i, graded(*grades), facets={"task": "sub_scene"}) for i in range(6)]
        write_result(tmp_path / "out", "mlvu_open", model, records)
    write_benchmark_report([tmp_path / "out"], tmp_path / "report", lambda digest: None)
    page = (tmp_path / "report/report.html").read_text(encoding="utf-8")
    assert "from 0 to 8" in page
    assert '<rect width="93.75" height="10"/>' in page and '<rect width="25.00" height="10"/>' in page  # 7.5 and 2 of 8
