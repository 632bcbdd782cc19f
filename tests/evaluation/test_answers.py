"""The store of answers: nothing that was written is lost, nothing that was damaged is believed."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from easyvideor1.evaluation.answers import Answer, AnswerStore
from easyvideor1.files import is_sealed
from easyvideor1.rollout.driver import Outcome
from easyvideor1.types import ConfigError, MediaError, Sample, Trajectory, Turn

from .worlds import make_sample, render


def answer(number: int, text: str = "A", turns: int = 1, **fields: object) -> Answer:
    sample = replace(make_sample(number), **fields)
    prompt = render(sample)
    ids = np.array([7, 8, 9], np.int64)
    turn = Turn(replace(prompt, opens_thinking=True), ids, np.ones(3, bool), None, "length", text)
    return Answer.of(Outcome(0, sample, prompt, ((Trajectory((turn,) * turns),),)))


def lines(directory: Path) -> list[bytes]:
    return (directory / "answers.jsonl").read_bytes().split(b"\n")[:-1]


def test_an_answer_is_read_back_with_all_that_scoring_needs(tmp_path: Path) -> None:
    extra = {"facets": {"duration": "long"}, "tests": [1, None], "picture": b"\xff"}
    asked = answer(0, "<answer>é\u2028</answer>", turns=2, extra=extra)
    with AnswerStore.open(tmp_path) as store:
        (kept,) = store.append([asked])
    assert kept.greedy is not None and asked.greedy is not None
    assert kept.greedy.completion == asked.greedy.completion and kept.greedy.response_tokens == 6
    assert [turn.response_ids.tolist() for turn in kept.greedy.turns] == [[7, 8, 9]] * 2
    with AnswerStore.open(tmp_path) as store:
        (again,) = store.answers()
        (known,) = store.known([asked.sample])
    assert again.sample.extra == {"facets": {"duration": "long"}, "tests": [1, None]}  # bytes are not JSON
    assert again.sample.media == asked.sample.media and again.prompt == asked.prompt
    assert known is not None and known.sample is asked.sample
    assert known.record() == kept.record() == asked.record()
    assert known.record().facets == {"duration": "long"} and known.record().media[0].path == "clip_0.mp4"


def test_a_failure_keeps_its_reason_and_its_tries(tmp_path: Path) -> None:
    sample = make_sample(3, video="broken.mp4")
    failed = Answer.of(Outcome(0, sample, None, (MediaError("broken.mp4: no video stream"),)), tries=2)
    with AnswerStore.open(tmp_path) as store:
        store.append([failed])
    with AnswerStore.open(tmp_path) as store:
        (known,) = store.known([sample])
    assert known is not None and (known.error, known.tries) == ("MediaError: broken.mp4: no video stream", 2)
    assert known.record().error == known.error and known.trajectories == ()


def test_another_question_under_an_id_is_not_known(tmp_path: Path) -> None:
    asked = answer(0)
    with AnswerStore.open(tmp_path) as store:
        store.append([asked])
        assert store.known([replace(asked.sample, question="<video>Another?")]) == [None]
        assert store.known([replace(asked.sample, options=("A. green", "B. blue"))]) == [None]
        clip = replace(asked.sample.media[0], end=3.0)
        assert store.known([replace(asked.sample, media=(clip,))]) == [None]


def test_a_corrected_reference_asks_nothing_and_is_kept(tmp_path: Path) -> None:
    asked = answer(0)
    with AnswerStore.open(tmp_path) as store:
        store.append([asked])
        corrected = replace(asked.sample, answer="B")
        (known,) = store.known([corrected])
    assert known is not None and known.sample.answer == "B" and known.greedy is not None
    with AnswerStore.open(tmp_path) as store:
        assert [each.sample.answer for each in store.answers()] == ["B"]
    assert len(lines(tmp_path)) == 2


@pytest.mark.parametrize("cut", [1, 40, -1])
def test_a_torn_last_line_is_cut_off(tmp_path: Path, cut: int) -> None:
    with AnswerStore.open(tmp_path) as store:
        store.append([answer(0), answer(1)])
    path = tmp_path / "answers.jsonl"
    first, second = lines(tmp_path)
    path.write_bytes(first + b"\n" + second[:cut])
    with AnswerStore.open(tmp_path) as store:
        assert not store.damaged and [each.sample.id for each in store.answers()] == ["q0"]
        assert path.read_bytes() == first + b"\n"
        store.append([answer(1)])
    assert lines(tmp_path) == [first, second]


def test_a_damaged_line_is_told_and_asked_again(tmp_path: Path) -> None:
    with AnswerStore.open(tmp_path) as store:
        store.append([answer(number) for number in range(4)])
    content = lines(tmp_path)
    content[1] = content[1].replace(b'"text": "A"', b'"text": "B"')  # a digit that a disk has changed
    content[2] = b"\x00" * 30
    (tmp_path / "answers.jsonl").write_bytes(b"\n".join(content) + b"\n")
    with AnswerStore.open(tmp_path) as store:
        assert [each.sample.id for each in store.answers()] == ["q0", "q3"]
        assert [f"answers.jsonl:{number}: this line is damaged" in store.damaged[number - 2] for number in (2, 3)]
        assert "its checksum is wrong" in store.damaged[0]
        store.append([answer(1)])
        assert {each.sample.id for each in store.answers()} == {"q0", "q1", "q3"}


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    with (
        AnswerStore.open(tmp_path),
        pytest.raises(ConfigError, match="another process is evaluating into"),
        AnswerStore.open(tmp_path),
    ):
        pass
    with AnswerStore.open(tmp_path) as store:
        store.append([answer(0)])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answers.jsonl"]


def test_a_full_disk_loses_nothing_that_was_written(tmp_path: Path) -> None:
    """The kernel refuses in the middle of a line, as a full disk does: the limit of this process's files."""
    with AnswerStore.open(tmp_path) as store:
        store.append([answer(0)])
        before = (tmp_path / "answers.jsonl").read_bytes()
        limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 100, limits[1]))
            with pytest.raises(OSError, match=os.strerror(errno.EFBIG)) as caught:
                store.append([answer(1), answer(2)])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, handler)
        assert caught.value.filename == str(tmp_path / "answers.jsonl")
        assert (tmp_path / "answers.jsonl").read_bytes() == before
        store.append([answer(1)])
    assert all(is_sealed(json.loads(line)) for line in lines(tmp_path)) and len(lines(tmp_path)) == 2


def test_two_rows_with_one_id_have_answers_of_their_own(tmp_path: Path) -> None:
    one: Sample = make_sample(0)
    other = replace(one, question="<video>Other?")
    with AnswerStore.open(tmp_path) as store:
        store.append([answer(0), answer(0, "B", question="<video>Other?")])
        found = store.known([one, other])
    assert [each.greedy.text for each in found if each is not None and each.greedy is not None] == ["A", "B"]
