"""Questions with one right option turned into questions with several: ask for what is *not* so.

"Which way does the ball move?" with one right option becomes "Which way doesn't the ball move?", for which the wrong
options are right (the question-answer inversion of Dang et al. 2025, TW-GRPO). A question that this file cannot negate
for certain is never inverted: its answer would be wrong.
"""

from __future__ import annotations

import re
import string
from dataclasses import replace

import numpy as np

from easyvideor1.config.transforms import InvertQuestion
from easyvideor1.data.formats import split_option
from easyvideor1.data.prompts import SEVERAL_ANSWERS
from easyvideor1.data.transforms import TRANSFORMS, TransformContext, depends_on_order
from easyvideor1.types import Sample

_NEGATED = {
    "is": "isn't",
    "are": "aren't",
    "was": "wasn't",
    "were": "weren't",
    "do": "don't",
    "does": "doesn't",
    "did": "didn't",
    "has": "hasn't",
    "have": "haven't",
    "had": "hadn't",
    "will": "won't",
    "would": "wouldn't",
}
_AUXILIARY = "|".join(_NEGATED)
#: A word of what is asked for: no auxiliary, nothing that begins a clause or a subject.
_NOUN = (
    rf"(?!(?:{_AUXILIARY}|that|who|whom|whose|which|what|where|when|while|if|as|to|the|an?|this|these|those|my|your|his|"
    r"her|its|our|their|he|she|it|they|we|i|there)\b)[a-z][a-z-]*"
)
#: "what is", "which red ball does", "which of the two balls was": the auxiliary follows what is asked for.
_ASKS = re.compile(
    r"(?:who|where|when"
    rf"|which\s+of\s+(?:(?:the|these|those)\s+)?(?:{_NOUN}\s+){{0,2}}{_NOUN}"
    rf"|(?:what|which|whose)(?:\s+{_NOUN}){{0,4}})"
    rf"\s+(?P<auxiliary>{_AUXILIARY})\b(?!')",
    re.IGNORECASE,
)
#: Phrases that may stand before the question in its own sentence.
_BEFORE = re.compile(r"(?:in|during|throughout|according to|based on|from|at)\s[^,?]{1,80},\s*", re.IGNORECASE)
#: Words that negate already, or whose sense together with a negation is another one or an open one.
_UNSAFE = re.compile(
    r"\b(?:not|never|no|none|nothing|nobody|nowhere|neither|nor|cannot|without|except|hardly|barely|rarely|seldom|few|"
    r"little|all|every\w*|each|both|either|any\w*|some\w*|most\w*|many|much|several|always|often|usually|sometimes|"
    r"ever|only|just|also|too|again|still|already|yet|even|else|other|besides|instead|rather|until|because|you|how|why|"
    # times of something else: what is not done after it may be done before it
    r"before|after\w*|then|next|while|during|since|once|later|earlier|"
    # what may be so, and what was only tried: its contrary may be so, too
    r"likely|unlikely|possibl[ey]|probabl[ey]|perhaps|maybe|can|could|might|may|must|should|seem\w*|appear\w*|"
    r"try|tries|tried|trying|attempt\w*|fail\w*|unable|refus\w*|"
    # "which isn't wrong" asks for what is right
    r"incorrect\w*|false\w*|wrong\w*|untrue|mistaken\w*)"
    r"\b|n't\b",
    re.IGNORECASE,
)
#: A second question joined to the first one.
_JOINED = re.compile(
    r"(?:\b(?:and|or|but)|[,;:])\s+(?:what|which|who|whose|where|when|is|are|does|do|did)\b", re.IGNORECASE
)
_PLACEHOLDER = re.compile(r"<(?:image|video)>")


def negated(question: str) -> str | None:
    """The question with its auxiliary negated ("does" becomes "doesn't"), or ``None`` if that could change its sense.

    Taken are questions of one sentence at the end of the text that ask with who, what, which, whose, where or when, and
    whose auxiliary follows what they ask for. Left out are questions that negate already, quantify ("all", "only",
    "most"), name another time ("after", "while"), ask for what may be so, was tried or is wrong, ask two things, or ask
    how or why: "why did he fall" and "why didn't he fall" exclude no answer of each other.
    """
    if question.count("?") != 1 or not question.rstrip().rstrip("'\")").endswith("?"):
        return None
    text = _PLACEHOLDER.sub(lambda mark: " " * len(mark.group()), question).replace("\n", " ")
    start = max((match.end() for match in re.finditer(r"[.!:]\s", text)), default=0)
    start += len(text[start:]) - len(text[start:].lstrip())
    if before := _BEFORE.match(text, start):
        start = before.end()
    asks = _ASKS.match(text, start)
    if asks is None or _UNSAFE.search(text, start) or _JOINED.search(text, asks.end()):
        return None
    auxiliary = asks["auxiliary"]
    at = asks.start("auxiliary")
    return question[:at] + _NEGATED[auxiliary.lower()] + question[at + len(auxiliary) :]


@TRANSFORMS.register("invert_question")
def invert_question(sample: Sample, step: int, rng: np.random.Generator, context: TransformContext) -> list[Sample]:
    """A share of the multiple-choice samples with one right option ask for what is not so, and have one or more right.

    The options are the right one of before and a random non-empty part of the wrong ones, in a new order with new
    letters; the answer is the letters of the wrong ones. The column ``several_answers`` makes the prompt ask for all
    letters. Traces of the old question are left out. Unchanged stay samples whose question cannot be negated for
    certain (``negated``), whose options refer to each other ("all of the above", "both A and B"), repeat each other or
    negate, and samples with several right options.
    """
    options: InvertQuestion = context.options
    if rng.random() >= options.share:
        return [sample]
    return [inverted(sample, rng) or sample]


def inverted(sample: Sample, rng: np.random.Generator) -> Sample | None:
    """The inverted sample, or ``None`` where it cannot be inverted for certain; see ``invert_question``."""
    if sample.task != "multiple_choice" or len(sample.options) < 2 or sample.extra.get(SEVERAL_ANSWERS):
        return None
    question = negated(sample.question)
    bare = replace(sample, offline=())
    if question is None or depends_on_order(bare):
        return None
    texts = dict(split_option(option) for option in sample.options)
    right = _right_letter(sample.answer, texts)
    different = len({text.casefold() for text in texts.values()}) == len(sample.options)
    if right is None or not different or any(_UNSAFE.search(text) for text in texts.values()):
        return None
    wrong = [texts[letter] for letter in sorted(texts) if letter != right]
    kept = [wrong[at] for at in rng.permutation(len(wrong))[: int(rng.integers(1, len(wrong) + 1))]]
    options = [texts[right], *kept]
    placed = [options[at] for at in rng.permutation(len(options))]
    letters = dict(zip(placed, string.ascii_uppercase, strict=False))
    return replace(
        bare,
        question=question,
        options=tuple(f"{letter}. {text}" for text, letter in letters.items()),
        answer=", ".join(sorted(letters[text] for text in kept)),
        extra={**sample.extra, SEVERAL_ANSWERS: True},
    )


def _right_letter(answer: str, texts: dict[str, str]) -> str | None:
    """The letter of the one right option, given by letter, by text or by both; ``None`` if it is no single one."""
    if answer.strip() in texts:
        return answer.strip()
    letter, text = split_option(answer)
    if letter:
        return letter if texts.get(letter) == text else None
    return next((one for one, other in texts.items() if other == text), None)
