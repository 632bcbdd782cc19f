"""How far the log-probabilities of engine and trainer are apart, and a watch that speaks up when it is too far."""

from __future__ import annotations

from collections.abc import Callable

import torch

from easyvideor1.config.stage_sections import MismatchConfig
from easyvideor1.training.train_batch import Rows
from easyvideor1.types import EasyVideoError


class MismatchError(EasyVideoError):
    """Engine and trainer disagree on a response by more than the stage allows; the weights are as before the step."""


class MismatchWatch:
    """The distance ``|log p_trainer - log p_engine|`` of a step, response by response.

    It is told of every micro-batch (``policy.policy.Observe``) before the weights move. Offline responses are of no
    engine and are left out.

    Args:
        options: bound and action.
        say: takes a warning.
    """

    def __init__(self, options: MismatchConfig, say: Callable[[str], None]) -> None:
        self.options = options
        self._say = say
        self._rows: Rows | None = None
        self._step = 0
        self._found: dict[int, tuple[float, float, float, int]] = {}

    def begin(self, rows: Rows, step: int) -> None:
        """A new step."""
        self._rows, self._step, self._found = rows, step, {}

    def __call__(
        self, sequence_T: torch.Tensor, trainer_T: torch.Tensor, engine_T: torch.Tensor, learnt_T: torch.Tensor
    ) -> None:
        """Take a micro-batch: the turn of every token, its log-probs, and whether it is learnt.

        Raises:
            MismatchError: a response is beyond the bound and the action is ``stop``.
        """
        assert self._rows is not None
        rows = self._rows
        known_T = learnt_T & ~engine_T.isnan() & ~rows.offline[rows.owner].to(sequence_T.device)[sequence_T]
        turn_K = sequence_T[known_T].cpu()
        log_K = (trainer_T - engine_T)[known_T].double().cpu()
        # Where a response is impossible for one of the two, the ratio is not finite; the distance says so already.
        kl_K = log_K.clamp(-20, 20).exp() - 1 - log_K.clamp(-20, 20)
        for turn in torch.unique(turn_K).tolist():
            mine = turn_K == turn
            gap = log_K[mine].abs()
            self._found[turn] = (float(gap.sum()), float(kl_K[mine].sum()), float(gap.max()), int(mine.sum()))
            mean = float(gap.mean())
            if self.options.action == "stop" and self._beyond(mean):
                raise MismatchError(
                    f"step {self._step}: {self._words(turn, mean)}. Nothing was learnt from this step, its rollouts "
                    "are written and the last checkpoint is intact. Look for a difference between engine and trainer "
                    "(weights that were not synchronised, another type or attention, damaged frames), or raise "
                    "mismatch.bound or set mismatch.action to warn"
                )

    def metrics(self) -> dict[str, float]:
        """Of the whole step; also says what is beyond the bound, if that is to be warned of.

        ``mismatch/<modality>/logprob_abs``: mean distance per token of responses to samples of that modality.
        ``mismatch/largest`` is of a token, ``mismatch/worst`` the mean of the worst response, ``mismatch/kl`` the
        estimate ``rho - 1 - log rho`` of KL(engine || trainer), ``mismatch/beyond_bound`` a count of responses.
        """
        assert self._rows is not None
        if not self._found:
            return {}
        sums: dict[str, list[float]] = {}
        for turn, (gap, _, _, count) in self._found.items():
            both = sums.setdefault(self._rows.sample(turn).modality, [0.0, 0.0])
            both[0] += gap
            both[1] += count
        means = {turn: gap / count for turn, (gap, _, _, count) in self._found.items()}
        worst = max(means, key=lambda turn: (means[turn], -turn))
        beyond = [turn for turn, mean in means.items() if self._beyond(mean)]
        if beyond:
            more = f" ({len(beyond)} responses are beyond the bound)" if len(beyond) > 1 else ""
            self._say(f"step {self._step}: {self._words(worst, means[worst])}{more}")
        found = {f"mismatch/{kind}/logprob_abs": gap / count for kind, (gap, count) in sorted(sums.items())}
        tokens = sum(count for _, _, _, count in self._found.values())
        found["mismatch/kl"] = sum(kl for _, kl, _, _ in self._found.values()) / tokens
        found["mismatch/largest"] = max(largest for _, _, largest, _ in self._found.values())
        found["mismatch/worst"] = means[worst]
        if self.options.bound is not None:
            found["mismatch/beyond_bound"] = float(len(beyond))
        return found

    def _beyond(self, mean: float) -> bool:
        return self.options.bound is not None and not mean <= self.options.bound

    def _words(self, turn: int, mean: float) -> str:
        assert self._rows is not None
        sample = self._rows.sample(turn)
        text = " ".join(self._rows.turns[turn].text.split())[:80]
        return (
            f"engine and trainer differ by {mean:.4g} nats per token, more than mismatch.bound "
            f"({self.options.bound}), on the {sample.modality} sample {sample.id!r} ({sample.where or 'no file'}), "
            f"response {text!r}"
        )
