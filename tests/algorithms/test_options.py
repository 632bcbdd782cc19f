"""What the configuration says of algorithms by name is what they say of themselves, and what they do."""

import dataclasses
import sys
import textwrap

import pytest
import torch
from tests.algorithms.batches import SEQUENCE, batch, float64, loss_of, random_batch, stage

from easyvideor1.algorithms.advantages import ADVANTAGES, AdvantageContext, call_advantage, is_group_centred
from easyvideor1.algorithms.aggregation import AGGREGATIONS
from easyvideor1.algorithms.corrections import CORRECTIONS
from easyvideor1.algorithms.needs import needs_of
from easyvideor1.algorithms.objectives import OBJECTIVES
from easyvideor1.algorithms.token_batch import ALGORITHMS, check_algorithm, token_batch
from easyvideor1.algorithms.weighters import WEIGHTERS
from easyvideor1.config import StageConfig, parse_config
from easyvideor1.config import algorithms as options
from easyvideor1.config.algorithms import ADVANTAGE_OPTIONS, OBJECTIVE_OPTIONS
from easyvideor1.types import ConfigError


def test_every_function_has_options_and_every_options_class_a_function():
    tables = {
        ADVANTAGES: options.ADVANTAGE_OPTIONS,
        OBJECTIVES: options.OBJECTIVE_OPTIONS,
        WEIGHTERS: options.WEIGHTER_OPTIONS,
        CORRECTIONS: options.CORRECTION_OPTIONS,
    }
    for registry, table in tables.items():
        assert registry.names() == sorted(set(table) - {options.CUSTOM}), registry.kind
    assert set(options.AGGREGATION_OPTIONS) == set(AGGREGATIONS)


def test_advantages_that_compare_a_group_say_so():
    declared = {name for name in ADVANTAGES.names() if is_group_centred(ADVANTAGES.resolve(name))}
    assert declared == {name for name, each in ADVANTAGE_OPTIONS.items() if each.group_centred}


def test_objectives_of_sequences_say_so():
    needing = {name for name in OBJECTIVES.names() if "sequence_ids" in needs_of(OBJECTIVES.resolve(name))}
    assert needing == {name for name, each in OBJECTIVE_OPTIONS.items() if each.of_sequences} == set(SEQUENCE)


#: A value of every option of an objective that makes a difference to the batch below, beside its default.
VALUES = {
    "clip_low": 0.01,
    "clip_high": 0.01,
    "clip_dual": 1.3,
    "gamma": 0.5,
    "tau_positive": 3.0,
    "tau_negative": 3.0,
    "floor": 0.2,
    "beta": 0.7,
    "temperature": 0.3,
    "weight_cap": 1.1,
    "entropy_coef": 0.5,
}
COMMON = {"name", "old_logprobs"}
CASES = [
    (name, key) for name in OBJECTIVES.names() for key in OBJECTIVE_OPTIONS[name].model_fields if key not in COMMON
]


@pytest.mark.parametrize(("name", "key"), CASES)
def test_objectives_read_the_options_that_they_have(name, key):
    whole = random_batch(spread=0.8)
    plain, other = (loss_of(whole, stage(objective={"name": name, **each})) for each in ({}, {key: VALUES[key]}))
    assert plain[0].item() != other[0].item()


def test_objectives_that_take_ratios_say_so():
    whole = random_batch(spread=0.8)
    older = dataclasses.replace(whole, old_logprobs=whole.old_logprobs - 0.1)
    taking = {
        name
        for name in OBJECTIVES.names()
        if loss_of(whole, stage(objective=name))[0] != loss_of(older, stage(objective=name))[0]
    }
    assert taking == {name for name in OBJECTIVES.names() if issubclass(OBJECTIVE_OPTIONS[name], options.RatioOptions)}


def test_which_advantages_read_no_total_reward():
    groups, rewards = torch.tensor([0, 0, 0, 1, 1, 1]), torch.tensor([0.0, 0.3, 1.0, 0.4, 0.2, 0.9])
    parts = {"accuracy": torch.tensor([0.0, 1.0, 1.0, 0.0, 0.0, 1.0]), "format": torch.ones(6)}
    unread = set()
    for name in ADVANTAGES.names():
        context = AdvantageContext(
            stage(advantage=name).advantage, parts, lengths=torch.ones(6), baseline_rewards=rewards / 2,
            sequence=torch.arange(6), values=rewards / 3,
        )  # fmt: skip
        one, two = (call_advantage(ADVANTAGES.resolve(name), r, groups, context) for r in (rewards, rewards.square()))
        if torch.equal(one, two):
            unread.add(name)
    assert unread == {name for name, each in ADVANTAGE_OPTIONS.items() if not each.reads_reward}


@pytest.mark.parametrize(("key", "value"), [("cap", 1.1), ("low", 0.95), ("high", 1.1)], ids=lambda word: str(word))
def test_corrections_read_the_options_that_they_have(key, value):
    trainer, engine, sequence = torch.tensor([0.0, 0.0]), torch.tensor([-1.0, 0.5]), torch.tensor([0, 1])
    for name, model in options.CORRECTION_OPTIONS.items():
        if key in model.model_fields:
            plain, other = (
                CORRECTIONS.resolve(name)(
                    trainer, engine, sequence, stage(correction={"name": name, **each}).correction
                )
                for each in ({}, {key: value})
            )
            assert not torch.equal(plain[0], other[0]), name


OWN = """
import torch
from pydantic import BaseModel, Field
from easyvideor1.algorithms.needs import group_centred, requires
from easyvideor1.options import with_options
from easyvideor1.algorithms.objectives import token_objective

class Tanh(BaseModel):
    tau: float = Field(default=1.0, gt=0)

@token_objective
@with_options(Tanh)
def tanh(batch, options):
    ratio = (batch.logprobs - batch.old_logprobs).exp()
    return -torch.tanh(options.tau * ratio) * batch.advantages, {"policy/ratio": ratio}

def free(batch, options):
    return batch.mean(-options.scale * batch.logprobs), {}

class Power(BaseModel):
    power: int

@with_options(Power)
def powers(rewards_N, group_N, context):
    return rewards_N ** context.options.power

@with_options(Power)
def lengths(tokens, options):
    return torch.full((len(tokens.sequence),), float(options.power))

@with_options(Power)
def halved(trainer_T, engine_T, sequence_T, options):
    return torch.full_like(trainer_T, 0.5 ** options.power), {}
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_options.py").write_text(textwrap.dedent(OWN))
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("own_options", None)


def configured(lines):
    (found,) = parse_config("stages:\n  - name: rl\n" + "".join(f"    {line}\n" for line in lines), "f").stages
    return found


def check_all(options):
    for kind in ALGORITHMS:
        check_algorithm(options, kind)


def test_an_objective_of_ones_own_gets_its_options(own):
    chosen = configured(["objective: {name: 'own_options:tanh', tau: 2.0}", "kl: {estimator: k2, coef: 0.5}"])
    check_all(chosen)
    tokens = batch(ref_logprobs=batch().logprobs + 0.5)
    loss, metrics = loss_of(tokens, chosen)
    expected = (
        -torch.tanh(2 * (tokens.logprobs - tokens.old_logprobs).exp()) * tokens.advantages * tokens.weights
    ).sum()
    assert loss.item() == pytest.approx(expected.item() + 0.5 * 0.125)
    assert {"policy/ratio", "policy/kl"} <= set(metrics)
    assert loss_of(tokens, configured(["objective: 'own_options:tanh'"]))[0].isfinite(), "its defaults hold"


def test_a_function_without_a_model_takes_any_key(own):
    loss, _ = loss_of(batch(), configured(["objective: {name: 'own_options:free', scale: 3.0}"]))
    assert loss.item() == pytest.approx(-3 * (batch().logprobs * batch().weights).sum().item())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("objective: {name: 'own_options:tanh', tao: 2.0}", r"stages\.rl\.objective\.tao: unknown key; valid .*: tau"),
        ("objective: {name: 'own_options:tanh', tau: -1.0}", r"stages\.rl\.objective\.tau: .* greater than 0"),
        ("advantage: {name: 'own_options:powers'}", r"stages\.rl\.advantage\.power: Field required"),
        ("weighter: {name: 'own_options:lengths', power: x}", r"stages\.rl\.weighter\.power: "),
    ],
)
def test_options_that_are_not_what_it_declares_are_refused_before_training(own, line, message):
    with pytest.raises(ConfigError, match=message):
        check_all(configured([line]))


def test_every_kind_gets_its_own_options(own):
    chosen = configured(
        [
            "advantage: {name: 'own_options:powers', power: 3, clip: 5.0}",
            "weighter: {name: 'own_options:lengths', power: 4}",
            "correction: {name: 'own_options:halved', power: 1}",
        ]
    )
    check_all(chosen)
    context = AdvantageContext(chosen.advantage)
    found = call_advantage(
        ADVANTAGES.resolve("own_options:powers"), float64([1.0, 2.0]), torch.zeros(2).long(), context
    )
    assert found.tolist() == [1.0, 5.0]
    tokens, _ = token_batch(
        chosen,
        logprobs=float64([-1.0]),
        engine_logprobs=float64([-1.0]),
        advantages=float64([1.0]),
        sequence=torch.tensor([0]),
        weights=float64([1.0]),
        group=torch.tensor([0]),
    )
    assert tokens.weights.tolist() == [2.0]


def two_arguments(rewards_N, group_N):
    return rewards_N


def test_an_advantage_without_a_context_takes_no_options():
    options = StageConfig.model_validate(
        {"name": "rl", "advantage": {"name": "tests.algorithms.test_options:two_arguments", "clp": 1}}
    )
    with pytest.raises(ConfigError, match=r"stages\.rl\.advantage\.clp: .* takes no options"):
        check_all(options)
