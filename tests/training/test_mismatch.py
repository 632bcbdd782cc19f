"""The watch over the distance between engine and trainer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from easyvideor1.config.stages import MismatchConfig
from easyvideor1.policy.update_batch import Observations
from easyvideor1.training.mismatch import MismatchError, MismatchWatch
from easyvideor1.training.train_batch import BatchRows, flatten_groups
from easyvideor1.types import Group, MediaRef, Prompt, Sample, Trajectory, Turn


def rows() -> BatchRows:
    """A text sample with two responses of two tokens, the second offline, and a video sample with one."""

    def member(text: str, origin: str = "online") -> Trajectory:
        turn = Turn(Prompt(np.arange(3)), np.arange(2), np.ones(2, bool), None, "stop", text)
        return Trajectory((turn,), origin)  # type: ignore[arg-type]

    text = Sample("t", "q", "math", "1")
    video = Sample("v", "<video> q", "math", "1", media=(MediaRef("video", "a.mp4"),), where="rows.jsonl:7")
    return flatten_groups(
        [Group(text, (member("one"), member("given", "offline"))), Group(video, (member("far off"),))]
    )


SEQUENCE = torch.tensor([0, 0, 1, 1, 2, 2])
ENGINE = torch.tensor([-1.0, -2.0, -9.0, -9.0, -1.0, float("nan")])
TRAINER = torch.tensor([-1.1, -1.9, -1.0, -1.0, -1.5, -3.0])
SEEN = Observations(SEQUENCE, TRAINER, ENGINE, torch.ones(6, dtype=torch.bool))


def test_distances_are_told_apart_by_modality_and_offline_ones_left_out() -> None:
    watch = MismatchWatch(MismatchConfig(), lambda text: pytest.fail(text))
    watch.begin(rows(), 1)
    assert watch.metrics() == {}
    watch.look(SEEN)
    kl = [np.exp(d) - 1 - d for d in (-0.1, 0.1, -0.5)]
    assert watch.metrics() == {
        "mismatch/text/logprob_abs": pytest.approx(0.1),
        "mismatch/video/logprob_abs": pytest.approx(0.5),
        "mismatch/kl": pytest.approx(np.mean(kl), rel=1e-5),
        "mismatch/largest": pytest.approx(0.5),
        "mismatch/worst": pytest.approx(0.5),
    }


def test_a_warning_names_the_sample() -> None:
    said: list[str] = []
    watch = MismatchWatch(MismatchConfig(bound=0.2), said.append)
    watch.begin(rows(), 3)
    watch.look(SEEN)
    assert watch.metrics()["mismatch/beyond_bound"] == 1
    (text,) = said
    assert "step 3" in text and "'v' (rows.jsonl:7)" in text and "video" in text and "'far off'" in text


def test_a_stop_names_the_worst_response() -> None:
    watch = MismatchWatch(MismatchConfig(bound=0.2, action="stop"), lambda text: None)
    watch.begin(rows(), 3)
    with pytest.raises(MismatchError, match=r"step 3: .* sample 'v'.*This step did not change the weights"):
        watch.look(SEEN)


def test_tokens_of_older_weights_are_told_apart_and_break_no_bound() -> None:
    watch = MismatchWatch(MismatchConfig(bound=0.2, action="stop"), lambda text: None)
    found, drawn_by = rows(), ([5, 6], [6, 6], [5, 5])
    turns = [replace(turn, versions=np.array(drawn)) for turn, drawn in zip(found.turns, drawn_by, strict=True)]
    watch.begin(replace(found, turns=tuple(turns)), 3, version=6)
    watch.look(SEEN)
    metrics = watch.metrics()
    assert metrics["mismatch/logprob_abs"] == metrics["mismatch/largest"] == pytest.approx(0.1)
    assert metrics["staleness/logprob_abs"] == pytest.approx((0.1 + 0.5) / 2)
    assert metrics["staleness/kl"] == pytest.approx(np.mean([np.exp(d) - 1 - d for d in (-0.1, -0.5)]), rel=1e-5)
    watch.begin(replace(found, turns=tuple(turns)), 3, version=7)
    watch.look(SEEN)
    assert set(watch.metrics()) == {"staleness/logprob_abs", "staleness/kl"}, "no token is of the present weights"
