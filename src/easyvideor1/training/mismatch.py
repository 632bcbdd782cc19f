"""How far the log-probabilities of engine and trainer are apart, and a watch that speaks up when it is too far."""

from __future__ import annotations

from collections.abc import Callable

import torch

from easyvideor1.config.stage_sections import MismatchConfig
from easyvideor1.policy.update_batch import Observations
from easyvideor1.training.train_batch import BatchRows
from easyvideor1.types import EasyVideoError


class MismatchError(EasyVideoError):
    """Engine and trainer disagree on a response by more than the stage allows; the weights are as before the step."""


class MismatchWatch:
    """The distance ``|log p_trainer - log p_engine|`` of a step, response by response.

    Offline responses come from no engine and are left out. So are tokens that older weights drew, where the step says
    which weights it trains: their distance is that of the weights, not of the programs, and is reported apart.

    Args:
        options: bound and action.
        say: takes a warning.
    """

    def __init__(self, options: MismatchConfig, say: Callable[[str], None]) -> None:
        self.options = options
        self._say = say
        self._rows: BatchRows | None = None
        self._step = 0
        self._version: int | None = None
        self._found: dict[int, tuple[float, float, float, int]] = {}
        self._older: list[torch.Tensor] = []

    def begin(self, rows: BatchRows, step: int, version: int | None = None) -> None:
        """A new step, which trains the weights of ``version``; without one, all tokens are of these."""
        self._rows, self._step, self._version = rows, step, version
        self._found, self._older = {}, []

    def look(self, seen: Observations) -> None:
        """Take the tokens of the step as engine and trainer saw them, before the weights move.

        Raises:
            MismatchError: a response is beyond the bound and the action is ``stop``.
        """
        assert self._rows is not None
        rows = self._rows
        known_T = seen.trained & ~seen.engine.isnan() & ~rows.offline[rows.owner][seen.turn]
        if self._version is not None:
            older_T = _older(rows, seen.turn, self._version)
            self._older.append((seen.trainer - seen.engine)[known_T & older_T].double())
            known_T &= ~older_T
        turn_K = seen.turn[known_T]
        log_K = (seen.trainer - seen.engine)[known_T].double()
        # Where a response is impossible for one of the two, the ratio is not finite; the distance says so already.
        kl_K = log_K.clamp(-20, 20).exp() - 1 - log_K.clamp(-20, 20)
        for turn in torch.unique(turn_K).tolist():
            mine = turn_K == turn
            gap = log_K[mine].abs()
            self._found[turn] = (float(gap.sum()), float(kl_K[mine].sum()), float(gap.max()), int(mine.sum()))
        if self.options.action == "stop" and (words := self._beyond_words()):
            raise MismatchError(
                f"step {self._step}: {words}. This step did not change the weights, its rollouts are written, and the "
                "last checkpoint is intact. Look for a difference between engine and trainer (weights that were not "
                "synced, another dtype or attention, damaged frames), or raise mismatch.bound, or set mismatch.action "
                "to warn"
            )

    def metrics(self) -> dict[str, float]:
        """Of the whole step; also says what is beyond the bound, if that is to be warned of.

        ``mismatch/<modality>/logprob_abs``: mean distance per token of responses to samples of that modality.
        ``mismatch/largest`` is of a token, ``mismatch/worst`` the mean of the worst response, ``mismatch/kl`` the
        estimate ``rho - 1 - log rho`` of KL(engine || trainer), ``mismatch/beyond_bound`` a count of responses. Of
        tokens of older weights ``staleness/logprob_abs`` and ``staleness/kl`` are the same over tokens.
        """
        assert self._rows is not None
        found = self._older_metrics()
        if not self._found:
            return found
        sums: dict[str, list[float]] = {}
        for turn, (gap, _, _, count) in self._found.items():
            both = sums.setdefault(self._rows.sample(turn).modality, [0.0, 0.0])
            both[0] += gap
            both[1] += count
        if words := self._beyond_words():
            self._say(f"step {self._step}: {words}")
        found |= {f"mismatch/{kind}/logprob_abs": gap / count for kind, (gap, count) in sorted(sums.items())}
        tokens = sum(count for _, _, _, count in self._found.values())
        if self._version is not None:
            found["mismatch/logprob_abs"] = sum(gap for gap, _, _, _ in self._found.values()) / tokens
        found["mismatch/kl"] = sum(kl for _, kl, _, _ in self._found.values()) / tokens
        found["mismatch/largest"] = max(largest for _, _, largest, _ in self._found.values())
        means = self._means()
        found["mismatch/worst"] = max(means.values())
        if self.options.bound is not None:
            found["mismatch/beyond_bound"] = float(sum(map(self._beyond, means.values())))
        return found

    def _older_metrics(self) -> dict[str, float]:
        log_K = torch.cat(self._older) if self._older else torch.zeros(0)
        if not len(log_K):
            return {}
        cut_K = log_K.clamp(-20, 20)
        kl = float((cut_K.exp() - 1 - cut_K).mean())
        return {"staleness/logprob_abs": float(log_K.abs().mean()), "staleness/kl": kl}

    def _beyond(self, mean: float) -> bool:
        return self.options.bound is not None and not mean <= self.options.bound

    def _means(self) -> dict[int, float]:
        """The distance per token of every turn."""
        return {turn: gap / count for turn, (gap, _, _, count) in self._found.items()}

    def _beyond_words(self) -> str:
        """The worst response and how many are beyond the bound; empty if none is."""
        assert self._rows is not None
        means = self._means()
        beyond = [turn for turn, mean in means.items() if self._beyond(mean)]
        if not beyond:
            return ""
        turn = max(means, key=lambda turn: (means[turn], -turn))
        more = f" ({len(beyond)} responses are beyond the bound)" if len(beyond) > 1 else ""
        sample = self._rows.sample(turn)
        text = " ".join(self._rows.turns[turn].text.split())[:80]
        return (
            f"engine and trainer differ by {means[turn]:.4g} nats per token, more than mismatch.bound "
            f"({self.options.bound}), on the {sample.modality} sample {sample.id!r} ({sample.where or 'no file'}), "
            f"response {text!r}{more}"
        )


def _older(rows: BatchRows, turn_T: torch.Tensor, version: int) -> torch.Tensor:
    """Which tokens older weights than those of ``version`` drew, bool ``(T,)``.

    ``turn_T`` is the turn of every token; a turn's tokens are all there, in their order.
    """
    older_T = torch.zeros(len(turn_T), dtype=torch.bool)
    for number in torch.unique(turn_T).tolist():
        versions = rows.turns[number].versions
        if versions is not None:
            older_T[turn_T == number] = torch.from_numpy(versions < version)
    return older_T
