"""Rewards in processes: scores as in the process of the run, and what becomes of a process that hangs or dies."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from easyvideor1.config import RewardConfig
from easyvideor1.rewards import RewardError, Scorer
from easyvideor1.rewards.judge.asking import Usage
from easyvideor1.rollout import scoring_pool
from easyvideor1.rollout.background_scoring import BackgroundScoring
from easyvideor1.rollout.reward_worker import ScoreGroup
from easyvideor1.rollout.reward_workers import GroupsAhead, RewardWorkers, config_of_process
from easyvideor1.rollout.scoring_pool import DIED, HUNG, GroupTask
from easyvideor1.types import (
    Completion,
    ConfigError,
    EasyVideoError,
    Group,
    Prompt,
    Sample,
    Score,
    Trajectory,
    Turn,
    VisualSpan,
)
from rewards.judge_server import Server, verdict

from . import own_rewards

CHOICE = Sample("choice", "Which?", "multiple_choice", "B", options=("A. red", "B. blue"))
SUM = Sample("sum", "What is 3 + 4?", "math", "7")
PROGRAM = Sample("program", "Double it.", "code", json.dumps({"inputs": ["2\n"], "outputs": ["4\n"]}))
FREE = Sample("free", "What does the man open?", "open_ended", "a red door")
CUSTOM = own_rewards.__name__


def said(*texts: str) -> list[Completion]:
    return [Completion(text, asks_tag=True) for text in texts]


def turns(count: int) -> Trajectory:
    """So many turns after a video of 40 visual tokens."""
    ids = np.array([1, *[9] * 40, 2])
    prompt = Prompt(ids, spans=(VisualSpan(0, 1, 40),), text="<answer>")
    made = []
    for number in range(count):
        response = np.array([3, 4 + number])
        logprobs, versions = np.array([-0.5, -1.0], np.float32), np.array([1, 2])
        made.append(Turn(prompt, response, np.array([True, number == 0]), logprobs, "stop", f"turn {number}", versions))
        prompt = prompt.followed_by(response)
    return Trajectory(tuple(made), "offline")


#: Groups of types that read text alone, wait for a process, or are scored by a reward of the user's.
GROUPS = [
    (CHOICE, said("<answer>B</answer>", "<answer>A</answer>", "B", "I do not know.")),
    (SUM, said("<answer>7</answer>", "<answer>8</answer>", "<answer>14/2</answer>")),
    (PROGRAM, said("<answer>```python\nprint(2 * int(input()))\n```</answer>", "<answer>print(</answer>")),
    (FREE, [Completion("short"), turns(3).completion, turns(1).completion]),
    (CHOICE, []),
]
SETTINGS: dict[str, Any] = {
    "custom": {"open_ended": f"{CUSTOM}:turns_taken"},
    "parts": [
        {"name": "varied", "reward": "diversity", "weight": 0.2},
        {"name": "longest", "reward": f"{CUSTOM}:share_of_longest", "weight": 0.1},
        {"name": "polite", "reward": f"{CUSTOM}:polite", "weight": 0.1},
    ],
    "workers": 2,
}


@pytest.fixture(scope="module")
def workers() -> Iterator[RewardWorkers]:
    with closing(RewardWorkers(RewardConfig(processes=2, **SETTINGS))) as workers:
        yield workers


def test_scores_are_those_of_the_process_of_the_run(workers: RewardWorkers) -> None:
    alone = Scorer(RewardConfig(**SETTINGS))
    wanted = alone.score_groups(GROUPS)
    assert [score.applicable for scores in wanted for score in scores].count(True) > 10
    assert wanted[3][1].accuracy == 0.75, "the reward was given the turns"
    assert workers.score_groups(GROUPS) == wanted
    assert workers.score_group(*GROUPS[0]) == alone.score_group(*GROUPS[0])
    pairs = [(sample, one) for sample, given in GROUPS for one in given]
    assert workers.score_each(pairs) == alone.score_each(pairs)
    assert workers(SUM, "<answer>7</answer>") == alone(SUM, "<answer>7</answer>")
    assert {span.name for span in workers.spans.take()} >= {"score math", "score code"}
    assert workers.counts == alone.counts


def test_what_began_ahead_is_not_scored_again(workers: RewardWorkers) -> None:
    wanted = Scorer(RewardConfig(**SETTINGS)).score_groups(GROUPS)
    begun = workers.comparisons()
    futures = {number: begun.begin(number, *GROUPS[number])[0] for number in (2, 0)}
    begun.begin(1, SUM, said("<answer>7</answer>"))  # of another group than it turns out to be
    assert workers.score_groups(GROUPS, begun) == wanted
    assert [begun.begin(number, *GROUPS[number])[0] for number in (2, 0)] == [futures[2], futures[0]]
    late = GroupsAhead(workers.open_pool().submit, 0.0)
    (masked, scored) = workers.score_groups([GROUPS[1], GROUPS[0]], late)
    assert {score.reason for score in masked} == {
        "not scored: the comparisons of the step took longer than rewards.step_seconds"
    }
    assert scored == wanted[0]


def test_trajectories_travel_packed() -> None:
    trajectory = turns(2)
    sent = ScoreGroup.of(1, FREE, [trajectory.completion], training=True, seconds=None, trajectories=True)
    assert [len(prompt.ids) for prompt in sent.prompts] == [3, 5], "equal visual tokens are one number"
    (found,) = sent.unpacked()
    assert found == trajectory.completion
    assert found.trajectory is not None and found.trajectory.origin == "offline"
    for turn, other in zip(found.trajectory.turns, trajectory.turns, strict=True):
        for name in ("response_ids", "response_mask", "logprobs", "versions"):
            np.testing.assert_array_equal(getattr(turn, name), getattr(other, name))
        np.testing.assert_array_equal(turn.prompt.token_ids, other.prompt.token_ids)
    bare = ScoreGroup.of(1, FREE, [trajectory.completion], training=True, seconds=None, trajectories=False)
    assert bare.prompts == () and bare.unpacked()[0].trajectory is None


def test_a_process_that_hangs_is_ended_and_its_responses_are_masked() -> None:
    config = RewardConfig(processes=1, deadline=3.0, timeout=None, custom={"*": f"{CUSTOM}:hanging"})
    groups = [(CHOICE, said("a", "b")), (SUM, said("a", "hang", "b")), (FREE, said("a"))]
    with closing(RewardWorkers(config)) as workers:
        with pytest.warns(RuntimeWarning, match=r"took longer than 3 s \(rewards.deadline\) over 3 responses to 'sum'"):
            before, hung, after = workers.score_groups(groups)
        assert {score.accuracy for score in (*before, *after)} == {1.0}
        assert [(score.applicable, score.reason) for score in hung] == [(False, HUNG)] * 3
        assert workers.counts == {("math", HUNG): 3}


def test_a_process_that_dies_is_replaced(
    recwarn: pytest.WarningsRecorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    config = RewardConfig(processes=1, custom={"*": f"{CUSTOM}:ending"})
    with closing(RewardWorkers(config)) as workers:
        died, after = workers.score_groups([(SUM, said("a", "kill")), (FREE, said("a"))])
        assert [score.reason for score in died] == [DIED] * 2 and after[0].total == 1.0
        first = workers.open_pool().pids[0]
        os.kill(first, signal.SIGKILL)  # while it has nothing to do, as where memory runs out
        while workers.open_pool().pids in ([], [first]):
            time.sleep(0.01)
        assert workers.score_group(SUM, said("a"))[0].total == 1.0
        assert workers.counts == {("math", DIED): 2}
        assert [*tmp_path.iterdir()], "the processes have their temporary files here"
    assert not [*tmp_path.iterdir()]
    assert "killed by SIGKILL" in str(recwarn[0].message)
    with pytest.raises(ProcessLookupError):
        while True:
            os.kill(first, 0)
            time.sleep(0.01)


@pytest.mark.filterwarnings("ignore:a process of rewards ended")
def test_nothing_waits_for_ever_where_no_further_process_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    workers = RewardWorkers(RewardConfig(processes=1, custom={"*": f"{CUSTOM}:ending"}))
    start, started = workers._start, list[Any]()

    def start_once(on_message: Any) -> Any:
        if started:
            raise OSError("Cannot allocate memory")
        started.append(start(on_message))
        return started[0]

    monkeypatch.setattr(workers, "_start", start_once)
    with closing(workers):
        tasks = [GroupTask(SUM, said(text)) for text in ("kill", "a")]
        for task in tasks:
            workers.open_pool().submit(task)
        assert tasks[0].future.result(60)[0].reason == DIED
        error = tasks[1].future.exception(60)
        assert isinstance(error, EasyVideoError) and "cannot be started: Cannot allocate memory" in str(error)
        with pytest.raises(EasyVideoError, match="processes lower, or to 0"):
            workers.score_groups([(SUM, said("a"))])


@pytest.mark.filterwarnings("error:a process of rewards ended")
def test_a_warning_that_is_an_error_leaves_no_group_waiting() -> None:
    with closing(RewardWorkers(RewardConfig(processes=1, custom={"*": f"{CUSTOM}:ending"}))) as workers:
        task = GroupTask(SUM, said("kill"))
        workers.open_pool().submit(task)
        assert task.future.result(60)[0].reason == DIED
        with pytest.raises(RuntimeWarning, match="killed by SIGKILL"):
            workers.score_groups([(SUM, said("a"))])


def test_a_group_that_cannot_be_sent_is_an_error() -> None:
    """It is taken from those that wait before it is packed."""
    with closing(RewardWorkers(RewardConfig(processes=1))) as workers:
        task = GroupTask(replace(SUM, extra={"lock": threading.Lock()}), said("7"))
        workers.open_pool().submit(task)
        assert "pickle" in str(task.future.exception(60))


@pytest.mark.filterwarnings("ignore:a process of rewards ended")
def test_processes_that_all_die_over_their_groups_stop_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring_pool, "_MOST_DEATHS", 2)
    with closing(RewardWorkers(RewardConfig(processes=1, custom={"*": f"{CUSTOM}:ending"}))) as workers:
        with pytest.raises(EasyVideoError, match="2 processes have ended over one group after the other"):
            workers.score_groups([(SUM, said(text)) for text in ("kill", "a", "kill", "kill", "a")])
        assert workers.counts == {("math", DIED): 3}, "one that is scored between them begins anew"


def test_what_ends_a_reward_stops_the_run_with_its_traceback() -> None:
    custom = {"math": f"{CUSTOM}:interrupting", "open_ended": f"{CUSTOM}:of_local_class"}
    with closing(RewardWorkers(RewardConfig(processes=1, custom=custom, timeout=None))) as workers:
        with pytest.raises(
            RewardError, match=r"(?s)responses to 'sum' failed:.*in interrupting.*Interrupt: no licence"
        ):
            workers.score_groups([(SUM, said("a"))])
        with pytest.raises(RewardError, match=r"(?s)responses to 'free' failed:.*OwnScore"):
            workers.score_groups([(FREE, said("a"))])
        assert workers.score_groups(GROUPS[:1])[0][0].accuracy == 1.0, "the process goes on"
        assert workers.counts == {}


def test_rewards_of_turns_are_counted_although_the_reward_sees_no_turns() -> None:
    settings: dict[str, Any] = {"custom": {"*": f"{CUSTOM}:two_turns"}}
    with closing(RewardWorkers(RewardConfig(processes=1, **settings))) as workers:
        (score,) = workers.score_group(FREE, [turns(2).completion])
        assert score.turns == (0.5, 0.5)
        with pytest.raises(RewardError) as wanted:
            Scorer(RewardConfig(**settings)).score_group(FREE, [turns(3).completion])
        with pytest.raises(RewardError) as found:
            workers.score_group(FREE, [turns(3).completion])
    assert str(found.value) == str(wanted.value) and "2 rewards of turns for a trajectory of 3" in str(found.value)


def test_closed_rewards_start_no_process_again() -> None:
    workers = RewardWorkers(RewardConfig(processes=1))
    begun = workers.comparisons()
    workers.close()
    with pytest.raises(EasyVideoError, match="rewards were closed"):
        workers.score_groups([(SUM, said("7"))])
    with pytest.raises(EasyVideoError, match="rewards were closed"):
        begun.begin(0, SUM, said("7"))


def test_calls_that_are_given_up_end_with_their_process() -> None:
    """In the process of the run so many of them would stop it."""
    config = RewardConfig(processes=1, timeout=0.5, on_error="mask", custom={"*": f"{CUSTOM}:hanging"})
    with closing(RewardWorkers(config)) as workers:
        assert workers.score_group(SUM, said("a"))[0].total == 1.0
        (first,) = workers.open_pool().pids
        (scores,) = workers.score_groups([(SUM, [Completion("hang")] * 8)])
        while first in workers.open_pool().pids:
            time.sleep(0.01)
        assert workers.score_group(SUM, said("a"))[0].total == 1.0
    assert {score.reason for score in scores} == {f"reward '{CUSTOM}:hanging' raised TimeoutError"}


def test_errors_stop_the_run_in_the_same_words() -> None:
    settings: dict[str, Any] = {"custom": {"math": f"{CUSTOM}:failing"}}
    with pytest.raises(RewardError) as wanted:
        Scorer(RewardConfig(**settings)).score_groups(GROUPS)
    with closing(RewardWorkers(RewardConfig(processes=1, **settings))) as workers:
        with pytest.raises(RewardError) as found:
            workers.score_groups(GROUPS)
        assert str(found.value) == str(wanted.value)
        assert workers.score_groups(GROUPS[:1])[0][0].accuracy == 1.0, "the process goes on"


def test_a_judge_is_asked_once_for_all_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_JUDGE_KEY", "secret-key")
    server = Server(lambda number, body: verdict(body, score=7))
    judge = {"url": server.url, "model": "m", "cache_dir": str(tmp_path), "api_key_env": "MY_JUDGE_KEY"}
    groups = [(FREE, said(f"<answer>door {number}</answer>")) for number in range(4)]
    with closing(server):
        with closing(RewardWorkers(RewardConfig(processes=2, judge=judge))) as workers:
            scores = workers.score_groups(groups)
        assert [score.accuracy for (score,) in scores] == [0.7] * 4
        assert {headers["Authorization"] for headers in server.headers} == {"Bearer secret-key"}
        assert Scorer(RewardConfig(judge=judge)).score_groups(groups) == scores
        assert len(server.bodies) == 4, "their verdicts are kept in one place"


@pytest.mark.filterwarnings("ignore:a process of rewards ended", "ignore:the judge refused")
def test_a_new_process_knows_that_the_judge_has_answered(tmp_path: Path) -> None:
    """Hours into a run a request that is refused, as by a filter of contents, is no fault of the configuration."""
    server = Server(lambda number, body: verdict(body, score=7) if number == 0 else (400, {}, "filtered"))
    judge = {"url": server.url, "model": "m", "cache_dir": None, "retries": 0}
    custom = {"math": f"{CUSTOM}:ending"}
    groups = [
        (FREE, said("<answer>a door</answer>")),
        (SUM, said("kill")),
        (FREE, said("<answer>a gate</answer>")),
    ]
    with closing(server), closing(RewardWorkers(RewardConfig(processes=1, judge=judge, custom=custom))) as workers:
        first, _, last = workers.score_groups(groups)
    assert first[0].accuracy == 0.7
    assert last[0].reason == "the judge refused the request (HTTP 400)"


def test_processes_share_what_the_judge_may_be_asked() -> None:
    judge = {"url": "http://localhost/v1", "model": "m", "max_requests": 10, "max_tokens": 7, "concurrency": 8}
    config = RewardConfig(processes=4, workers=9, judge=judge)
    parts = [config_of_process(config, place, Usage()) for place in range(4)]
    assert [part.judge.max_requests for part in parts] == [3, 3, 2, 2]
    assert sum(part.judge.max_tokens or 0 for part in parts) == 7
    assert {(part.judge.concurrency, part.workers, part.processes) for part in parts} == {(2, 2, 0)}
    nine = config.model_copy(update={"judge": config.judge.model_copy(update={"concurrency": 9})})
    assert [config_of_process(nine, place, Usage()).judge.concurrency for place in range(4)] == [3, 2, 2, 2]
    again = config_of_process(config, 0, Usage(requests=2, tokens=5)).judge
    assert (again.max_requests, again.max_tokens) == (1, 0)


@pytest.mark.parametrize("name", ["concurrency", "max_requests", "max_tokens"])
def test_more_processes_than_the_judge_may_be_asked_by_are_refused(name: str) -> None:
    judge = {"url": "http://localhost/v1", "model": "m", name: 3}
    RewardConfig(processes=3, judge=judge)
    with pytest.raises(ValueError, match=rf"judge.{name} \(3\) is less than processes \(4\).*to 3 or less"):
        RewardConfig(processes=4, judge=judge)


def test_a_deadline_that_a_slow_judge_exceeds_is_refused() -> None:
    judge = {"url": "http://localhost/v1", "model": "m", "timeout": 200.0, "retries": 2}
    RewardConfig(processes=1, judge=judge)
    with pytest.raises(ValueError, match=r"deadline \(599 s\) is less than a request to the judge may take, 600 s"):
        RewardConfig(processes=1, deadline=599.0, judge=judge)


def test_what_cannot_be_opened_stops_the_run() -> None:
    workers = RewardWorkers(RewardConfig(processes=1, custom={"*": f"{CUSTOM}:failing"}))
    workers.config = workers.config.model_copy(update={"custom": {"*": "no_such_module:reward"}})
    with closing(workers), pytest.raises(ConfigError, match="no module 'no_such_module'"):
        workers.score_groups(GROUPS[:1])
    with pytest.raises(ValueError, match="deadline would have no effect: it goes with processes"):
        RewardConfig(deadline=5.0)


def test_several_threads_take_one_group_after_the_other() -> None:
    together, both = threading.Barrier(2), []

    def scorer(groups: Any) -> list[list[Score]]:
        together.wait(20)
        both.append(len(groups))
        return [[] for _ in groups]

    scoring = BackgroundScoring(scorer, threads=2)
    futures = [scoring.begin(Group(SUM, ()), step) for step in (2, 1, 1, 2)]
    assert [future.result(20).sample for future in futures] == [SUM] * 4
    scoring.wait()
    assert both == [1] * 4


def test_scoring_that_is_closed_begins_nothing_more() -> None:
    begun, gate, scored = threading.Event(), threading.Event(), list[int]()

    def scorer(groups: Any) -> list[list[Score]]:
        begun.set()
        gate.wait(20)
        scored.append(len(groups))
        return [[] for _ in groups]

    scoring = BackgroundScoring(scorer)
    running = scoring.begin(Group(SUM, ()))
    assert begun.wait(20)
    waiting = [scoring.begin(Group(SUM, ()), step) for step in (0, 1)]
    scoring.close()
    assert [each.cancelled() for each in waiting] == [True, True]
    with pytest.raises(RuntimeError, match="closed"):
        scoring.begin(Group(SUM, ()))
    gate.set()
    assert running.result(20).sample is SUM
    scoring.wait()
    assert scored == [1]
