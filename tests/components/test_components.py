"""One configuration becomes the things that training and evaluation share."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import easyvideor1.components.components
from easyvideor1.components import Components
from easyvideor1.config import RewardConfig, RunConfig
from easyvideor1.rewards import Scorer
from easyvideor1.rollout.reward_workers import RewardWorkers
from easyvideor1.types import BudgetChange, ConfigError, DataError, EasyVideoError, Sample
from training.runs import World, write_rows

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("components"))


def config_of(world: World, rows: list[dict], place: Path, **changes) -> RunConfig:
    path = write_rows(place / "rows.jsonl", rows)
    return world.short(**{"data__train": [{"path": path}], "cache__dir": str(place / "frames"), **changes})


def test_prompts_have_exactly_the_planned_tokens(world: World, tmp_path: Path) -> None:
    config = config_of(world, world.read(), tmp_path)
    with Components.open(config) as components:
        (loaded,) = components.load_sources(config.data.train)
        assert len(loaded.samples) == 12
        for sample in loaded.samples:
            prompt = components.render(sample)
            assert prompt is components.render(sample)
            (plan,) = prompt.plans
            assert plan == components.plan(sample.media[0])
            assert sum(span.length for span in prompt.spans) == plan.tokens


def test_memory_for_prompts_is_bounded(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of(world, world.read(), tmp_path)
    components = Components.open(config)
    (loaded,) = components.load_sources(config.data.train)
    first, last = loaded.samples[0], loaded.samples[-1]
    prompt, length = components.render(first), len(components.render(last))
    monkeypatch.setattr(easyvideor1.components.components, "REMEMBERED_TOKENS", length + 10)
    components = Components.open(config)
    for sample in loaded.samples:
        components.render(sample)
    assert components.render(last) is components.render(last)
    again = components.render(first)
    assert again is not prompt and again.token_ids.tolist() == prompt.token_ids.tolist()


def test_faults_are_told_in_the_users_columns(world: World, tmp_path: Path) -> None:
    rows = [row for row in world.read() if row["videos"]][:3]
    (tmp_path / "cut.mp4").write_bytes(Path(rows[0]["videos"][0]).read_bytes()[:300])
    rows[1]["videos"] = [str(tmp_path / "cut.mp4")]
    rows = [{("clips" if key == "videos" else key): value for key, value in row.items()} for row in rows]
    config = config_of(world, rows, tmp_path, data__video_key="clips")
    with pytest.raises(DataError, match=r"rows\.jsonl:2: field 'clips': .*cut\.mp4"):
        Components.open(config).load_sources(config.data.train)


def test_prompts_that_are_too_long(world: World, tmp_path: Path) -> None:
    config = config_of(world, world.read(), tmp_path, data__max_prompt_tokens=40)
    with pytest.raises(DataError) as refused:
        Components.open(config).load_sources(config.data.train)
    message = str(refused.value)
    assert "12 of 12 rows" in message and "of them visual), data.max_prompt_tokens is 40" in message
    assert "lower the pixel or frame budget" in message


def test_the_cache_is_filled_once_and_failures_are_taken_out(world: World, tmp_path: Path) -> None:
    rows = world.read()
    config = config_of(world, [*rows, {**rows[0], "problem_id": "again"}], tmp_path, data__on_bad_row="skip")
    with Components.open(config) as components:
        loaded = components.load_sources(config.data.train)
        seen: list[tuple[int, int]] = []
        first = components.fill_cache(loaded, lambda done, total: seen.append((done, total)))
        assert (first.built, first.present, first.failed) == (12, 0, 0) and seen[-1] == (12, 12)
        assert components.fill_cache(loaded).present == 12
        media = loaded[0].samples[0].media[0]
        assert components.load(media, components.plan(media)).pixels.shape[0] == len(
            components.plan(media).frame_indices
        )
        failed = replace(first, failed_digests={components.plan(media).digest: "timeout"})
        (left,) = components.without_failed(loaded, failed)
    gone = [sample.id for sample in loaded[0].samples if sample not in left.samples]
    assert gone == [loaded[0].samples[0].id, "again"]
    assert left.report.refused == 2 and "cannot be decoded: timeout" in left.report.bad[0]
    assert json.dumps(left.report.to_dict())


def test_a_prompt_is_remembered_by_all_that_its_template_reads(world: World, tmp_path: Path) -> None:
    (tmp_path / "words").mkdir()
    (tmp_path / "words/multiple_choice.j2").write_text("{{ question }} {{ extra.hint }} {{ source }}")
    rows = [row for row in world.read() if row["problem_type"] == "multiple choice"][:1]
    config = config_of(world, [{**rows[0], "hint": "Look."}], tmp_path, prompts__templates=str(tmp_path / "words"))
    components = Components.open(config)
    (sample,) = components.load_sources(config.data.train)[0].samples
    first = components.render(sample)
    hinted = components.render(replace(sample, extra={**sample.extra, "hint": "Look up."}))
    moved = components.render(replace(sample, source="elsewhere"))
    assert "Look up." in hinted.text and "Look up." not in first.text
    assert "elsewhere" in moved.text and "elsewhere" not in first.text
    assert components.render(replace(sample, answer="Z", where="another row")) is first


def test_a_file_that_goes_during_the_checking_costs_its_rows(world: World, tmp_path: Path) -> None:
    rows = [row for row in world.read() if row["videos"]][:3]
    gone = tmp_path / "gone.mp4"
    shutil.copyfile(rows[1]["videos"][0], gone)
    rows[1]["videos"] = [str(gone)]
    config = config_of(world, rows, tmp_path, data__on_bad_row="skip")
    with Components.open(config) as components:
        loaded = components.load_sources(config.data.train)
        gone.unlink()
        report = components.fill_cache(loaded)
        assert (report.built, report.failed, report.failures) == (2, 1, ((str(gone), "missing"),))
        (entry,) = components.ledger.entries()
        assert (entry.path, entry.reason) == (str(gone), "missing")
        (left,) = components.without_failed(loaded, report)
    assert [sample.id for sample in left.samples] == [rows[0]["problem_id"], rows[2]["problem_id"]]


def test_a_checkpoint_is_needed_for_prompts_only(world: World) -> None:
    components = Components.open(world.config(model__path=""))
    assert components.store.directory == world.home / "frames"
    with pytest.raises(ConfigError, match=r"model\.path is not set"):
        components.open_policy()
    with pytest.raises(ConfigError, match=r"config\.json"):
        Components.open(world.config(), world.home).render(Sample("a", "What?", "math", "1"))


def test_budgets_of_sources_and_rows_reach_plan_prompt_and_cache(world: World, tmp_path: Path) -> None:
    (video, *_), (image, *_) = ([row for row in world.read() if row[kind]] for kind in ("videos", "images"))
    rows = [
        {**video, "problem_id": "plain"},
        {**video, "problem_id": "few", "nframes": 2},
        {**video, "problem_id": "rate", "fps": 1.0, "video_min_frames": 2, "video_max_pixels": 4096},
        {**image, "problem_id": "small", "image_max_pixels": 1024, "image_min_pixels": 1024},
        {**image, "problem_id": "picture"},
    ]
    path = write_rows(tmp_path / "rows.jsonl", rows)
    own = {"path": path, "video": {"frames": 6}}
    config = world.short(data__train=[{"path": path}, own], cache__dir=str(tmp_path / "frames"))
    with Components.open(config) as components:
        (first, second) = components.load_sources(config.data.train)
        plans = {sample.id: components.render(sample).plans[0] for sample in first.samples}
        frames = {name: len(plan.frame_indices) for name, plan in plans.items()}
        assert frames == {"plain": 4, "few": 2, "rate": 2, "small": 1, "picture": 1}
        assert [plans[name].tokens for name in ("plain", "few", "small", "picture")] == [8, 4, 1, 4]
        assert len({plan.digest for plan in plans.values()}) == 4  # a rate of 1 and two frames are the same two frames
        assert plans["rate"].frame_indices == plans["few"].frame_indices
        assert [len(components.render(sample).plans[0].frame_indices) for sample in second.samples] == [6, 2, 2, 1, 1]
        report = components.fill_cache([first, second])
        assert (report.built, report.failed) == (5, 0)
        for sample in (*first.samples, *second.samples):
            (ref,), (plan,) = sample.media, components.render(sample).plans
            assert components.plan(ref) == plan and components.load(ref, plan).pixels.shape[0] == len(
                plan.frame_indices
            )
        # The prompt of the same words and file under another budget is another prompt.
        plain = first.samples[0]
        few = replace(plain, media=(replace(plain.media[0], budget=BudgetChange(frames=2)),))
        assert len(components.render(plain)) > len(components.render(few)) and components.render(
            plain
        ) is components.render(plain)
        absurd = replace(plain, media=(replace(plain.media[0], budget=BudgetChange(max_frames=2)),))
        with pytest.raises(DataError, match=r"its budget is impossible: max_frames has no effect where frames is 4 - "):
            components.render(absurd)


def test_variants_have_no_processes_of_their_own(world: World, tmp_path: Path) -> None:
    """Nobody closes a variant: benchmarks of a run, and filters, are as many as the user names."""
    config = config_of(world, world.read(), tmp_path)
    with Components.open(config.model_copy(update={"rewards": RewardConfig(processes=1)})) as components:
        asked = components.config
        same, other = (
            components.variant(each)
            for each in (asked, asked.model_copy(update={"rewards": RewardConfig(processes=1, require_tag=True)}))
        )
        assert isinstance(components.scorer, RewardWorkers)
        assert same.scorer is components.scorer and same.variant(asked).scorer is components.scorer
        assert type(other.scorer) is Scorer
        first = components.scorer
    with pytest.raises(EasyVideoError, match="rewards were closed"):
        first.open_pool()
    assert components.scorer is not first, "what is used again is opened again"
