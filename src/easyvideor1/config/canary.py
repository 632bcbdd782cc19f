"""The canary: what it watches in training, and when it warns."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from easyvideor1.config.base import BaseConfig, PositiveInt, Probability


class CanaryConfig(BaseConfig):
    """Detects reward hacking and collapse in training. Windows are means over steps of a stage."""

    enabled: bool = True
    """Watch stages in which the policy generates the responses."""
    action: Literal["warn", "stop"] = "warn"
    """Warn and continue, or stop the stage before the step is saved; it can be resumed."""
    window: PositiveInt = 10
    """Steps of the recent window, and of the one that it is compared with: the first that had the metric, or the best
    (``format_fall``). Single steps are
    noisy: of 256 responses a share of 0.1 has a standard error of 0.02."""
    repeat_every: PositiveInt = 25
    """An alarm that persists is repeated every N steps."""
    paid_without_form: Probability = 0.1
    """Share of the accuracy earned by responses that are not in the required format (format reward below 1), above that
    of the first window. A tenth is more than occasional format errors; a policy that is rewarded without answering
    reaches it while its mean format still looks fine."""
    format_fall: Probability = 0.1
    """Fall of the mean format reward below its best window, while accuracy rises by ``accuracy_rise``: the two rise
    together in a policy that learns to answer."""
    accuracy_rise: Probability = 0.02
    """See ``format_fall``; less than this is within the noise of a window."""
    cut_off: Probability = 0.1
    """Growth of the share of responses that are cut at the length limit. They give no useful gradient, and
    a policy that is rewarded for them has stopped ending its answers."""
    tagless: Probability = 0.1
    """Growth of the share of responses without a closed answer tag where the prompt asks for one."""
    length_ratio: Annotated[float, Field(gt=1)] = 3.0
    """Growth of the mean length, as a factor. Reasoning grows longer in training, but threefold within a stage is
    rambling or repetition more often than thought."""
    constant: Probability = 0.5
    """Share of one task's responses that give the most common answer, beyond the share of the most common reference, if
    it was lower by more than half of this in the first window. A policy that always gives the same answer ignores the
    question."""
    diversity: Probability = 0.05
    """Mean share of different responses within a group (0 if all are equal, 1 if all differ) below which groups carry
    no signal, if it was four times as much in the first window."""
