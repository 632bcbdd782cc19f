"""What a prompt asks for is what the rewards read: every task type, every grammar, every scale of coordinates."""

from __future__ import annotations

import re
from itertools import product
from typing import Any

import pytest

from easyvideor1.config.schema import PromptConfig, RewardConfig
from easyvideor1.data import example_answer, prompt_text
from easyvideor1.rewards import Scorer, parse
from easyvideor1.rewards.tags import full_response, grammar_of
from easyvideor1.tasks import TASKS, canonical_task
from easyvideor1.types import MediaRef, Sample

VIDEO = (MediaRef("video", "/v.mp4"),)
PLACED = ("spatial_grounding", "spatial_temporal_grounding", "tracking", "segmentation")

# Grammar -> what the prompt says before "give ... in <answer> </answer>", with thinking left off.
GRAMMARS: dict[Any, str] = {
    "answer": "",
    "think-answer": "Reason in <think> </think>, then",
    ("time", "caption", "think"): "Write <time> </time>, then <caption> </caption>, then <think> </think>, then",
    ("time", "answer"): "Write <time> </time>, then",
    (("time", "caption"), "think"): "Write <time> </time> <caption> </caption> as often as needed, then <think>",
    ("think/plan", "think/check"): "Write <think><plan> </plan> <check> </check></think>, then",
}


def sample(task: str, *, media: tuple[MediaRef, ...] = VIDEO, **extra: object) -> Sample:
    options = ("A. red", "B. blue") if task == "multiple_choice" else ()
    answer = example_answer(task, video=bool(media))
    question = "<video>Question?" if media else "Question?"
    return Sample("1", question, task, answer, media=media, options=options, extra=extra)


def shown_example(prompt: str) -> str:
    """The example as it stands in the prompt."""
    found = re.search(r"such as <answer>(.*)</answer>\.\Z", prompt, re.DOTALL)
    assert found is not None
    return found.group(1)


@pytest.mark.parametrize("form", GRAMMARS, ids=str)
@pytest.mark.parametrize("task", TASKS)
def test_the_example_in_the_prompt_parses_and_earns_everything(task: str, form: Any) -> None:
    rewards = RewardConfig(grammar=form, render="off")
    scorer = Scorer(rewards)
    for media in ((), VIDEO):
        row = sample(task, media=media)
        prompt = prompt_text(row, PromptConfig(thinking=False), rewards)
        assert GRAMMARS[form] in prompt
        response = full_response(shown_example(prompt), form)
        assert parse(task, response, row.options, grammar_of(form)).found == "tag"
        score = scorer(row, response)
        assert score.applicable, score.reason
        assert (score.accuracy, score.format, score.total) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("form", [form for form in GRAMMARS if form != "answer"], ids=str)
def test_a_response_without_the_tags_asked_for_is_not_well_formed(form: Any) -> None:
    rewards = RewardConfig(grammar=form)
    assert Scorer(rewards)(sample("numerical"), full_response("3")).format < 1.0


def test_the_words_of_the_tags_come_before_the_answer() -> None:
    rewards = RewardConfig(grammar=("time", "think"))
    text = prompt_text(sample("numerical"), PromptConfig(), rewards)
    assert text == (
        "<video>Question?\nWrite <time> </time>, then <think> </think>, then give one number in <answer> </answer>, "
        "such as <answer>3</answer>."
    )


@pytest.mark.parametrize("thinking", [True, False])
def test_a_grammar_that_wants_thinking_goes_before_the_switch(thinking: bool) -> None:
    prompts = PromptConfig(thinking=thinking)
    assert ("Reason in <think>" in prompt_text(sample("ocr"), prompts)) == thinking
    assert "Reason in <think>" in prompt_text(sample("ocr"), prompts, RewardConfig(grammar="think-answer"))


SCALES = {
    "normalized": "coordinates from 0 to 1,",
    "thousand": "coordinates from 0 to 1000,",
    "pixel": "in pixels of 640",
}


@pytest.mark.parametrize(("asked", "own"), [*product(SCALES, [None, *SCALES]), *((None, own) for own in SCALES)])
@pytest.mark.parametrize("task", PLACED)
def test_the_scale_asked_for_is_the_scale_that_is_read(task: str, asked: Any, own: str | None) -> None:
    rewards = RewardConfig(coordinates=asked)
    extra = {"image_size": [640, 480], **({"coordinates": own} if own else {})}
    row = sample(task, **extra)
    prompt = prompt_text(row, PromptConfig(), rewards)
    assert SCALES[asked or own] in prompt
    answer = shown_example(prompt)
    # The same places on the scale of the row: the example of that scale, converted from what is shown if it must be.
    reference = answer if own in (None, asked) or asked is None else converted(answer, asked, str(own))
    score = Scorer(rewards)(Sample("1", "?", task, reference, extra=extra), full_response(answer))
    assert score.applicable, score.reason
    assert score.accuracy == pytest.approx(1.0)
    assert score.format == 1.0


def converted(answer: str, asked: str, own: str) -> str:
    """An example on another scale, number by number: an oracle that knows nothing of boxes."""
    unit = {"normalized": (1.0, 1.0), "thousand": (1000.0, 1000.0), "pixel": (640.0, 480.0)}
    head, key, places = answer.partition('"boxes"')
    axis = [0]

    def change(match: re.Match[str]) -> str:
        axis[0] += 1
        side = (axis[0] - 1) % 2
        return repr(float(match.group()) / unit[asked][side] * unit[own][side])

    return head + key + re.sub(r"(?<=[\[ ])[\d.]+(?=[,\]])", change, places)


@pytest.mark.parametrize("task", [task for task in TASKS if task not in PLACED])
def test_types_without_places_say_nothing_of_coordinates(task: str) -> None:
    rewards = RewardConfig(coordinates="normalized")
    assert prompt_text(sample(task), PromptConfig(), rewards) == prompt_text(sample(task), PromptConfig())


@pytest.mark.parametrize("alias", sorted({alias for names in TASKS.values() for alias in names}))
def test_every_alias_has_the_prompt_of_its_type(alias: str) -> None:
    task = canonical_task(alias)
    assert example_answer(alias) == example_answer(task)
    assert shown_example(prompt_text(sample(task), PromptConfig())) == example_answer(alias, video=True)


def test_own_templates_may_use_tags_and_scale(tmp_path: Any) -> None:
    (tmp_path / "tracking.j2").write_text("{{ question }} [{{ tags }}|{{ scale }}|{{ thinking }}]\n")
    prompts = PromptConfig(templates=str(tmp_path), thinking=False)
    rewards = RewardConfig(grammar=("plan",), coordinates="thousand")
    assert prompt_text(sample("tracking"), prompts, rewards) == (
        "<video>Question? [<plan> </plan>|from 0 to 1000|False]"
    )


@pytest.mark.parametrize("task", TASKS)
def test_the_template_of_every_type_may_be_replaced(task: str, tmp_path: Any) -> None:
    (tmp_path / f"{task}.j2").write_text("{{ question }} Mine: <answer>{{ example }}</answer>\n")
    own = PromptConfig(templates=str(tmp_path))
    assert (
        prompt_text(sample(task), own) == f"<video>Question? Mine: <answer>{example_answer(task, video=True)}</answer>"
    )
    other = next(name for name in TASKS if name != task)
    assert prompt_text(sample(other), own) == prompt_text(sample(other), PromptConfig())
