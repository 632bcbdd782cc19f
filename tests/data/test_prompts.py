"""Prompts: their exact wording, users' own templates, and the agreement with the rewards that read the answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from easyvideor1 import rewards
from easyvideor1.config.schema import PromptConfig
from easyvideor1.data import example_answer, prompt_text
from easyvideor1.tasks import TASKS
from easyvideor1.types import ConfigError, DataError, MediaRef, Sample

GOLDEN = Path(__file__).with_name("golden_prompts.txt")
VIDEO = (MediaRef("video", "/v.mp4"),)


def sample(task: str, **changes: object) -> Sample:
    fields: dict[str, object] = {"id": "1", "question": "<video>Question?", "task": task, "answer": "x", "media": VIDEO}
    if task == "multiple_choice":
        fields["options"] = ("A. red", "B. blue")
    return Sample(**(fields | changes))  # type: ignore[arg-type]


def test_golden_prompts() -> None:
    """Every template with and without thinking; a change of wording shows as a change of this file."""
    pieces = []
    for task in TASKS:
        for thinking in (True, False):
            text = prompt_text(sample(task), PromptConfig(thinking=thinking))
            pieces.append(f"=== {task}, thinking {'on' if thinking else 'off'}\n{text}\n")
    assert "\n".join(pieces) == GOLDEN.read_text(encoding="utf-8")


@pytest.mark.parametrize("task", TASKS)
def test_prompts_are_short_and_show_their_example(task: str) -> None:
    text = prompt_text(sample(task), PromptConfig())
    example = f"<answer>{example_answer(task, video=True)}</answer>"
    assert text.count(example) == 1
    assert text.startswith("<video>Question?\n")
    assert len(text.replace(example, "").removeprefix("<video>Question?").split()) <= 40


@pytest.mark.parametrize("video", [False, True])
@pytest.mark.parametrize("task", TASKS)
def test_the_example_of_every_template_parses_and_scores_full_marks(task: str, video: bool) -> None:
    example = example_answer(task, video=video)
    options = ("A. red", "B. blue") if task == "multiple_choice" else ()
    rewards.check_answer(task, example, options)
    for response in (f"<answer>{example}</answer>", f"<think>I look closely.</think>\n<answer>{example}</answer>"):
        assert rewards.parse(task, response).found
        score = rewards.score(task, response, example, options=options)
        assert score.applicable, score.reason
        assert (score.accuracy, score.format, score.total) == (1.0, 1.0, 1.0)


def test_text_of_the_question_is_never_taken_for_a_template() -> None:
    question = "<video>What is {{ 7 * 7 }} in {% raw %} <b>&amp;</b>?"
    text = prompt_text(sample("open_ended", question=question), PromptConfig())
    assert text.startswith(question)


def test_math_with_options_asks_for_a_letter() -> None:
    text = prompt_text(sample("math", options=("A. 1", "B. 2")), PromptConfig())
    assert "\nA. 1\nB. 2\n" in text
    assert "the letter of the right option" in text


def test_placeholders_stay_where_the_question_has_them() -> None:
    media = (MediaRef("image", "/i.png"), *VIDEO)
    text = prompt_text(sample("video_qa", question="Is <image> in <video>?", media=media), PromptConfig())
    assert text.splitlines()[0] == "Is <image> in <video>?"


def test_own_templates_come_before_those_of_the_package(tmp_path: Path) -> None:
    (tmp_path / "math.j2").write_text("{{ question }} [{{ task }} {{ extra.level }} {{ source }} {{ video }}]\n")
    (tmp_path / "ocr.j2").write_text('{% extends "_base.j2" %}{% block form %}all the words{% endblock %}')
    config = PromptConfig(templates=str(tmp_path))
    assert prompt_text(sample("math", extra={"level": 3}, source="s"), config) == "<video>Question? [math 3 s True]"
    assert "then give all the words in <answer>" in prompt_text(sample("ocr"), config)
    assert prompt_text(sample("boolean"), config) == prompt_text(sample("boolean"), PromptConfig())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("math.j2", "{{ question", r"math.j2:1: .* - correct the template"),
        (
            "math.j2",
            "{{ question }} {{ hint }}",
            r"template math.j2 cannot be rendered.*'hint' is undefined",
        ),
        ("math.j2", "{{ question }} {{ 1 // 0 }}", "cannot be rendered"),
        ("math.j2", "{{ question.__class__.__mro__ }}", "cannot be rendered for sample '1'.*unsafe"),
        ("math.j2", '{% include "../secret" %}', "cannot be rendered"),
        (
            "math.j2",
            "Solve it.",
            r"placeholders \[\] for the media \['video'\] - write {{ question }} exactly once",
        ),
        ("math.j2", "{{ question }}<image>", r"\['video', 'image'\] for the media \['video'\]"),
        ("math.j2", b"\xff", "math.j2: not UTF-8"),
        ("maths.j2", "{{ question }}", "maths.j2: no task type is called 'maths' - rename it to one of: math"),
        ("readme.txt", "hello", "has no .j2 file"),
    ],
)
def test_templates_that_are_wrong(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError, match=message):
        prompt_text(sample("math"), PromptConfig(templates=str(tmp_path)))


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no directory"):
        prompt_text(sample("math"), PromptConfig(templates=str(tmp_path / "gone")))


def test_examples_of_unknown_types() -> None:
    with pytest.raises(DataError, match="unknown task type 'poetry'"):
        example_answer("poetry")
