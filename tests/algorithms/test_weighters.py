"""Token weighters, and the statistic over the vocabulary that one of them reads."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.algorithms.batches import float64, stage

from easyvideor1.algorithms.weighters import WEIGHTERS, TokenStatistics, position_divergence

#: Two groups of two sequences.
SEQUENCE = torch.tensor([0, 0, 0, 1, 1, 2, 2, 3])
GROUP = torch.tensor([0, 0, 0, 0, 0, 1, 1, 1])


def run(name, *, trained=None, entropy=None, divergence=None, **options):
    trained = torch.ones(8, dtype=torch.bool) if trained is None else trained
    tokens = TokenStatistics(SEQUENCE, GROUP, trained, entropy, divergence)
    return WEIGHTERS.resolve(name)(tokens, stage({"weighter": name}, options).weighter)


def test_the_weighters():
    assert WEIGHTERS.names() == ["entropy_mean_one", "entropy_top", "none", "tw_grpo"]
    assert run("none").tolist() == [1.0] * 8


def test_tw_grpo_by_hand():
    divergence = float64([0.0, 2.0, 4.0, 0.0, 2.0, 7.0, 7.0, 7.0])
    found = run("tw_grpo", divergence=divergence, weighter={"alpha": 1.7})
    assert found.tolist() == pytest.approx([1.0, 1.35, 1.7, 1.0, 1.35, 1.0, 1.0, 1.0])
    assert run("tw_grpo", divergence=divergence, weighter={"alpha": 1.0}).tolist() == [1.0] * 8


def test_entropy_top_by_hand():
    entropy = float64([0.1, 0.9, 0.5, 0.8, 0.2, 3.0, 1.0, 2.0])
    assert run("entropy_top", entropy=entropy, weighter={"share": 0.4}).tolist() == [0, 1, 0, 1, 0, 1, 0, 1]
    assert run("entropy_top", entropy=entropy, weighter={"share": 0.01}).tolist() == [0, 1, 0, 0, 0, 1, 0, 0]
    assert run("entropy_top", entropy=entropy, weighter={"share": 1.0}).tolist() == [1] * 8
    trained = torch.tensor([True, False, True, False, True, False, False, False])
    found = run("entropy_top", entropy=entropy, weighter={"share": 0.34}, trained=trained)
    assert found.tolist() == [0, 0, 1, 0, 1, 0, 0, 0]


def test_entropy_mean_one_by_hand():
    """Sequence by sequence: min-max, a floor of 0.2, a mean of 1."""
    entropy = float64([1.0, 3.0, 2.0, 0.5, 2.5, 4.0, 4.0, 9.0])
    found = run("entropy_mean_one", entropy=entropy, weighter={"floor": 0.2})
    first = np.maximum([0.0, 1.0, 0.5], 0.2)
    second = np.maximum([0.0, 1.0], 0.2)
    assert found.tolist() == pytest.approx([*first / first.mean(), *second / second.mean(), 1, 1, 1])
    trained = torch.tensor([False, True, True, True, True, True, True, False])
    found = run("entropy_mean_one", entropy=entropy, weighter={"floor": 0.2}, trained=trained)
    third = np.array([1.0, 0.2])  # the token that is not trained on is none of the extremes
    assert found.tolist() == pytest.approx([0, *third / third.mean(), *second / second.mean(), 1, 1, 0])
    with pytest.raises(ValueError, match="needs the entropy"):
        run("entropy_mean_one")


def test_a_share_is_no_token_more_for_rounding():
    """0.28 * 25 is 7.000000000000001 in floating point."""
    tokens = TokenStatistics(
        torch.zeros(25, dtype=torch.int64), torch.zeros(25, dtype=torch.int64), torch.ones(25, dtype=torch.bool),
        torch.arange(25.0),
    )  # fmt: skip
    assert (
        WEIGHTERS.resolve("entropy_top")(tokens, stage(weighter={"name": "entropy_top", "share": 0.28}).weighter).sum()
        == 7
    )
    assert (
        WEIGHTERS.resolve("entropy_top")(tokens, stage(weighter={"name": "entropy_top", "share": 0.29}).weighter).sum()
        == 8
    )


def test_equal_entropies_are_all_kept():
    assert run("entropy_top", entropy=torch.ones(8), weighter={"share": 0.2}).tolist() == [1.0] * 8


def test_what_a_weighter_lacks_is_named():
    with pytest.raises(ValueError, match="needs the divergence"):
        run("tw_grpo")
    with pytest.raises(ValueError, match="needs the entropy"):
        run("entropy_top")


def logits(seed, *shape):
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


ALL = torch.ones(4, 6, dtype=torch.bool)


@pytest.mark.parametrize("scale", [1, 20])
def test_divergence_by_definition(scale):
    """At the larger scale the clamp acts."""
    values, alive = scale * logits(0, 4, 6, 9), ALL.clone()
    alive[1, 4:] = alive[3, 2:] = False
    expected = []
    for t in range(6):
        rows = [
            torch.log_softmax(values[g, t], 0) if alive[g, t] else torch.full((9,), -math.log(9), dtype=torch.float64)
            for g in range(4)
        ]
        mean = sum(rows) / 4
        total = 0.0
        for row in rows:
            for m, value in zip(mean.tolist(), row.tolist(), strict=True):
                d = min(max(m - value, -11.0), 11.0)
                total += math.exp(d) - d - 1
        expected.append(total / 4)
    assert position_divergence(values, alive).tolist() == pytest.approx(expected, rel=1e-9)


def test_without_the_clamp_it_is_a_sum_of_exponentials():
    """The linear terms cancel over the group: ``mean_g sum_v exp(m - l) - V``."""
    values = logits(1, 4, 6, 9)
    log = torch.log_softmax(values, -1)
    expected = (log.mean(0, keepdim=True) - log).exp().sum(-1).mean(0) - 9
    torch.testing.assert_close(position_divergence(values, ALL), expected, rtol=1e-9, atol=1e-9)


def test_equal_responses_have_no_divergence_and_all_weights_are_one():
    same = logits(2, 1, 6, 9).expand(4, 6, 9)
    assert position_divergence(same, ALL).abs().max() < 1e-12
    assert run("tw_grpo", divergence=torch.zeros(8)).tolist() == [1.0] * 8


@given(order=st.permutations(range(4)), chunk=st.integers(1, 6), slice_logits=st.integers(1, 260))
def test_the_order_of_a_group_the_chunks_and_the_slices_do_not_matter(order, chunk, slice_logits):
    values = logits(3, 4, 6, 9)
    whole = position_divergence(values, ALL)
    parts = [position_divergence(a, b) for a, b in zip(values.split(chunk, 1), ALL.split(chunk, 1), strict=True)]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(position_divergence(values[list(order)], ALL), whole, rtol=1e-12, atol=1e-12)
    sliced = position_divergence(values, ALL, slice_logits=slice_logits)
    torch.testing.assert_close(sliced, whole, rtol=1e-12, atol=1e-12)


def test_excluded_tokens_are_no_part_of_the_vocabulary():
    values, alive = logits(4, 4, 6, 9), ALL.clone()
    alive[2, 3:] = False
    shut = torch.full((4, 6, 2), float("-inf"), dtype=torch.float64)
    found = position_divergence(torch.cat([values, shut], -1), alive)
    for slice_logits in (1, 24, 72, 200):  # also slices in which nothing is allowed
        sliced = position_divergence(torch.cat([values, shut], -1), alive, slice_logits=slice_logits)
        torch.testing.assert_close(sliced, found, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found, position_divergence(values, alive), rtol=1e-12, atol=1e-12)
    # what stands at a position where a response has ended does not matter
    values[2, 3:] = float("nan")
    torch.testing.assert_close(position_divergence(values, alive), found, rtol=1e-12, atol=1e-12)
