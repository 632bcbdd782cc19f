"""evr1 filter by derivable traces, temporal necessity and functions of one's own; a scripted server is the model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from easyvideor1.config import RunConfig
from easyvideor1.curation.filters import FILTERS, FilterOptions, Passing, Questions
from easyvideor1.curation.responses import CollectedResponses
from easyvideor1.locks import file_lock
from easyvideor1.records.trajectories import TrajectoryRecord
from easyvideor1.types import ConfigError, OfflineTrajectory, Sample, Score
from training.runs import World, json_lines

from .commands import Body, Endpoint, configured, evr1, serving

pytestmark = pytest.mark.model

GRAMMAR = [["time", "caption"], "think"]


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with serving() as endpoint:
        yield endpoint


def choices(world: World) -> list[dict[str, Any]]:
    """Choice questions about videos, with their number in the question."""
    rows = [row for row in world.read() if row["problem_type"] == "multiple choice"]
    return [{**row, "problem": f"{row['problem']} [row {n}]"} for n, row in enumerate(rows)]


def words_of(body: Body) -> tuple[str, int]:
    """The text of a request, and the number of its pictures."""
    content = body["messages"][-1]["content"]
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    texts = [part["text"] for part in parts if part["type"] == "text"]
    return "\n".join(texts), sum(part["type"] == "image_url" for part in parts)


def other(letter: str) -> str:
    """An option that is not the right one."""
    return "B" if letter == "A" else "A"


def trace(note: str, letter: str) -> str:
    return f"<time>0 - 1</time><caption>{note}</caption><think>so {letter}</think><answer>{letter}</answer>"


def filtered(settings: str, out: Path, endpoint: Endpoint, *words: object) -> Any:
    return evr1("filter", settings, "--out", out, "--endpoint", endpoint.url, "--model", "big", "-k", 2, *words)


def test_rows_keep_their_first_derivable_trace(world: World, place: Path, endpoint: Endpoint) -> None:
    rows = choices(world)[:4]
    right = [row["answer"] for row in rows]
    traces = [
        [trace("nothing", right[0]), trace(f"seen {right[0]}", right[0])],
        [trace("nothing", right[1])] * 3 + [trace(f"seen {right[1]}", right[1])],  # the fourth is not looked at
        [f"<think>It is {right[2]}</think><answer>{right[2]}</answer>"],  # only its conclusion
        [],
    ]
    rows = [
        {**row, "offline_output": texts, "has_offline_trajectory": bool(texts)}
        for row, texts in zip(rows, traces, strict=True)
    ]
    settings = configured(world, place, rows, rewards__custom={}, rewards__grammar=GRAMMAR)

    def reader(body: Body) -> tuple[int, str]:
        text, pictures = words_of(body)
        assert pictures == 0 and "Notes on the video:\ntime: 0 - 1\ncaption: " in text
        assert "so " not in text and "Write <time>" not in text  # neither the conclusion nor the tags are shown
        letter = text.partition("seen ")[2][:1]
        number = next(n for n in range(4) if f"[row {n}]" in text)
        return 200, f"<answer>{letter or other(right[number])}</answer>"

    endpoint.answer = reader
    out = place / "kept.jsonl"
    done = filtered(settings, out, endpoint, "--by", "derivable")
    assert done.exit_code == 0, done.output
    (row,) = json_lines(out)
    assert (row["problem_id"], row["derivable_rate"]) == (rows[0]["problem_id"], 1.0)
    assert row["offline_output"] == traces[0][1]
    for said in ("1 that no trace gives the answer to", "1 whose traces have no notes", "1 without a trace"):
        assert said in done.output
    assert "left out of 4 rows" in done.output
    assert len(endpoint.seen) == 2 * (2 + 3)


def test_rows_that_need_no_time_are_dropped(world: World, place: Path, endpoint: Endpoint) -> None:
    rows = choices(world)[:3]
    right = {f"[row {n}]": row["answer"] for n, row in enumerate(rows)}
    frames = []

    def guesser(body: Body) -> tuple[int, str]:
        text, pictures = words_of(body)
        number = next(mark for mark in right if mark in text)
        frames.append(pictures)
        knows = number == "[row 0]" or (number == "[row 1]" and pictures)
        return 200, f"<answer>{right[number] if knows else other(right[number])}</answer>"

    endpoint.answer = guesser
    settings, out = configured(world, place, rows, rewards__custom={}), place / "kept.jsonl"
    done = filtered(settings, out, endpoint, "--by", "temporal_necessity")
    assert done.exit_code == 0, done.output
    (row,) = json_lines(out)
    assert row["problem_id"] == rows[2]["problem_id"]
    assert (row["no_video_rate"], row["one_frame_rate"]) == (0.0, 0.0)
    assert "1 answered without the video" in done.output and "1 answered from one frame" in done.output
    assert sorted(set(frames)) in ([0, 1], [0, 2]), "no frame, or one frame that fills a temporal step"


def test_a_row_that_the_model_did_not_answer_is_counted_and_not_kept(
    world: World, place: Path, endpoint: Endpoint
) -> None:
    rows = choices(world)[:3]

    def answer(body: Body) -> tuple[int, str]:
        number = next(n for n in range(3) if f"[row {n}]" in words_of(body)[0])
        return (400, "no such thing") if number == 1 else (200, f"<answer>{other(rows[number]['answer'])}</answer>")

    endpoint.answer = answer
    settings, out = configured(world, place, rows, rewards__custom={}), place / "kept.jsonl"
    done = filtered(settings, out, endpoint, "--by", "temporal_necessity")
    assert done.exit_code == 0, done.output
    assert [row["problem_id"] for row in json_lines(out)] == [rows[0]["problem_id"], rows[2]["problem_id"]]
    assert "1 that could not be judged" in done.output and "were refused by the endpoint" in done.output


OWN = """
from pathlib import Path

from easyvideor1.curation.filters import Verdict


def short(sample):
    with Path("asked").open("a") as file:
        file.write(sample.id + "\\n")
    if Path("down").exists() and "[row 1]" in sample.question:
        raise ConnectionError("the service is down")
    if "[row 2]" in sample.question:
        return None
    if "[row 0]" not in sample.question:
        return False
    return Verdict(True, columns={"words": len(sample.question.split())}, traces=sample.offline[:0])


def wrong(sample):
    return "yes"
"""


def test_a_function_of_ones_own_is_cached_and_masked_while_it_is_down(world: World, place: Path) -> None:
    (place / "own_filter.py").write_text(OWN)
    (place / "down").touch()
    rows = choices(world)[:4]
    settings, out = configured(world, place, rows, rewards__custom={}), place / "kept.jsonl"
    refused = evr1("filter", settings, "evaluation.max_failed=0.3", "--out", out, "--by", "own_filter:short")
    assert refused.exit_code == 3 and not out.exists()
    said = "1 for which the filter 'own_filter:short' raised ConnectionError: the service is down"
    assert "2 of 4 rows could not be judged" in refused.output and said in refused.output
    (place / "down").unlink()
    done = evr1("filter", settings, "--out", out, "--by", "own_filter:short")
    assert done.exit_code == 0, done.output
    (row,) = json_lines(out)
    assert row["has_offline_trajectory"] is False and rows[0]["has_offline_trajectory"] is True
    assert row["words"] == len(rows[0]["problem"].removeprefix("<video>\n").split()) + 1
    assert "2 that 'own_filter:short' drops, 1 that 'own_filter:short' cannot judge" in done.output
    asked = (place / "asked").read_text().split()
    again = [row["problem_id"] for row in (rows[1], rows[2])]
    assert asked == [*(row["problem_id"] for row in rows), *again], "verdicts that were made are not made again"
    other = evr1("filter", settings, "--out", place / "other.jsonl", "--by", "own_filter:short", "--verdicts",
                 place / "kept.jsonl.verdicts.jsonl")  # fmt: skip
    assert other.exit_code == 0 and (place / "other.jsonl").read_bytes() == out.read_bytes()
    with file_lock(place / ".kept.jsonl.verdicts.jsonl.lock"):
        busy = evr1("filter", settings, "--out", place / "third.jsonl", "--by", "own_filter:short", "--verdicts",
                    place / "kept.jsonl.verdicts.jsonl")  # fmt: skip
    assert busy.exit_code == 2 and "choose another --verdicts" in busy.output
    (place / "own_filter.py").write_text(OWN + "\n")
    changed = evr1("filter", settings, "--out", place / "third.jsonl", "--by", "own_filter:short", "--verdicts",
                   place / "kept.jsonl.verdicts.jsonl")  # fmt: skip
    assert changed.exit_code == 2 and "whose code changed since" in changed.output
    wrong = evr1("filter", settings, "--out", place / "wrong.jsonl", "--by", "own_filter:wrong")
    assert wrong.exit_code == 2 and "it must return true, false, None" in wrong.output


HALF = '''
from easyvideor1.curation.filters import Verdict, View


class Half:
    """Asks about the last word alone, and keeps what is known half of the time."""

    def __init__(self, options, config):
        self.config = config

    def views(self, sample):
        from dataclasses import replace

        return [View("end", replace(sample, question=sample.question.split()[-1], media=()))]

    def verdict(self, sample, found):
        return Verdict(found["end"].rate == 0.5, "known always or never")
'''


def test_a_class_of_ones_own_asks_the_model(world: World, place: Path, endpoint: Endpoint) -> None:
    (place / "half_filter.py").write_text(HALF)
    rows = choices(world)[:2]
    said = []

    def once(body: Body) -> tuple[int, str]:
        text, pictures = words_of(body)
        assert pictures == 0 and text.startswith(("0]", "1]"))
        said.append(text)
        right = text.startswith("0]") and sum(one == text for one in said) == 1
        return 200, f"<answer>{rows[0]['answer'] if right else 'nothing'}</answer>"

    endpoint.answer = once
    settings, out = configured(world, place, rows, rewards__custom={}), place / "kept.jsonl"
    done = filtered(settings, out, endpoint, "--by", "half_filter:Half")
    assert done.exit_code == 0, done.output
    assert [row["problem_id"] for row in json_lines(out)] == [rows[0]["problem_id"]]
    assert "1 known always or never" in done.output


def test_names_and_options_that_mean_nothing(world: World, place: Path) -> None:
    settings = configured(world, place, choices(world)[:2], rewards__custom={})
    out = place / "kept.jsonl"
    assert "did you mean derivable" in evr1("filter", settings, "--out", out, "--by", "derivabel").output
    assert "reads the notes of a trace from tags" in evr1("filter", settings, "--out", out, "--by", "derivable").output


def test_options_that_would_do_nothing_are_refused(world: World, place: Path) -> None:
    (place / "own_filter.py").write_text(OWN)
    settings, out = configured(world, place, choices(world)[:2], rewards__custom={}), place / "kept.jsonl"
    words = ("filter", settings, "--out", out, "--by")
    own = evr1(*words, "own_filter:short", "--endpoint", "http://x/v1", "-k", 8, "--above", 0)
    assert own.exit_code == 2 and "--responses, --above, --endpoint does nothing here: own_filter:short" in own.output
    asks = evr1(*words, "pass_rate", "--verdicts", place / "v.jsonl")
    assert asks.exit_code == 2 and "--verdicts does nothing here: pass_rate asks a model" in asks.output
    alone = evr1(*words, "pass_rate", "--model", "big")
    assert alone.exit_code == 2 and "--model does nothing here: there is no --endpoint" in alone.output


def test_verdicts_by_hand() -> None:
    sample = Sample("a", "<video>?", "multiple_choice", "A", offline=(OfflineTrajectory("x"), OfflineTrajectory("y")))
    config = RunConfig.model_validate({"model": {"path": "m"}, "rewards": {"grammar": GRAMMAR}})

    def verdict(name: str, found: dict[str, Passing], **options: Any) -> Any:
        return FILTERS.resolve(name)(FilterOptions(**options), config).verdict(sample, found)

    assert [verdict("pass_rate", {"": Passing(n, 4)}).keep for n in range(5)] == [False, True, True, True, False]
    assert verdict("pass_rate", {"": Passing(1, 4)}).columns == {"pass_rate": 0.25, "pass_responses": 4}
    assert verdict("pass_rate", {"": Passing()}).keep is None
    assert verdict("pass_rate", {"": Passing(0, 1, needed=8)}).keep is None  # seven of eight did not come
    assert verdict("pass_rate", {"": Passing(0, 4, unreadable=4)}).keep is False  # as in training
    assert verdict("pass_rate", {"": Passing(4, 4)}).reason == "with a pass rate of at least 1"
    assert verdict("derivable", {"trace0": Passing(0, 4, unreadable=3)}).keep is None
    assert verdict("derivable", {"trace0": Passing(0, 4, unreadable=2)}).keep is False
    found = verdict("derivable", {"trace0": Passing(2, 4, unreadable=2)}).columns
    assert found == {"derivable_rate": 1.0, "derivable_responses": 2}
    for unread, keep in ((Passing(1, 4, unreadable=3), True), (Passing(2, 4, unreadable=2), False)):
        assert verdict("temporal_necessity", {"no_video": unread, "one_frame": Passing(0, 4)}).keep is keep
    few = {"no_video": Passing(0, 3, needed=4), "one_frame": Passing(0, 4)}
    assert verdict("temporal_necessity", few).keep is None
    assert verdict("pass_rate", {"": Passing(1, 4)}, above=0.25).reason == "with a pass rate of at most 0.25"
    half = {"no_video": Passing(2, 4), "one_frame": Passing(2, 4)}
    assert verdict("temporal_necessity", half).keep and not verdict("temporal_necessity", half, answered=0.4).keep
    assert verdict("temporal_necessity", {"no_video": Passing(0, 4), "one_frame": Passing()}).keep is None
    assert verdict("temporal_necessity", {"no_video": Passing(4, 4), "one_frame": Passing()}).keep is False
    assert verdict("temporal_necessity", {}).keep is True
    second = {"trace0": Passing(0, 4), "trace1": Passing(3, 4)}
    assert verdict("derivable", second).traces == (sample.offline[1],)
    assert verdict("derivable", {"trace0": Passing(), "trace1": Passing(4, 4)}).keep is None
    with pytest.raises(ConfigError):
        FILTERS.resolve("derivable")(FilterOptions(), RunConfig.model_validate({"model": {"path": "m"}}))


def test_responses_that_did_not_come_are_no_failures() -> None:
    config = RunConfig.model_validate({"model": {"path": "m"}})
    sample, lost = Sample("a", "?", "multiple_choice", "A"), Score(0, 0, 0, applicable=False, reason="down")
    scores = [Score(0, 0, 0, parsed="B"), Score(1, 1, 1, parsed="A"), Score(0, 0, 0, reason="nothing"), *[lost] * 5]
    records = tuple(
        TrajectoryRecord("", 1, "stop", score, fault="" if score.applicable else "failed") for score in scores
    )
    found = CollectedResponses(((sample, records),))
    for complete, keep in ((1.0, None), (0.4, None), (0.375, True)):
        questions = Questions(FILTERS.resolve("pass_rate")(FilterOptions(), config), 0.5, {}, complete=complete)
        (verdict,) = questions.verdicts([sample], found)
        assert verdict.keep is keep
    assert verdict.columns == {"pass_rate": 1 / 3, "pass_responses": 3}


def test_views_have_names_of_their_own() -> None:
    sample = Sample("a", "?", "multiple_choice", "A", offline=(OfflineTrajectory(trace("n", "A")),) * 5)
    config = RunConfig.model_validate({"model": {"path": "m"}, "rewards": {"grammar": GRAMMAR}})
    asked = Questions(FILTERS.resolve("derivable")(FilterOptions(tries=2), config), 0.5, {}).of([sample])
    assert [view.id for view in asked] == ["a#trace0", "a#trace1"]
    assert all(view.offline == () and view.media == () for view in asked)
