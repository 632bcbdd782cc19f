"""Prompt templates: one per task type, in the package or in the user's own directory.

A prompt asks for what the rewards read: the tags of ``rewards.grammar`` and the scale of ``rewards.coordinates``. If
the configuration sets no scale, the row's column ``coordinates`` does.
"""

from __future__ import annotations

import difflib
import functools
import re
from pathlib import Path
from types import MappingProxyType

import jinja2
from jinja2.sandbox import SandboxedEnvironment

from easyvideor1.config.schema import PromptConfig, RewardConfig
from easyvideor1.data.rows import PLACEHOLDER
from easyvideor1.rewards.readers.geometry import Scale, Size, declared_scale, picture_size
from easyvideor1.rewards.tag_contents import asked_words
from easyvideor1.rewards.tags import filled_tags, tags_before
from easyvideor1.tasks import TASKS, canonical_task
from easyvideor1.types import ConfigError, Sample

#: Column of a choice question that may have several right options; its prompt asks for all of their letters.
SEVERAL_ANSWERS = "several_answers"

#: Columns of a row that asks for an answer of a form of its own: the form in words, and an example of it.
ANSWER_FORM, ANSWER_EXAMPLE = "answer_form", "answer_example"

_PACKAGED = Path(__file__).parent / "templates"

_BOXES = '{"boxes": {"2": [30, 40, 200, 310], "3": [35, 42, 205, 312]}}'
_POINTS = '"positive_points": [[50, 60], [60, 70], [70, 90]], "negative_points": [[5, 5], [190, 9], [9, 290]]'
#: A coordinate in the examples: a number in a box or a point, not a time.
_COORDINATE = re.compile(r"(?<=[\[ ])\d+(?=[,\]])")
_PLACED = frozenset({"spatial_grounding", "spatial_temporal_grounding", "tracking", "segmentation"})
_EXAMPLES: MappingProxyType[str, str] = MappingProxyType(
    {
        "multiple_choice": "B",
        "numerical": "3",
        "regression": "4.5",
        "temporal_grounding": '{"time": [2.5, 7.0]}',
        "spatial_grounding": '{"boxes": [30, 40, 200, 310]}',
        "spatial_temporal_grounding": '{"time": [2, 3], ' + _BOXES[1:],
        "tracking": _BOXES,
        "segmentation": '{"boxes": [30, 40, 200, 310], ' + _POINTS + "}",
        "open_ended": "a red car",
        "video_qa": "a red car",
        "description": "A man opens a door and walks out.",
        "math": "\\frac{3}{4}",
        "ocr": "EXIT 12",
        "boolean": "Yes",
        "code": "print(1 + 1)",
        "svg_code": '<svg viewBox="0 0 9 9"><circle r="4"/></svg>',
        "html_code": "<html><body><p>Hi</p></body></html>",
        "preference": "1",
    }
)


def example_answer(task: str, *, video: bool = False, several: bool = False, scale: Scale | None = None) -> str:
    """The example answer in a prompt.

    Args:
        task: Canonical name or alias of the task type.
        video: Whether the row has a video; segmentation then names the second as well.
        several: Whether several options may be right.
        scale: Scale of coordinates; only ``normalized`` changes the example.

    Raises:
        DataError: the task type is unknown.
    """
    name = canonical_task(task)
    example = _EXAMPLES[name]
    if several and name == "multiple_choice":
        return "A, C"
    if scale == "normalized" and name in _PLACED:
        # The time span of a tube is in seconds on any scale of boxes.
        head, key, places = example.partition('"boxes"')
        example = head + key + _COORDINATE.sub(lambda match: f"{int(match.group()) / 1000:g}", places)
    return '{"time": 2.5, ' + example[1:] if video and name == "segmentation" else example


def prompt_text(sample: Sample, config: PromptConfig, rewards: RewardConfig | None = None) -> str:
    """The user message of a sample, with one ``<image>`` or ``<video>`` for each of its media, in order.

    Templates see ``question`` (with its placeholders), ``options``, ``task``, ``thinking`` (is reasoning in a think tag
    wanted?), ``tags`` (the tags to write before the answer, in words; empty if there are none but thinking),
    ``example``, ``scale`` (of coordinates, in words; empty if nobody declares one), ``video`` (has the sample a
    video?), ``media`` (kinds in order), ``source`` and ``extra`` (further columns of the row).

    Args:
        sample: The row.
        config: Templates, and whether to think where the grammar of the rewards leaves it open.
        rewards: What will read the answer; its grammar and coordinates are asked for.

    Raises:
        ConfigError: the template directory or a template in it is wrong.
        ColumnError: the row declares its coordinates in a way that is not understood.
    """
    rewards = rewards or RewardConfig()
    environment = _environment(config.templates)
    name = f"{sample.task}.j2"
    kinds = [ref.kind for ref in sample.media]
    scale = (rewards.coordinates or declared_scale(sample.extra)) if sample.task in _PLACED else None
    thinking, tags = _asked_tags(rewards, config.thinking)
    several = bool(sample.extra.get(SEVERAL_ANSWERS))
    try:
        text = environment.get_template(name).render(
            question=sample.question,
            options=sample.options,
            task=sample.task,
            thinking=thinking,
            tags=tags,
            example=sample.extra.get(ANSWER_EXAMPLE)
            or example_answer(sample.task, video="video" in kinds, several=several, scale=scale),
            scale=_scale_words(scale, picture_size(sample.extra)) if scale else "",
            video="video" in kinds,
            media=kinds,
            source=sample.source,
            extra=sample.extra,
        )
    except (jinja2.TemplateError, TypeError, ValueError, ArithmeticError) as error:
        where = f"{_PACKAGED if config.templates is None else config.templates}: template {name}"
        raise ConfigError(
            f"{where} cannot be rendered for sample {sample.id!r} ({sample.where}): {error} - "
            "it may use question, options, task, thinking, tags, example, scale, video, media, source and extra"
        ) from error
    found = [mark.strip("<>") for mark in PLACEHOLDER.findall(text)]
    if found != kinds:
        raise ConfigError(
            f"template {name}: the prompt of sample {sample.id!r} has the placeholders {found} for the media {kinds} - "
            "write {{ question }} exactly once and no placeholder of your own"
        )
    if missing := _unasked(text, rewards):
        raise ConfigError(
            f"template {name}: rewards.grammar wants the tags {missing}, and the prompt of sample {sample.id!r} does "
            "not ask for them - write {{ tags }} where the answer is asked for, or name each tag yourself"
        )
    return text.strip()


def _unasked(text: str, rewards: RewardConfig) -> str:
    """The tags of a list of ``rewards.grammar`` that a prompt does not name: the format reward would be unfair."""
    if isinstance(rewards.grammar, str):
        return ""
    names = [name for run in tags_before(rewards.grammar) for path in run.paths for name in path.split("/")]
    asked = text.casefold()
    return " ".join(f"<{name}>" for name in dict.fromkeys(names) if f"<{name.casefold()}>" not in asked)


def _asked_tags(rewards: RewardConfig, thinking: bool) -> tuple[bool, str]:
    """Whether to ask for thinking, and the text for other tags before the answer."""
    runs, special = tags_before(rewards.grammar), asked_words(rewards.tags)
    names = [path.partition("/")[0] for run in runs for path in run.paths]
    if not runs or (names == ["think"] and not special):
        return thinking or bool(runs), ""
    pieces = []
    for run in runs:
        tags = filled_tags(run.paths, " ", special)
        pieces += [f"{' '.join(tags)} as often as needed"] if run.repeats else tags
    return "think" in names, ", then ".join(pieces)


def _scale_words(scale: Scale, size: Size | None) -> str:
    if scale == "pixel":
        return "in pixels" if size is None else f"in pixels of {size[0]:g} x {size[1]:g}"
    return "from 0 to 1" if scale == "normalized" else "from 0 to 1000"


@functools.lru_cache(maxsize=8)
def _environment(directory: str | None) -> SandboxedEnvironment:
    """Templates of ``directory`` override those of the package; the user's are compiled to find errors early."""
    folders = [_PACKAGED] if directory is None else [Path(directory), _PACKAGED]
    environment = SandboxedEnvironment(
        loader=jinja2.FileSystemLoader(folders),
        undefined=jinja2.StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    if directory is not None:
        _check_directory(Path(directory), environment)
    return environment


def _check_directory(directory: Path, environment: SandboxedEnvironment) -> None:
    if not directory.is_dir():
        raise ConfigError(f"prompts.templates: no directory {directory} - create it or leave the setting out")
    files = sorted(directory.glob("*.j2"))
    if not files:
        raise ConfigError(f"prompts.templates: {directory} has no .j2 file - name them <task>.j2, such as math.j2")
    for file in files:
        if file.stem not in TASKS and not file.stem.startswith("_"):
            near = ", ".join(difflib.get_close_matches(file.stem, TASKS, n=3, cutoff=0.4) or TASKS)
            raise ConfigError(f"{file}: no task type is called {file.stem!r} - rename it to one of: {near}")
        try:
            environment.get_template(file.name)
        except jinja2.TemplateSyntaxError as error:
            raise ConfigError(f"{error.filename}:{error.lineno}: {error.message} - correct the template") from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"{file}: not UTF-8 - save the template as UTF-8") from error
