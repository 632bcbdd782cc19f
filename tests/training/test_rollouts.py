"""Offline trajectories as turns, and prompts of a step."""

from __future__ import annotations

import numpy as np
import pytest

from answering import AnsweringEngine
from easyvideor1.engines.engine import Request, Sampling
from easyvideor1.rollout.requests import generate_online, offline_ids, offline_turn, read_offline, ready_prompts
from easyvideor1.rollout.strategies import PromptBuilder, SingleTurn
from easyvideor1.types import DataError, MediaError, OfflineTrajectory, Prompt, Sample, Trajectory

pytestmark = pytest.mark.model

#: No prompt is asked of it.
ONE_TURN = SingleTurn(PromptBuilder(None, None, None))  # type: ignore[arg-type]


def test_an_offline_response_ends_with_the_stop_token(tiny_family) -> None:
    prompt = tiny_family.render("What?", [], [])
    turn = offline_turn(tiny_family, prompt, OfflineTrajectory("<answer>A</answer>"), 50)
    assert turn.response_ids[-1] == tiny_family.stop_token_ids[0] and turn.response_mask.all()
    assert tiny_family.tokenizer.decode(turn.response_ids[:-1]) == turn.text == "<answer>A</answer>"
    assert turn.finish == "offline" and turn.logprobs is None and turn.prompt is prompt
    already = offline_ids(tiny_family, OfflineTrajectory("<answer>A</answer><|im_end|>"), 50)
    assert already == turn.response_ids.tolist()


def test_log_probs_of_another_policy_come_along(tiny_family) -> None:
    count = len(offline_ids(tiny_family, OfflineTrajectory("yes"), 50))
    values = tuple(-0.5 * i for i in range(count))
    turn = offline_turn(tiny_family, tiny_family.render("What?", [], []), OfflineTrajectory("yes", values), 50)
    assert turn.logprobs is not None and turn.logprobs.tolist() == list(values)
    with pytest.raises(DataError, match=f"{count} tokens with its stop token but 1 log-probs"):
        offline_ids(tiny_family, OfflineTrajectory("yes", (-0.5,)), 50)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("many words " * 40, "rollout.max_new_tokens is 20"),
        ("see <|video_pad|>", r"special tokens <\|video_pad\|>"),
        ("done<|im_end|>more", r"special tokens <\|im_end\|>"),
    ],
)
def test_trajectories_that_cannot_be_trained_on(tiny_family, text: str, words: str) -> None:
    with pytest.raises(DataError, match=words) as refused:
        offline_ids(tiny_family, OfflineTrajectory(text), 20)
    assert " - " in str(refused.value), "the message names no remedy"


def test_a_transform_that_takes_the_trajectory_away_is_told(tiny_family) -> None:
    sample = Sample("a", "What?", "math", "1", where="rows.jsonl:3")
    with pytest.raises(DataError, match=r"rows\.jsonl:3: no offline trajectory is left"):
        read_offline(
            [sample], [tiny_family.render("What?", [], [])], family=tiny_family, max_tokens=20, strategy=ONE_TURN
        )


def test_a_sample_has_one_prompt_in_a_step(tiny_family) -> None:
    """Responses to one prompt object share its computation, so it must not depend on what a cache remembers."""
    one, two = (Sample(name, "What?", "math", "1") for name in "ab")

    def render(sample: Sample) -> Prompt:
        return tiny_family.render(sample.question, [], [])

    first, second, again = ready_prompts([one, two, one], render, None, pytest.fail)  # type: ignore[arg-type]
    assert first is again and first is not second


def test_failures_of_media_are_told_and_faults_of_rows_are_raised() -> None:
    failures: list[MediaError] = []
    sample = Sample("a", "What?", "math", "1", where="rows.jsonl:3")

    def broken(sample: Sample) -> Prompt:
        raise MediaError("gone", path="a.mp4", reason="missing")

    assert ready_prompts([sample, sample], broken, None, failures.append) == [None, None]  # type: ignore[arg-type]
    assert [error.path for error in failures] == ["a.mp4"]

    def long(sample: Sample) -> Prompt:
        raise DataError("the prompt has 9000 tokens")

    with pytest.raises(DataError, match=r"rows\.jsonl:3: the prompt has 9000 tokens"):
        ready_prompts([sample], long, None, failures.append)  # type: ignore[arg-type]


class Counting(AnsweringEngine):
    """Answers all but what is asked of the sample ``gone``."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Request] = []

    def answer(self, request: Request) -> list[Trajectory]:
        self.seen.append(request)
        if request.id == "gone":
            raise MediaError("it went", path="gone.mp4", reason="missing")
        return [Trajectory(())] * request.n


def generated(engine: Counting, names: str, *, baselines: bool = False) -> tuple[list[int], list[int], list[str]]:
    """Trajectories of each group and baseline, and the paths that failed; the sample ``none`` has no prompt."""
    samples = [Sample(name, "What?", "math", "1") for name in names.split()]
    prompts = [None if sample.id == "none" else Prompt(np.arange(3)) for sample in samples]
    failed: list[MediaError] = []
    groups, greedy = generate_online(
        samples,
        prompts,
        engine=engine,
        strategy=ONE_TURN,
        sampling=Sampling(),
        group_size=2,
        seed=(7, "rl", 1),
        on_failure=failed.append,
        baselines=baselines,
    )
    sizes = [[len(group.trajectories) for group in kind] for kind in (groups, greedy)]
    return sizes[0], sizes[1], [error.path for error in failed]


def test_every_sample_with_a_prompt_is_one_request_with_a_seed_of_its_own() -> None:
    engine = Counting()
    assert generated(engine, "a none c") == ([2, 0, 2], [], [])
    assert [request.id for request in engine.seen] == ["a", "c"]
    assert len({request.seed for request in engine.seen}) == 2


def test_a_greedy_baseline_is_requested_beside_its_group() -> None:
    engine = Counting()
    assert generated(engine, "a none c", baselines=True) == ([2, 0, 2], [1, 0, 1], [])
    asked = [(request.id, request.n, request.sampling.greedy) for request in engine.seen]
    assert asked == [("a", 2, False), ("a", 1, True), ("c", 2, False), ("c", 1, True)]


def test_media_that_go_while_responses_are_generated_cost_their_sample_alone() -> None:
    assert generated(Counting(), "a gone c", baselines=True) == ([2, 0, 2], [1, 0, 1], ["gone.mp4"])
