"""A response as its page shows it: its answer marked where it stands, its tokens coloured by what was kept."""

import shutil

import numpy as np
import pytest
from tokenizers import Tokenizer

from easyvideor1.recipes.toy import WARM_START
from easyvideor1.records.trajectories import TurnArrays
from easyvideor1.records.trajectory_files import read_trajectories, record_at, with_arrays
from easyvideor1.types import DataError
from easyvideor1.viewer.group_view import group_view
from easyvideor1.viewer.token_text import NO_TOKENIZER, pieces, text_of, tokenizer_of

from . import runs
from .runs import group, said, write_run, write_step


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.from_file(str(WARM_START / "tokenizer.json"))


def kept(text, tokenizer, logprobs=None, **values):
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    end = tokenizer.token_to_id("<|im_end|>")
    ids = [*ids, *([end] if end is not None else [])]
    return runs.with_arrays(said(text, **values), ids, logprobs or [-0.5] * len(ids))


def run_with_tokenizer(path):
    run = write_run(path, steps=0)
    checkpoint = run / "stages" / "01-grpo" / "checkpoints" / "step_000001"
    checkpoint.mkdir(parents=True)
    shutil.copyfile(WARM_START / "tokenizer.json", checkpoint / "tokenizer.json")
    return run


@pytest.mark.parametrize(
    "text",
    [
        "<think>It moves.</think><answer>A</answer>",
        "  blanks\n\nand lines ",
        "方块 é 🙂 \u202e",
        "<answer>12.5</answer>",
        "�",
        "",
    ],
)
def test_the_text_of_tokens_is_the_text(tokenizer, text):
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    found = pieces(tokenizer, ids)
    assert len(found) == len(ids)
    assert "".join(piece.text for piece in found) == tokenizer.decode(ids, skip_special_tokens=False)


def test_special_tokens_are_apart_and_runs_of_them_counted(tokenizer):
    pad, end = (tokenizer.token_to_id(name) for name in ("<|video_pad|>", "<|im_end|>"))
    words = tokenizer.encode("What moves?", add_special_tokens=False).ids
    assert [piece.special for piece in pieces(tokenizer, [end, *words, pad])] == [True, *[False] * len(words), True]
    assert (
        text_of(tokenizer, [pad] * 7 + words + [end]) == "<|video_pad|> \N{MULTIPLICATION SIGN} 7What moves?<|im_end|>"
    )


def test_an_unknown_token_is_told_by_its_number(tokenizer):
    assert pieces(tokenizer, [10**6])[0].text == "<1000000>"


def test_the_answer_is_marked_where_it_stands(tmp_path):
    text = "<think>Not A, I say A.</think> So: <answer> A </answer>"
    (reply,) = group_view(tmp_path, group(0, [said(text)])).replies
    assert [(piece.text, piece.classes) for piece in reply.pieces] == [
        ("<think>Not A, I say A.</think> So: <answer> ", ""),
        ("A", "answer"),
        (" </answer>", ""),
    ]


def test_nothing_is_marked_where_the_record_says_something_else(tmp_path):
    (reply,) = group_view(tmp_path, group(0, [said("<answer>B</answer>", parsed="A")])).replies
    assert not reply.located and [piece.classes for piece in reply.pieces] == [""]


def test_tokens_carry_what_was_kept(tmp_path, tokenizer):
    run = run_with_tokenizer(tmp_path / "run")
    text = "<answer>A</answer>"
    count = len(tokenizer.encode(text, add_special_tokens=False).ids) + 1
    logprobs = [-0.001, -9.0, float("nan"), *[-0.5] * (count - 3)]
    file = write_step(run, 1, [group(0, [kept(text, tokenizer, logprobs)])])
    record = with_arrays(file, 0, record_at(file, 0))
    view = group_view(run, record, "logprob")
    (reply,) = view.replies
    assert view.colour == "logprob" and reply.weights == (3, 3)
    assert len(reply.pieces) == count and "".join(piece.text for piece in reply.pieces[:-1]) == text
    assert "l0" in reply.pieces[0].classes and "l8" in reply.pieces[1].classes
    assert not any(f" l{step}" in reply.pieces[2].classes for step in range(9))  # unknown is not coloured
    assert "log-prob -9.0000, probability 0.000123" in reply.pieces[1].title
    assert "p2" in reply.pieces[0].classes.split() and "w0" in reply.pieces[0].classes.split()
    marked = "".join(piece.text for piece in reply.pieces if "answer" in piece.classes.split())
    assert "A" in marked


def test_without_a_tokenizer_it_says_so(tmp_path, tokenizer):
    run = write_run(tmp_path / "run", steps=0)
    file = write_step(run, 1, [group(0, [kept("<answer>A</answer>", tokenizer)])])
    view = group_view(run, with_arrays(file, 0, record_at(file, 0)), "logprob")
    assert NO_TOKENIZER in view.notes and view.colour == ""
    assert "".join(piece.text for piece in view.replies[0].pieces) == "<answer>A</answer>"


def test_without_arrays_it_says_so(tmp_path):
    view = group_view(run_with_tokenizer(tmp_path / "run"), group(0), "logprob")
    assert view.colours == () and any("No arrays" in note for note in view.notes)


def test_tokens_of_another_text_are_not_coloured(tmp_path, tokenizer):
    run = run_with_tokenizer(tmp_path / "run")
    record = kept("<answer>A</answer>", tokenizer)
    view = group_view(run, group(0, [runs.replace(record, response="something else")]), "logprob")
    assert view.replies[0].notes == ("Its tokens do not give its text again, so they are not coloured.",)


def test_a_tokenizer_that_is_cut_short_is_passed_over(tmp_path):
    run = run_with_tokenizer(tmp_path / "run")
    later = run / "stages" / "01-grpo" / "checkpoints" / "step_000002"
    later.mkdir()
    (later / "tokenizer.json").write_text('{"version": "1.0", "trunc')
    assert tokenizer_of(run) is not None


def test_several_turns_are_a_conversation(tmp_path, tokenizer):
    run = run_with_tokenizer(tmp_path / "run")

    def ids(text):
        return np.asarray(tokenizer.encode(text, add_special_tokens=False).ids, np.int64)

    first, reply, more, last = (
        ids(text) for text in ("What moves?", "Let me look.", "Here it is.", "<answer>A</answer>")
    )
    turns = tuple(
        TurnArrays(prompt, response, np.ones(len(response), bool))
        for prompt, response in ((first, reply), (np.concatenate([first, reply, more]), last))
    )
    record = runs.replace(said("<answer>A</answer>"), turns=turns, tokens=len(reply) + len(last))
    (shown,) = group_view(run, group(0, [record])).replies
    assert [(one.role, one.turn, one.text) for one in shown.conversation] == [
        ("prompt", 1, "What moves?"),
        ("response", 1, "Let me look."),
        ("prompt", 2, "Here it is."),
        ("response", 2, "<answer>A</answer>"),
    ]


def test_turns_with_prompts_of_their_own_are_told_without_arrays(tmp_path):
    (shown,) = group_view(tmp_path, group(0, [said("two", responses=("one", "two"))])).replies
    assert [(one.role, one.text) for one in shown.conversation] == [("response", "one"), ("response", "two")]


def test_one_line_is_read_whatever_the_others_are(tmp_path):
    file = write_step(tmp_path / "run", 1, [group(0), group(1), group(2)])
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(lines[0] + b"\n\x00 broken\n" + lines[2][:-30])
    assert record_at(file, 0) == group(0)
    for line in (1, 2, 3, -1):
        with pytest.raises(DataError, match=r"step_000001\.jsonl"):
            record_at(file, line)


def test_one_line_is_the_same_as_all_of_them(tmp_path, tokenizer):
    records = [group(number, [kept(f"<answer>{number}</answer>", tokenizer)]) for number in range(3)]
    file = write_step(tmp_path / "run", 1, records)
    for line, record in enumerate(read_trajectories(file, arrays=True)):
        again = with_arrays(file, line, record_at(file, line))
        assert again == record
        mine, theirs = again.trajectories[0].turns[0], record.trajectories[0].turns[0]
        assert np.array_equal(mine.response_ids, theirs.response_ids)
    file.with_suffix(".npz").write_bytes(b"PK broken")
    with pytest.raises(DataError, match="damaged"):
        with_arrays(file, 0, record_at(file, 0))


def test_the_age_of_weights_is_counted_from_the_newest_of_the_group(tmp_path, tokenizer):
    run = run_with_tokenizer(tmp_path / "run")
    new, old = (kept("<answer>A</answer>", tokenizer) for _ in range(2))
    turn = runs.replace(old.turns[0], versions=np.full_like(old.turns[0].versions, 1))
    view = group_view(run, group(0, [new, runs.replace(old, turns=(turn,))]), "weights")
    ages = [{css for piece in reply.pieces for css in piece.classes.split() if css[0] == "w"} for reply in view.replies]
    assert ages == [{"w0"}, {"w2"}] and view.newest == 3
    assert [reply.weights for reply in view.replies] == [(3, 3), (1, 1)]
