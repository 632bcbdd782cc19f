"""The package for images and video (``easyvideor1-unified``): the first answer tag, numbers that ``float`` reads."""

from __future__ import annotations

import ast
import re

from easyvideor1.rewards.profiles.shared import (
    GROUNDING,
    boxed,
    grounding,
    grounding_form,
    option_letter,
    rouge_mean,
    same,
    same_math,
    structure,
    tags,
    unfenced,
    word_error_rate,
)
from easyvideor1.rewards.tasks.code_tests import program_tree

_AROUND = re.compile(r"\s*+([<>/])\s*+")
_LATEX = re.compile(r"\\left|\\right|\^\\circ|[$%]|\\text\{([^{}]*)\}")
_TAG = re.compile(r"<([A-Za-z][\w:-]*)")
_YES, _NO = frozenset({"yes", "true", "1"}), frozenset({"no", "false", "0"})
#: Up to this many characters, a reference that is met but for case is fully right without ROUGE.
_SHORT = 10


def judge(task: str, response: str, answer: str) -> tuple[float, float, str]:
    """Accuracy, format and what was read."""
    text = _AROUND.sub(r"\1", response)
    found = tags(text)
    tag = found[0].strip() if found else None
    box = boxed(text)
    read = tag if tag is not None else (box.strip() if box is not None else ("" if task == "math" else text.strip()))
    return _accuracy(task, read, _truth(answer)), _form(task, tag), read


def _truth(answer: str) -> str:
    wrapped = tags(answer)
    truth = (wrapped[0] if wrapped else answer).strip()
    for mark in ("$$", "$"):
        if len(truth) > 2 * len(mark) and truth.startswith(mark) and truth.endswith(mark):
            return truth[len(mark) : -len(mark)].strip()
    return truth


def _accuracy(task: str, read: str, truth: str) -> float:
    if task == "multiple_choice":
        mine, right = option_letter(read, upper_only=False), option_letter(truth, upper_only=False)
        return float(mine == right if mine and right else same(read, truth))
    if task in ("numerical", "regression"):
        return float(round(float(read.replace(",", "")), 2) == round(float(truth.replace(",", "")), 2))
    if task == "boolean":
        return float(_whole(read) == _whole(truth))
    if task in GROUNDING:
        predicted, reference = structure(read), structure(truth)
        return 0.0 if predicted is None or reference is None else grounding(task, predicted, reference)
    if task == "ocr":
        return max(0.0, 1.0 - word_error_rate(read, truth))
    if task == "math":
        return float(same_math(read, truth) or same_math(_latex(read), _latex(truth)))
    if task == "code":
        return _code(unfenced(read), unfenced(truth))
    if task in ("svg_code", "html_code"):
        return _markup(unfenced(read), unfenced(truth))
    if task == "preference":
        return float(_label(read) == _label(truth))
    if len(truth) <= _SHORT and same(read, truth):
        return 1.0
    return rouge_mean(read, truth)


def _whole(text: str) -> object:
    bare = text.strip().lower()
    return True if bare in _YES else False if bare in _NO else bare


def _latex(text: str) -> str:
    plain = _LATEX.sub(lambda match: match.group(1) or "", text)
    return re.split(r"\\approx|=", plain)[-1].strip()


def _names(program: str) -> set[str] | None:
    """Names that a program defines or imports; the published code compares these and runs nothing."""
    names: set[str] = set()
    tree = program_tree(program)
    if tree is None:
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.name for alias in node.names}
    return names


def _code(program: str, truth: str) -> float:
    mine, wanted = _names(program), _names(truth)
    if mine is None:
        return 0.0
    return len(mine & wanted) / len(wanted) if wanted else 0.5


def _markup(source: str, truth: str) -> float:
    """0.7 recall of the set of tags + 0.3 ratio of the lengths without white space."""
    mine, wanted = ({tag.lower() for tag in _TAG.findall(text)} for text in (source, truth))
    recall = len(mine & wanted) / len(wanted) if wanted else 0.0
    lengths = sorted(len(re.sub(r"\s+", "", text)) for text in (source, truth))
    return 0.7 * recall + 0.3 * (lengths[0] / lengths[1] if lengths[1] else 0.0)


def _label(text: str) -> str:
    bare = text.lower()
    if "tie" in bare:
        return "tie"
    return "1" if "1" in bare else "2" if "2" in bare else bare


def _form(task: str, tag: str | None) -> float:
    if tag is None:
        return 0.0
    if task == "multiple_choice":
        right = option_letter(tag, upper_only=False) is not None
    elif task in ("numerical", "regression"):
        right = _is_float(tag)
    elif task == "boolean":
        right = tag.lower() in ("yes", "no", "true", "false")
    else:
        right = grounding_form(task, tag) if task in GROUNDING else bool(tag)
    return 1.0 if right else 0.5


def _is_float(text: str) -> bool:
    try:
        float(text.replace(",", ""))
    except ValueError:
        return False
    return True
