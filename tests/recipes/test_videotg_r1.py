"""VideoTG-R1's recipe: the filter against what is true, and the mask on its toy rows."""

from __future__ import annotations

import json

import pytest

from easyvideor1.config import load_config
from easyvideor1.curation.filters import FilterOptions, Passing
from easyvideor1.data import SampleStream, load_source
from easyvideor1.recipes import videotg_r1
from easyvideor1.toyworld import WorldSpec, write_world
from easyvideor1.types import DataError, Sample
from easyvideor1.video.effects import hidden_frames
from easyvideor1.video.effects.degrade import MaskFramesOptions

TIMES = tuple(place / 4 for place in range(8))  # two seconds, four frames a second, all of them planned


@pytest.fixture(scope="module")
def samples(tmp_path_factory) -> list[Sample]:
    root = tmp_path_factory.mktemp("videotg")
    spec = {"bodies": (1, 1), "image_share": 0.0, "bare_share": 0.0, "kinds": ("temporal",)}
    write_world(WorldSpec(seed=37, train=12, validation=0, test=2, **spec), root / "world")
    videotg_r1.write_toy(root)
    config = load_config("videotg_r1", [f"data.train.0.path={root}/world/videotg-train.jsonl"])
    return load_source(config.data.train[0], config.data).samples


def hidden(sample: Sample) -> set[int]:
    """Places of the frames that a sample's effects hide."""
    options = [MaskFramesOptions.model_validate_json(effect.options) for effect in sample.media[0].effects]
    return {place for one in options for place in hidden_frames(one, TIMES, tuple(range(8)))}


def seen(sample: Sample) -> set[int]:
    """Places of the frames in which the subject is truly visible."""
    start, end = sample.extra["true_span"]
    return {place for place, time in enumerate(TIMES) if start <= time < end}


def labelled(sample: Sample) -> set[int]:
    start, end = json.loads(sample.answer)["time"]
    return {place for place, time in enumerate(TIMES) if start <= time <= end}


def test_the_filter_finds_all_partial_labels_and_no_other_if_the_model_sees_right(samples) -> None:
    row_filter = videotg_r1.BoundaryReflection(FilterOptions(), load_config("videotg_r1"))
    dropped = []
    for sample in samples:
        (view,) = row_filter.views(sample)
        assert labelled(sample) <= hidden(view.sample) and view.sample.answer == "No" and view.sample.task == "boolean"
        visible = bool(seen(sample) - hidden(view.sample))  # what a model that looks right says Yes to
        verdict = row_filter.verdict(sample, {"outside": Passing(0 if visible else 4, 4)})
        assert verdict.keep is not None
        if not verdict.keep:
            dropped.append(sample.id)
            assert verdict.reason == "whose query is seen outside of its label"
    assert dropped == [sample.id for sample in samples if sample.extra["partial"]] and len(dropped) == 3
    assert row_filter.verdict(samples[0], {"outside": Passing()}).keep is None
    assert row_filter.verdict(samples[0], {"outside": Passing(2, 4)}).keep is False  # half of them is no majority
    assert row_filter.verdict(samples[0], {"outside": Passing(0, 4, unreadable=3)}).keep is None  # no four times Yes
    kept = row_filter.verdict(samples[0], {"outside": Passing(2, 4, unreadable=2)})
    assert kept.keep and kept.columns == {"outside_rate": 1.0, "outside_responses": 2}


def test_a_row_without_the_question_is_named() -> None:
    row_filter = videotg_r1.BoundaryReflection(FilterOptions(), load_config("videotg_r1"))
    with pytest.raises(DataError, match=r"rows\.jsonl:4: the column 'presence' is None"):
        row_filter.views(Sample("s", "?", "temporal_grounding", '{"time": [0, 1]}', where="rows.jsonl:4"))


def test_the_mask_spares_the_label_fades_and_is_the_same_after_a_resume(samples) -> None:
    (stage,) = load_config("videotg_r1").stages
    steps = stage.step_count

    def stream() -> SampleStream:
        return SampleStream([samples], [1.0], 5, stage.transforms, steps=steps)

    whole, counts = stream(), []
    for step in range(steps):
        batch = whole.batch(step, 8)
        for sample in batch:
            assert not labelled(sample) & hidden(sample)
        counts.append(sum(len(hidden(sample)) for sample in batch))
    assert sum(counts[:10]) > sum(counts[-10:]) and counts[-1] == 0 and counts[0] > 8
    resumed = stream()  # has no state: a step is the same whichever were drawn before
    assert [s.media for s in resumed.batch(30, 8)] == [s.media for s in whole.batch(30, 8)]
