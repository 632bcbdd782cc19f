"""The words around a question: one template per task type, in the package or in the user's own directory."""

from __future__ import annotations

import difflib
import functools
from pathlib import Path
from types import MappingProxyType

import jinja2
from jinja2.sandbox import SandboxedEnvironment

from easyvideor1.config.schema import PromptConfig
from easyvideor1.data.rows import PLACEHOLDER
from easyvideor1.tasks import TASKS, canonical_task
from easyvideor1.types import ConfigError, Sample

_PACKAGED = Path(__file__).parent / "templates"

_BOXES = '{"boxes": {"2": [30, 40, 200, 310], "3": [35, 42, 205, 312]}}'
_POINTS = '"positive_points": [[50, 60], [60, 70], [70, 90]], "negative_points": [[5, 5], [190, 9], [9, 290]]'
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


def example_answer(task: str, *, video: bool = False) -> str:
    """The answer that a prompt shows as an example of the form.

    Args:
        task: Canonical name or alias of the task type.
        video: Whether the row has a video; segmentation then names the second as well.

    Raises:
        DataError: the task type is unknown.
    """
    name = canonical_task(task)
    example = _EXAMPLES[name]
    return '{"time": 2.5, ' + example[1:] if video and name == "segmentation" else example


def prompt_text(sample: Sample, config: PromptConfig) -> str:
    """The user message of a sample, with one ``<image>`` or ``<video>`` for each of its media, in order.

    Templates see ``question`` (with its placeholders), ``options``, ``task``, ``thinking``, ``example``, ``video`` (has
    the sample a video?), ``media`` (kinds in order), ``source`` and ``extra`` (further columns of the row).

    Raises:
        ConfigError: the template directory or a template in it is wrong.
    """
    environment = _environment(config.templates)
    name = f"{sample.task}.j2"
    kinds = [ref.kind for ref in sample.media]
    try:
        text = environment.get_template(name).render(
            question=sample.question,
            options=sample.options,
            task=sample.task,
            thinking=config.thinking,
            example=example_answer(sample.task, video="video" in kinds),
            video="video" in kinds,
            media=kinds,
            source=sample.source,
            extra=sample.extra,
        )
    except (jinja2.TemplateError, TypeError, ValueError, ArithmeticError) as error:
        where = f"{_PACKAGED if config.templates is None else config.templates}: template {name}"
        raise ConfigError(
            f"{where} cannot be rendered for sample {sample.id!r} ({sample.where}): {error} - "
            "it may use question, options, task, thinking, example, video, media, source and extra"
        ) from error
    found = [mark.strip("<>") for mark in PLACEHOLDER.findall(text)]
    if found != kinds:
        raise ConfigError(
            f"template {name}: the prompt of sample {sample.id!r} has the placeholders {found} for the media {kinds} - "
            "write {{ question }} exactly once and no placeholder of your own"
        )
    return text.strip()


@functools.lru_cache(maxsize=8)
def _environment(directory: str | None) -> SandboxedEnvironment:
    """Templates of ``directory`` before those of the package; all of the user's are compiled to find faults early."""
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
        raise ConfigError(f"prompts.templates: {directory} holds no .j2 file - name them <task>.j2, such as math.j2")
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
