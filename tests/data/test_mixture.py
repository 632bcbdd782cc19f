"""Shares of sources by weight, temperature and epochs; steps that hold the modalities in their parts."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from easyvideor1.config import DataConfig, SourceConfig
from easyvideor1.data import SampleStream, source_weights
from easyvideor1.data.mixture import ModalityQuota
from easyvideor1.types import ConfigError, DataError, MediaRef, Modality, Sample


def source(name: str, **counts: int) -> list[Sample]:
    """Samples named after source, modality and number: ``a-image-3``."""
    return [
        Sample(
            id=f"{name}-{modality}-{number}",
            question="?",
            task="open_ended",
            answer="x",
            media=() if modality == "text" else (MediaRef(modality, f"{name}{number}"),),  # type: ignore[arg-type]
            source=name,
        )
        for modality, count in counts.items()
        for number in range(count)
    ]


def configured(**changes: object) -> SourceConfig:
    return SourceConfig.model_validate({"path": "a", **changes})


def shares(weights: list[float]) -> list[float]:
    return [weight / sum(weights) for weight in weights]


def test_weights_are_taken_as_they_are() -> None:
    sources = [configured(weight=3), configured(weight=1)]
    assert shares(source_weights(sources, [10, 1000], temperature=None, draws=100)) == [0.75, 0.25]


def test_a_temperature_evens_out_sizes() -> None:
    sources, sizes = [configured(), configured(weight=2)], [900, 100]
    assert shares(source_weights(sources, sizes, temperature=1, draws=9)) == pytest.approx([900 / 1100, 200 / 1100])
    assert shares(source_weights(sources, sizes, temperature=2, draws=9)) == pytest.approx([30 / 50, 20 / 50])
    assert shares(source_weights(sources, sizes, temperature=1e9, draws=9)) == pytest.approx([1 / 3, 2 / 3])
    cold = source_weights([configured(), configured()], [10**7, 1], temperature=0.01, draws=9)
    assert all(math.isfinite(weight) and weight > 0 for weight in cold) and shares(cold)[0] == pytest.approx(1)


def test_epochs_are_passes_through_a_source() -> None:
    sources = [configured(epochs=2), configured(weight=1), configured(weight=3), configured(epochs=0.5)]
    sizes = [40, 1000, 10, 200]
    weights = source_weights(sources, sizes, temperature=None, draws=1000)
    assert [1000 * share for share in shares(weights)] == pytest.approx([80, 205, 615, 100])
    stream = SampleStream([source(name, text=size) for name, size in zip("abcd", sizes, strict=True)], weights, 3)
    assert stream.shares() == pytest.approx({0: 0.08, 1: 0.205, 2: 0.615, 3: 0.1})
    drawn = Counter(sample.source for step in range(100) for sample in stream.batch(step, 10))
    assert abs(drawn["a"] - 80) < 3 and abs(drawn["d"] - 100) < 3


def test_where_all_have_epochs_the_stage_decides_the_length() -> None:
    sources = [configured(epochs=3), configured(epochs=1)]
    assert shares(source_weights(sources, [100, 900], temperature=None, draws=7)) == pytest.approx([0.25, 0.75])
    # A source without usable samples takes no part.
    assert source_weights([configured(epochs=3), configured()], [100, 0], temperature=None, draws=7)[0] == 300


def test_epochs_that_leave_nothing_for_the_others() -> None:
    with pytest.raises(ConfigError, match="come to 200 samples and the stage draws 200"):
        source_weights([configured(epochs=2), configured()], [100, 5], temperature=None, draws=200)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"train": [{"path": "a", "weight": 2, "epochs": 1}]}, "a: weight and epochs both decide"),
        ({"train": [{"path": "a", "epochs": 1}], "balance": "modality"}, "and so do the epochs of a"),
        ({"train": [{"path": "a", "epochs": 1}], "temperature": 2}, "but a has epochs"),
        ({"balance": "modality", "modality_shares": {"text": 0, "image": 0, "video": 0}}, "are all 0"),
        ({"temperature": 0}, "greater than 0"),
    ],
)
def test_what_cannot_decide_a_mixture(values: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        DataConfig.model_validate(values)


@given(
    parts=st.lists(st.floats(0.01, 10), min_size=1, max_size=4),
    size=st.integers(1, 40),
    seed=st.integers(0, 2**63),
    step=st.integers(0, 3000),
)
@settings(max_examples=200, deadline=None)
def test_parts_of_every_step_and_of_all_steps_are_due(parts: list[float], size: int, seed: int, step: int) -> None:
    allotment, due = ModalityQuota(parts, seed), np.array(parts) / sum(parts)
    own, before = allotment.of_step(step, size)
    assert own.sum() == size and before.sum() == step * size
    assert (np.abs(own - size * due) < 1 + 1e-9).all()
    assert (np.abs(before - step * size * due) < 6).all()
    after = allotment.of_step(step + 1, size)[1]
    np.testing.assert_array_equal(before + own, after)


SOURCES = [source("a", text=7, video=5), source("b", image=30, video=6), source("c", text=4)]


@given(
    size=st.integers(1, 12),
    seed=st.integers(0, 2**32),
    parts=st.fixed_dictionaries({name: st.sampled_from([0.0, 0.5, 1.0, 2.0]) for name in ("text", "image", "video")}),
    steps=st.permutations(range(8)),
)
@settings(max_examples=80, deadline=None)
def test_balanced_steps(size: int, seed: int, parts: dict[Modality, float], steps: list[int]) -> None:
    if not any(parts.values()):
        with pytest.raises(DataError, match="and the modalities"):
            SampleStream(SOURCES, [1, 1, 1], seed, balance=parts)
        return
    straight = SampleStream(SOURCES, [1, 2, 1], seed, balance=parts)
    expected = {step: [sample.id for sample in straight.batch(step, size)] for step in range(8)}
    jumping = SampleStream(SOURCES, [1, 2, 1], seed, balance=parts)
    assert {step: [sample.id for sample in jumping.batch(step, size)] for step in steps} == expected
    for drawn in expected.values():
        counts = Counter(name.split("-")[1] for name in drawn)
        assert sum(counts.values()) == size
        for modality, part in parts.items():
            assert abs(counts[modality] - size * part / sum(parts.values())) < 1 + 1e-9
    # Within a modality every source goes epoch by epoch.
    flat = [name for step in range(8) for name in expected[step]]
    for sources in SOURCES:
        for modality in ("text", "image", "video"):
            whole = {sample.id for sample in sources if sample.modality == modality}
            own = [name for name in flat if name in whole]
            for start in range(0, len(own), max(len(whole), 1)):
                epoch = own[start : start + len(whole)]
                assert len(set(epoch)) == len(epoch)


def test_modalities_that_no_row_has_leave_their_part_to_the_others() -> None:
    stream = SampleStream([source("a", video=9, text=9)], [1], 0, balance={"text": 1, "image": 5, "video": 3})
    counts = Counter(sample.modality for step in range(20) for sample in stream.batch(step, 8))
    assert counts == {"text": 40, "video": 120} and len(stream) == 18


def test_sources_keep_their_weights_within_a_modality() -> None:
    sources = [source("a", video=50, text=50), source("b", video=100), source("c", text=3)]
    stream = SampleStream(sources, [2, 1, 1], 0, balance={"text": 1, "video": 1})
    drawn = Counter((s.modality, s.source) for step in range(100) for s in stream.batch(step, 8))
    assert stream.shares() == pytest.approx({0: 0.5, 1: 0.25, 2: 0.25})
    # Half of a's weight of 2 is for its videos.
    assert abs(drawn["video", "a"] - 200) < 4 and abs(drawn["video", "b"] - 200) < 4
    assert abs(drawn["text", "a"] - 200) < 4 and abs(drawn["text", "c"] - 200) < 4


def test_every_stretch_of_a_balanced_step_is_mixed() -> None:
    stream = SampleStream([source("a", video=9, image=9)], [1], 0, balance={"image": 1, "video": 1})
    kinds = [sample.modality for sample in stream.batch(3, 8)]
    assert all(set(kinds[start : start + 2]) == {"image", "video"} for start in range(0, 8, 2))


def test_what_a_transform_drops_is_replaced_within_its_modality() -> None:
    def no_odd_images(sample: Sample, step: int, rng: np.random.Generator) -> list[Sample]:
        return [] if sample.modality == "image" and int(sample.id.split("-")[2]) % 2 else [sample]

    stream = SampleStream([source("a", video=9, image=9)], [1], 0, (no_odd_images,), balance={"image": 1, "video": 1})
    for step in range(10):
        counts = Counter(sample.modality for sample in stream.batch(step, 6))
        assert counts == {"image": 3, "video": 3}


def test_golden_order_of_a_balanced_step() -> None:
    stream = SampleStream(SOURCES, [1, 2, 1], 7, balance={"text": 1, "image": 1, "video": 1})
    assert [sample.id for sample in stream.batch(5, 6)] == GOLDEN.split()


GOLDEN = "c-text-3 b-image-27 a-video-3 a-text-2 b-image-23 b-video-1"


def test_a_mixed_row_is_a_video_row() -> None:
    media = (MediaRef("image", "a"), MediaRef("video", "b"))
    assert Sample("s", "?", "math", "1", media=media).modality == "video"
    assert Sample("s", "?", "math", "1", media=media[:1]).modality == "image"
    assert Sample("s", "?", "math", "1").modality == "text"
