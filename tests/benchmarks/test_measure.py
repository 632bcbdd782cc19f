"""The measuring itself: order, medians, and the table."""

from __future__ import annotations

import time

import pytest
from benchmarks.measure import Package, Timing, by_round, check_packages, interleaved, table, timed, versions


def test_works_take_turns_and_the_first_rounds_do_not_count() -> None:
    order: list[str] = []

    def work(name: str, seconds: float):
        def run() -> tuple[float, float]:
            order.append(name)
            return seconds * len(order), seconds

        return run

    timings = interleaved({"a": work("a", 1.0), "b": work("b", 10.0), "c": work("c", 0.0)}, 3, warm_up=1)
    assert order == ["a", "b", "c", "b", "c", "a", "c", "a", "b", "a", "b", "c"]
    assert timings["a"] == Timing((6.0, 8.0, 10.0), (1.0, 1.0, 1.0))
    assert (timings["a"].wall, timings["b"].cpu) == (8.0, 10.0)


def test_the_clock_counts_waiting_and_the_processor_does_not() -> None:
    wall, cpu = timed(lambda: time.sleep(0.05))()
    assert wall >= 0.05 > cpu


def test_medians_are_not_moved_by_one_bad_round() -> None:
    timing = Timing((1.0, 100.0, 2.0), (1.0, 1.0, 9.0))
    assert (timing.wall, timing.cpu) == (2.0, 1.0)


def test_rounds_that_differ_are_compared_with_each_other() -> None:
    short_and_long = Timing((1.1, 11.0, 2.2), (1.0,) * 3)
    assert by_round(short_and_long, Timing((1.0, 10.0, 2.0), (1.0,) * 3)) == pytest.approx(1.1)


def test_a_table_is_aligned() -> None:
    lines = table("T", ("name", "s"), [("a", "1.0"), ("longer", "10.25")]).splitlines()
    assert lines == ["T", "  name        s", "  a         1.0", "  longer  10.25"]


def test_versions_of_what_is_there() -> None:
    found = versions(["numpy", "no-such-package"])
    assert list(found) == ["numpy"] and found["numpy"][0].isdigit()


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_to_compare_is_no_error(count: int) -> None:
    works = {"one": timed(lambda: None)} if count else {}
    assert len(interleaved(works, 2)) == count


def test_what_a_benchmark_lacks_is_told_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    there, gone = Package("json", "json"), Package("no_such_module", "no-such", "pip install no-such")
    check_packages(needed=[there], compared=[there, gone], models=False)
    assert capsys.readouterr().err == "not compared with no-such, which is not installed: pip install no-such\n"
    with pytest.raises(SystemExit) as ended:
        check_packages(needed=[there, gone, Package("nor_this", "nor-this")], models=False)
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines() == [
        "error: no-such is not installed: pip install no-such",
        'error: nor-this is not installed: pip install -e ".[bench]"',
    ]
