"""What the configuration knows of algorithms by name is what they say of themselves, and what they do."""

import dataclasses

import torch
from tests.algorithms.batches import SEQUENCE, random_batch, stage

from easyvideor1.algorithms.advantages import ADVANTAGES, AdvantageContext, call_advantage, is_group_centred
from easyvideor1.algorithms.corrections import CORRECTIONS
from easyvideor1.algorithms.needs import needs_of
from easyvideor1.algorithms.objectives import OBJECTIVES
from easyvideor1.algorithms.weighters import WEIGHTERS
from easyvideor1.config import StageConfig
from easyvideor1.config import algorithm_names as names


def test_every_name_is_known():
    registries = {"advantage": ADVANTAGES, "objective": OBJECTIVES, "weighter": WEIGHTERS, "correction": CORRECTIONS}
    assert {kind: registry.names() for kind, registry in registries.items()} == {
        kind: sorted(known) for kind, known in names.KINDS.items()
    }


def test_advantages_that_compare_a_group_say_so():
    declared = {name for name in ADVANTAGES.names() if is_group_centred(ADVANTAGES.resolve(name))}
    assert declared == names.GROUP_CENTRED


def test_objectives_of_sequences_say_so():
    needing = {name for name in OBJECTIVES.names() if "sequence_ids" in needs_of(OBJECTIVES.resolve(name))}
    assert needing == names.SEQUENCE_OBJECTIVES == set(SEQUENCE)


def loss(name, changes=(), **options):
    batch = dataclasses.replace(random_batch(spread=0.8), **dict(changes))
    return OBJECTIVES.resolve(name)(batch, stage(objective=name).model_copy(update=options))[0].item()


def reading(**options):
    return {name for name in OBJECTIVES.names() if loss(name) != loss(name, **options)}


def test_objectives_read_the_options_that_they_are_said_to_read():
    assert reading(clip_low=0.01) | reading(clip_high=0.01) == names.CLIPPED
    assert reading(clip_dual=1.3) == names.DUAL_CLIPPED
    older = {"old_logprobs": random_batch(spread=0.8).old_logprobs - 0.1}
    taking = {name for name in OBJECTIVES.names() if loss(name) != loss(name, changes=older)}
    assert set(OBJECTIVES.names()) - taking == names.WITHOUT_RATIO


def test_which_advantages_read_no_total_reward():
    groups, rewards = torch.tensor([0, 0, 0, 1, 1, 1]), torch.tensor([0.0, 0.3, 1.0, 0.4, 0.2, 0.9])
    parts = {"accuracy": torch.tensor([0.0, 1.0, 1.0, 0.0, 0.0, 1.0]), "format": torch.ones(6)}
    context = AdvantageContext(
        StageConfig(name="s"), parts, lengths=torch.ones(6), baseline_rewards=rewards / 2, sequence=torch.arange(6),
        values=rewards / 3,
    )  # fmt: skip
    deaf = set()
    for name in ADVANTAGES.names():
        one, two = (call_advantage(ADVANTAGES.resolve(name), r, groups, context) for r in (rewards, rewards.square()))
        if torch.equal(one, two):
            deaf.add(name)
    assert deaf == names.WITHOUT_REWARD


def test_corrections_read_the_options_that_they_are_said_to_read():
    trainer, engine, sequence = torch.tensor([0.0, 0.0]), torch.tensor([-1.0, 0.5]), torch.tensor([0, 1])

    def reading(**options):
        found = set()
        for name in CORRECTIONS.names():
            base = stage(correction=name)
            one, two = (
                CORRECTIONS.resolve(name)(trainer, engine, sequence, each)[0]
                for each in (base, base.model_copy(update=options))
            )
            found |= set() if torch.equal(one, two) else {name}
        return found

    assert reading(correction_cap=1.1) == names.TRUNCATING
    assert reading(correction_low=0.95) == reading(correction_high=1.1) == names.MASKING
