"""The tables of docs/rewards.md, made from the code: ``python -m benchmarks.rewards_page [--check]``.

A table stands between ``<!-- table: NAME -->`` and ``<!-- end -->``; what is written there by hand is replaced.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from pathlib import Path

from benchmarks.reward_corpus import by_task, toyworld_samples
from easyvideor1.config.schema import PromptConfig, RewardConfig
from easyvideor1.data import example_answer, prompt_text
from easyvideor1.files import write_text
from easyvideor1.rewards.audit import reference_scorer
from easyvideor1.rewards.audit.constant_baselines import best_constant
from easyvideor1.rewards.certificates import RELATIONS, cases, load_certificate
from easyvideor1.rewards.profiles import DIFFERENCES
from easyvideor1.rewards.rules import RULES
from easyvideor1.rewards.tags import full_response
from easyvideor1.tasks import TASKS
from easyvideor1.types import Sample

PAGE = Path(__file__).parents[1] / "docs" / "rewards.md"
_TABLE = re.compile(r"(<!-- table: ([a-z ]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
_SHOWN = 4


def cell(text: str, most: int = 200) -> str:
    """Text for a cell of a table, on one line."""
    line = " ".join(text.split())
    line = line if len(line) <= most else f"{line[: most - 3]}..."
    return line.replace("|", "\\|")


def code(text: str, most: int = 90) -> str:
    """The same as code."""
    line = cell(text, most).replace("\\|", "|").replace("|", "&#124;")
    return f"`` {line} ``" if "`" in line else f"`{line}`" if line else ""


def rows(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def table(headings: str, lines: list[str]) -> str:
    """A Markdown table; ``headings`` are separated by ``|``."""
    names = headings.split("|")
    return "\n".join([rows(*names), rows(*("---" for _ in names)), *lines]) + "\n"


def said(document: str | None, most: int = 480) -> str:
    """What a comparison says of itself, up to the last whole sentence that fits."""
    text = " ".join((document or "Equality.").split()).replace("``", "`").replace("|", "\\|")
    if len(text) <= most:
        return text
    return text[: text.rindex(". ", 0, most) + 1]


def types_table() -> str:
    """Task type, aliases, accuracy, named forms, form of a reference."""
    lines = []
    for task, aliases in TASKS.items():
        rule = RULES[task]
        forms = "; ".join(f"`{name}`: {said(form.__doc__)}" for name, form in rule.forms.items())
        lines.append(
            rows(
                f"`{task}`",
                ", ".join(aliases),
                said(rule.compare.__doc__),
                forms,
                code(rule.expected, 140),
            )
        )
    return table("Type|Aliases|Accuracy|Further forms|Reference", lines)


def prompts_table() -> str:
    """Task type and what the prompt asks after the question, without thinking."""
    lines = []
    for task in TASKS:
        sample = Sample("1", "Question?", task, example_answer(task))
        asked = prompt_text(sample, PromptConfig(thinking=False)).partition("\n")[2]
        lines.append(rows(f"`{task}`", code(asked, 300)))
    return table("Type|The prompt, after the question", lines)


def answers_table() -> str:
    """Task type, and answers of the certificates that are right, partly right and wrong."""
    lines = []
    for task in TASKS:
        written = load_certificate(task).cases
        reference = written[0].answer
        same = [
            case
            for case in written
            if case.answer == reference and len(case.response) < 150 and case.accuracy is not None
        ]
        right = [case.response for case in same if case.accuracy == 1]
        part = [f"{code(_content(case.response))} {case.accuracy:.2f}" for case in same if 0 < (case.accuracy or 0) < 1]
        wrong = [case.response for case in same if case.accuracy == 0 and case.kind == "adversarial" and case.response]
        lines.append(
            rows(
                f"`{task}`",
                code(reference),
                ", ".join(code(_content(text)) for text in right[:_SHOWN]),
                ", ".join(part[:3]),
                ", ".join(code(_content(text)) for text in wrong[2 : 2 + _SHOWN]),
            )
        )
    return table("Type|Reference|Right|Part of it|Wrong", lines)


def _content(response: str) -> str:
    """What stands in the only tag of a response; the response itself otherwise."""
    match = re.fullmatch(r"<answer>((?:(?!<answer>).)*)</answer>", response, re.DOTALL)
    return match.group(1) if match else response


def differences_table() -> str:
    """Every intended difference from the published packages, with its example."""

    def figure(value: float | None) -> str:
        return "not judged" if value is None else f"{value:.3g}"

    lines = []
    for one in DIFFERENCES:
        accuracies = [figure(value) for value in (one.strict, one.video, one.unified)]
        if one.formats is not None:
            accuracies = [f"{value:.3g} (format)" for value in one.formats]
        lines.append(
            rows(one.cause, cell(one.rule), f"`{one.task}`", code(one.answer, 60), code(one.response, 80), *accuracies)
        )
    return table("Cause|Rule of strict scoring|Type|Reference|Response|strict|video|unified", lines)


def certificates_table() -> str:
    """How many cases each certificate has, and of which kinds."""
    lines = []
    for task in TASKS:
        kinds = Counter(case.kind for case in cases([task]))
        lines.append(rows(f"`{task}`", kinds["golden"], kinds["adversarial"], kinds["metamorphic"]))
    total = Counter(case.kind for case in cases(TASKS))
    lines.append(rows("all", total["golden"], total["adversarial"], total["metamorphic"]))
    return table("Type|golden|adversarial|metamorphic", lines)


def relations_table() -> str:
    """What must not matter, and for which types."""
    lines = []
    for name, relation in RELATIONS.items():
        used = ", ".join(task for task in TASKS if name in load_certificate(task).relations)
        lines.append(rows(name, relation.says, used))
    return table("Relation|Says|Types", lines)


def constant_line(task: str, samples: list[Sample]) -> str:
    """One line of the table of constants."""
    score = reference_scorer(RewardConfig())
    best = best_constant(task, samples, lambda sample, answer: score(sample, full_response(answer)))
    return rows(f"`{task}`", code(best.answer, 70), f"{best.accuracy:.3f}", best.rows)


def constants_table() -> str:
    """The best constant answer of every type over the toyworld rows of the corpus."""
    grouped = by_task(toyworld_samples())
    return table("Type|Best constant answer|Accuracy|Rows", [constant_line(task, grouped[task]) for task in TASKS])


TABLES = {
    "types": types_table,
    "prompts": prompts_table,
    "answers": answers_table,
    "differences": differences_table,
    "certificates": certificates_table,
    "relations": relations_table,
    "constants": constants_table,
}


def filled(page: str, names: set[str]) -> str:
    """A page with the named tables made anew.

    Raises:
        KeyError: the page has a table that nothing makes.
    """

    def made(match: re.Match[str]) -> str:
        name = match.group(2)
        return match.group(0) if name not in names else f"{match.group(1)}\n{TABLES[name]()}\n{match.group(4)}"

    return _TABLE.sub(made, page)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a table is out of date")
    options = parser.parse_args()
    page = PAGE.read_text(encoding="utf-8")
    made = filled(page, set(TABLES))
    if options.check:
        print(
            f"{PAGE.name}: {'as the code is' if made == page else 'out of date; run python -m benchmarks.rewards_page'}"
        )
        sys.exit(made != page)
    if made != page:
        write_text(PAGE, made)
    print(f"wrote {PAGE.name}")


if __name__ == "__main__":
    main()
