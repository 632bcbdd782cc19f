"""The prompts of a judge, and the strict reading of its replies.

Text of a policy must not act as an instruction or as a verdict. Texts go in as JSON strings on one line; whatever looks
like a tag or a control token of a chat template is escaped as well. A verdict counts only if it is the whole reply and
repeats an ``id`` that is a digest of all the texts: an answer would have to hold its own digest.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jinja2
from jinja2.sandbox import SandboxedEnvironment

from easyvideor1.types import ConfigError

Mode = Literal["scalar", "binary", "pairwise"]

_PACKAGED = Path(__file__).parent / "templates"
_BLOCKS = ("system", "user")
#: Beginnings of tags and of control tokens: ``<|im_end|>``, ``</s>``, ``[INST]``. As escapes of JSON they mean the same
#: to a reader and nothing to a tokenizer.
_CONTROL = re.compile(r"<(?=[|/!?a-zA-Z_\uff5c])|\[(?=/?[A-Z_]{2,40}\])")
_FENCE = re.compile(r"```(?:json)?[ \t]*\n(.*)\n[ \t]*```", re.DOTALL)
_HIGHEST = 10
_WORTH = {"1": 1.0, "tie": 0.5, "2": 0.0}


class UnreadableVerdictError(ValueError):
    """A reply that is not a verdict; the message says why, for the next attempt and for people."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One request: the two messages, and the ``id`` that its verdict must repeat."""

    system: str
    user: str
    id: str

    def messages(self) -> list[dict[str, str]]:
        return [{"role": "system", "content": self.system}, {"role": "user", "content": self.user}]


def ask(mode: Mode, texts: dict[str, str], options: tuple[str, ...], *, limit: int, templates: str | None) -> Ask:
    """The request for one verdict.

    Args:
        mode: Which template.
        texts: ``question``, ``reference`` and ``answer``; for ``pairwise`` ``question``, ``first`` and ``second``.
        options: Options of a choice question.
        limit: Characters kept of each text.
        templates: Directory of the user's own templates, or ``None``.

    Raises:
        ConfigError: a template is missing a block or cannot be rendered.
    """
    shown: dict[str, str] = {name: quoted(text, limit) for name, text in texts.items()}
    shown["options"] = ", ".join(quoted(option, limit) for option in options)
    digest = hashlib.sha256(json.dumps([mode, shown], sort_keys=True).encode()).hexdigest()[:8]
    template = _template(mode, templates)
    try:
        context = template.new_context({**shown, "id": digest})
        system, user = ("".join(template.blocks[block](context)).strip() for block in _BLOCKS)
    except (jinja2.TemplateError, TypeError, ValueError, ArithmeticError) as error:
        names = ", ".join([*shown, "id"])
        raise ConfigError(f"{template.filename}: {error} - a judge's template may use {names}") from error
    return Ask(system, user, digest)


def quoted(text: str, limit: int) -> str:
    """A text as a JSON string on one line, without control tokens, its middle left out beyond ``limit`` characters."""
    if len(text) > limit:
        half = limit // 2
        text = f"{text[:half]} [... {len(text) - 2 * half} characters left out ...] {text[len(text) - half :]}"
    plain = json.dumps(text.encode("utf-8", "replace").decode(), ensure_ascii=False)
    plain = "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in plain)
    return _CONTROL.sub(lambda found: f"\\u{ord(found.group()):04x}", plain)


@functools.lru_cache(maxsize=16)
def _template(mode: Mode, directory: str | None) -> jinja2.Template:
    own = None if directory is None else Path(directory)
    if own is not None and not own.is_dir():
        raise ConfigError(f"rewards.judge.templates: no directory {own} - create it or leave the setting out")
    environment = SandboxedEnvironment(
        loader=jinja2.FileSystemLoader([_PACKAGED] if own is None else [own, _PACKAGED]),
        undefined=jinja2.StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    try:
        template = environment.get_template(f"judge_{mode}.j2")
    except jinja2.TemplateSyntaxError as error:
        raise ConfigError(f"{error.filename}:{error.lineno}: {error.message} - correct the template") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{own}/judge_{mode}.j2: not UTF-8 - save the template as UTF-8") from error
    missing = [block for block in _BLOCKS if block not in template.blocks]
    if missing:
        raise ConfigError(f"{template.filename}: it needs the block {missing[0]!r}, as in {{% block {missing[0]} %}}")
    return template


def check_templates(mode: Mode, directory: str | None) -> None:
    """Render the template of a mode once, to find faults before the run.

    Raises:
        ConfigError: see ``ask``; or the template does not show the judge the ``id`` that it must repeat.
    """
    names = ("question", "first", "second") if mode == "pairwise" else ("question", "reference", "answer")
    asked = ask(mode, dict.fromkeys(names, "?"), (), limit=100, templates=directory)
    if asked.id not in asked.system + asked.user:
        raise ConfigError(f"judge_{mode}.j2: it must show {{{{ id }}}} to the judge, whose reply repeats it")


def read_verdict(mode: Mode, reply: str, wanted_id: str) -> float:
    """The grade of the answer (of the first one for ``pairwise``) in [0, 1].

    Raises:
        UnreadableVerdictError: see ``verdict_fields``; or the grade is none.
    """
    key = {"scalar": "score", "binary": "correct", "pairwise": "better"}[mode]
    return _worth(mode, verdict_fields(reply, wanted_id, (key,))[key])


def verdict_fields(reply: str, wanted_id: str, names: Sequence[str]) -> dict[str, Any]:
    """The fields of a verdict.

    The reply must be one JSON object, in a Markdown fence or not, after the thinking if the judge thinks aloud. It has
    the id and these fields, and may have a reason.

    Raises:
        UnreadableVerdictError: it is anything else.
    """
    text = reply.rpartition("</think>")[2].strip()
    if fence := _FENCE.fullmatch(text):
        text = fence.group(1)
    try:
        verdict = json.loads(text, object_pairs_hook=_no_repeats)
    except (ValueError, RecursionError) as error:
        raise UnreadableVerdictError(f"it is not one JSON object: {error}") from error
    if not isinstance(verdict, dict):
        raise UnreadableVerdictError("it is not one JSON object")
    if verdict.get("id") != wanted_id:
        raise UnreadableVerdictError(f'its "id" is not "{wanted_id}"')
    if set(verdict) - {"reason"} != {"id", *names}:
        wanted = " and ".join(f'"{name}"' for name in names)
        raise UnreadableVerdictError(f'it must have "id", "reason" and {wanted} and nothing else')
    return verdict


def _worth(mode: Mode, value: Any) -> float:
    if mode == "binary":
        if isinstance(value, bool):
            return float(value)
        raise UnreadableVerdictError('"correct" must be true or false')
    if mode == "pairwise":
        label = str(value) if type(value) is int else value
        if isinstance(label, str) and label in _WORTH:
            return _WORTH[label]
        raise UnreadableVerdictError('"better" must be "1", "2" or "tie"')
    if type(value) in (int, float) and math.isfinite(value) and 0 <= value <= _HIGHEST:
        return float(value) / _HIGHEST
    raise UnreadableVerdictError(f'"score" must be a number from 0 to {_HIGHEST}')


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError("a key is written twice")
    return dict(pairs)
