"""Penalties on tokens that were there before.

``repetition_penalty`` is that of CTRL (Keskar et al. 2019), over prompt and response, as transformers and vLLM have it;
``presence_penalty`` and ``frequency_penalty`` are OpenAI's, over the response alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from easyvideor1.engines.engine import Sampling
from easyvideor1.types import Prompt


class SeenTokens:
    """The tokens of the prompts and of the growing responses of one batch of ``R`` rows with ``n`` responses each."""

    def __init__(self, prompts: Sequence[Prompt], n: int, vocabulary: int, device: torch.device) -> None:
        self._in_prompt_R1V = torch.zeros(len(prompts), 1, vocabulary, dtype=torch.bool, device=device)
        for row, prompt in enumerate(prompts):
            self._in_prompt_R1V[row, 0, torch.from_numpy(prompt.token_ids).to(device)] = True
        # Counts are whole numbers below the length of a response, which float32 holds exactly.
        self._counts_RnV = torch.zeros(len(prompts), n, vocabulary, device=device)

    def add(self, ids_Rn: torch.Tensor) -> None:
        """Note the next token of every response."""
        once = torch.ones_like(ids_Rn, dtype=self._counts_RnV.dtype)[..., None]
        self._counts_RnV.scatter_add_(-1, ids_Rn[..., None], once)

    def keep(self, rows: torch.Tensor) -> None:
        """Go on with these rows only."""
        self._in_prompt_R1V, self._counts_RnV = self._in_prompt_R1V[rows], self._counts_RnV[rows]

    def penalised(self, logits_RnV: torch.Tensor, sampling: Sampling) -> torch.Tensor:
        """Logits of what is drawn from, of logits that are divided by the temperature already.

        The repetition penalty is the same before and after that division; the others are divided, too.
        """
        said = self._counts_RnV > 0
        factor = sampling.repetition_penalty
        repeated = torch.where(logits_RnV > 0, logits_RnV / factor, logits_RnV * factor)
        out = torch.where(self._in_prompt_R1V | said, repeated, logits_RnV)
        taken = sampling.frequency_penalty * self._counts_RnV + sampling.presence_penalty * said
        return out - taken / sampling.temperature
