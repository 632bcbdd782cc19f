"""The canary: what it watches in training, and when it speaks."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from easyvideor1.config.base import BaseConfig, PositiveInt, Probability


class CanaryConfig(BaseConfig):
    """Warnings of policies that are paid for something else than answering. Windows are means over steps of a stage."""

    enabled: bool = True
    """Watch stages in which the policy responds."""
    action: Literal["warn", "stop"] = "warn"
    """Say what was found and go on, or stop the stage, resumably, before the step is saved."""
    window: PositiveInt = 10
    """Steps of the recent window, and of the one that it is compared with: the first that had the metric, or the best
    (``format_fall``). Single steps are
    noisy: of 256 responses a share of 0.1 has a standard error of 0.02."""
    repeat_every: PositiveInt = 25
    """An alarm that lasts is said again after so many steps."""
    paid_without_form: Probability = 0.1
    """Share of the accuracy earned by responses that are not in the form asked for (format reward below 1), above that
    of the first window. A tenth is more than slips of the pen; a policy that is paid without answering gets there while
    its mean format still looks fine."""
    format_fall: Probability = 0.1
    """Fall of the mean format reward below its best window, while accuracy rises by ``accuracy_rise``: the two rise
    together in a policy that learns to answer."""
    accuracy_rise: Probability = 0.02
    """See ``format_fall``; less than this is within the noise of a window."""
    cut_off: Probability = 0.1
    """Growth of the share of responses that are cut at the length limit. They teach nothing, and a policy that is paid
    for them has stopped ending its answers."""
    tagless: Probability = 0.1
    """Growth of the share of responses without a closed answer tag where the prompt asks for one."""
    length_ratio: Annotated[float, Field(gt=1)] = 3.0
    """Growth of the mean length, as a factor. Reasoning grows longer in training, but threefold within a stage is
    rambling or repetition more often than thought."""
    constant: Probability = 0.5
    """Share of one task's responses that give the commonest answer, beyond the share of the commonest reference, if it
    was lower by more than half of this in the first window. A policy that comes to answer always the same has given up
    on the question."""
    diversity: Probability = 0.05
    """Mean share of different responses within a group (0 if all are equal, 1 if all differ) below which groups carry
    no signal, if it was four times as much in the first window."""
