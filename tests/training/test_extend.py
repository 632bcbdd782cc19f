"""A finished run can be extended: by more steps of its last stage, or by another stage behind it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from easyvideor1.evaluation.history import place_of, read_history
from easyvideor1.training.run_directory.identity import check_configuration
from easyvideor1.types import ConfigError

from .runs import World, json_lines, lasting, train

pytestmark = pytest.mark.model


def stages(world: World, *steps: int, **changes: Any) -> list[dict[str, Any]]:
    """The stages of the world with so many steps each, at a constant learning rate."""
    sft, grpo = world.values()["stages"]
    constant = {"lr": 1e-3, "warmup_steps": 1}
    both = [{**sft, "keep_checkpoints": 9}, {**grpo, "keep_checkpoints": 9, "optimizer": constant, **changes}]
    return [{**stage, "steps": count} for stage, count in zip(both, steps, strict=False)]


def differing(one: Path, other: Path, *, but: set[str] = frozenset()) -> set[str]:  # type: ignore[assignment]
    ours, theirs = lasting(one), lasting(other)
    return {name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)} - but


def test_more_steps_are_as_if_they_had_been_there_from_the_start(world: World, place: Path) -> None:
    for name, counts in (("long", [(3, 5)]), ("grown", [(3, 3), (3, 5)])):
        for count in counts:
            _, shown = train(world.config(name=name, stages=stages(world, *count)))
    long, grown = place / "runs/long", place / "runs/grown"
    assert "stage grpo: extended from 3 to 5 steps, with the same result as if it had had them from the start" in shown
    assert "stage grpo: resuming after step 3" in shown and "DAMAGED" not in shown
    # The shorter run saved its end and evaluated it; all else is byte-equal, but for the name of the run.
    former = {f"stages/02-grpo/checkpoints/step_000003/{file}" for file in checkpoint_files(grown, 3)}
    own = {*former, "evaluations/02-grpo-000003.json", "evaluations/02-grpo-000003.jsonl"}
    assert differing(long, grown, but={"config.yaml"}) == own
    assert [row["step"] for row in json_lines(grown / "stages/02-grpo/metrics.jsonl")] == [1, 2, 3, 4, 5]
    history = read_history(grown)
    places = {name: place_of(name, history) for name in ("02-grpo-000003", "02-grpo")}
    assert [(one.split, one.step) for one in places.values() if one] == [("test", 6), ("test", 8)]
    assert json.loads((grown / "summary.json").read_text())["evaluations"] == {"before": "01-sft", "after": "02-grpo"}
    _, shown = train(world.config(name="grown", stages=stages(world, 3, 5)))
    assert "is finished" in shown and "DAMAGED" not in shown


def checkpoint_files(run: Path, step: int) -> list[str]:
    return [file.name for file in (run / f"stages/02-grpo/checkpoints/step_{step:06d}").iterdir()]


def test_another_stage_stands_behind(world: World, place: Path) -> None:
    train(world.config(name="long", stages=stages(world, 2, 2)))
    train(world.config(name="grown", stages=stages(world, 2)))
    summary, shown = train(world.config(name="grown", stages=stages(world, 2, 2)))
    assert "extended" not in shown and "DAMAGED" not in shown, "nothing that is done has changed"
    assert differing(place / "runs/long", place / "runs/grown", but={"config.yaml"}) == set()
    assert summary["evaluations"] == {"before": "01-sft", "after": "02-grpo"}


def test_a_schedule_that_follows_the_length_is_named(world: World, place: Path) -> None:
    falling = {"optimizer": {"lr": 1e-3, "schedule": "cosine"}}
    train(world.config(stages=stages(world, 1, 2, **falling)))
    _, shown = train(world.config(stages=stages(world, 1, 3, **falling)))
    told = (
        "stage grpo: extended from 2 to 3 steps; its first 2 steps were trained as those of a shorter stage: the "
        "learning rate follows the length of the stage (optimizer.schedule, optimizer.warmup_ratio)"
    )
    assert told in shown
    assert told in [one["text"] for one in json.loads((place / "runs/small/run.json").read_text())["incidents"]]
    rows = json_lines(place / "runs/small/stages/02-grpo/metrics.jsonl")
    assert [round(row["lr"] / 1e-3, 3) for row in rows] == [1.0, 0.5, 0.25]


def test_epochs_are_counted_again(world: World, place: Path) -> None:
    def config(epochs: float) -> Any:
        (stage,) = world.values()["stages"][:1]
        del stage["steps"]
        return world.config(stages=[{**stage, "epochs": epochs, "prompts_per_step": 6}])

    train(config(0.5))
    _, shown = train(config(1.5))
    assert "stage sft: extended from 1 to 3 steps" in shown
    assert [row["step"] for row in json_lines(place / "runs/small/stages/01-sft/metrics.jsonl")] == [1, 2, 3]
    with pytest.raises(ConfigError, match=r"stages\.0\.epochs is 1\.5 there, 1\.0 here"):
        train(config(1.0))


def test_epochs_in_place_of_steps_are_counted(world: World, place: Path) -> None:
    def config(**length: float) -> Any:
        (stage,) = world.values()["stages"][:1]
        del stage["steps"]
        return world.config(stages=[{**stage, **length, "prompts_per_step": 6}], evaluation__every=0)

    train(config(steps=2))
    with pytest.raises(ConfigError, match="stage sft has 2 steps there, 1 here; a run can be made longer"):
        train(config(epochs=0.5))
    summary, shown = train(config(epochs=1.5))
    assert "stage sft: extended from 2 to 3 steps" in shown and summary["steps"] == 3
    assert "stage sft: 1.5 epochs of 12 samples at 6 a step are 3 steps" in shown
    assert [row["step"] for row in json_lines(place / "runs/small/stages/01-sft/metrics.jsonl")] == [1, 2, 3]


@pytest.mark.parametrize(
    ("counts", "changes", "words"),
    [
        ((3, 2), {}, r"stages\.1\.steps is 3 there, 2 here.*can only be extended"),
        ((4, 3), {}, r"stages\.0\.steps is 3 there, 4 here"),
        ((3,), {}, r"stages\.1\.\w+ is .* there, None here"),
        ((3, 4), {"group_size": 4}, r"group_size"),
    ],
)
def test_what_is_no_extension_is_refused(
    finished_short: Path, world: World, counts: tuple[int, ...], changes: dict[str, Any], words: str
) -> None:
    before = lasting(finished_short)
    with pytest.raises(ConfigError, match=words):
        train(world.config(stages=stages(world, *counts, **changes)))
    assert lasting(finished_short) == before


@pytest.fixture
def finished_short(world: World, place: Path) -> Path:
    """Only what the check of a configuration reads: it refuses before anything else is looked at."""
    from easyvideor1.config import dump_config

    run = place / "runs/small"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(dump_config(world.config(stages=stages(world, 3, 3))))
    return run


def test_a_run_of_an_earlier_version_is_left_to_that_version(finished_short: Path, world: World) -> None:
    file = finished_short / "config.yaml"
    values = yaml.safe_load(file.read_text())
    for stage in values["stages"]:
        stage |= {"kl": stage["kl"]["estimator"], "kl_coef": stage["kl"]["coef"]}
    file.write_text(yaml.safe_dump(values))
    with pytest.raises(ConfigError, match="was begun by an earlier version; finish it with that version"):
        train(world.config(stages=stages(world, 3, 3)))


def test_a_run_under_the_earlier_convention_is_continued_under_it_or_not_at_all(
    finished_short: Path, world: World
) -> None:
    file = finished_short / "config.yaml"
    there = file.read_text().replace("conventions: released", "conventions: transformers")
    file.write_text(there)
    for more in (0, 2):
        with pytest.raises(ConfigError, match=r"set model\.conventions=transformers to continue that run"):
            check_configuration(finished_short, world.config(stages=stages(world, 3, 3 + more)))
        assert file.read_text() == there
        same = world.config(stages=stages(world, 3, 3 + more), model__conventions="transformers")
        assert check_configuration(finished_short, same) == (more > 0)


def test_a_kill_while_it_is_extended_does_no_harm(world: World, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from easyvideor1.training.run_directory import status

    train(world.config(name="long", stages=stages(world, 3)))
    train(world.config(name="grown", stages=stages(world, 2)))
    run = place / "runs/grown"
    for broken in ("write_json", "write_text"):  # run.json, then config.yaml
        with monkeypatch.context() as patched:
            patched.setattr(status, broken, killed)
            with pytest.raises(KeyboardInterrupt):
                train(world.config(name="grown", stages=stages(world, 3)))
        assert not (run / "evaluations/01-sft.json").exists()
    train(world.config(name="grown", stages=stages(world, 3)))
    assert (run / "evaluations/01-sft-000002.json").exists()
    assert {name.partition("-")[0] for name in differing(place / "runs/long", run, but={"config.yaml"})} == {
        "evaluations/01"
    }


def killed(*arguments: object) -> None:
    raise KeyboardInterrupt
