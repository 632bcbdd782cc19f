"""Spans: what is recorded, joined, counted, and put into lanes."""

from __future__ import annotations

import pickle
import random
import threading
import time

import pytest

from easyvideor1.spans import Span, SpanRecorder, busy_seconds, joined, lanes, now


def spans(*times: tuple[float, float]) -> list[Span]:
    return [Span("work", begun, ended) for begun, ended in times]


def test_blocks_of_all_threads_are_recorded_also_those_that_raise():
    record = SpanRecorder()
    before = now()

    def work() -> None:
        with record("in a thread", sample="a"):
            pass

    with record("outer"):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        with pytest.raises(ValueError), record("raises"):
            raise ValueError
    found = {span.name: span for span in record.take()}
    assert set(found) == {"in a thread", "outer", "raises"} and found["in a thread"].args == {"sample": "a"}
    assert before <= found["outer"].begun <= found["raises"].begun <= found["raises"].ended <= found["outer"].ended
    assert record.take() == []
    assert pickle.loads(pickle.dumps(found["outer"])) == found["outer"]


def test_a_block_under_way_is_cut_and_nothing_is_counted_twice():
    record = SpanRecorder()
    with record("long"):
        time.sleep(0.01)
        (first,) = record.take()
        time.sleep(0.01)
    (second,) = record.take()
    assert first.ended == second.begun and first.seconds > 0.009 and second.seconds > 0.009
    assert [span.begun for span in joined([second, first])] == [first.begun]


def test_a_recorder_that_nobody_reads_does_not_grow():
    record = SpanRecorder()
    for number in range(10_000):
        with record("other", number=number):
            pass
    assert len(record.take()) < 5000
    for _ in range(10_000):
        with record("step"):
            pass
    assert len(record.take()) < 100, "steps that follow at once are one span"


def test_only_spans_that_follow_at_once_are_joined():
    one = Span("a", 0, 1, {"step": 1})
    assert joined([one, Span("a", 1.0005, 2, {"step": 1})]) == [Span("a", 0, 2, {"step": 1})]
    for other in (Span("a", 1.1, 2, {"step": 1}), Span("b", 1, 2, {"step": 1}), Span("a", 1, 2, {"step": 2})):
        assert joined([other, one]) == [one, other]
    assert joined([one, Span("inner", 0.2, 0.4), Span("a", 1, 2, {"step": 1})])[0].ended == 2


def test_busy_seconds_count_overlaps_once():
    assert busy_seconds(spans((0, 2), (1, 3), (1.5, 1.6), (5, 6))) == pytest.approx(4)
    assert busy_seconds([]) == 0


def test_spans_of_a_lane_are_nested_or_disjoint():
    rng = random.Random(3)
    for _ in range(50):
        starts = [rng.randrange(20) for _ in range(30)]
        given = spans(*((start, start + rng.randrange(1, 9)) for start in starts))
        found = lanes(given)
        assert sorted((s.begun, s.ended) for lane in found for s in lane) == sorted((s.begun, s.ended) for s in given)
        for lane in found:
            for place, one in enumerate(lane):
                for other in lane[place + 1 :]:
                    assert one.ended <= other.begun or (one.begun <= other.begun and other.ended <= one.ended)
    assert len(lanes(spans((0, 9), (1, 2), (3, 4), (9, 10)))) == 1
