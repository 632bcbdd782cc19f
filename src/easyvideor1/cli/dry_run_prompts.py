"""The parts of a dry run about single rows: the first prompts as the model gets them, and one scored row per task."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from easyvideor1.cli.dry_run_findings import DryRun
    from easyvideor1.families.family import Family
    from easyvideor1.rewards.audit.constant_baselines import ScoreOne
    from easyvideor1.types import MediaPlan, Prompt, Sample

#: Prompts of each stage that are shown.
_PROMPTS = 2
#: Characters of a prompt that are shown, from its beginning and its end.
_CHARACTERS = 2400
#: Frames whose times are shown.
_TIMES = 6


def show_prompts(found: DryRun, *, exact: bool) -> None:
    """The first prompts of every stage: text as the model gets it, tokens, frames and their times.

    Args:
        found: whose stages are planned.
        exact: whether the tokenizer is the model's own.
    """
    from easyvideor1.rollout.samples import rounds_of
    from easyvideor1.training.stages import curriculum_track

    components = found.components
    for planned, stream, _ in found.planned:
        if planned.trajectories == "rollouts":
            found.unchecked.append(f"prompts of stage {planned.name}: they come from rollouts of an earlier stage")
            continue
        with found.looking():
            strategy = components.offline_strategy if planned.trajectories == "offline" else components.strategy
            samples = rounds_of(planned, stream, track=curriculum_track(planned, found.config))(1, 0)
            for sample in list({sample.id: sample for sample in samples}.values())[:_PROMPTS]:
                _show_prompt(planned.name, sample, strategy.start(sample), components.family, exact=exact)


def _show_prompt(stage: str, sample: Sample, prompt: Prompt, family: Family, *, exact: bool) -> None:
    visual = sum(plan.tokens for plan in prompt.plans)
    about = "" if exact else "about "
    typer.echo(f"prompt of stage {stage}, {sample.where or sample.id}: {about}{len(prompt)} tokens, {visual} visual")
    for ref, plan in zip(prompt.media, prompt.plans, strict=True):
        typer.echo(f"  {ref.kind} {ref.path}: {_frames(plan)}")
    text = prompt_text(prompt, family)
    if len(text) > _CHARACTERS:
        half = _CHARACTERS // 2
        text = f"{text[:half]}\n... {len(text) - 2 * half} characters ...\n{text[-half:]}"
    typer.echo(textwrap.indent(text.rstrip("\n"), "  | ", lambda _: True))


def _frames(plan: MediaPlan) -> str:
    size = f"{plan.width} x {plan.height} pixels, {plan.tokens} tokens"
    if plan.kind == "image":
        return size
    times = [f"{time:.2f}" for time in plan.timestamps]
    if len(times) > _TIMES:
        times = [*times[: _TIMES - 2], "...", times[-1]]
    count = len(plan.timestamps)
    return f"{count} frame{'' if count == 1 else 's'} of {size}; at {' '.join(times)} s"


def prompt_text(prompt: Prompt, family: Family) -> str:
    """What a model is given, read back from the token ids; runs of visual tokens are written once with their number."""
    ids, tokenizer = prompt.token_ids.tolist(), family.tokenizer
    parts, position = [], 0
    for span in sorted(prompt.spans, key=lambda span: span.start):
        parts.append(tokenizer.decode(ids[position : span.start]))
        parts.append(f"{tokenizer.decode(ids[span.start : span.start + 1])} x {span.length}")
        position = span.start + span.length
    return "".join([*parts, tokenizer.decode(ids[position:])])


def show_scores(found: DryRun) -> None:
    """Score one row of every task: its reference as the response, and an empty response."""
    from easyvideor1.rewards.audit import reference_scorer, unanswerable

    first: dict[str, Sample] = {}
    passed_over: dict[str, str] = {}
    for sample in found.samples():
        if sample.task in first:
            continue
        if reason := unanswerable(sample.task, sample):
            passed_over[sample.task] = reason
        else:
            first[sample.task] = sample
    for task, reason in passed_over.items():
        if task not in first:
            found.unchecked.append(f"score of task {task}: {reason}")
    if not first:
        return
    typer.echo("scores of the reference and of an empty response, without a judge:")
    with found.looking():
        score = reference_scorer(found.config.rewards)
        for sample in first.values():
            _show_score(found, sample, score)
    if found.config.rewards.judge.url:
        found.unchecked.append(f"the judge at {found.config.rewards.judge.url}: it was not asked")


def _show_score(found: DryRun, sample: Sample, score: ScoreOne) -> None:
    """Score one row; any reward must give an empty response less than the reference.

    That a built-in rule gives its reference less than everything is a warning: it is one row, and the run takes it.
    """
    from easyvideor1.rewards.audit import FULL
    from easyvideor1.rewards.references import one_answer
    from easyvideor1.rewards.tag_contents import example_words
    from easyvideor1.rewards.tags import full_response

    rewards, where = found.config.rewards, sample.where or sample.id
    reference = one_answer(sample.task, sample.answer)
    right = score(sample, full_response(reference, rewards.grammar, example_words(rewards.tags)))
    empty = score(sample, "")
    shown = reference if len(reference) <= 60 else f"{reference[:60]}..."
    shown = " ".join(shown.split())
    if not right.applicable:
        found.problem(f"{where}: task {sample.task} cannot be scored: {right.reason}; correct the row or the reward")
        return
    typer.echo(
        f"  {sample.task}, {where}: {shown!r} has accuracy {right.accuracy:.3f}, reward {right.total:.3f}; empty "
        f"{empty.accuracy:.3f}, {empty.total:.3f}"
    )
    name = found.components.scorer.reward_name(sample)
    if name.startswith("built-in ") and (right.accuracy < FULL or empty.accuracy > 1 - FULL):
        typer.echo(
            f"  warning: {where}: task {sample.task} gives its reference {right.accuracy:.3f} "
            f"({right.reason or 'read as'} {right.parsed!r}) and an empty response {empty.accuracy:.3f}, where 1 and 0 "
            "are right; correct the row, and run evr1 check rewards on all of them"
        )
    elif right.total <= empty.total:
        found.problem(
            f"{where}: {name} gives the reference {right.total:.3f} and an empty response {empty.total:.3f}: nothing "
            "right can be learnt from it; correct the reward"
        )
