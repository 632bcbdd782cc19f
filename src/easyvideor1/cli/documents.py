"""The generated pages of the documentation: configuration, commands, metrics, papers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from easyvideor1.files import write_text

#: Path below ``docs`` -> the module and the function that makes its text.
PAGES: dict[str, tuple[str, str]] = {
    "reference/commands.md": ("easyvideor1.cli.command_page", "command_page"),
    "reference/metrics.md": ("easyvideor1.cli.metric_page", "metric_page"),
    "papers.md": ("easyvideor1.cli.paper_page", "paper_page"),
}


def write_all(directory: Path) -> tuple[Path, ...]:
    """Write all generated pages and the JSON schema of the configuration below ``directory``; returns their paths."""
    from easyvideor1.config.docs import write_documents

    written = [*write_documents(directory)]
    for name in PAGES:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, _maker(name)())
        written.append(path)
    return tuple(written)


def stale(directory: Path) -> tuple[Path, ...]:
    """The generated files below ``directory`` that are missing or do not say what the code says."""
    from easyvideor1.config.docs import stale_documents

    found = [*stale_documents(directory)]
    for name in PAGES:
        path = directory / name
        if not path.is_file() or path.read_text(encoding="utf-8") != _maker(name)():
            found.append(path)
    return tuple(found)


def _maker(name: str) -> Callable[[], str]:
    from importlib import import_module

    module, function = PAGES[name]
    made: Callable[[], str] = getattr(import_module(module), function)
    return made
