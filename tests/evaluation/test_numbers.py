from __future__ import annotations

from dataclasses import replace

import pytest
from tests.evaluation.results import certificate
from tests.evaluation.test_metric_intervals import record

from easyvideor1.benchmarks import Benchmark
from easyvideor1.benchmarks.metrics import Metric
from easyvideor1.evaluation.numbers import benchmark_note, benchmark_of, numbers_of
from easyvideor1.evaluation.result import summarise
from easyvideor1.evaluation.statistics import wilson_interval

_ROWS = [  # accuracy, length, subject
    (1.0, "short", "art"),
    (1.0, "short", "art"),
    (0.0, "short", "music"),
    (None, "long", "art"),
    (1.0, "long", ""),
]


def test_numbers_are_those_of_the_metrics_and_of_each_facet() -> None:
    records = [
        record(i, right, f"v{i}", length=length, **({"subject": subject} if subject else {}))
        for i, (right, length, subject) in enumerate(_ROWS)
    ]
    metrics = (Metric("overall"), Metric("by length", macro=("length",)), Metric("films", where={"length": "film"}))
    benchmark = Benchmark("small", "1", metrics=metrics, breakdown=("length", "subject"))
    found = numbers_of(benchmark, summarise("result", records, seed=0, confidence=0.9))
    named = {(each.name, each.facet, each.value): each for each in found}
    assert list(named) == [
        ("overall", "", ""),
        ("by length", "", ""),
        ("overall", "length", "short"),
        ("overall", "length", "long"),
        ("overall", "subject", "art"),
        ("overall", "subject", "music"),
    ]
    overall = named["overall", "", ""]
    assert overall.interval == wilson_interval(3, 5, 0.9)
    assert (overall.count, overall.failed, overall.clusters) == (5, 1, 5)
    assert overall.scaled.mean == pytest.approx(60.0)
    assert overall.to_json()["scaled"]["mean"] == pytest.approx(60.0)
    assert named["by length", "", ""].interval.mean == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert named["overall", "subject", "art"].interval == wilson_interval(2, 3, 0.9)
    assert named["overall", "subject", "art"].failed == 1
    assert len(numbers_of(benchmark, summarise("result", records, seed=0, confidence=0.9), breakdown=False)) == 2


def test_the_benchmark_of_a_result_needs_no_release() -> None:
    probed = certificate(benchmark="video_mme-blind")
    probed = replace(probed, scoring={"benchmark": "video_mme"})
    assert benchmark_of(probed).metrics[0].name == "overall"
    assert benchmark_of(certificate(benchmark="charades_sta")).title == "Charades-STA"
    moved = replace(certificate(benchmark="rows", version="1"), scoring={"benchmark": "gone/rows.jsonl"})
    unknown = benchmark_of(moved)
    assert [metric.name for metric in unknown.metrics] == ["accuracy"]
    assert "not known here" in benchmark_note(unknown, moved)
    assert "version 0" in benchmark_note(benchmark_of(probed), replace(probed, version="0"))
    assert benchmark_note(benchmark_of(probed), replace(probed, version=benchmark_of(probed).version)) == ""


def test_code_that_a_result_names_runs_only_if_it_is_trusted(tmp_path, monkeypatch) -> None:
    (tmp_path / "own_bench.py").write_text(
        "from easyvideor1.benchmarks import Benchmark\n"
        "from easyvideor1.benchmarks.metrics import Metric\n"
        "def make(location):\n"
        "    open(location, 'w').close()\n"
        "    return Benchmark('mine', '1', rows='rows.jsonl', metrics=(Metric('own number'),))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    made = tmp_path / "made"
    for named in ({"benchmark": f"own_bench:make={made}"}, {}):
        found = replace(certificate(benchmark=f"own_bench:make={made}", version="1"), scoring=named)
        plain = benchmark_of(found)
        assert [metric.name for metric in plain.metrics] == ["accuracy"] and not made.exists()
        assert "not run here" in benchmark_note(plain, found)
    assert benchmark_of(found, own_code=True).metrics[0].name == "own number" and made.exists()
