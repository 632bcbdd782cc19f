"""The benchmark of engines measures what it says, and notices an engine that answers with old weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from benchmarks.engine_sections import Bench, Size, measure_agreement, measure_speed, measure_updates

from benchmarks import engine_sections
from easyvideor1.engines.engine import Engine
from easyvideor1.engines.local import LocalEngine

pytestmark = pytest.mark.model


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with Bench(tmp_path, Size(prompts=3, n=2, tokens=12, rounds=1, checked=2), vllm=False) as opened:
        yield opened


def test_engines_are_compared(bench: Bench) -> None:
    found = measure_speed(bench) | measure_agreement(bench)
    assert found["local_vs_before"] > 0 and found["local_responses_per_second"] > 0
    assert found["vllm_vs_local"] is None and "not installed" in found["vllm_note"]
    assert 0 <= found["max_logprob_gap"] <= engine_sections.BOUND


class Stale(LocalEngine):
    """Goes on with the weights that it was opened with."""

    def update_weights(self, version, tensors):  # type: ignore[no-untyped-def]
        super().update_weights(version, [])


@pytest.mark.parametrize(("kind", "stale"), [(LocalEngine, 0), (Stale, 2)])
def test_old_answers_are_noticed(
    bench: Bench, kind: type[LocalEngine], stale: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def owners(bench: Bench) -> Iterator[dict[str, Engine]]:
        parts = bench.components
        yield {"own": kind(parts.family, bench.checkpoint, parts.load, config=parts.config.model)}

    monkeypatch.setattr(engine_sections, "_owners", owners)
    assert measure_updates(bench)["stale_hits"] == stale
