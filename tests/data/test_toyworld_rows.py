"""A generated world of every task type goes through the whole room: rows, prompts, stream, shuffling, writing."""

from __future__ import annotations

from pathlib import Path

import pytest

from easyvideor1 import rewards
from easyvideor1.config.schema import DataConfig, PromptConfig, SourceConfig
from easyvideor1.data import Loaded, SampleStream, load_source, prompt_text, write_rows
from easyvideor1.tasks import TASKS
from easyvideor1.toyworld import WorldSpec, write_world


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    spec = WorldSpec(seed=3, train=60, validation=1, test=1, seconds=1.0, bare_share=0.3)
    manifest = write_world(spec, tmp_path_factory.mktemp("world"))
    return load_source(SourceConfig(path=str(manifest.rows_path("train"))), DataConfig())


def test_every_row_is_sound_and_every_task_type_is_there(loaded: Loaded) -> None:
    assert loaded.bad == []
    assert set(loaded.report.tasks) == set(TASKS)
    for sample in loaded.samples:
        text = prompt_text(sample, PromptConfig())
        assert text.count("<video>") + text.count("<image>") == len(sample.media)


def test_shuffled_samples_still_score_their_own_answers(loaded: Loaded) -> None:
    stream = SampleStream([loaded.samples], [1], 0, ("shuffle_options",), tasks=("multiple choice",))
    originals = {sample.id: sample for sample in loaded.samples}
    moved = 0
    for sample in stream.batch(0, 40):
        assert (
            rewards.score(sample.task, f"<answer>{sample.answer}</answer>", sample.answer, options=sample.options).total
            == 1
        )
        for trajectory in sample.offline:
            assert rewards.score(sample.task, trajectory.text, sample.answer, options=sample.options).accuracy == 1
        moved += sample.answer != originals[sample.id].answer
    assert moved > 0


def test_round_trip(loaded: Loaded, tmp_path: Path) -> None:
    write_rows(tmp_path / "again.jsonl", loaded.samples)
    again = load_source(SourceConfig(path=str(tmp_path / "again.jsonl")), DataConfig())
    for one, other in zip(again.samples, loaded.samples, strict=True):
        assert (one.question, one.task, one.answer, one.media, one.options) == (
            other.question,
            other.task,
            other.answer,
            other.media,
            other.options,
        )
        assert (one.id, one.source, one.offline, one.extra) == (other.id, other.source, other.offline, other.extra)
