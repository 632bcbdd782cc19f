"""Two results side by side, and the pages about results, without a browser."""

from __future__ import annotations

import shutil

import pytest
from starlette.testclient import TestClient

from easyvideor1.evaluation.history import read_history
from easyvideor1.types import DataError
from easyvideor1.viewer.app import build_app
from easyvideor1.viewer.library import Library
from easyvideor1.viewer.result_sides import question_card, side_by_side, side_of_result, side_of_run

pytestmark = pytest.mark.model


def sides(evaluated, first, second):
    found = {path.name.rpartition("-")[0]: path for path in evaluated.glob("*/*")}
    return side_of_result(found[first]), side_of_result(found[second])


def test_questions_that_moved(evaluated):
    before, after = sides(evaluated, "small", "large")
    found = side_by_side(before, after)
    right = [n % 3 != 0 for n in range(24)], [n % 4 != 0 for n in range(24)]
    lost = [n for n in range(24) if right[0][n] and not right[1][n]]
    gained = [n for n in range(24) if right[1][n] and not right[0][n]]
    assert sorted(each.place for each in found.moved if each.change < 0) == lost
    assert sorted(each.place for each in found.moved if each.change > 0) == gained
    first = found.differences[0]
    assert (first.gained, first.lost, first.count) == (len(gained), len(lost), 24)
    assert {change.decides for change in found.changes} == {"model"}
    assert sum(up for _, up, _ in found.causes) == len(gained)
    assert {one.facet for one in found.differences} == {"", "task"}


def test_a_probe_is_paired_with_its_score(evaluated):
    score = next(evaluated.glob("colours/small-*"))
    probe = next(evaluated.glob("colours-blind/*"))
    found = side_by_side(side_of_result(score), side_of_result(probe))
    assert len(found.pairs) == 24 and found.after.label == "small (blind)"
    assert "prompt" in {change.decides for change in found.changes}


def test_a_question_has_both_responses(evaluated):
    before, after = sides(evaluated, "small", "large")
    card = question_card(before, after, 4, lambda digest: None)
    assert card.id == "q4" and [reply.label for reply in card.replies] == ["small", "large"]
    assert card.replies[0].accuracy == 1.0 and card.replies[1].failure == "MediaError: truncated"
    with pytest.raises(DataError, match="there is no number 24"):
        question_card(before, after, 24, lambda digest: None)


def test_evaluations_of_a_run(run):
    history = read_history(run)
    found = side_by_side(side_of_run(history, "before", "r"), side_of_run(history, "02-grpo", "r"))
    assert found.before.label == "r, before" and len(found.pairs) > 0
    # The weights are what training changes: moves are never put down to chance.
    assert "model" in {change.decides for change in found.changes}
    assert "chance" not in " ".join(words for words, _, _ in found.causes)


def test_results_without_common_questions(evaluated, run):
    before, _ = sides(evaluated, "small", "large")
    with pytest.raises(DataError, match="have no question in common"):
        side_by_side(before, side_of_run(read_history(run), "before"))


@pytest.fixture
def client(run, evaluated):
    return TestClient(build_app(Library([run, evaluated])), base_url="http://127.0.0.1")


def test_the_page_of_results(client):
    page = client.get("/evaluations").text
    for words in ("Models by benchmarks", "66.7", "75.0", "Paired differences", "Probes", "What differs"):
        assert words in page
    assert "MediaError: truncated" in page


def test_pages_of_two_results(client, evaluated):
    keys = {entry.path.name.rpartition("-")[0]: entry.key for entry in Library([evaluated]).evaluations()}
    page = client.get("/evaluations/compare", params={"a": keys["small"], "b": "none"})
    assert page.status_code == 404 and "there is no evaluation" in page.text
    names = [entry.key for entry in Library([evaluated]).evaluations() if "blind" not in entry.key]
    found = client.get("/evaluations/compare", params={"a": names[1], "b": names[0]})
    assert found.status_code == 200 and found.text.count('class="questionrow"') == 10
    lost = client.get("/evaluations/compare", params={"a": names[1], "b": names[0], "moved": "lost"}).text
    assert lost.count('class="questionrow"') == 4
    question = client.get("/evaluations/question", params={"a": names[1], "b": names[0], "n": "4"}).text
    assert "Question 4?" in question and "MediaError: truncated" in question
    same = client.get("/evaluations/compare", params={"a": names[0], "b": names[0]})
    assert same.status_code == 404 and "not the same" in same.text


@pytest.mark.parametrize("side", ["run:small/../../../x", "run:small//../../config", "run:nothing//before", "run:"])
def test_no_side_leads_out_of_a_run(client, side):
    answer = client.get("/evaluations/compare", params={"a": side, "b": "run:small//before"})
    assert answer.status_code == 404 and "seed" not in answer.text


def test_a_damaged_result_is_left_out_and_named(evaluated, tmp_path):
    place = shutil.copytree(evaluated, tmp_path / "results")
    records = next(place.glob("colours/large-*")) / "result.jsonl"
    records.write_bytes(records.read_bytes()[:-40])
    (next(place.glob("colours-blind/*")) / "result.json").unlink()
    page = TestClient(build_app(Library([place])), base_url="http://127.0.0.1").get("/evaluations")
    assert page.status_code == 200 and "66.7" in page.text
    assert "cannot be read" in page.text and "not finished" in page.text
