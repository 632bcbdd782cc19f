from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.evaluation.results import answered, certificate, write_result

from easyvideor1.benchmarks.metrics import Metric, greedy_answers
from easyvideor1.evaluation.certificate import Result
from easyvideor1.evaluation.comparison import flips, make_pairs, mcnemar_test
from easyvideor1.evaluation.comparison_table import compare_results, named_results
from easyvideor1.evaluation.explanation import certificate_changes, counted, explain
from easyvideor1.records.trajectories import SampleRecord
from easyvideor1.types import ConfigError, DataError


def causes(before: list[SampleRecord], after: list[SampleRecord], **asking: object) -> dict[str, str]:
    changes = certificate_changes(certificate(), certificate(**asking))
    pairs = make_pairs(greedy_answers(before), greedy_answers(after))
    return {each.flip.after.record.sample: each.words for each in explain(flips(Metric("accuracy"), pairs), changes)}


def test_certificates_are_told_apart_by_what_their_settings_decide() -> None:
    one = certificate()
    other = certificate("large", version="2", model={"weights": "w2"}, frames={"video": {"fps": 1.0, "max_frames": 64}})
    changes = certificate_changes(one, replace(other, scoring={"rewards": {"judge": "http://judge"}}))
    assert [(each.key, each.before, each.after, each.decides) for each in changes] == [
        ("version", "1", "2", "questions"),
        ("model.weights", "w1", "w2", "model"),
        ("model.dtype", "bfloat16", None, "model"),
        ("frames.video.fps", 2.0, 1.0, "frames"),
        ("scoring.rewards.judge", "", "http://judge", "scoring"),
    ]
    assert certificate_changes(one, replace(one, model="another label")) == []


def test_each_move_has_the_causes_that_can_be_told() -> None:
    before = [answered(i, "A") for i in range(6)]
    scored = answered(0, "A")
    assert scored.greedy is not None
    scored = replace(scored, greedy=replace(scored.greedy, score=replace(scored.greedy.score, accuracy=0.0)))
    longer = replace(answered(3, "B"), prompt="Question 3, in short?")
    after = [scored, answered(1, ""), answered(2, "B", frames=4), longer, answered(4, "B"), answered(5, "A", frames=4)]
    assert causes(before, after) == {
        "q0": "scoring",
        "q1": "failure",
        "q2": "frames",
        "q3": "prompt",
        "q4": "chance",
    }
    told = causes(before, after, model={"weights": "w2"}, engine={"engine": "vllm"})
    assert (told["q0"], told["q2"]) == ("scoring", "frames or model or engine")
    assert causes(before, after, model={"weights": "w2"})["q4"] == "model"
    assert causes(before, after, prompts={"system": "Be brief."})["q2"] == "frames or prompt"


def test_causes_are_counted_in_both_directions() -> None:
    before = [answered(i, "A" if i < 3 else "B") for i in range(6)]
    after = [answered(i, "B" if i < 3 else "A", frames=8 if i else 4) for i in range(5)] + [answered(5, "B")]
    pairs = make_pairs(greedy_answers(before), greedy_answers(after))
    moved = explain(flips(Metric("accuracy"), pairs), [])
    assert counted(moved) == [("chance", 2, 2), ("frames", 0, 1)]


def models(tmp_path: Path, *given: tuple[str, str, str, list[SampleRecord]]) -> dict[str, dict[str, Result]]:
    """``(place, model, benchmark, records)`` each, written and read."""
    places: dict[Path, list[Result]] = {}
    for place, model, benchmark, records in given:
        made = write_result(tmp_path / place, certificate(model, benchmark, model={"weights": model}), records)
        places.setdefault(tmp_path / place, []).append(Result.load(made))
    return named_results(list(places.items()))


def answers(right: int, count: int) -> list[SampleRecord]:
    return [answered(i, "A" if i < right else "B") for i in range(count)]


def test_models_are_compared_on_what_they_share_with_p_values_for_all(tmp_path: Path) -> None:
    found = models(
        tmp_path,
        ("one", "small", "colours", answers(10, 30)),
        ("one", "small", "shapes", answers(20, 30)),
        ("one", "small", "alone", answers(20, 30)),
        ("two", "large", "colours", answers(20, 30)),
        ("two", "large", "shapes", answers(21, 30)),
    )
    done: list[tuple[int, int]] = []
    table = compare_results(found, on_progress=lambda *each: done.append(each))
    assert (table.baseline, table.models, done) == ("small", ("small", "large"), [(1, 2), (2, 2)])
    colours, shapes = (each.difference for each in table.comparisons)
    assert (colours.gained, colours.lost, colours.p) == (10, 0, mcnemar_test(10, 0))
    assert colours.adjusted == pytest.approx(2 * mcnemar_test(10, 0))
    assert (shapes.p, shapes.adjusted) == (1.0, 1.0)
    assert any("alone" in note for note in table.notes)
    assert compare_results(found, correction="none").comparisons[0].difference.adjusted == colours.p
    turned = compare_results(found, baseline="large").comparisons[0].difference
    assert turned.interval.mean == pytest.approx(-colours.interval.mean)


def test_other_versions_and_questions_are_refused_unless_told_to(tmp_path: Path) -> None:
    found = models(tmp_path, ("a", "small", "colours", answers(5, 8)), ("b", "large", "colours", answers(7, 10)))
    with pytest.raises(DataError, match=r"2 only in the second \(q8, q9\).*--common"):
        compare_results(found)
    (only,) = compare_results(found, common=True).comparisons
    assert (only.difference.count, only.left_out) == (8, 2)
    old = write_result(tmp_path / "c", certificate("old", version="0"), answers(5, 8))
    found = {"old": {"colours": Result.load(old)}, "small": found["small"]}
    with pytest.raises(DataError, match="versions '0' and '1'"):
        compare_results(found)
    with pytest.raises(ConfigError, match="needs two models"):
        compare_results({"small": found["small"]})
    with pytest.raises(ConfigError, match="found old, small"):
        compare_results(found, baseline="none")


def test_two_results_of_one_model_are_told_apart_by_place_or_refused(tmp_path: Path) -> None:
    one, other = certificate(), certificate(frames={"video": {"fps": 1.0}})
    first, second = (Result.load(write_result(tmp_path, each, answers(3, 6))) for each in (one, other))
    places = [(tmp_path / "x", [first]), (tmp_path / "y", [second])]
    assert list(named_results(places)) == [f"small ({tmp_path / 'x'})", f"small ({tmp_path / 'y'})"]
    with pytest.raises(ConfigError, match="two results of small on colours"):
        named_results([(tmp_path, [first, second])])
