"""Scores: of the written cases of all certificates, of short answers in many forms, of the toy world's questions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from .entries import TASKS, Components, RunConfig, Scorer, load_certificate, score, score_to_json, write_tiny_checkpoint
from .questions import configuration

#: Published ways to score, which the package restates.
PROFILES = ("easyvideor1-video", "easyvideor1-unified")


def make(work: Path) -> dict[str, Any]:
    """Scores by origin, task type and case."""
    # Whether a program under test may read numpy depends on where it is installed.
    certified = {
        task: {case.name: _certified(case) for case in load_certificate(task).cases if "numpy" not in case.answer}
        for task in TASKS
    }
    return {"certificates": certified, "forms": _forms(), "toy world": _toyworld(work)}


def _certified(case: Any) -> dict[str, Any]:
    said = score_to_json(score(case.task, case.response, case.answer, options=case.options, **case.row))
    if case.task == "code":
        del said["reason"]  # what a program is stopped by depends on the fences that this machine has
    return said


def _forms() -> dict[str, Any]:
    """Of every short answer to every question, in the tag and bare."""
    forms = yaml.safe_load((Path(__file__).parent / "forms.yaml").read_text(encoding="utf-8"))
    found: dict[str, Any] = {}
    for question, facts in forms["questions"].items():
        row = {"options": facts.get("options"), **facts.get("row", {})}
        found[question] = {}
        for text in forms["answers"]:
            for response in (f"<answer>{text}</answer>", text):
                said = score(question.partition(",")[0], response, facts["answer"], **row)
                found[question][response] = score_to_json(said)
    return found


def _toyworld(work: Path) -> dict[str, Any]:
    checkpoint = work / "any"
    write_tiny_checkpoint(checkpoint, [], width=32, layers=1, vision_layers=1, vocabulary=263)
    # Without a browser, whether there is one on this machine or not.
    values = configuration(work, model={"path": str(checkpoint)}, rewards={"render": "off", "workers": 1})
    with Components.open(RunConfig.model_validate(values)) as components:
        (loaded,) = components.load_sources(components.config.data.train)
    scorer = Scorer(components.config.rewards)
    found: dict[str, Any] = {}
    for number, sample in enumerate(loaded.samples):
        other = loaded.samples[number - 1].answer
        responses = {
            "as demonstrated": sample.offline[0].text,
            "in the tag": f"<answer>{sample.answer}</answer>",
            "bare": sample.answer,
            "in words": f"I think that the answer is {sample.answer}.",
            "twice": f"<answer>{other}</answer> or <answer>{sample.answer}</answer>",
            "of another question": f"<think>Well.</think><answer>{other}</answer>",
        }
        trained = scorer.score_group(sample, list(responses.values()))
        found[sample.extra["kind"]] = {
            name: {
                "in training": score_to_json(inside),
                "in evaluation": score_to_json(scorer(sample, response)),
                **{
                    profile: score_to_json(score(sample.task, response, sample.answer, profile=profile, **sample.extra))
                    for profile in PROFILES
                },
            }
            for (name, response), inside in zip(responses.items(), trained, strict=True)
        }
    return found
