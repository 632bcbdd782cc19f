"""Sentences that say one thing of one subject, as real models answer a choice: "The circle is red.", "It moves left."

Subjects are closed lists of plain words. With any other word a sentence may deny, doubt, quote or judge what it says:
"The only colour that it lacks is red", "The opposite is red", "They say it is red", "The user is right".
"""

from __future__ import annotations

import re

_QUALITY = (
    r"(?:big|small|large|little|tall|moving|red|green|blue|yellow|black|white|grey|gray|orange|purple|pink|brown|left|right"
    r"|upper|lower)"
)
_THING = (
    r"(?:shapes?|objects?|circles?|squares?|triangles?|rectangles?|stars?|balls?|cubes?|spheres?|cylinders?|boxes|box|blocks?"
    r"|man|woman|person|people|men|women|boys?|girls?|child|children|cars?|bus|buses|trucks?|vans?|bikes?|bicycles?|trains?"
    r"|boats?|dogs?|cats?|birds?|horses?|cups?|bottles?|bags?|hats?|shirts?|jackets?|doors?|tables?|chairs?|walls?|letters?"
    r"|arrows?|dots?)"
)
_PROPERTY = r"(?:colou?r|shape|size|direction|material|number)"
_PLACE = (
    r"(?:on the (?:left|right|top|bottom|table|floor|screen)|in the (?:middle|cent(?:er|re)|video|clip|picture|image)"
    r"|that (?:moves|goes) (?:left|right|up|down))"
)
_SUBJECT = (
    rf"(?:it|this|that|(?:its|the) {_PROPERTY}|the {_PROPERTY} of the (?:{_QUALITY} )?{_THING}"
    rf"|(?:the|this|that|these|those) (?:{_QUALITY} ){{0,2}}{_THING}(?: {_PLACE})?)"
)
_MOVES = r"(?:moves?|goes|go|turns?)"
#: What is said is plain words: a question mark of any script, quotes and what is struck out are none.
_STATES = re.compile(
    rf"(?P<subject>{_SUBJECT}) (?P<verb>is|are|was|were|has|have|{_MOVES}) (?P<said>\w[\w '-]*+)[.!]?", re.IGNORECASE
)
#: Words that judge a claim as well as name an option: only what moves goes "right".
_JUDGEMENT = re.compile(
    r"(?:the )?(?:right|wrong|correct|incorrect|true|false|yes|no|good|bad|fine|off|over)", re.IGNORECASE
)


def stated_of_subject(text: str) -> tuple[str, str] | None:
    """The subject, and what the only sentence of a text says of it; ``None`` for any other text."""
    sentence = _STATES.fullmatch(text)
    if sentence is None:
        return None
    judges = _JUDGEMENT.fullmatch(sentence["said"]) is not None
    if judges and re.fullmatch(_MOVES, sentence["verb"], re.IGNORECASE) is None:
        return None
    return sentence["subject"], sentence["said"]
