"""Advantages of single tokens, from what each of them earns and what follows it."""

from __future__ import annotations

import torch

from easyvideor1.algorithms.advantages.contract import ADVANTAGES, AdvantageContext
from easyvideor1.algorithms.kl import token_rewards
from easyvideor1.algorithms.needs import requires
from easyvideor1.algorithms.sequences import reindex, sum_by, whiten
from easyvideor1.config.algorithms import GAEOptions
from easyvideor1.types import EasyVideoError


def generalized_advantages(
    rewards_T: torch.Tensor,
    values_T: torch.Tensor,
    sequence_T: torch.Tensor,
    trained_T: torch.Tensor,
    gamma: float,
    lam: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Advantages and returns per token, ``(T,)`` each; 0 where nothing is trained on.

    ``delta_t = r_t + gamma V_(t+1) - V_t``, ``A_t = delta_t + gamma lam A_(t+1)``, 0 beyond the last token (Schulman
    et al. 2016, GAE, eq. 11 and 16); returns are ``A + V``. Tokens that are not trained on are passed over: the token
    after such a gap is the next one, and its rewards do not count.

    Args:
        rewards_T: of each token, such as ``token_rewards`` makes them.
        values_T: of the state before each token; no gradient is taken through them.
        sequence_T: number of each token's sequence; tokens of a sequence are in order.
        trained_T: bool.
        gamma: discount per token.
        lam: decay of the estimate; 1 gives returns less values, 0 one-step errors.
    """
    where = torch.nonzero(trained_T).squeeze(1)
    advantages, returns = torch.zeros_like(rewards_T), torch.zeros_like(rewards_T)
    if not len(where):
        return advantages, returns
    count, index = reindex(sequence_T[where])
    length = sum_by(torch.ones_like(index), index, count)
    # Sequences as padded rows, so that one pass over positions serves all of them.
    order = torch.argsort(index, stable=True)
    place = torch.arange(len(where), device=where.device) - (length.cumsum(0) - length)[index[order]]
    shape = (count, int(length.max()))
    rewards, values = rewards_T.new_zeros(shape), rewards_T.new_zeros(shape)
    rewards[index[order], place] = rewards_T[where][order]
    values[index[order], place] = values_T.detach()[where][order].to(rewards_T.dtype)
    found = torch.zeros_like(rewards)
    carried, following = rewards.new_zeros(count), rewards.new_zeros(count)
    for column in range(shape[1] - 1, -1, -1):
        delta = rewards[:, column] + gamma * following - values[:, column]
        # Padding has no reward and no value: what it carries is 0 until the sequence's own last token.
        carried = delta + gamma * lam * carried
        following = values[:, column]
        found[:, column] = carried
    advantages[where[order]] = found[index[order], place]
    returns[where[order]] = (found + values)[index[order], place]
    return advantages, returns


@ADVANTAGES.register("gae")
@requires("values")
def gae(rewards_N: torch.Tensor, group_N: torch.Tensor, context: AdvantageContext) -> torch.Tensor:
    """``generalized_advantages``, then ``(x - mean) / (std + 1e-8)`` over all trained tokens of the step; ``(T,)``.

    Schulman et al. 2016 and 2017 (PPO). Rewards per token are the context's, or the response's own at its last token.
    """
    if context.values is None or context.sequence is None:
        raise EasyVideoError("advantage gae needs the values of a critic, which its caller did not give")
    trained, rewards_T = _of_tokens(rewards_N, context, context.sequence)
    options: GAEOptions = context.options
    found, _ = generalized_advantages(rewards_T, context.values, context.sequence, trained, options.gamma, options.lam)
    found[trained] = whiten(found[trained], 1e-8)
    return found


@ADVANTAGES.register("reinforce_plus_plus")
@requires("token_rewards")
def reinforce_plus_plus(rewards_N: torch.Tensor, group_N: torch.Tensor, context: AdvantageContext) -> torch.Tensor:
    """``A_t = r - beta sum_(i >= t) KL_i``, then ``(A - mean) / (std + 1e-8)`` over trained tokens; ``(T,)``.

    Hu et al. 2025, REINFORCE++, sec. 3: the reward at the last token, the KL at every one (``kl.estimator: k1``,
    ``kl.placement: reward``), and of both what comes from a token on, undiscounted. Without a KL in the reward all
    tokens of a response have its reward. The statistics are over tokens, as in the paper, so that a long response moves
    them more than a short one; one that is not trained on has no token in them.
    """
    if context.sequence is None:
        raise EasyVideoError("advantage reinforce_plus_plus needs rewards of tokens, which its caller did not give")
    trained, rewards_T = _of_tokens(rewards_N, context, context.sequence)
    # Values of 0 leave of the generalised estimate the plain sum of what is to come.
    found, _ = generalized_advantages(rewards_T, torch.zeros_like(rewards_T), context.sequence, trained, 1.0, 1.0)
    found[trained] = whiten(found[trained], 1e-8)
    return found


def _of_tokens(
    rewards_N: torch.Tensor, context: AdvantageContext, sequence_T: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Which tokens are trained on, and their rewards; a response's own at its last token if the context has none."""
    trained = context.trained if context.trained is not None else torch.ones_like(sequence_T, dtype=torch.bool)
    return trained, context.rewards if context.rewards is not None else token_rewards(rewards_N, sequence_T, trained)
