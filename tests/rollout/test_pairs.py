"""Pair builders, on groups that are written by hand."""

from __future__ import annotations

import pytest

from easyvideor1.config.rollouts import PairConfig
from easyvideor1.records.trajectories import SampleRecord, TrajectoryRecord
from easyvideor1.rollout.pairs import PAIRS, choose_pairs, load_builders, repeated_share
from easyvideor1.rollout.trace import follows_from_trace
from easyvideor1.types import ConfigError, EasyVideoError, Score

OPTIONS = ("A. red", "B. blue", "C. green")
ANIMALS = ("A. cat", "B. dog")
NINE = tuple(f"{letter}. option {letter.lower() * 2}" for letter in "ABCDEFGHI")


def one(text="", accuracy=1.0, *, tokens=10, finish="stop", applicable=True, origin="online"):
    return TrajectoryRecord(text, tokens, finish, Score(accuracy, 1.0, accuracy, applicable=applicable), origin)


def group(*trajectories, options=OPTIONS, sample="s"):
    return SampleRecord(sample, "multiple_choice", "?", "A", options, trajectories=trajectories)


def pairs(builder, record, **options):
    ((_, found),) = load_builders([PairConfig(builder=builder, options=options)])
    return sorted(found(record))


def think(trace, answer="A"):
    return f"<think>{trace}</think><answer>{answer}</answer>"


def test_right_over_wrong_and_nothing_else():
    record = group(
        one(accuracy=1.0),
        one(accuracy=0.0),
        one(accuracy=0.5),
        one(accuracy=0.0, finish="length"),
        one(accuracy=1.0, finish="length"),  # cut: no example to follow
        one(accuracy=0.0, applicable=False),
        one(accuracy=1.0, origin="offline"),
    )
    assert pairs("accuracy", record) == [(0, 1), (0, 3)]
    assert pairs("accuracy", record, right=0.5) == [(0, 1), (0, 3), (2, 1), (2, 3)]
    assert pairs("accuracy", record, wrong=0.5) == [(0, 1), (0, 2), (0, 3)]
    assert pairs("accuracy", group(one(), one())) == []


def test_an_answer_that_follows_is_over_one_that_does_not():
    follows, guesses = one(think("It is red, so the answer is A.")), one(think("I just guess."))
    other, untagged = one(think("It is blue.")), one("red")
    wrong = one(think("It is blue, so B.", "B"), accuracy=0.0)
    record = group(follows, guesses, other, untagged, wrong)
    assert pairs("consistency", record) == [(0, 1), (0, 2)]
    scorer = f"{__name__}:by_length"
    assert pairs("consistency", record, scorer=scorer, threshold=0.6) == [(0, 2), (1, 2)]


def by_length(record, response):
    """A scorer of one's own: a share, a truth value, or nothing."""
    return {0: 0.7, 1: True, 2: 0.5}.get([one.response for one in record.trajectories].index(response))


def test_a_corrected_attempt_is_over_a_wrong_one():
    turned = one(think("It is blue. Wait, it is red."))
    after = one("<think>It is red.</think> wait <answer>A</answer>")  # not in the reasoning
    record = group(turned, after, one(accuracy=0.0), one(think("Wait, what?", "B"), accuracy=0.0))
    assert pairs("reflection", record) == [(0, 2), (0, 3)]
    assert pairs("reflection", record, marker="is red") == [(0, 2), (0, 3), (1, 2), (1, 3)]


def test_repetition_and_length():
    again = "so it is red and so it is red and so it is red"
    assert repeated_share(again, 4) == pytest.approx(1 - 5 / 11)  # 11 windows of 4 words, 5 different ones
    assert repeated_share("a b c", 4) == 0.0
    record = group(one("it is red", tokens=4), one(again, tokens=14), one("wrong", 0.0, tokens=2))
    assert pairs("repetition", record) == [(0, 1)]
    assert pairs("repetition", record, limit=0.6) == []
    assert pairs("length", record) == [(0, 1)]
    assert pairs("length", record, ratio=3.5) == [(0, 1)] and pairs("length", record, ratio=3.6) == []


@pytest.mark.parametrize(
    ("response", "options", "follows"),
    [
        (think("It is red."), OPTIONS, True),
        (think("Not B. It is red, so A."), OPTIONS, True),
        (think("A? No, it is blue."), OPTIONS, False),
        (think("I just guess."), OPTIONS, False),
        (think("It is red.", "A. red"), OPTIONS, True),
        ("It is red. <answer>A</answer>", OPTIONS, True),
        ("It is red.", OPTIONS, None),
        (think("B shows nothing. A shows a match."), ANIMALS, True),
        (think("so it must be A because of the ball"), ANIMALS, True),
        (think("It is option A then"), ANIMALS, True),
        (think("B shows nothing. A man walks."), ANIMALS, None),  # the option, or an article?
        (think("A man walks. So it is B."), ANIMALS, False),
        (think("A man walks. So it is B.", "B"), ANIMALS, True),
        (think("It must be C, I think.", "C"), NINE, True),
        (think("I see that the answer is I because of the ball.", "I"), NINE, True),
        (think("Yes? I see none, so the answer is No.", "No"), (), True),
        (think("I see one: yes.", "No"), (), False),
        (think("I know.", "No"), (), False),
        (think("One, two, that makes 2.", "2"), (), True),
        (think("That makes 12.", "2"), (), False),
        (think("From 1 to 1.5 seconds.", '{"time":[1,1.5]}'), (), True),
        (think("From 1 to 2 seconds.", '{"time":[1,1.5]}'), (), False),
        (think("There is a cat.", "A Cat"), (), True),
        (think("There is a dog.", "a cat"), (), False),
        (think("nothing", ""), (), False),
    ],
)
def test_what_follows_from_a_trace(response, options, follows):
    assert follows_from_trace(group(options=options), response) is follows


def test_choices_are_capped_seeded_and_single():
    record = group(*[one()] * 4, *[one(accuracy=0.0)] * 4)
    builders = load_builders([PairConfig(builder="accuracy", per_prompt=3), PairConfig(builder="accuracy")])
    first = choose_pairs(record, builders, (0, "dpo", 1))
    assert len({(pair.better, pair.worse) for pair in first}) == len(first) and 3 <= len(first) <= 4
    assert choose_pairs(record, builders, (0, "dpo", 1)) == first
    drawn = {tuple((pair.better, pair.worse) for pair in choose_pairs(record, builders, (seed,))) for seed in range(20)}
    assert len(drawn) > 10
    every = [PairConfig(builder="accuracy", per_prompt=99)]
    assert len(choose_pairs(record, load_builders(every), (0,))) == 16


def outside(record):
    return [(0, 9)]


def test_mistakes_of_a_builder_are_told():
    with pytest.raises(ConfigError, match=r"unknown pair builder 'acuracy': did you mean accuracy"):
        load_builders([PairConfig(builder="acuracy")])
    with pytest.raises(ConfigError, match=r"does not take these options .*'rigth'.*; it has right, wrong"):
        load_builders([PairConfig(builder="accuracy", options={"rigth": 1})])
    own = load_builders([PairConfig(builder=f"{__name__}:outside")])
    with pytest.raises(EasyVideoError, match=r"made the pair \(0, 9\) of a group of 1 responses \(s\)"):
        choose_pairs(group(one()), own, (0,))
    assert set(PAIRS.names()) == {"accuracy", "consistency", "reflection", "repetition", "length"}
