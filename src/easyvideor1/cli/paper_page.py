"""The index of papers: from docstrings that cite them, from the recipes, and from the table of papers."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_TABLE = Path(__file__).with_name("papers.yaml")

_HEAD = """# Papers

Every paper that the code follows: what of it is here, where, and how far it is known to be right. This page is made by
`make docs` from docstrings, recipes and `src/easyvideor1/cli/papers.yaml`.

## Algorithms

Chosen by name in a stage. Each equation is that of the function's docstring; tests compare it with numbers worked out
by hand, and gradients with finite differences. What differs from the paper, and measured gains, are in
[algorithms](algorithms.md) and [learning](learning.md).

| paper | configuration | what is here |
|---|---|---|"""

_SYSTEMS = """## Systems

Recipes of published systems. The marks say what each is known from ([evidence](recipes.md#evidence)): [C] the system's
code, [F] the paper's text, [R] its README or project page, [N] notes of others, [V] reviews, [A] its abstract, [I] our
choice. A score of a paper is never claimed. Effects that were measured on the toy world are in [recipes](recipes.md).

| system | paper | run it | what is here | evidence |
|---|---|---|---|---|"""

_PARTS = """## Parts

Methods that are no algorithm of a stage by themselves.

| paper | where | what is here |
|---|---|---|"""

#: What a citation in a docstring looks like.
CITATION = re.compile(
    r"(?:[A-Z][\w'-]+, )?[A-Z][\w'-]+(?: Team| et al\.| and [A-Z][\w'-]+(?: et al\.)?)?,? (?:19[3-9]|20[0-3])\d\b"
)


@dataclass(frozen=True, slots=True)
class Paper:
    """A row of the table: ``cited`` as docstrings write it, ``arxiv`` or ``venue``, and, of a part, where it is."""

    cited: str
    name: str
    arxiv: str = ""
    venue: str = ""
    where: str = ""
    here: str = ""

    @property
    def shown(self) -> str:
        """Name, authors and, of a paper on arXiv, a link."""
        told = f"[arXiv {self.arxiv}](https://arxiv.org/abs/{self.arxiv})" if self.arxiv else self.venue
        return f"{self.name}: {self.cited}, {told}"


def papers() -> tuple[Paper, ...]:
    """The table of papers."""
    import yaml

    found: list[dict[str, str]] = yaml.safe_load(_TABLE.read_text(encoding="utf-8"))
    return tuple(Paper(**row) for row in found)


def paper_page() -> str:
    """The page as Markdown."""
    parts = [
        "\n".join([_HEAD, *_algorithm_rows()]),
        "\n".join([_SYSTEMS, *_system_rows()]),
        "\n".join([_PARTS, *_part_rows()]),
    ]
    return "\n\n".join(parts) + "\n"


def registered() -> Iterator[tuple[str, str]]:
    """What is registered by name and may cite a paper: the line of YAML that chooses it, and its docstring."""
    from easyvideor1.algorithms.token_batch import ALGORITHMS
    from easyvideor1.data import TRANSFORMS
    from easyvideor1.data.curricula import CURRICULA
    from easyvideor1.rollout.strategies import STRATEGIES

    tables: dict[str, Any] = {
        **ALGORITHMS,
        "transforms": TRANSFORMS,
        "curriculum": CURRICULA,
        "rollout.strategy": STRATEGIES,
    }
    for key, table in tables.items():
        for name in table.names():
            function = table.resolve(name)
            yield f"{key}: {name}", inspect.cleandoc(function.__doc__ or "")


def citations(text: str) -> list[str]:
    """The citations of a docstring, in their order."""
    return list(dict.fromkeys(CITATION.findall(" ".join(text.split()))))


def _algorithm_rows() -> Iterator[str]:
    known = {paper.cited: paper for paper in papers()}
    rows: dict[str, list[tuple[str, str]]] = {}
    for line, text in registered():
        for cited in citations(text):
            if cited in known:
                rows.setdefault(cited, []).append((line, text))
    for cited, lines in rows.items():
        for line, text in lines:
            yield f"| {_cell(known[cited].shown)} | `{line}` | {_cell(_equation(text))} |"


def _equation(text: str) -> str:
    """The first paragraph of a docstring without its citation."""
    first = " ".join(text.partition("\n\n")[0].split()).replace("``", "`")
    return re.sub(r" \((?:[^()]|\([^()]*\))*(?:19|20)\d\d(?:[^()]|\([^()]*\))*\)", "", first)


def _system_rows() -> Iterator[str]:
    from easyvideor1.recipes.package import shipped_packages

    for package in shipped_packages():
        name, about = package.name, package.about
        if not about.paper:
            continue
        link = re.sub(r"arXiv (\d{4}\.\d{5})", r"[arXiv \1](https://arxiv.org/abs/\1)", about.paper)
        yield f"| {about.system} | {link} | `evr1 train {name}` | {_cell(about.summary)} | {_cell(about.evidence)} |"


def _part_rows() -> Iterator[str]:
    for paper in papers():
        if paper.where:
            yield f"| {_cell(paper.shown)} | `{paper.where}` | {_cell(paper.here)} |"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
