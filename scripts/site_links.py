"""A hook of mkdocs: pages outside ``docs`` are part of the site, and links between files work as they do in a checkout.

``CONTRIBUTING.md``, ``CHANGELOG.md`` and the results of the benchmarks stay where they are in the repository. In the
site they have the same paths, while the pages of ``docs`` lie at its top. Links are rewritten accordingly.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
#: In the site in the place of the README.
HOME = "index.md"
LINK = re.compile(r"\[([^\[\]]*)\]\(([^)\s#:]+)((?:#[^)\s]*)?)\)")
FENCE = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)


def outside() -> list[str]:
    """Paths of the pages outside ``docs``, from the top of the repository."""
    results = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("benchmarks/results/*.md"))
    return ["CONTRIBUTING.md", "CHANGELOG.md", *results]


def in_repository(page: str) -> str:
    """The path of a page of the site in the repository."""
    return page if page in outside() else f"docs/{page}"


def in_site(path: str) -> str | None:
    """The path of a file of the repository in the site; None if the site does not have it."""
    if path in ("README.md", "README.zh.md", "docs"):
        return HOME
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return path if path in outside() else None


def relinked(text: str, page: str) -> str:
    """``text`` of a page with its links as the site needs them; code is left alone.

    A link to a file that is in the repository but not in the site (source code, tests) becomes its words.
    """
    here = posixpath.dirname(in_repository(page))

    def replace(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(here, match[2]))
        there = in_site(target)
        if there is not None:
            return f"[{match[1]}]({posixpath.relpath(there, posixpath.dirname(page) or '.')}{match[3]})"
        return match[1] if (ROOT / target).exists() else match[0]  # a link to nothing is reported by mkdocs

    parts, last = [], 0
    for fence in FENCE.finditer(text):
        parts += [LINK.sub(replace, text[last : fence.start()]), fence[0]]
        last = fence.end()
    return "".join([*parts, LINK.sub(replace, text[last:])])


def on_files(files: Any, config: Any) -> Any:
    for path in outside():
        files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    return relinked(markdown, page.file.src_uri)
