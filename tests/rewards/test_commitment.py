"""What commits to nothing, or to two things, is paid nothing; what commits to the right answer in a usual form is."""

from __future__ import annotations

import math
import time

import pytest

from easyvideor1.rewards import score

OPTIONS = ("A. chair", "B. table", "C. dog", "D. red car")
#: The form asked for, with this content.
TAG = "<answer>{}</answer>"

#: (task type, reference) -> responses that earn nothing.
NOTHING: dict[tuple[str, str], tuple[str, ...]] = {
    ("multiple_choice", "B"): (
        *("I would not choose B", "I'd not pick B", "I would never go with option B", TAG.format("I do not choose B")),
        *("Anyone who would select B is mistaken", "It is impossible that option B", TAG.format("Is it option B?")),
        *("Option B cannot be right", "The answer isn't B", "It can't be option B.", "B is not the answer"),
        *("option B is out of the question", "If option B then fine", "The correct answer is neither A nor B"),
        *("\u6211\u4e0d\u9009B", "\u6392\u9664B", "\u9009B\u5417\uff1f", "B\u4e0d\u5bf9", "I can rule out option B"),
        *("Whether option B holds is unclear", "Nobody would pick B", "It is wrong to choose B", "B, not B"),
        *("B. Or A.", "B. table and also C. dog", "B. table, or dog", "(B) table (C) dog", "B) table; C) dog"),
        *("B: table, C: dog", "B. table. C. dog.", "B - C", "B. Else C", "B. Second guess: C.", "(B)(C)"),
        *("B\n\nAlternatively C", "B\nAlso C is possible.", TAG.format("B. is wrong"), TAG.format("B: incorrect")),
        *(TAG.format("B - no"), TAG.format("B: not this one"), "B. is not right, C", "B or maybe not"),
        *(TAG.format("B is correct. A is correct."), "Option B is correct and option C is correct."),
        *("The answer is B because it could be C", "The answer is B, as C or D", "The answer is B or C, not A"),
    ),
    ("preference", "1"): (
        *("1, b", "1, otherwise the second", "first, then b", "Is response 1 better? I don't know", "1, tie"),
        *("1, but the tie is possible", "1, both are equal", "1 > 2 > 1", "Response 1 is not better", "Is it 1?"),
        *("Response 1 is more verbose than Response 2.", "1, because 2 is better", "Response 2 > Response 1"),
    ),
    ("boolean", "yes"): (
        *("Yes if x, no otherwise", "Yes: 50%, No: 50%", "Yes (50%) or no (50%)", "Yes, alternatively no"),
        *("Yes, but it might be no in truth", "Yes. Alternatively: no.", "Yes is not the answer"),
        *("True if the dog runs, false otherwise", "The answer is yes.\nOr no.", "Yes?", "Yes would be incorrect"),
        *("Yes and no, depending on the view", "Yes in one sense, no in another"),
    ),
    ("numerical", "12"): (
        *("The answer is 12.\nOr 13.", "The answer is 12 as 13", "The answer is 12, since it's 13 otherwise"),
        *("The answer is 12 because it could be 13", TAG.format("12 (or 13)"), TAG.format("12 (not 13)")),
        *(TAG.format("12 (13)"), TAG.format("12 (13 if the last counts)")),
    ),
    ("numerical", "3"): (TAG.format("negative 3"), TAG.format("The answer is minus 3")),
    ("numerical", "2"): (TAG.format("\\frac1{2}"),),
    ("math", "42"): (
        *("42 \\text{ (or 43)}", "42 \\text{ or 43}", "42 \\text{ 43 apples}", "42 \\approx 43", "x = 42 = 43"),
        *("x = 42 \\equiv 43", "42 = 43"),
    ),
    ("spatial_grounding", "[100,200,300,400]"): (
        *("[100,200,300,400], if not: [1,2,3,4]", "[100,200,300,400] is wrong"),
        *("It is impossible that it is [100,200,300,400]", "The image has size [100,200,300,400]."),
        *("[100,200,300,400]?", "Is it [100,200,300,400]?", "It cannot be [100,200,300,400]", "no: [100,200,300,400]"),
        *("I do not think it is [100,200,300,400]", "I rule out [100,200,300,400]", "[100,200,300,400] - no"),
        *("anything but [100,200,300,400]", "unlikely [100,200,300,400]", "[100,200,300,400] \u662f\u9519\u7684"),
        "[100,200,300,400], if it is not: [1,2,3,4]",
    ),
    ("temporal_grounding", "[5, 12]"): (
        *("[5,12], if not: [15,20]", "5 to 12 is wrong", "The video is shown from 5.0 to 12.0 seconds."),
        *("5 to 12?", "Is it 5 to 12?", "It cannot be 5 to 12", "except 5 to 12"),
    ),
}
#: (task type, reference) -> responses that are right.
RIGHT: dict[tuple[str, str], tuple[str, ...]] = {
    ("multiple_choice", "B"): (
        *("The answer should be B.", TAG.format("B is the answer"), "The answer is B, not A.", TAG.format("B, not A")),
        *("The man is next to a table, so B is the answer.", "The best match is B.", '{"answer": "B"}'),
        *(
            "Among the options, B is the closest.",
            "\u5e94\u9009B",
            "B\u9009\u9879",
            "B\u3001table",
            "\u5e94\u8be5\u9009B",
        ),
        *('```json\n{"answer": "B", "reason": "a table"}\n```', "B<|im_end|>", "<think></think>\n\nB<|im_end|>"),
        *(
            "<|begin_of_box|>B<|end_of_box|>",
            "It is not raining, so I choose option B.",
            "It is not A, so the answer is B.",
        ),
        *("Option A is wrong. The answer is B.", "I choose B rather than C.", "I'd pick B over C."),
        *("B. table, because the dog is not there", "B, because it is not a chair", "B is correct because A is wrong."),
        *(
            "B. The man sits at a table in picture A.",
            "The chair is not visible. Therefore, option B is the best answer.",
        ),
    ),
    ("preference", "1"): (
        *("Response 1 > Response 2", "Response 1 is more accurate and detailed than Response 2.", "Preferred: 1"),
        *("I choose response 1 over response 2.", "Response 1, since Response 2 is wrong", "Assistant A is better"),
        *("Model A", "\u7b2c\u4e00\u4e2a", "\u7b2c\u4e00\u4e2a\u56de\u7b54\u66f4\u597d", "The winner is response A."),
    ),
    ("boolean", "yes"): (
        *(
            "It is true that the dog runs.",
            "\u6709",
            "Yes, the man walks or runs.",
            "Yes, with little or no doubt",
            "Yep",
        ),
        *("The answer is yes because the dog could be seen", "Yes, there is no dog outside"),
    ),
    ("boolean", "no"): ("\u4e0d", "\u4e0d\uff0c\u4ed6\u6ca1\u6709", "Not really.", "Nope", "No, it is not yes", "Nah"),
    ("numerical", "12"): (
        *("The man lifts the bar 12 times in the video.", TAG.format("12 (3 rows of 4)"), '{"answer": 12}'),
        *("The answer is 12 because there are 3 rows of 4", "12<|im_end|>\n<|endoftext|>"),
    ),
    ("numerical", "-3"): ("minus 3", TAG.format("negative 3"), TAG.format("The answer is minus 3")),
    ("numerical", "1234"): ("\\boxed{1{,}234}",),
    ("numerical", "0.5"): ("\\dfrac12", "\\frac1{2}", "\\dfrac{1}2"),
    ("math", "42"): ("forty-two", "x \\in \\{42\\}", "40 + 2 = 42", "42 \\text{ cm}^2", "42 \\text{ m/s}"),
    ("math", "\\sqrt{2}"): ("1.4142135623730951", "\\sqrt{2} \\approx 1.414"),
    ("math", "2\\sqrt{3}"): (repr(math.sqrt(12)),),
    ("math", "\\frac{1}{2}"): ("one half",),
    ("math", "x \\ge 3"): ("[3,\\infty)",),
    ("math", "[3,\\infty)"): ("x \\ge 3",),
    ("spatial_grounding", "[100,200,300,400]"): (
        *("\\boxed{[100,200,300,400]}", TAG.format("bbox: 100,200,300,400"), "<bbox>100,200,300,400</bbox>"),
        *("<box>[[100, 200, 300, 400]]</box>", "100 200 300 400", "[100, 200, 300, 400]. Hope it helps!"),
        '{"bbox_2d": [100,200,300,400]}\nLet me know if you need more.',
    ),
    ("temporal_grounding", "[5, 12]"): (
        *("\\boxed{[5.0, 12.0]}", "Time range: 5.0 - 12.0", "<5.0, 12.0>", TAG.format("<0:05> - <0:12>")),
        "from second 5 to second 12",
    ),
    ("ocr", "a red chair"): (
        "The answer is a red chair.",
        "\u7b54\u6848\u662fa red chair",
        '{"answer": "a red chair"}',
    ),
    ("open_ended", "a red chair"): ("The answer is a red chair.",),
}


def worth(task: str, reference: str, response: str) -> float:
    return score(task, response, reference, options=OPTIONS if task == "multiple_choice" else None).accuracy


@pytest.mark.parametrize(
    ("task", "reference", "text"), [(*key, text) for key, texts in NOTHING.items() for text in texts]
)
def test_what_commits_to_nothing_or_to_two_things_earns_nothing(task: str, reference: str, text: str) -> None:
    said = score(task, text, reference, options=OPTIONS if task == "multiple_choice" else None)
    assert said.accuracy == 0.0
    assert said.reason or said.parsed, "an answer that cannot be read says why"
    if "<answer>" not in text:
        assert worth(task, reference, TAG.format(text)) == 0.0


@pytest.mark.parametrize(
    ("task", "reference", "text"), [(*key, text) for key, texts in RIGHT.items() for text in texts]
)
def test_what_commits_to_the_right_answer_is_right(task: str, reference: str, text: str) -> None:
    assert worth(task, reference, text if task != "math" else TAG.format(text)) == 1.0


def test_a_denied_choice_is_not_paid_for_another_letter_either() -> None:
    assert worth("multiple_choice", "C", "We can rule out option C.") == 0.0
    options = ["A. Yes", "B. No", "C. not visible"]
    for text, letter in (("B. No", "B"), ("C. not visible", "C"), ("B. No, the dog is not there", "B")):
        assert score("multiple_choice", text, letter, options=options).accuracy == 1.0


def test_a_tag_opened_twice_is_not_the_form_asked_for() -> None:
    assert score("multiple_choice", "<answer>A<answer>B</answer>", "B", options=OPTIONS).format == 0.5


@pytest.mark.parametrize(
    "tower", ["10^{10^{10}}", "2^{2^{2^{2^{2^2}}}}", "1000000!", "(1+x)^{10000}", "e^{e^{e^{e^{e}}}}"]
)
def test_towers_of_powers_are_refused_before_they_are_worked_out(tower: str) -> None:
    start = time.process_time()
    said = score("math", TAG.format(tower), "12")
    assert (said.accuracy, said.parts.get("beyond_limits")) == (0.0, None)
    assert said.applicable and said.reason
    assert time.process_time() - start < 2
