"""However a step is split, its micro-batches add up to it: loss, metrics and gradients."""

import pytest
import torch
from pydantic import ValidationError
from tests.algorithms.batches import loss_of, part, random_batch, stage

from easyvideor1.algorithms.corrections import CORRECTIONS
from easyvideor1.algorithms.objectives import OBJECTIVES
from easyvideor1.algorithms.token_batch import stage_needs, token_batch
from easyvideor1.algorithms.weighters import WEIGHTERS

AROUND = [
    {},
    *[{"weighter": name} for name in WEIGHTERS.names() if name != "none"],
    *[{"correction": name} for name in CORRECTIONS.names() if name != "none"],
    {"weighter": "tw_grpo", "correction": "tis_sequence"},
    {"objective": {"old_logprobs": "engine"}},
    {"objective": {"old_logprobs": "engine"}, "weighter": "entropy_top"},
    *[{"off_policy": how} for how in ("importance", "luffy", "sft")],
]


def loads(name, options):
    try:
        stage({"objective": name}, options)
    except ValidationError:
        return False
    return True


#: What goes together; the rest is refused by the configuration.
CASES = [(name, options) for name in OBJECTIVES.names() for options in AROUND if loads(name, options)]


def test_what_is_left_out_is_what_the_configuration_refuses():
    taken = {name: [options for other, options in CASES if other == name] for name in OBJECTIVES.names()}
    assert taken["ppo_clip"] == AROUND and all({} in options for options in taken.values())
    with_ratios = {name for name, options in taken.items() if {"off_policy": "importance"} in options}
    assert {name for name in taken if {"objective": {"old_logprobs": "engine"}} in taken[name]} == with_ratios | {
        "luffy"
    }
    assert with_ratios == {"cispo", "gmpo", "gspo", "gspo_token", "ppo_clip", "reg_grpo", "sapo"}


def run(options, whole, index):
    """Loss, metrics and gradient of some tokens of a step, by way of ``token_batch``."""
    logprobs = whole.logprobs[index].clone().requires_grad_()
    tokens, more = token_batch(
        options,
        logprobs=logprobs,
        engine_logprobs=whole.old_logprobs[index],
        advantages=whole.advantages[index],
        sequence=whole.sequence[index],
        weights=whole.weights[index],
        group=whole.group[index],
        ref_logprobs=whole.ref_logprobs[index],
        entropy=whole.entropy[index],
        divergence=whole.returns.abs()[index],
        offline=whole.offline[index],
        step_pairs=whole.pairs if options.objective.name == "dpo" else None,
    )
    loss, metrics = loss_of(tokens, options)
    return loss.item(), {**metrics, **more}, torch.autograd.grad(loss, logprobs)[0]


#: Cuts of seven sequences in two: each sequence from the others, and the lines of the plane of seven points, on which
#: any two sequences are together once and apart four times.
CUTS = (*((number,) for number in range(7)), *((n % 7, (n + 1) % 7, (n + 3) % 7) for n in range(7)))


@pytest.mark.parametrize(("name", "options"), CASES)
def test_micro_batches_sum_to_the_step(name, options):
    """Sequences are whole; those of a group stay together where something of the stage asks for it."""
    chosen = stage({"objective": {"name": name, "entropy_coef": 0.1}}, options, kl={"estimator": "k3", "coef": 0.3})
    whole = random_batch()
    together = not stage_needs(chosen).isdisjoint({"group_ids", "pairs"})
    loss, metrics, gradient = run(chosen, whole, torch.ones_like(whole.sequence, dtype=torch.bool))
    for cut in [(0,)] if together else CUTS:
        index = torch.isin(whole.group if together else whole.sequence, torch.tensor(cut))
        parts = [run(chosen, whole, side) for side in (index, ~index)]
        assert sum(p[0] for p in parts) == pytest.approx(loss, abs=1e-12)
        for key, value in metrics.items():
            assert sum(p[1][key].item() for p in parts) == pytest.approx(value.item(), abs=1e-12)
        joined = torch.zeros_like(gradient)
        joined[index], joined[~index] = parts[0][2], parts[1][2]
        torch.testing.assert_close(joined, gradient, rtol=0, atol=1e-12)


def test_token_weights_with_alpha_one_are_grpo_to_the_bit():
    whole = random_batch()
    everything = torch.ones_like(whole.sequence, dtype=torch.bool)
    plain = run(stage(objective="ppo_clip"), whole, everything)
    weighted = run(stage(objective="ppo_clip", weighter={"name": "tw_grpo", "alpha": 1.0}), whole, everything)
    assert weighted[0] == plain[0] and torch.equal(weighted[2], plain[2])
    steeper = run(stage(objective="ppo_clip", weighter="tw_grpo"), whole, everything)
    assert steeper[0] != plain[0] and not torch.equal(steeper[2], plain[2])


@pytest.mark.parametrize("name", OBJECTIVES.names())
def test_a_batch_off_its_own_policy_splits_as_well(name):
    """The same with ratios that are not 1, sequence by sequence or group by group."""
    whole, chosen = random_batch(spread=0.5), stage(objective=name)
    by = whole.group if name in ("dpo", "reg_grpo") else whole.sequence
    loss = loss_of(whole, chosen)[0].item()
    parts = [loss_of(part(whole, by == number), chosen)[0].item() for number in by.unique().tolist()]
    assert sum(parts) == pytest.approx(loss, abs=1e-12)
