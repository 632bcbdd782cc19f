"""The differences of probes: which questions are in them, and that they follow when results change."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from easyvideor1.benchmarks import Benchmark
from easyvideor1.evaluation.benchmark_report import make_report
from easyvideor1.evaluation.benchmark_report.exports import markdown
from easyvideor1.evaluation.certificate import PROBE
from easyvideor1.evaluation.probing import ComparedAgain, compare_again, compare_probe, write_probe
from easyvideor1.evaluation.result import Evaluation, summarise
from easyvideor1.files import is_sealed, read_json
from easyvideor1.records.trajectories import SampleRecord
from easyvideor1.types import DataError

from .results import answered, certificate, write_result

COLOURS = Benchmark("colours", "1")
SCORE = certificate(shown={"subtitles": "", "probe": ""}, questions={"count": 20})
BLIND = certificate(benchmark="colours-blind", shown={"subtitles": "", "probe": "blind"}, questions={"count": 18})


def asked(answers: str) -> list[SampleRecord]:
    """A question for each letter; one without a video fails (``.``)."""
    return [answered(number, letter.replace(".", "")) for number, letter in enumerate(answers)]


def blind(answers: str) -> list[SampleRecord]:
    return [replace(record, media=(), tokens={"text": 20}) for record in asked(answers)]


def evaluation(records: list[SampleRecord]) -> Evaluation:
    return summarise("result", records, seed=0, confidence=0.95)


def test_questions_that_failed_on_either_side_are_left_out_and_counted() -> None:
    """Ten videos are missing, and a blind model is right about all of these: not one question was gained."""
    found = compare_probe(COLOURS, evaluation(asked("A" * 10 + "." * 10)), evaluation(blind("AAAAABBBB." + "A" * 10)))
    (difference,) = found.differences
    assert (found.count, found.failed) == (9, 11)
    assert (difference.gained, difference.lost, difference.count) == (0, 4, 9)
    assert (difference.before, difference.after) == (1.0, pytest.approx(5 / 9))
    found = compare_probe(COLOURS, evaluation(asked("..")), evaluation(blind("AA")))
    assert (found.differences, found.count, found.failed) == ((), 0, 2)
    with pytest.raises(DataError, match="asked none of the questions"):
        compare_probe(COLOURS, evaluation(asked("A")), evaluation(blind("AA")[1:]))


def test_what_was_left_out_is_in_the_report(tmp_path: Path) -> None:
    write_result(tmp_path, SCORE, asked("AAAA.."))
    write_result(tmp_path, BLIND, blind("BBAAAA"))
    report = make_report([tmp_path], lambda digest: None)
    ((_, versus),) = report.sections[0].probes
    assert versus is not None and versus.failed == 2
    assert versus.difference.interval.mean == pytest.approx(-0.5)
    assert "-50.0 [" in markdown(report) and "(2 failed left out)" in markdown(report)


def written(out: Path, score: str, probed: str) -> tuple[Path, Path]:
    """A score and its probe with ``probe.json``, as an evaluation leaves them."""
    real, probe = write_result(out, SCORE, asked(score)), write_result(out, BLIND, blind(probed))
    write_probe(probe, real, compare_probe(COLOURS, evaluation(asked(score)), evaluation(blind(probed))))
    return real, probe


def told(directory: Path) -> Mapping[str, Any]:
    content = read_json(directory / PROBE)
    assert is_sealed(content) and content["probe"] == "blind" and content["compared_to"] == SCORE.digest
    return content


def again(*changed: Path) -> list[ComparedAgain]:
    return list(compare_again(changed, lambda certificate: COLOURS))


def test_differences_follow_a_result_on_either_side(tmp_path: Path) -> None:
    real, probe = written(tmp_path / "out", "AABB", "ABBB")
    other = write_result(tmp_path / "out", replace(SCORE, model="other"), asked("BBBB"))
    assert told(probe)["differences"][0]["difference"]["mean"] == pytest.approx(-0.25)
    write_result(tmp_path / "out", SCORE, asked("AAAA"))
    (found,) = again(real)
    assert found.directory.resolve() == probe.resolve() and found.comparison is not None
    assert told(probe)["differences"][0]["difference"]["mean"] == pytest.approx(-0.75)
    write_result(tmp_path / "out", BLIND, blind("AAA."))
    assert [each.directory for each in again(probe)] == [probe]
    assert told(probe)["differences"][0]["difference"]["mean"] == 0.0
    assert (told(probe)["questions"], told(probe)["failed"]) == (3, 1)
    before = (probe / PROBE).read_bytes()
    assert [each.directory.resolve() for each in again(other, real)] == [probe.resolve()]
    assert (probe / PROBE).read_bytes() == before
    write_result(tmp_path / "else", replace(SCORE, benchmark="shapes"), asked("A"))
    assert again(tmp_path / "else" / "shapes" / real.name) == []


def test_differences_whose_score_is_gone_are_removed(tmp_path: Path) -> None:
    real, probe = written(tmp_path / "out", "AABB", "ABBB")
    (real / "result.jsonl").write_text("")
    (found,) = again(probe)
    assert found.comparison is None and "result.jsonl" in found.reason and not (probe / PROBE).exists()
    real, probe = written(tmp_path / "out", "AABB", "ABBB")
    shutil.rmtree(real)
    (found,) = again(probe)
    assert found.comparison is None and "is not there" in found.reason and not (probe / PROBE).exists()
    assert again(probe) == [], "nothing is stale any more"
    assert json.loads((probe / "result.json").read_text())["count"] == 4
