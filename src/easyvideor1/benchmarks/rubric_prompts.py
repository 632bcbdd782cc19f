"""Requests to a judge by a benchmark's own criteria: a template of ``rubrics`` within a frame of it.

The criteria say what is graded and how. The frame (``_NAME.j2``) shows the judge the texts and the form of its verdict.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import jinja2
from jinja2.sandbox import SandboxedEnvironment

from easyvideor1.config.rewards import JudgeConfig
from easyvideor1.rewards.judge.prompts import Ask, quoted
from easyvideor1.types import ConfigError

_PACKAGED = Path(__file__).parent / "rubrics"
_BLOCKS = ("system", "user")


def request(
    template: str,
    frame: str,
    texts: Mapping[str, str],
    options: tuple[str, ...],
    form: Callable[[str], str],
    config: JudgeConfig,
) -> Ask:
    """One request to the judge.

    Args:
        template: Name of the criteria, or the path of a file; one in ``rewards.judge.templates`` replaces it.
        frame: Name of the frame.
        texts: What the templates may use, by name; the judge sees it quoted.
        options: Options of a choice question.
        form: From the id to the verdict that is asked for, in words.
        config: The judge.

    Raises:
        ConfigError: a template is missing or cannot be rendered.
    """
    shown: dict[str, str] = {name: quoted(text, config.max_characters) for name, text in texts.items()}
    shown["options"] = ", ".join(quoted(option, config.max_characters) for option in options)
    criteria, around = _templates(template, frame, config.templates)
    digest = hashlib.sha256(json.dumps([template, shown], sort_keys=True).encode()).hexdigest()[:8]
    shown["id"] = digest
    try:
        shown |= {"criteria": criteria.render(shown).strip(), "form": form(digest)}
        context = around.new_context(shown)
        system, user = ("".join(around.blocks[block](context)).strip() for block in _BLOCKS)
    except (jinja2.TemplateError, TypeError, ValueError, ArithmeticError) as error:
        raise ConfigError(f"{criteria.filename}: {error} - criteria may use {', '.join(texts)}, options, id") from error
    return Ask(system, user, digest)


@functools.lru_cache(maxsize=64)
def _templates(name: str, frame: str, directory: str | None) -> tuple[jinja2.Template, jinja2.Template]:
    path = Path(name)
    own = [directory] if directory is not None else []
    folders = [str(path.parent), str(_PACKAGED)] if path.is_absolute() else [*own, str(_PACKAGED)]
    environment = SandboxedEnvironment(
        loader=jinja2.FileSystemLoader(folders),
        undefined=jinja2.StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    try:
        file = path.name if path.is_absolute() else f"{name}.j2"
        return environment.get_template(file), environment.get_template(f"{frame}.j2")
    except jinja2.TemplateSyntaxError as error:
        raise ConfigError(f"{error.filename}:{error.lineno}: {error.message} - correct the template") from error
    except (jinja2.TemplateNotFound, UnicodeDecodeError) as error:
        raise ConfigError(f"rubric {name!r}: no such template in {', '.join(folders)} ({error})") from error
