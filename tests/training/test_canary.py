"""The canary speaks when a policy is paid for something else than answering, and is silent when it learns."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from easyvideor1.config import RunConfig
from easyvideor1.config.canary import CanaryConfig
from easyvideor1.rewards import score
from easyvideor1.rewards.tags import grammar_of
from easyvideor1.rollout.groups import score_metrics
from easyvideor1.training.canary import Canary, CanaryStopError, canary_metrics, worst
from easyvideor1.training.canary_alarms import Alarm, Windows
from easyvideor1.training.canary_alarms import alarms as alarms_of
from easyvideor1.types import Group, Prompt, Sample, Score, Trajectory, Turn

from .runs import World, json_lines, lasting, train

RECORDINGS = Path(__file__).with_name("recordings")
PROMPT = Prompt(np.arange(3), text="Give it in <answer> </answer>.")
OPTIONS = CanaryConfig(window=5)


def trajectory(text: str, tokens: int = 10, finish: str = "stop") -> Trajectory:
    mask = np.ones(tokens, dtype=bool)
    return Trajectory((Turn(PROMPT, np.zeros(tokens, np.int64), mask, None, finish, text),))  # type: ignore[arg-type]


def group(sample: str, answer: str, responses: list[dict[str, Any]], task: str = "numerical") -> Group:
    made = tuple(trajectory(one["text"], one["tokens"], one["finish"]) for one in responses)
    scores = tuple(
        Score(one["accuracy"], one["format"], 0.0, parsed=one["parsed"], found=one["found"]) for one in responses
    )
    return Group(Sample(sample, "?", task, answer), made, scores)


def step(**changes: Any) -> list[Group]:
    """Four questions with four responses each; ``changes`` are of every response."""
    return [
        group(
            f"s{number}",
            str(number),
            [
                {
                    "text": f"<answer>{number}</answer> {at}",
                    "tokens": 10,
                    "finish": "stop",
                    "accuracy": 1.0,
                    "format": 1.0,
                    "parsed": str(number),
                    "found": "tag",
                    **changes,
                }
                for at in range(4)
            ],
        )
        for number in range(4)
    ]


def metrics(groups: list[Group]) -> dict[str, float]:
    return {**score_metrics(groups, groups), **canary_metrics(groups)}


def alarms(rows: list[dict[str, float]], options: CanaryConfig) -> list[Alarm]:
    """What is wrong after the last of these steps."""
    windows = Windows(options.window)
    for row in rows:
        windows.add(row)
    return alarms_of(windows, options)


HEALTHY = metrics(step())
SICK: dict[str, dict[str, Any]] = {
    "paid_without_form": {"format": 0.5},
    "cut_off": {"finish": "length"},
    "tagless": {"found": "nothing", "accuracy": 0.0},
    "length_ratio": {"tokens": 40},
    "constant/numerical": {"parsed": "7"},
    "diversity": {"text": "<answer>1</answer>"},
}


@pytest.mark.parametrize("kind", SICK)
def test_every_alarm_is_raised_by_its_cause_and_shows_it(kind: str) -> None:
    groups = step(**SICK[kind])
    rows = [HEALTHY] * 5 + [metrics(groups)] * 5
    found = {alarm.kind: alarm for alarm in alarms(rows, OPTIONS)}
    assert set(found) == {kind}
    assert found[kind].now != found[kind].before
    shown = worst(found[kind], groups)
    assert len(shown) == 3
    assert all(row[name] == value for row in shown for name, value in SICK[kind].items() if name in row)


def test_accuracy_that_rises_while_form_falls() -> None:
    rows = [{**HEALTHY, "reward/accuracy": 0.5}] * 5 + [{**HEALTHY, "reward/accuracy": 0.8, "reward/format": 0.8}] * 5
    assert [alarm.kind for alarm in alarms(rows, OPTIONS)] == ["format_fall"]
    both_fall = [HEALTHY] * 5 + [{**HEALTHY, "reward/accuracy": 0.3, "reward/format": 0.8}] * 5
    assert alarms(both_fall, OPTIONS) == []


def test_a_policy_that_learns_is_let_alone() -> None:
    assert alarms([HEALTHY] * 30, OPTIONS) == []
    learning = [metrics(step(accuracy=number / 20, text=f"<answer>1</answer> {number}")) for number in range(20)]
    assert [alarm.kind for alarm in alarms([HEALTHY] * 5 + learning, OPTIONS)] == ["diversity"]
    slow = [metrics(step(accuracy=number / 20, tokens=10 + number)) for number in range(20)]
    assert alarms(slow, OPTIONS) == []


def test_what_does_not_concern_it_says_nothing() -> None:
    assert alarms([HEALTHY] * 9, OPTIONS) == []  # less than two windows
    unasked = [
        Group(g.sample, tuple(Trajectory((_without_prompt(t),)) for t in g.trajectories), g.scores) for g in step()
    ]
    assert "canary/tagless" not in canary_metrics(unasked)
    own = step(found="", format=0.2)
    assert canary_metrics(own)["canary/paid_without_form"] == 0.0  # a reward of the user: its form is its own business
    assert canary_metrics(own)["canary/tagless"] == 0.0  # read from the text
    assert canary_metrics([]) == {}


def asked(task: str, references: list[str], parsed: list[str], options: tuple[str, ...] = ()) -> dict[str, float]:
    """The metrics of a step with two responses to each question, which give the recorded answers."""
    groups = []
    for number, (answer, said) in enumerate(zip(references, parsed, strict=True)):
        sample = Sample(f"s{number}", "?", task, answer, options=options)
        scores = (Score(1.0, 1.0, 1.0, parsed=said, found="tag"),) * 2
        groups.append(Group(sample, (trajectory("a"), trajectory("b")), scores))
    return canary_metrics(groups)


@pytest.mark.parametrize(
    ("task", "references", "parsed", "options"),
    [
        ("boolean", ["Yes", "yes", "True", "Yes.", "true", "Yes"], ["yes"] * 6, ()),
        ("multiple_choice", ["B", "(B)", "B. dog", "dog"], ["B"] * 4, ("cat", "dog")),
        ("numerical", ["3", "3.0", "3.00", "<answer>3</answer>"], ["3"] * 4, ()),
        ("temporal_grounding", ["[2, 5]", '{"time": [2, 5]}', "[2.0, 5.0]"] * 2, [""] * 6, ()),
        ("preference", ["a response for a judge", "another", "a third", "a fourth"], ["1", "2", "1", "2"], ()),
    ],
)
def test_right_answers_are_no_constants(
    task: str, references: list[str], parsed: list[str], options: tuple[str, ...]
) -> None:
    """References are read as responses are: what differs in writing alone is one."""
    if not parsed[0]:
        parsed = [score(task, f"<answer>{answer}</answer>", answer).parsed for answer in references]
        assert len(set(parsed)) == 1
    found = asked(task, references, parsed, options)
    assert found[f"canary/constant/{task}"] == pytest.approx(0.25 if task == "preference" else 0.0)


def test_a_constant_that_was_there_from_the_start_is_no_collapse() -> None:
    name = "canary/constant/numerical"
    rows = [{**HEALTHY, name: 0.8}] * 5
    assert alarms(rows + [{**HEALTHY, name: 0.9}] * 20, OPTIONS) == []
    (alarm,) = alarms([{**HEALTHY, name: 0.3}] * 5 + [{**HEALTHY, name: 0.6}] * 5, OPTIONS)
    assert (alarm.kind, alarm.now, alarm.before) == ("constant/numerical", pytest.approx(0.6), pytest.approx(0.3))


def test_what_comes_later_is_compared_with_its_own_first_window() -> None:
    """A task drawn late, and accuracy before any was earned."""
    late = {name: value for name, value in HEALTHY.items() if not name.startswith("canary/")}
    rows = [late] * 10 + [HEALTHY] * 5
    sick = metrics(step(format=0.5, parsed="7"))
    assert alarms(rows + [sick] * 4, OPTIONS) == []  # the two windows still overlap
    assert [alarm.kind for alarm in alarms(rows + [sick] * 5, OPTIONS)] == [
        "paid_without_form",
        "constant/numerical",
    ]


def test_form_is_compared_with_its_best_window() -> None:
    def row(form: float, accuracy: float) -> dict[str, float]:
        return {**HEALTHY, "reward/format": form, "reward/accuracy": accuracy}

    rows = [row(0.5, 0.2)] * 5 + [row(0.9, 0.4)] * 5 + [row(0.7, 0.4)] * 5
    assert alarms(rows, OPTIONS) == []  # accuracy has not risen
    (alarm,) = alarms(rows + [row(0.6, 0.5)] * 40, OPTIONS)
    assert (alarm.kind, alarm.now, alarm.before) == ("format_fall", pytest.approx(0.6), pytest.approx(0.9))


def test_a_step_costs_the_same_late_in_a_stage() -> None:
    """Counted in rows looked at, so that a busy machine decides nothing."""
    seen = 0

    class Row(dict[str, float]):
        def __getitem__(self, name: str) -> float:
            nonlocal seen
            seen += 1
            return super().__getitem__(name)

    counts = []
    for steps in (200, 400):
        seen = 0
        Canary(CanaryConfig(window=5), lambda text: None, [Row(HEALTHY) for _ in range(steps)])
        counts.append(seen)
    assert counts[0] > 0
    assert counts[1] < 2.1 * counts[0]


@pytest.mark.parametrize("kind", ["diversity", "tagless", "constant/numerical", "format_fall"])
def test_a_step_without_groups_shows_nothing(kind: str) -> None:
    assert worst(Alarm(kind, 0.0, 1.0, ""), []) == []


def test_a_tag_inside_the_thinking_is_none() -> None:
    """Whether the prompt or the response opened it, and under whatever name."""
    prompt = Prompt(np.arange(3), text="Give it in <answer> </answer>.<think>", opens_thinking=True)

    def tagless(text: str, given: Prompt, grammar: str | tuple[str, ...] = "answer") -> float:
        turn = Turn(given, np.zeros(3, np.int64), np.ones(3, dtype=bool), None, "stop", text)
        made = Group(Sample("s", "?", "numerical", "1"), (Trajectory((turn,)),), (Score(0.0, 0.0, 0.0),))
        return canary_metrics([made], grammar_of(grammar))["canary/tagless"]

    assert tagless("is it <answer>1</answer>? Hm", prompt) == 1.0
    assert tagless("it is one.</think><answer>1</answer>", prompt) == 0.0
    assert tagless("is it <answer>1</answer>? Hm", PROMPT) == 0.0
    assert tagless("<plan>is it <answer>1</answer>?", PROMPT, ("plan",)) == 1.0
    assert tagless("<plan>one</plan><answer>1</answer>", PROMPT, ("plan",)) == 0.0


def _without_prompt(trajectory: Trajectory) -> Turn:
    turn = trajectory.turns[0]
    return Turn(Prompt(np.arange(3)), turn.response_ids, turn.response_mask, None, turn.finish, turn.text)


def test_an_alarm_is_said_when_it_begins_and_again_while_it_lasts() -> None:
    said: list[str] = []
    options = CanaryConfig(window=5, repeat_every=10)
    canary = Canary(options, said.append)
    spoken = []
    for number in range(1, 41):
        groups = step(finish="length") if 10 < number <= 36 else step()
        if canary.look(number, metrics(groups), groups):
            spoken.append(number)
    assert spoken == [11, 21, 31]
    assert said[0].startswith("WARNING, step 11: more responses are cut off at the length limit (0.20 over the last 5")
    assert sum("tokens (length)" in line for line in said) == 9


def test_a_resumed_canary_says_what_an_uninterrupted_one_says() -> None:
    steps = [step(finish="length") if number > 9 else step() for number in range(1, 31)]
    rows = [metrics(groups) for groups in steps]

    def told(canary: Canary, start: int) -> list[tuple[int, str]]:
        pairs = list(zip(rows, steps, strict=True))[start:]
        return [
            (number, row["alarm"])
            for number, (found, groups) in enumerate(pairs, start + 1)
            for row in canary.look(number, found, groups)
        ]

    whole = told(Canary(OPTIONS, lambda text: None), 0)
    for cut in (5, 12, 20):
        resumed = told(Canary(OPTIONS, lambda text: None, rows[:cut]), cut)
        assert resumed == [entry for entry in whole if entry[0] > cut]


def replay(name: str) -> list[tuple[int, str]]:
    """What the canary says of a recording, with the thresholds that a run has."""
    canary = Canary(RunConfig().canary, lambda text: None)
    told = []
    for number, line in enumerate(gzip.decompress((RECORDINGS / name).read_bytes()).decode().splitlines(), 1):
        groups = [group(row["sample"], row["answer"], row["responses"], row["task"]) for row in json.loads(line)]
        told += [(number, row["alarm"]) for row in canary.look(number, metrics(groups), groups)]
    return told


def test_it_speaks_before_step_140_of_the_hacked_run() -> None:
    """A quickstart under the reading of answers that paid unfinished responses; see the recording's README."""
    told = replay("hacked.jsonl.gz")
    assert told
    assert told[0][0] < 140
    assert {"paid_without_form", "cut_off"} & {kind for _, kind in told}


def test_it_is_silent_on_a_run_that_learns() -> None:
    assert replay("healthy.jsonl.gz") == []


def test_a_stage_is_stopped_and_can_be_resumed_with_a_warning(world: World, place: Path) -> None:
    # Prompts whose responses end early enough, in this untrained model, to get longer.
    prompts = {"model__conventions": "transformers", "rollout__max_new_tokens": 80}
    values = {"output_dir": str(place / "run"), "stages__0__steps": 6, "stages__0__save_every": 2, **prompts}
    watched = {"canary__window": 1, "canary__length_ratio": 1.0001, "canary__cut_off": 1.0, "canary__action": "stop"}
    with pytest.raises(CanaryStopError, match=r"The stage was stopped \(canary.action: stop\)"):
        train(world.short(**values, **watched))
    stage = place / "run" / "stages" / "01-rl"
    (spoken, *_) = json_lines(stage / "canary.jsonl")
    assert spoken["alarm"] == "length_ratio"
    assert spoken["examples"][0]["tokens"] > 0
    assert not (stage / "checkpoints" / "step_000006").exists()
    _, shown = train(world.short(**values, **{**watched, "canary__action": "warn"}))
    assert "WARNING, step" in shown
    assert (stage / "checkpoints" / "step_000006").exists()
    uninterrupted, _ = (
        place / "other",
        train(world.short(**{**values, "output_dir": str(place / "other")}, **{**watched, "canary__action": "warn"})),
    )
    here, there = lasting(place / "run"), lasting(uninterrupted)
    assert {name: data for name, data in here.items() if name != "config.yaml"} == {
        name: data for name, data in there.items() if name != "config.yaml"
    }


def test_its_thresholds_alone_may_change_between_two_starts(world: World, place: Path) -> None:
    from easyvideor1.types import ConfigError

    values = {"output_dir": str(place / "run")}
    train(world.short(**values))
    train(world.short(**values, canary__window=3))
    assert "window: 3" in (place / "run" / "config.yaml").read_text(encoding="utf-8")
    with pytest.raises(ConfigError, match="another configuration"):
        train(world.short(**values, canary__window=3, rollout__temperature=0.9))
