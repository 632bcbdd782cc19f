"""Video-Thinker's recipe: its settings, its toy traces, and a hindsight filter whose result is known exactly."""

import json

import pytest

from easyvideor1.config import load_config
from easyvideor1.config.data import DataConfig, SourceConfig
from easyvideor1.data import load_source
from easyvideor1.recipes.video_thinker import derivable_by_words, thinker_row, write_thinker_rows
from easyvideor1.rewards import Scorer
from easyvideor1.toyworld import WorldSpec, write_world
from easyvideor1.types import OfflineTrajectory, Sample


def scene(colour="red", motion="left"):
    body = {"shape": "circle", "colour": colour, "motion": motion, "appears": 0.5, "disappears": 1.5}
    return {"bodies": [body], "seconds": 2.0}


def test_the_settings_are_the_published_ones():
    config = load_config("video_thinker")
    sft, grpo = config.stages
    assert (sft.objective.name, sft.prompts_per_step) == ("sft", 16)
    assert (grpo.advantage.name, grpo.group_size, grpo.kl.coef) == ("grpo", 8, 0.04)
    assert grpo.optimizer.max_grad_norm == 5
    assert [part.weight for part in config.rewards.parts] == [0], "times are not paid for"


def test_a_trace_is_well_formed_and_names_its_evidence():
    row = thinker_row({"problem_id": "a"}, scene(), traced=True)
    sample = Sample("a", row["problem"], "video_qa", row["answer"], extra=row)
    config = load_config("video_thinker").rewards
    for text in row["offline_output"]:
        score = Scorer(config)(sample, text)
        assert (score.accuracy, score.format, score.total, score.parts["evidence_iou"]) == (1.0, 1.0, 1.0, 1.0)
        late = Scorer(config)(sample, text.replace("0.5 - 1.5", "1 - 2"))
        assert late.total == 1.0 and late.parts["evidence_iou"] == pytest.approx(1 / 3)
        assert Scorer(config)(sample, text.replace("0.5 - 1.5", "1 - 3")).format == 0.5  # the clip ends at 2


@pytest.mark.parametrize(
    ("captions", "kept"),
    [
        (["goes left"], 0),
        (["goes up", "goes left", "goes left"], 1),
        (["goes up"] * 3, None),
        (["goes up"] * 3 + ["goes left"], None),  # three tries
        (["goes left or up"], None),  # names two options
        ([], None),
    ],
)
def test_the_first_derivable_trace_is_kept(captions, kept):
    traces = tuple(OfflineTrajectory(f"<caption>the ball {one}</caption><answer>left</answer>") for one in captions)
    verdict = derivable_by_words(Sample("a", "?", "video_qa", "left", offline=traces))
    assert verdict.keep is (kept is not None)
    assert verdict.traces == (None if kept is None else (traces[kept],))


@pytest.mark.model
def test_the_filter_keeps_what_the_clips_show(tmp_path):
    spec = WorldSpec(seed=5, train=40, validation=0, test=4, bodies=(1, 1), image_share=0.0, kinds=("temporal",))
    write_world(spec, tmp_path / "world")
    write_thinker_rows(tmp_path)
    first = (tmp_path / "world" / "thinker-kept.jsonl").read_bytes()
    write_thinker_rows(tmp_path)
    assert (tmp_path / "world" / "thinker-kept.jsonl").read_bytes() == first
    lines = (tmp_path / "world" / "scenes.jsonl").read_text().splitlines()
    bodies = {one["clip"]: one["bodies"][0] for one in map(json.loads, lines)}
    rows = [json.loads(line) for line in (tmp_path / "world" / "thinker-train.jsonl").read_text().splitlines()]

    def true_to_the_clip(row, text):
        body = bodies[row["clip"]]
        return f"the {body['colour']} {body['shape']} goes {body['motion']}" in text

    wanted = {}
    for row in rows:
        true = [text for text in row["offline_output"] if true_to_the_clip(row, text)]
        if true:
            wanted[row["problem_id"]] = true[0]
    kept = load_source(SourceConfig(path=str(tmp_path / "world" / "thinker-kept.jsonl")), DataConfig()).samples
    assert {sample.id: sample.offline[0].text for sample in kept} == wanted
    assert len(wanted) < len(rows), "some rows have no true trace"
    test = load_source(SourceConfig(path=str(tmp_path / "world" / "thinker-test.jsonl")), DataConfig())
    assert len(test.samples) == 4 and not test.bad
