"""Stages that read the rollouts of earlier ones: pairs for dpo, and solved samples that are not drawn again."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from easyvideor1.components import Components
from easyvideor1.config import RunConfig
from easyvideor1.config.rollouts import RolloutsConfig
from easyvideor1.data import SampleStream
from easyvideor1.files import seal
from easyvideor1.records.rollout_store import RolloutStore
from easyvideor1.records.trajectory_files import read_trajectories
from easyvideor1.rollout.samples import rounds_of
from easyvideor1.seeds import derive_seed
from easyvideor1.training.from_rollouts import EarlierRollouts
from easyvideor1.training.unusable_steps import UnusableStepWatch
from easyvideor1.types import DataError, Group, Sample, StoppedError

from .runs import World, copy_run, differing, json_lines, train

#: A reward that an untrained model gets often, but not always: the number of letters is even; and a builder of pairs
#: that takes responses that were cut, too, as all of such a model are.
EVEN = """
from easyvideor1.types import Score


def even(sample, response):
    right = float(len(response) % 2 == 0)
    return Score(right, 0.0, right)


def pairs(record, *, right=1.0):
    got = [one.score.accuracy >= right for one in record.trajectories]
    return [(a, b) for a, better in enumerate(got) for b, other in enumerate(got) if better and not other]
"""


def config(world: World, *, steps: int = 2, **changes: Any) -> RunConfig:
    """GRPO of two turns and with shuffled options, DPO on its rollouts, and GRPO without what is solved."""
    _, grpo = world.values()["stages"]
    grpo = {**grpo, "optimizer": {"lr": 1e-3}, "prompts_per_step": 6, "group_size": 4, "kl": "none", "save_every": 1}
    grpo |= {"keep_checkpoints": 9, "steps": steps}
    pairs = [{"builder": "own_even:pairs", "per_prompt": 2}]
    dpo = {**grpo, "name": "dpo", "trajectories": "rollouts", "objective": {"name": "dpo", "beta": 0.5}}
    dpo |= {"advantage": "reward", "aggregation": "sequence", "rollouts": {"stages": ["grpo"], "pairs": pairs}}
    again = {**grpo, "name": "again", "rollouts": {"drop_solved": 0.8}}
    values = {
        "name": "pairs",
        "stages": [{**grpo, "transforms": ["shuffle_options"]}, {**dpo, "prompts_per_step": 3}, again],
        "rewards__custom": {"*": "own_even:even"},
        "rollout": {"max_new_tokens": 8, "strategy": "second_look"},
        "evaluation__every": 0,
        "data": {**world.values()["data"], "validation": [], "test": []},
    }
    return world.config(**(values | changes))


@pytest.fixture(scope="module")
def done(world: World, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A finished run, read only, and what it said."""
    place = tmp_path_factory.mktemp("pairs")
    (place / "own_even.py").write_text(EVEN)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.syspath_prepend(str(place))
        _, shown = train(config(world))
    return place / "runs/pairs", shown


@pytest.fixture
def place(place: Path) -> Path:
    (place / "own_even.py").write_text(EVEN)
    return place


@pytest.mark.model
def test_pairs_are_those_responses_of_the_earlier_stage(done: tuple[Path, str]) -> None:
    run, shown = done
    taken = json.loads((run / "stages/02-dpo/from_rollouts.json").read_text())["pairs"]
    kept = {(one["sample"], one["step"], one["place"]): one["pairs"] for one in taken}
    total = sum(map(len, kept.values()))
    assert f"stage dpo: {total} pairs of {len(kept)} groups (own_even:pairs {total})" in shown
    store = RolloutStore(run)
    seen = 0
    for step in store.steps("dpo"):
        file = run / f"stages/02-dpo/rollouts/step_{step:06d}.jsonl"
        for record in read_trajectories(file, arrays=True):
            keys = [key for key in kept if key[0] == record.sample]
            earlier = [(store.with_arrays("grpo", key[1], key[2]), kept[key]) for key in keys]
            answers = [
                ({place for pair in pairs for place in pair[:2]}, original)
                for original, pairs in earlier
                if original.question == record.question and original.options == record.options
            ]
            mine = [[turn.response_ids.tolist() for turn in one.turns] for one in record.trajectories]
            theirs = [
                [[turn.response_ids.tolist() for turn in original.trajectories[n].turns] for n in sorted(places)]
                for places, original in answers
            ]
            assert mine in theirs
            assert {len(one.turns) for one in record.trajectories} <= {1, 2}
            assert {one.score.accuracy for one in record.trajectories} == {0.0, 1.0}
            seen += 1
    assert seen == 6
    rows = json_lines(run / "stages/02-dpo/metrics.jsonl")
    assert rows[0]["loss"] == pytest.approx(math.log(2), abs=1e-6), "policy and reference agree at the first step"
    assert not any(key.startswith("mismatch") for row in rows for key in row)


@pytest.mark.model
def test_solved_samples_are_dropped(done: tuple[Path, str]) -> None:
    run, shown = done
    dropped = json.loads((run / "stages/03-again/from_rollouts.json").read_text())["dropped"]
    newest: dict[str, bool] = {}
    for group in RolloutStore(run).groups("grpo"):
        newest[group.record.sample] = all(one.score.accuracy == 1 for one in group.record.trajectories)
    solved = {sample for sample, right in newest.items() if right}
    assert set(dropped) <= solved and len(dropped) == round(0.8 * len(solved))
    drawn = {group.record.sample for group in RolloutStore(run).groups("again")}
    assert drawn.isdisjoint(dropped)
    assert f"stage again: {len(dropped)} solved samples are not drawn again" in shown


@pytest.mark.model
@pytest.mark.parametrize(("stage", "left"), [("02-dpo", 1), ("02-dpo", 0), ("03-again", 1)])
def test_a_resumed_run_is_the_same(done: tuple[Path, str], world: World, place: Path, stage: str, left: int) -> None:
    """Inside a stage of pairs, between two stages, and inside one that drops samples."""
    run = copy_run(done[0], place)
    later = [one for one in sorted((run / "stages").iterdir()) if one.name >= stage]
    for directory in later:
        if directory.name > stage or left == 0:
            shutil.rmtree(directory)
    if left:
        for checkpoint in later[0].glob("checkpoints/step_*"):
            if int(checkpoint.name[-6:]) > left:
                shutil.rmtree(checkpoint)
    facts = json.loads((run / "run.json").read_text())
    del facts["checksum"]
    (run / "run.json").write_text(json.dumps(seal({**facts, "stage": stage})))
    train(config(world))
    assert differing(run, done[0]) == []


def samples(world: World) -> list[Sample]:
    from easyvideor1.config import DataConfig, SourceConfig
    from easyvideor1.data import load_source

    return list(load_source(SourceConfig(path=world.rows("train")), DataConfig()).samples)


def streams(world: World, config: RunConfig) -> list[SampleStream]:
    """The streams of the stages, as a run makes them."""
    seeds = [(derive_seed(config.seed, one.name), one.transforms) for one in config.stages]
    return [SampleStream([samples(world)], [1.0], seed, transforms) for seed, transforms in seeds]


@pytest.mark.model
def test_damaged_rollouts_are_named_and_the_choice_is_kept(done: tuple[Path, str], world: World, place: Path) -> None:
    run = copy_run(done[0], place)
    said: list[str] = []
    file = run / "stages/02-dpo/from_rollouts.json"
    before = file.read_bytes()
    broken = run / "stages/01-grpo/rollouts/step_000001.jsonl"
    broken.write_bytes(broken.read_bytes()[:-200])
    again = config(world, name="pairs")
    EarlierRollouts(run, again, streams(world, again), said.append).drawn(1)
    assert file.read_bytes() == before and said == [], "what was chosen stays chosen"
    file.write_bytes(before[:-9])
    words = EarlierRollouts(run, again, streams(world, again), said.append).drawn(1).words
    assert "pairs of" in words
    assert said[0].startswith("DAMAGED: stages/02-dpo/from_rollouts.json") and "step_000001.jsonl: truncated" in said[1]
    (run / "stages/01-grpo/rollouts/step_000002.npz").unlink()
    file.unlink()
    said.clear()
    EarlierRollouts(run, again, streams(world, again), said.append).drawn(1)
    assert {one["step"] for one in json.loads(file.read_text())["pairs"]} == {1}
    assert said[0] == (
        "stage dpo: no pairs of 1 step: their tokens are not there, such as stages/01-grpo/rollouts/step_000002.npz"
    )
    shutil.rmtree(run / "stages/01-grpo/rollouts")
    (run / "stages/01-grpo/rollouts").mkdir()
    file.unlink()
    with pytest.raises(
        DataError, match=r"the rollouts of 01-grpo have no pair of the kind own_even:pairs: add another pair"
    ):
        EarlierRollouts(run, again, streams(world, again), said.append).drawn(1)


@pytest.mark.model
def test_a_group_that_cannot_be_made_again_is_left_out(done: tuple[Path, str], world: World, place: Path) -> None:
    run = copy_run(done[0], place)
    shutil.rmtree(run / "stages/02-dpo")
    shutil.rmtree(run / "stages/03-again")
    (run / "stages/01-grpo/rollouts/step_000001.npz").write_bytes(b"no arrays")
    facts = json.loads((run / "run.json").read_text())
    del facts["checksum"]
    (run / "run.json").write_text(json.dumps(seal({**facts, "stage": "02-dpo"})))
    _, shown = train(config(world))
    faulty = [group.record for group in RolloutStore(run).groups("dpo") if not group.record.trajectories]
    assert faulty and all("step_000001.npz: damaged" in str(record.error) for record in faulty)
    assert "left out: " in shown
    rows = json_lines(run / "stages/02-dpo/metrics.jsonl")
    assert sum(row.get("groups/stored_failed", 0) for row in rows) == len(faulty)
    assert not any("groups/turn_failed" in row for row in rows)
    assert sum(row["groups/all"] - row["groups/used"] for row in rows) == len(faulty)


@pytest.mark.model
def test_changed_responses_and_media_are_not_trained_on(done: tuple[Path, str], world: World, place: Path) -> None:
    """A stage that was repeated since with other responses, and a clip that was replaced by one of the same length."""
    run = copy_run(done[0], place)
    again = config(world)
    components = Components.open(again)
    files = sorted((run / "stages/01-grpo/rollouts").glob("*.jsonl"))

    def groups() -> list[Group]:
        earlier = EarlierRollouts(run, again, streams(world, again), print)
        stream, stored = earlier.begin(1, components.family, components.strategy)
        assert stored is not None
        drawn = stream.batch(0, 3)
        return stored.groups(drawn, [components.strategy.start(sample) for sample in drawn])

    def change(key: str, value: str) -> None:
        for file in files:
            file.write_text(file.read_text().replace(f'"{key}": "', f'"{key}": "{value}'))

    assert all(not group.fault and len(group.trajectories) >= 2 for group in groups())
    change("digest", "0")
    assert all("media, or the frames that are taken of them, are not those" in group.fault for group in groups())
    change("response", "no")
    changed = groups()
    assert all("other responses than those that its pairs were chosen from" in group.fault for group in changed)
    components.close()
    with pytest.raises(StoppedError, match=r"3 with a group of an earlier stage that cannot .* restore the rows, the"):
        UnusableStepWatch("dpo", 1, 2, print).look(1, changed)


@pytest.mark.model
def test_samples_of_over_sampling_are_drawn_again(done: tuple[Path, str], world: World, place: Path) -> None:
    run = copy_run(done[0], place)
    shutil.rmtree(run / "stages/02-dpo")
    over = config(world, steps=1, rollout={"max_new_tokens": 8, "strategy": "second_look", "over_sample_rate": 1.0})
    assert over.rollout.over_sample_rate == 1.0
    file = run / "stages/01-grpo/rollouts/step_000001.jsonl"
    stream = streams(world, over)[0]
    extra = rounds_of(over.stages[0], stream, 6)(1, 0)[6:]
    rows = json_lines(file)
    known = {sample.id for sample in rounds_of(over.stages[0], stream)(1, 0)}
    assert any(sample.id not in known for sample in extra)
    for row, sample in zip(rows, extra, strict=True):
        row["sample"] = sample.id
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    said: list[str] = []
    (run / "stages/01-grpo/rollouts/step_000002.jsonl").unlink()
    assert EarlierRollouts(run, over, streams(world, over), said.append).drawn(1).places
    assert said == []


@pytest.mark.model
def test_a_stage_whose_samples_are_all_solved_is_told_why(done: tuple[Path, str], world: World, place: Path) -> None:
    run = copy_run(done[0], place)
    shutil.rmtree(run / "stages/03-again")
    solved = [group.record.sample for group in RolloutStore(run).groups("grpo")]
    for file in (run / "stages/01-grpo/rollouts").glob("*.jsonl"):
        file.write_text(file.read_text().replace('"accuracy": 0.0', '"accuracy": 1.0'))
    options = config(world)
    last = options.stages[2].model_copy(update={"rollouts": RolloutsConfig(drop_solved=1.0)})
    options = options.model_copy(update={"stages": (*options.stages[:2], last)})
    mine = [sample for sample in samples(world) if sample.id in solved]
    stream = SampleStream([mine], [1.0], 0)
    with pytest.raises(DataError, match=rf"stage again: rollouts.drop_solved \(1\) .* all {len(mine)} samples"):
        EarlierRollouts(run, options, [stream] * 3, print).drawn(2)
    assert not (run / "stages/03-again/from_rollouts.json").exists()


@pytest.mark.model
def test_the_doctor_looks_at_what_a_stage_has_taken(done: tuple[Path, str], place: Path) -> None:
    from typer.testing import CliRunner

    from easyvideor1.cli.app import app

    run = copy_run(done[0], place)
    file = run / "stages/03-again/from_rollouts.json"
    file.write_bytes(file.read_bytes()[:-9])
    shown = CliRunner().invoke(app, ["doctor", str(run)], env={"COLUMNS": "300"})
    assert shown.exit_code == 1 and "1 broken" in shown.stderr, shown.output
    lines = [line for line in shown.stdout.splitlines() if "from_rollouts.json" in line]
    assert [line.split()[0] for line in lines] == ["ok", "broken"]
    assert "groups (own_even:pairs" in lines[0] and "chooses again" in lines[1]
