"""evr1 filter and evr1 trajectories collect with a checkpoint, on a world of their own."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from easyvideor1.components import Components
from easyvideor1.config import DataConfig, RewardConfig, SourceConfig
from easyvideor1.curation import responses as collecting
from easyvideor1.curation.ledger import ResponseLedger
from easyvideor1.curation.responses import collect_responses
from easyvideor1.data import load_source
from easyvideor1.rollout.driver import Outcome
from easyvideor1.types import DataError, EasyVideoError, Sample, Trajectory, Turn
from training.runs import OWN_TURNS, World, json_lines, write_rows
from training.test_bad_input import damaged_pixels

from .commands import EVERY_RATE, configured, evr1, numbered

pytestmark = pytest.mark.model


def test_rows_between_the_bounds_are_kept_with_their_rates(world: World, place: Path) -> None:
    out, settings = place / "kept.jsonl", configured(world, place)
    # The share of vowels: some responses pass at this accuracy, others do not.
    done = evr1("filter", settings, "--out", out, "-k", 3, "--passing", 0.2)
    assert done.exit_code == 0, done.output
    rows = json_lines(out)
    assert 0 < len(rows) <= 12 and f"{len(rows)} rows; left out of 12 rows" in done.output
    assert all(0 < row["pass_rate"] < 1 and row["pass_responses"] == 3 for row in rows)
    assert [file.name for file in place.glob("*kept*")] == ["kept.jsonl"], "neither ledger nor lock is left"
    again = load_source(SourceConfig(path=str(out)), DataConfig())
    assert len(again.samples) == len(rows) and not again.bad
    evr1("filter", settings, "--out", place / "all.jsonl", "-k", 3, "--passing", 0.2, *EVERY_RATE)
    rates = [row["pass_rate"] for row in json_lines(place / "all.jsonl")]
    assert len(rates) == 12 and [rate for rate in rates if 0 < rate < 1] == [row["pass_rate"] for row in rows]
    refused = evr1("filter", settings, "--out", out)
    assert refused.exit_code == 2 and "exists already" in refused.output
    assert "must be less than --below" in evr1("filter", settings, "--above", 1, "--below", 0).output


def interrupted(place: Path, *words: object, rows: int = 8) -> None:
    """Stop a command with two responses per row after so many rows."""
    (place / "stop_after").write_text(str(1 + 2 * rows))  # one more, with which the reward is tried
    assert evr1(*words).exit_code == 130
    (place / "stop_after").unlink()


def test_a_command_resumes_where_it_was(world: World, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collecting, "WINDOW", 5)  # so that the interruption is in the middle of the second batch
    words = ("filter", configured(world, place), "-k", 2, "--passing", 0.2, *EVERY_RATE)
    assert evr1(*words, "--out", place / "whole.jsonl").exit_code == 0
    out, partial = place / "cut.jsonl", place / "cut.jsonl.partial.jsonl"
    interrupted(place, *words, "--out", out)
    assert not out.exists() and len(json_lines(partial)) == 1 + 8
    with partial.open("ab") as file:
        file.write(b'{"sample": "half a li')
    other = evr1("filter", configured(world, place), "-k", 3, "--out", out)
    assert other.exit_code == 2 and "k is 2 there, 3 here" in other.output and "remove the file" in other.output
    (place / "scored").unlink()
    assert evr1(*words, "--out", out).exit_code == 0
    assert len((place / "scored").read_text().splitlines()) == 1 + 2 * 4, "what was known is not scored again"
    assert out.read_bytes() == (place / "whole.jsonl").read_bytes() and not partial.exists()


def test_what_does_not_decide_a_response_may_change(world: World, place: Path) -> None:
    words = ("-k", 2, "--out", place / "rows.jsonl", *EVERY_RATE)
    interrupted(place, "filter", configured(world, place), *words)
    more = configured(world, place, name="other", cache__deadline=99, data__on_bad_row="skip")
    assert evr1("filter", more, *words).exit_code == 0


@pytest.mark.parametrize("what", ["rows", "weights", "reward", "template", "setting"])
def test_a_start_with_something_else_is_refused(world: World, place: Path, what: str) -> None:
    shutil.copytree(world.checkpoint, place / "model")
    (place / "prompts").mkdir()
    template = place / "prompts/multiple_choice.j2"
    template.write_text("{{ question }}")
    changes: dict[str, Any] = {"model__path": str(place / "model"), "prompts__templates": str(place / "prompts")}
    rows = numbered(world, 12)
    words = ("filter", configured(world, place, rows, **changes), "-k", 2, "--out", place / "rows.jsonl")
    interrupted(place, *words)
    if what == "rows":  # another question under the same identifier
        configured(world, place, [{**rows[0], "problem": rows[0]["problem"] + " Really?"}, *rows[1:]], **changes)
        said = f"the rows of {place / 'rows_to_ask.jsonl'} changed"
    elif what == "weights":  # trained on, in the middle of the file
        file = place / "model/model.safetensors"
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
        said = "the checkpoint's file model.safetensors changed"
    elif what == "reward":
        with (place / "own_reward.py").open("a") as opened:
            opened.write("\nSTRICT = True\n")
        said = "the code of own_reward changed"
    elif what == "template":
        template.write_text("Look closely. {{ question }}")
        said = "another prompt of"
    else:
        configured(world, place, rows, **changes, rollout__temperature=0.5)
        said = "rollout.temperature is 1.0 there, 0.5 here"
    before = (place / "rows.jsonl.partial.jsonl").read_bytes()
    done = evr1(*words)
    assert done.exit_code == 2 and said in done.output and "remove the file to start over" in done.output, done.output
    assert (place / "rows.jsonl.partial.jsonl").read_bytes() == before and not (place / "rows.jsonl").exists()


def test_good_responses_become_trajectories(world: World, place: Path) -> None:
    # Responses of an untrained model do not end within 24 tokens, and are not kept.
    out, settings = place / "good.jsonl", configured(world, place)
    words = ("trajectories", "collect", settings, "-k", 3, "--threshold", 0.2)
    done = evr1(*words, "rollout.max_new_tokens=300", "--out", out)
    assert done.exit_code == 0, done.output
    samples = load_source(SourceConfig(path=str(out)), DataConfig()).samples
    assert samples, "no response was good: the test shows nothing"
    for sample in samples:
        (offline,) = sample.offline
        assert sum(letter in "aeiou" for letter in offline.text) / len(offline.text) > 0.2
    assert f"{len(samples)} rows with {len(samples)} trajectories" in done.output
    done = evr1("trajectories", "collect", settings, "--out", place / "e.parquet", "-k", 1, "--threshold", 2, "--all")
    assert done.exit_code == 0 and "12 rows with 0 trajectories" in done.output


def test_log_probs_are_kept_where_the_text_gives_the_same_tokens(world: World, place: Path) -> None:
    settings = configured(world, place, rollout__engine="own_reward:Speller")
    for k, out in ((1, place / "same.jsonl"), (2, place / "spelt.jsonl")):
        words = ("trajectories", "collect", settings, "--out", out, "-k", k, "--threshold", 0.1)
        assert evr1(*words).exit_code == 0
    samples = load_source(SourceConfig(path=str(place / "same.jsonl")), DataConfig()).samples
    assert len(samples) == 12
    for sample in samples:
        (offline,) = sample.offline
        assert offline.text == "the answer" and offline.logprobs is not None
        assert len(offline.logprobs) > 1
        assert offline.logprobs == tuple(-n / 8 for n in range(1, len(offline.logprobs) + 1)), "the engine's own"
    # Of equal texts the last is kept: the one whose tokens were letters, which its text would not give again.
    spelt = load_source(SourceConfig(path=str(place / "spelt.jsonl")), DataConfig()).samples
    assert len(spelt) == 12 and all(sample.offline[0].logprobs is None for sample in spelt)


def test_media_that_cannot_be_read_cost_their_rows_only(world: World, place: Path) -> None:
    rows = numbered(world, 12)
    at = next(index for index, row in enumerate(rows) if row["videos"])
    rows[at] = damaged_pixels(rows[at], place)
    # Nothing is decoded ahead, so the fault is found when the row is asked.
    settings = configured(world, place, rows, cache__mode="decode_only", cache__dir=str(place / "frames"))
    words = ("filter", settings, "-k", 2, "--passing", 0.2, *EVERY_RATE)
    done = evr1(*words, "--out", place / "rows.jsonl")
    assert done.exit_code == 0, done.output
    assert "11 rows; left out of 12 rows" in done.output and "1 with unreadable media" in done.output
    assert "noise.mp4" in done.stderr and "to do:" in done.stderr
    assert {row["problem_id"] for row in json_lines(place / "rows.jsonl")} == {
        row["problem_id"] for index, row in enumerate(rows) if index != at
    }
    interrupted(place, *words, "--out", place / "again.jsonl")
    done = evr1(*words, "--out", place / "again.jsonl")
    assert done.exit_code == 0 and "1 with unreadable media" in done.output
    assert (place / "again.jsonl").read_bytes() == (place / "rows.jsonl").read_bytes()


def test_a_further_turn_without_a_prompt_costs_its_row_only(world: World, place: Path) -> None:
    (place / "own_turns.py").write_text(OWN_TURNS)
    rollout = {"max_new_tokens": 8, "strategy": "own_turns:Failing"}
    settings = configured(world, place, numbered(world, 4), rollout=rollout, evaluation__max_failed=0.5)
    done = evr1("filter", settings, "-k", 2, "--out", place / "kept.jsonl", *EVERY_RATE)
    assert done.exit_code == 0 and "3 rows; left out of 4 rows" in done.output, done.output
    told = "1 rows have no prompt of a further turn; first error: "
    assert "1 without a further turn" in done.output and told in done.output and "turn 2: no such clip" in done.output


def test_rows_that_were_refused_before_are_counted_with_what_to_do(world: World, place: Path) -> None:
    rows = numbered(world, 6)
    at = next(index for index, row in enumerate(rows) if row["videos"])
    rows[at] = damaged_pixels(rows[at], place)
    settings = configured(world, place, rows, data__on_bad_row="skip", cache__dir=str(place / "frames"))
    done = evr1("filter", settings, "-k", 2, "--out", place / "rows.jsonl", *EVERY_RATE)
    assert done.exit_code == 0, done.output
    assert "5 rows; left out of 6 rows" in done.output and "1 that cannot be used" in done.output
    assert f"rows_to_ask.jsonl:{at + 1}" in done.stderr and "to do:" in done.stderr


def test_nothing_is_written_when_no_row_can_be_asked(world: World, place: Path) -> None:
    row = damaged_pixels(next(row for row in world.read() if row["videos"]), place)
    settings = configured(world, place, [row], cache__mode="decode_only", cache__dir=str(place / "frames"))
    done = evr1("filter", settings, "-k", 2, "--out", place / "rows.jsonl")
    assert done.exit_code == 3 and "no response that could be scored" in done.output and "noise.mp4" in done.output
    assert not (place / "rows.jsonl").exists()


def test_rows_of_one_identifier_are_named(world: World, place: Path) -> None:
    rows = numbered(world, 2)
    other = write_rows(place / "other.jsonl", [rows[1]])
    both = [{"path": write_rows(place / "first.jsonl", list(rows))}, {"path": other}]
    settings = configured(world, place, data__train=both)
    done = evr1("filter", settings, "-k", 1, "--out", place / "rows.jsonl")
    assert done.exit_code == 2
    assert f"{other}:1: the problem_id {rows[1]['problem_id']!r} is also that of" in done.output
    assert "first.jsonl:2" in done.output


def test_processes_score_responses_to_several_samples_together(world: World, place: Path) -> None:
    (place / "met").mkdir()
    samples = [Sample(name, "?", "open_ended", "x", extra={"place": str(place / "met")}) for name in "ab"]
    rewards = RewardConfig(processes=2, custom={"*": "rollout.own_rewards:meeting"})
    with Components.open(world.short().model_copy(update={"rewards": rewards})) as components:

        def answered(asked: Any, known: Any) -> Any:
            for number, sample in enumerate(asked):
                prompt = components.strategy.start(sample)
                turn = Turn(prompt, np.array([5]), np.array([True]), None, "stop", "x")
                yield Outcome(number, sample, prompt, ((Trajectory((turn,)),),))
            raise EasyVideoError("the endpoint is gone")

        with pytest.raises(EasyVideoError, match="endpoint is gone"):
            collect_responses(samples, answered, components, ledger := ResponseLedger.open(place / "ledger", {}), say)
    assert [(name, entry.record.trajectories[0].score.accuracy) for name, entry in ledger.known.items()] == [
        ("a", 1.0),
        ("b", 1.0),
    ], "what came before the error is kept"


def say(done: int, total: int) -> None:
    """Of the progress."""


def test_identifiers_are_checked_before_anybody_is_asked(world: World, place: Path) -> None:
    def never(samples: Any, known: Any) -> Any:
        raise AssertionError("asked")

    twins = [Sample("a", "?", "open_ended", "x"), Sample("a", "?", "open_ended", "y")]
    with Components.open(world.short()) as components, pytest.raises(DataError, match="'a' is also that of"):
        collect_responses(twins, never, components, ResponseLedger.open(place / "ledger", {}), lambda done, total: None)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--model", "big"), "--model big needs an endpoint"),
        (("--api-key-env", "KEY"), "--api-key-env KEY needs an endpoint"),
        (("--endpoint", "http://localhost/v1", "--model", "big", "--checkpoint", "here"), "give one of them"),
        (("--endpoint", "nowhere", "--model", "big"), "--endpoint nowhere --model 'big': url 'nowhere': write it as"),
        (("--endpoint", "http://localhost/v1"), "model is missing"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    world: World, place: Path, words: tuple[str, ...], said: str
) -> None:
    done = evr1("trajectories", "collect", configured(world, place), "--out", place / "rows.jsonl", *words)
    assert done.exit_code == 2 and said in done.output, done.output


def test_rows_that_were_judged_in_part_are_asked_again(world: World, place: Path) -> None:
    """A judge that goes down in the middle: the responses that it has judged are no fair choice of a row's."""
    (place / "own_judge.py").write_text(
        "from pathlib import Path\n"
        "calls = 0\n"
        "def judge(sample, response):\n"
        "    global calls\n"
        "    calls += 1\n"
        "    if Path('down').exists() and calls > 4:\n"
        "        return None\n"
        "    return float(len(response) % 2)\n"
    )
    settings = configured(world, place, numbered(world, 4), rewards__custom={"*": "own_judge:judge"})
    whole = evr1("filter", settings, "--out", "whole.jsonl", "-k", 2, *EVERY_RATE)
    assert whole.exit_code == 0
    (place / "down").touch()
    sys.modules.pop("own_judge")
    words = ("filter", settings, "evaluation.max_failed=0.6", "--out", "kept.jsonl", "-k", 2, *EVERY_RATE)
    stopped = evr1(*words)
    # The first call is the trial of the reward: three of the eight responses are judged, of the second row one.
    assert stopped.exit_code == 3, stopped.output
    assert "2 of 4 rows have no response that could be scored, and 1 have only some, so kept.jsonl" in stopped.output
    assert "5 of 8 responses could not be scored; 2 rows have none that could" in stopped.output
    (place / "down").unlink()
    assert evr1(*words).exit_code == 0
    assert (place / "kept.jsonl").read_bytes() == (place / "whole.jsonl").read_bytes()
