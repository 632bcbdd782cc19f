"""The stream is a pure function of seed and step that goes through every source epoch by epoch."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from easyvideor1.data import SampleStream
from easyvideor1.types import ConfigError, DataError, Sample


def source(name: str, count: int, task: str = "open_ended") -> list[Sample]:
    return [Sample(id=f"{name}{i}", question="?", task=task, answer="x", source=name) for i in range(count)]


def ids(samples: list[Sample]) -> list[str]:
    return [sample.id for sample in samples]


sizes = st.lists(st.integers(1, 20), min_size=1, max_size=4)


@given(sizes=sizes, seed=st.integers(0, 2**63), size=st.integers(1, 9), data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_batch_depends_on_seed_and_step_alone(sizes: list[int], seed: int, size: int, data: st.DataObject) -> None:
    sources = [source("abcd"[i], count) for i, count in enumerate(sizes)]
    weights = data.draw(st.lists(st.floats(0.01, 100), min_size=len(sizes), max_size=len(sizes)))
    steps = data.draw(st.permutations(range(12)))
    straight = SampleStream(sources, weights, seed)
    expected = {step: ids(straight.batch(step, size)) for step in range(12)}
    jumping = SampleStream(sources, weights, seed)
    assert {step: ids(jumping.batch(step, size)) for step in steps} == expected
    # One draw at a time is the same stream as batches of draws.
    assert [jumping.batch(i, 1)[0].id for i in range(size)] == expected[0]


@given(sizes=sizes, seed=st.integers(0, 2**32), size=st.integers(1, 9))
@settings(max_examples=60, deadline=None)
def test_every_epoch_of_a_source_has_every_sample_once(sizes: list[int], seed: int, size: int) -> None:
    sources = [source("abcd"[i], count) for i, count in enumerate(sizes)]
    stream = SampleStream(sources, [1.0 + i for i in range(len(sizes))], seed)
    drawn = [sample for step in range(90 // size) for sample in stream.batch(step, size)]
    for whole in sources:
        own = [sample.id for sample in drawn if sample.source == whole[0].source]
        for start in range(0, len(own), len(whole)):
            epoch = own[start : start + len(whole)]
            assert len(set(epoch)) == len(epoch)
            if len(epoch) == len(whole):
                assert set(epoch) == set(ids(whole))


def test_without_shuffling_sources_keep_their_order() -> None:
    sources = [source("a", 5), source("b", 3)]
    stream = SampleStream(sources, [2, 1], 7, shuffle=False)
    drawn = [sample for step in range(8) for sample in stream.batch(step, 6)]
    for whole in sources:
        own = [sample.id for sample in drawn if sample.source == whole[0].source]
        assert len(own) > 2 * len(whole)
        assert own == [whole[place % len(whole)].id for place in range(len(own))]
    assert ids(SampleStream(sources, [2, 1], 7).batch(0, 6)) != ids(stream.batch(0, 6))


@pytest.mark.parametrize("weights", [(1, 1), (3, 1), (0.7, 0.3), (1000, 1), (1, 1e-30)])
def test_every_stretch_holds_the_weights(weights: tuple[float, float]) -> None:
    stream = SampleStream([source("a", 7), source("b", 30)], weights, seed=5)
    share = weights[0] / sum(weights)
    origins = [sample.source == "a" for step in range(40) for sample in stream.batch(step, 50)]
    for start in range(0, 2000, 50):
        for length in (50, 500, 2000 - start):
            window = origins[start : start + length]
            assert abs(sum(window) - share * len(window)) < 4


def test_epochs_and_seeds_differ() -> None:
    stream = SampleStream([source("a", 40)], [1], seed=0)
    assert ids(stream.batch(0, 40)) != ids(stream.batch(1, 40)) != ids(source("a", 40))
    assert ids(stream.batch(0, 40)) != ids(SampleStream([source("a", 40)], [1], seed=1).batch(0, 40))


def test_golden_order_in_a_process_with_another_hash_seed() -> None:
    code = (
        "from easyvideor1.data import SampleStream; from easyvideor1.types import Sample;"
        "s = lambda n, c: [Sample(id=f'{n}{i}', question='?', task='ocr', answer='x') for i in range(c)];"
        "print(*(x.id for x in SampleStream([s('a', 5), s('b', 3)], [2, 1], 7).batch(3, 12)))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "77", "OMP_NUM_THREADS": "1"}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert result.stdout.split() == GOLDEN.split()


GOLDEN = "a4 a3 a2 a1 b1 a4 a0 b2 a0 b0 a2 a1"


def test_a_long_way_in_is_cheap_and_exact() -> None:
    stream = SampleStream([source("a", 9), source("b", 4)], [1, 2], seed=1)
    far = stream.batch(100_000, 32)
    counted = Counter(sample.source for sample in far)
    assert abs(counted["b"] - 32 * 2 / 3) < 3
    assert ids(far) == ids(SampleStream([source("a", 9), source("b", 4)], [1, 2], seed=1).batch(100_000, 32))


def test_task_filter_leaves_the_order_of_other_sources_alone() -> None:
    a, b = source("a", 6), source("b", 6, task="ocr")
    both = SampleStream([a, b], [1, 1], seed=3)
    only = SampleStream([a, b], [1, 1], seed=3, tasks=("OCR",))
    assert len(only) == 6
    drawn = [sample.id for step in range(6) for sample in both.batch(step, 4) if sample.source == "b"]
    assert ids(only.batch(0, len(drawn))) == drawn


def drop_odd(sample: Sample, step: int, rng: np.random.Generator) -> list[Sample]:
    return [] if int(sample.id[1:]) % 2 else [sample]


def double(sample: Sample, step: int, rng: np.random.Generator) -> list[Sample]:
    return [sample, sample]


def tag(sample: Sample, step: int, rng: np.random.Generator) -> list[Sample]:
    return [Sample(id=sample.id, question=f"{step}:{rng.integers(2**60)}", task=sample.task, answer="x")]


def test_transforms_get_randomness_from_seed_sample_and_step() -> None:
    stream = SampleStream([source("a", 8)], [1], 0, (tag,))
    first, again = stream.batch(0, 8), stream.batch(0, 8)
    assert [sample.question for sample in first] == [sample.question for sample in again]
    by_id = {sample.id: sample.question for sample in first}
    other_mix = SampleStream([source("b", 3), source("a", 8)], [1, 1], 0, (tag,)).batch(0, 11)
    shared = [sample for sample in other_mix if sample.id in by_id]
    assert shared and all(by_id[sample.id] == sample.question for sample in shared)
    seen = {sample.question.split(":")[1] for step in range(5) for sample in stream.batch(step, 8)}
    assert len(seen) == 40
    assert (
        len({sample.question for sample in SampleStream([source("a", 8)], [1], 1, (tag,)).batch(0, 8)} & {*by_id}) == 0
    )


def test_two_transforms_do_not_share_their_randomness() -> None:
    draws: list[int] = []

    def note(sample: Sample, step: int, rng: np.random.Generator) -> list[Sample]:
        draws.append(int(rng.integers(2**60)))
        return [sample]

    SampleStream([source("a", 1)], [1], 0, (note, note)).batch(0, 1)
    assert len(set(draws)) == 2


def test_transforms_that_drop_or_multiply_keep_the_batch_size() -> None:
    stream = SampleStream([source("a", 10)], [1], 0, (drop_odd, double))
    for step in range(6):
        batch = stream.batch(step, 7)
        assert len(batch) == 7
        assert all(int(sample.id[1:]) % 2 == 0 for sample in batch)
        assert ids(batch) == ids(SampleStream([source("a", 10)], [1], 0, (drop_odd, double)).batch(step, 7))


def test_transforms_that_go_wrong_are_named() -> None:
    with pytest.raises(DataError, match="the transforms left 0 of 65 samples at step 0, 1 are needed"):
        SampleStream([source("a", 2)], [1], 0, (lambda sample, step, rng: [],)).batch(0, 1)
    with pytest.raises(ConfigError, match=r"transform .*<lambda> returned Sample for sample 'a\d'"):
        SampleStream([source("a", 2)], [1], 0, (lambda sample, step, rng: sample,)).batch(0, 1)  # type: ignore[arg-type, return-value]
    with pytest.raises(ZeroDivisionError) as caught:
        SampleStream([source("a", 2)], [1], 0, (lambda sample, step, rng: [sample][: 1 // 0],)).batch(4, 1)
    assert "at step 4" in caught.value.__notes__[0]
    with pytest.raises(ConfigError, match="unknown transform 'shuffle_option': did you mean shuffle_options"):
        SampleStream([source("a", 2)], [1], 0, ("shuffle_option",))


def test_streams_that_cannot_be() -> None:
    with pytest.raises(DataError, match=r"asked for the tasks \['ocr'\], the sources have \['open_ended'\]"):
        SampleStream([source("a", 2)], [1], 0, tasks=("ocr",))
    with pytest.raises(DataError, match="no sample to draw from"):
        SampleStream([], [], 0)
    with pytest.raises(ConfigError, match="2 sources but 1 weights"):
        SampleStream([source("a", 2), source("b", 2)], [1], 0)
    for weight in (0.0, -1.0, float("nan")):
        with pytest.raises(ConfigError, match="weights of sources must be positive numbers"):
            SampleStream([source("a", 2)], [weight], 0)
    with pytest.raises(TypeError, match="one sequence of samples per source"):
        SampleStream(source("a", 2), [1, 1], 0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="step must be >= 0"):
        SampleStream([source("a", 2)], [1], 0).batch(-1, 2)
