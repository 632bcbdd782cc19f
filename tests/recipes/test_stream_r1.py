"""What of Stream-R1 transfers: weights of rollouts and of their elements, against the released formulas in numpy."""

import numpy as np
import pytest
import torch
from tests.algorithms.batches import batch, float64, loss_of

from easyvideor1.algorithms.weighters import WEIGHTERS, TokenStatistics
from easyvideor1.config import load_config


def released_profile(saliency, floor=0.2):
    """Min-max, floor, mean 1; ones where the range is zero."""
    low, high = saliency.min(), saliency.max()
    scaled = (saliency - low) / (high - low) if high > low else np.ones_like(saliency)
    floored = np.maximum(scaled, floor)
    return floored / floored.mean()


def test_the_loss_of_a_rollout_is_weighted_with_its_reward():
    """``exp(2 r)`` times the negative log-likelihood, in the mean over tokens."""
    (stage,) = load_config("stream_r1").stages
    rewards, logprobs = np.array([1.0, 0.1, 0.0]), np.array([-1.0, -2.0, -3.0])
    tokens = batch(
        logprobs=float64(logprobs),
        old_logprobs=float64(logprobs),
        advantages=float64(rewards),
        sequence=torch.tensor([0, 1, 2]),
        weights=float64([1 / 3] * 3),
    )
    loss, _ = loss_of(tokens, stage)
    assert loss.item() == pytest.approx(float(np.mean(np.exp(2 * rewards) * -logprobs)))


@pytest.mark.parametrize("seed", range(5))
def test_element_weights_are_the_released_ones(seed):
    (stage,) = load_config("stream_r1").stages
    rng = np.random.default_rng(seed)
    lengths = [1, 4, 9]
    sequence = torch.repeat_interleave(torch.arange(3), torch.tensor(lengths))
    entropy = rng.exponential(size=sum(lengths))
    tokens = TokenStatistics(
        sequence, torch.zeros(14, dtype=torch.int64), torch.ones(14, dtype=torch.bool), torch.tensor(entropy)
    )
    found = WEIGHTERS.resolve("entropy_mean_one")(tokens, stage.weighter).numpy()
    expected = np.concatenate([released_profile(part) for part in np.split(entropy, [1, 5])])
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert [part.mean() for part in np.split(found, [1, 5])] == pytest.approx([1.0, 1.0, 1.0])
