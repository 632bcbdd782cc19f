"""VideoHallu's recipe: its rows, its settings, and toy clips whose physics is measured in their pixels."""

import json
import random

import numpy as np
import pytest

from easyvideor1.config import load_config
from easyvideor1.config.data import DataConfig, SourceConfig
from easyvideor1.data import load_source
from easyvideor1.recipes.videohallu import KINDS, draw_clip, frames, write_impossible_clips
from easyvideor1.toyworld.scene import COLOURS
from easyvideor1.types import DataError


def released(number, problem="What moves?", solution="<answer>The camera</answer>", path="./video/a.mp4"):
    """A row with the columns of the released files."""
    return {
        "problem_id": number,
        "data_type": "video",
        "problem_type": "free-form",
        "options": [],
        "path": path,
        "problem": problem,
        "solution": solution,
        "data_source": "physbench",
    }


def test_rows_without_a_question_are_refused_by_id_and_ids_are_unique(tmp_path):
    rows = [released(2782, None), released(2719), released(76.0), released(76.0, "How many?"), released(5, "  ")]
    file = tmp_path / "split.json"
    file.write_text(json.dumps(rows))
    source = SourceConfig(path=str(file), format="easyvideor1.recipes.videohallu:published_row")
    with pytest.raises(DataError, match=r"field 'problem': of the row physbench-2782 is missing(.|\n)*physbench-5 is"):
        load_source(source, DataConfig(), check_media=False)
    loaded = load_source(source, DataConfig(on_bad_row="skip"), check_media=False)
    assert len(loaded.bad) == 2 and len({sample.id for sample in loaded.samples}) == 3
    assert [sample.id.rpartition("-")[0] for sample in loaded.samples] == [
        "physbench-2719",
        "physbench-76",
        "physbench-76",
    ]
    assert loaded.samples[0].answer == "The camera" and loaded.samples[0].task == "open_ended"
    assert loaded.samples[0].media[0].path == str(tmp_path / "video" / "a.mp4")


def test_the_settings_are_those_of_the_launcher():
    for stage in load_config("videohallu/released").stages:
        assert (stage.group_size, stage.kl.coef, stage.optimizer.max_grad_norm) == (8, 0.04, 5.0)
        assert (stage.optimizer.lr, stage.optimizer.schedule, stage.epochs) == (1e-6, "cosine", 2)
    assert load_config("videohallu/released").rewards.judge.fallback == "rule"
    assert [stage.name for stage in load_config("videohallu").stages] == ["real", "impossible"]


def seen(picture):
    """Centre of what is not background, in pixels, and its mean colour."""
    shown = np.abs(picture.astype(int) - picture[0, 0].astype(int)).sum(-1) > 60
    rows, columns = np.nonzero(shown)
    return np.array([columns.mean(), rows.mean()]), picture[shown].mean(0)


def colour_of(mean):
    return min(COLOURS, key=lambda name: np.abs(np.array(COLOURS[name]) - mean).sum())


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_impossible_is_in_the_pixels_and_not_in_the_control(kind, seed):
    clip = draw_clip(random.Random(seed), kind)
    tracks = {}
    for impossible in (True, False):
        found = [seen(picture) for picture in frames(clip, kind, impossible=impossible)]
        tracks[impossible] = np.array([centre for centre, _ in found]), [colour_of(mean) for _, mean in found]
    (strange, strange_colours), (usual, usual_colours) = tracks[True], tracks[False]
    assert len(set(usual_colours)) == 1
    steps = np.linalg.norm(np.diff(usual, axis=0), axis=1)
    if kind == "gravity_reversed":
        assert (np.diff(usual[:, 1]) > 0).all() and (np.diff(strange[:, 1]) < 0).all()
        second = np.diff(usual[:, 1], 2)
        assert second.mean() == pytest.approx(-np.diff(strange[:, 1], 2).mean(), abs=0.5) and second.mean() > 0
        return
    assert steps.max() < 8, "the control moves evenly"
    moment = clip["moment"]
    np.testing.assert_allclose(strange[:moment], usual[:moment], atol=1e-9)
    if kind == "teleport":
        jump = np.linalg.norm(np.diff(strange, axis=0), axis=1)
        assert jump.argmax() == moment - 1 and jump.max() > 1.8 * steps.max()
        assert strange_colours == usual_colours
    else:
        np.testing.assert_allclose(strange, usual, atol=1.0)
        assert strange_colours == [clip["colours"][number >= moment] for number in range(8)]


@pytest.mark.model
def test_every_impossible_clip_has_its_control(tmp_path, monkeypatch):
    monkeypatch.setattr("easyvideor1.recipes.videohallu.PAIRS", {"train": 3, "test": 3})
    write_impossible_clips(tmp_path)
    first = (tmp_path / "impossible" / "test.jsonl").read_bytes()
    clip = tmp_path / "impossible" / "media" / "test" / "0000-control.mp4"
    right = clip.read_bytes()
    clip.write_bytes(b"a clip of an earlier version")
    write_impossible_clips(tmp_path)
    assert (tmp_path / "impossible" / "test.jsonl").read_bytes() == first and clip.read_bytes() == right
    loaded = load_source(SourceConfig(path=str(tmp_path / "impossible" / "test.jsonl")), DataConfig())
    assert not loaded.bad and len(loaded.samples) == 6
    answers = {}
    for sample in loaded.samples:
        answers.setdefault(sample.extra["pair"], set()).add((sample.answer, sample.source))
    assert answers == {n: {("Yes", kind), ("No", kind)} for n, kind in enumerate(KINDS)}
